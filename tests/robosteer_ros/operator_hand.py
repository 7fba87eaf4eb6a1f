"""The test is the operator's hand: what it does through the socket of a teleoperation device."""

import time

import numpy as np

from robosteer_core.runtime.clock import RANKS, LabClock
from robosteer_core.runtime.lab_link import LabLink
from robosteer_core.runtime.runner import tick_ns

MS = 1_000_000
TASK = "press the red button"
DELTA = np.array([0.002, 0.004, -0.006, 0, 0, 0.01])


def await_stage(device, stage):
    deadline = time.monotonic() + 60
    while (found := device.session()) != stage:
        assert time.monotonic() < deadline, f"the recorder stays {found}"
        time.sleep(0.005)


def demonstrate(rig, device, ticks, verdict, released=()):
    """One episode as an operator in the lab does it; returns the time it began."""
    await_stage(device, "ready")
    with LabLink(rig.lab.control, "test") as lab:
        lab.reset(TASK, 0, hold=True)
    clock = LabClock(rig.lab.control, "operator", RANKS["operator"])
    start_ns = clock.now_ns()
    device.publish(np.zeros(6), 0.0, True, start_ns, ["start"])
    await_stage(device, "recording")
    for tick in range(1, ticks + 1):
        now_ns = clock.sleep_until_ns(tick_ns(start_ns, tick, 15))
        device.publish(DELTA * tick / ticks, float(tick > 4), tick not in released, now_ns)
    clock.sleep_until_ns(tick_ns(start_ns, ticks + 1, 15))
    device.publish(np.zeros(6), 0.0, False, now_ns, [verdict])
    clock.close()
    return start_ns


def begin(rig, device, lab):
    """An episode of two ticks that goes on."""
    await_stage(device, "ready")
    lab.reset(TASK, 0, hold=True)
    clock = LabClock(rig.lab.control, "operator", RANKS["operator"])
    start_ns = clock.now_ns()
    device.publish(np.zeros(6), 0.0, True, start_ns, ["start"])
    await_stage(device, "recording")
    for tick in (1, 2):
        device.publish(DELTA, 1.0, True, clock.sleep_until_ns(tick_ns(start_ns, tick, 15)))
    clock.sleep_until_ns(tick_ns(start_ns, 2, 15) + MS)  # the recorder has dealt with both
    clock.close()
    lab.close()
