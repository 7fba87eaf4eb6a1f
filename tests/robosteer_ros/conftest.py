"""The arm process of a simulated lab, and what sends it chunks."""

import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from robosteer_core.runtime.chunk import integrate_deltas
from robosteer_core.runtime.clock import rig_clock
from robosteer_core.runtime.lab_link import LabLink
from robosteer_ros.hardware.arm.client import ArmClient

sys.path.insert(0, str(Path(__file__).parent))  # drawn_camera, operator_hand

#: A little less than the time to the next tick, so that each pose is reached by then.
PERIOD_NS = 66_000_000
TASK = "press the red button"


@pytest.fixture(scope="module")
def arm_process(rig_file, start_lab, start_arm):
    with start_lab(rig_file), start_arm(rig_file) as process:
        yield process


@pytest.fixture
def arm(arm_process, rig):
    client = ArmClient(rig)
    yield client
    client.close()


@pytest.fixture
def lab(arm_process, rig):
    with LabLink(rig.lab.control, "test") as link:
        yield link


@pytest.fixture
def tracking(rig, lab, arm):
    """A context manager: a fresh scene, this test joined as the policy, the arm tracking; gives the clock."""

    @contextmanager
    def track(seed=0):
        lab.reset(TASK, seed, hold=True)
        clock = rig_clock(rig, "policy")
        try:
            arm.start()
            yield clock
        finally:
            arm.stop()
            clock.close()
            arm.rest()

    return track


@pytest.fixture(scope="session")
def chunk():
    """A function that makes a chunk from where the command is: `chunk(state, clock, delta, count, gripper)`."""

    def make(state, clock, delta=(0.0,) * 6, count=1, gripper=0.0, lead_ns=PERIOD_NS):
        actions = np.tile([*delta, gripper], (count, 1))
        return integrate_deltas(state.commanded, actions, clock.now_ns() + lead_ns, PERIOD_NS)

    return make
