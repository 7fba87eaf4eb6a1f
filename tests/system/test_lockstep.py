"""Lockstep under load: whatever the machine is busy with, no state is missing and the same script takes the same robot time."""

import subprocess
import sys
from contextlib import ExitStack, contextmanager

import numpy as np

from robosteer_core.runtime.lab_link import LabLink

PROCESSES = 4

#: Moves the arm by two kinds of motion, and prints what the robot said at every cycle: motion, time since
#: the motion's first cycle [ms], commanded joint positions.
SCRIPT = """
import sys
from franky import Affine, CartesianMotion, JointMotion, RealtimeConfig, ReferenceType, Robot
robot = Robot(sys.argv[1], realtime_config=RealtimeConfig.Ignore)
robot.relative_dynamics_factor = 0.1
heard = []
motions = (
    JointMotion([-0.1] * 7, ReferenceType.Relative),
    CartesianMotion(Affine([0.03, 0.02, 0.03]), ReferenceType.Relative),
)
for number, motion in enumerate(motions):
    def hear(state, *_, number=number):
        heard.append((number, state.time.to_msec(), *state.q_d))
    motion.register_callback(hear)
    robot.move(motion)
for line in heard:
    print(*(repr(float(value)) for value in line))
"""


@contextmanager
def load(processes):
    """That many processes that do nothing but compute, all of them at work."""
    busy = "import sys; print('busy', flush=True)\nwhile True: sum(range(10000))"
    with ExitStack() as ending:
        for _ in range(processes):
            each = subprocess.Popen([sys.executable, "-c", busy], stdout=subprocess.PIPE, text=True)
            ending.callback(each.wait)
            ending.callback(each.kill)
            assert each.stdout.readline() == "busy\n"
        yield


def run(rig, lab):
    """One run of the script from the same scene: the cycles that it heard, and the lab's counters of it."""
    lab.reset("press the red button", 7, hold=True)
    before = lab.status()
    done = subprocess.run([sys.executable, "-c", SCRIPT, rig.arm.address], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    after = lab.status()
    lost = {key: after[key] - before[key] for key in ("lost_cycles", "missed_cycles", "uneven_starts")}
    return np.array([line.split() for line in done.stdout.splitlines()], float), lost


def test_under_four_busy_processes_no_state_is_missing_and_robot_time_is_the_same(rig_file, rig, start_lab):
    with start_lab(rig_file), LabLink(rig.lab.control, "test") as lab:
        quiet, lost_quietly = run(rig, lab)
        with load(PROCESSES):
            loaded, lost = run(rig, lab)
    assert lost == lost_quietly == {"lost_cycles": 0, "missed_cycles": 0, "uneven_starts": 0}
    assert len(quiet) > 500
    for heard in (quiet, loaded):
        for number in range(2):
            times = heard[heard[:, 0] == number, 1]
            assert np.all(np.diff(times) == 1), "a state is missing"
    since = [np.concatenate([h[h[:, 0] == n, 1] - h[h[:, 0] == n, 1][0] for n in range(2)]) for h in (quiet, loaded)]
    np.testing.assert_array_equal(*since)
    np.testing.assert_array_equal(quiet[:, 2:], loaded[:, 2:])
