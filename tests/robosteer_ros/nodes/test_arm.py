"""The arm over the graph: a policy in another process drives the lab's arm in lockstep, one commander at a time."""

from contextlib import contextmanager

import numpy as np
import pytest

from robosteer_core.runtime.clock import rig_clock
from robosteer_core.runtime.json_lines import Refused
from robosteer_core.runtime.lab_link import LabLink
from robosteer_core.runtime.runner import tick_ns

MS = 1_000_000
RIGHT = (0, 0.008, 0, 0, 0, 0.02)


@pytest.fixture
def arm(graph_arms):
    return graph_arms("policy")


@pytest.fixture
def lab(arm_node, rig):
    with LabLink(rig.lab.control, "test") as link:
        yield link


@pytest.fixture
def tracking(rig, lab, arm):
    """A context manager: a fresh scene, this test joined as the policy, the arm tracking; gives the clock."""

    @contextmanager
    def track():
        arm.rest()
        lab.reset("press the red button", 0, hold=True)
        clock = rig_clock(rig, "policy")
        try:
            arm.start()
            yield clock
        finally:
            arm.release()
            clock.close()
            arm.rest()

    return track


def test_the_arm_follows_in_lockstep_and_two_runs_are_identical(arm, tracking, chunk):
    def run():
        rows = []
        with tracking() as clock:
            start_ns = clock.now_ns()
            for tick in range(1, 25):
                now_ns = clock.sleep_until_ns(tick_ns(start_ns, tick, 15))
                state = arm.state()
                assert state.mode == "tracking" and abs(state.stamp_ns - now_ns) <= 1, "of now, whatever the set-points' grid"
                arm.send(chunk(state, clock, RIGHT, gripper=float(tick > 6)))
                rows.append([state.stamp_ns - start_ns, *state.measured.position, *state.measured.quaternion,
                             *state.commanded.position, *state.joint_positions, *state.force, state.gripper])  # fmt: skip
        return np.array(rows)

    first, second = run(), run()
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(first[-1, 1:4] - first[0, 1:4], [0, 23 * 0.008, 0], atol=0.015)
    assert first[0, -1] < 0.05 and first[-1, -1] > 0.9


def test_one_source_commands_and_the_others_look_on(arm, graph_arms, tracking, chunk):
    other = graph_arms("teleop")
    with tracking() as clock:
        with pytest.raises(Refused, match=r"another process commands the arm \(policy\)"):
            other.send(chunk(other.state(), clock, RIGHT))
        with pytest.raises(Refused, match="moving"):
            other.start()
        assert other.state().mode == "tracking"
    with pytest.raises(Refused, match="start it first"):
        arm.keep()


def test_a_stop_by_anybody_brings_the_arm_to_rest_and_stays_until_a_recovery(arm, graph_arms, rig, lab):
    lab.reset("press the red button", 0)
    arm.start()
    graph_arms("user").stop()
    assert arm.status()["motion"] is None
    for move in (arm.start, arm.home):
        with pytest.raises(Refused, match="stopped and stays so until it is recovered"):
            move()
    arm.recover()
    arm.home()
    arm.rest()
    np.testing.assert_allclose(arm.state().joint_positions, rig.arm.home_joint_positions_rad, atol=0.01)
