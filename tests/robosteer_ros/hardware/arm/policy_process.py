"""A policy process as on a real arm: it lives by wall time and takes no part in the lab's clock.

python policy_process.py RIG [BLOCK_AT_S]: waves the hand until it is killed; with BLOCK_AT_S, from then on a C call holds
the interpreter, as a hung driver or a long operation of a library does.
"""

import ctypes
import sys
import threading
import time

import numpy as np

from robosteer_core.rig import load_rig
from robosteer_core.runtime.lab_link import LabLink
from robosteer_core.runtime.observation import Observation
from robosteer_core.runtime.runner import PolicyRunner
from robosteer_ros import ros
from robosteer_ros.graph.arm_link import GraphArm
from robosteer_ros.graph.participant import spinning

#: Until the test kills this process: on a loaded machine robot time may run slowly.
BLOCKED_S = 600


class WatchingClock:
    """Reads the lab's time, which is paced to wall time, without holding it."""

    def __init__(self, link):
        self._link = link

    def now_ns(self):
        return self._link.now_ns()

    def sleep_until_ns(self, stamp_ns):
        while (left_ns := stamp_ns - self.now_ns()) > 0:
            time.sleep(left_ns / 1e9)
        return self.now_ns()


def act(observation):
    """Ten actions of a wave: the arm would go on for 0.6 s without a further word."""
    global decisions
    if block_at is not None and time.monotonic() > block_at:
        print("blocked", clock.now_ns(), flush=True)
        # A thread that would keep the arm going, if only it could run.
        threading.Thread(target=lambda: [arm.keep() for _ in range(1000)], daemon=True).start()
        ctypes.PyDLL(None).sleep(BLOCKED_S)
    decisions += 1
    return np.tile([0, 0.007 * np.cos(0.6 * decisions), 0, 0, 0, 0, 0], (10, 1))


def watch(observation):
    arm.keep()


def observe(stamp_ns, instruction):
    return Observation(stamp_ns, {}, arm.state(), instruction)


rig = load_rig(sys.argv[1])
decisions = 0
ros.init(args=["policy"])
node = ros.create_node("policy_process")
with spinning(node):
    arm, clock = GraphArm(node, rig, "policy"), WatchingClock(LabLink(rig.lab.control, "policy"))
    arm.start()
    block_at = time.monotonic() + float(sys.argv[2]) if len(sys.argv) > 2 else None
    print("moving", flush=True)
    PolicyRunner(rig, clock, arm, observe, act).run("wave", 60.0, lambda: False, watch)
