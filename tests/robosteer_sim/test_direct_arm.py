"""The arm inside one process: it holds, stops, refuses and faults as the one behind FCI."""

import numpy as np
import pytest

from robosteer_core.rig import load_rig
from robosteer_core.runtime.chunk import ActionChunk, integrate_deltas
from robosteer_core.runtime.json_lines import Refused
from robosteer_core.runtime.pose import Pose
from robosteer_sim.direct_arm import DirectArm
from robosteer_sim.fci.wire import RobotError
from robosteer_sim.world import World

PERIOD_NS = 66_000_000


@pytest.fixture(params=["lab", "panda_lab"])
def rig(request):
    return load_rig(request.param)


@pytest.fixture
def arm(rig):
    world = World(rig)
    world.reset("press the red button", 0)
    return DirectArm(world, rig)


def chunk(arm, delta, count=1, gripper=0.0):
    actions = np.tile([*delta, 0.0, 0.0, 0.0, gripper], (count, 1))
    return integrate_deltas(arm.state().commanded, actions, arm.now_ns() + PERIOD_NS, PERIOD_NS)


def test_it_goes_where_it_is_sent(arm):
    before = arm.state().measured.position
    for _ in range(15):
        arm.apply(np.array([0.004, 0.0, 0.002, 0.0, 0.0, 0.0, 0.0]))
    assert arm.now_ns() == 2_000_000_000
    assert np.allclose(arm.state().measured.position - before, [0.06, 0.0, 0.03], atol=0.01)  # joint friction
    assert np.allclose(arm.state().commanded.position - before, [0.06, 0.0, 0.03], atol=0.001)


def test_without_chunks_it_holds_and_then_stops(arm, rig):
    arm.send(chunk(arm, (0.01, 0.0, 0.0)))
    arm.sleep_until_ns(arm.now_ns() + int(1e9 * rig.limits.hold_after_s) + 20_000_000)
    assert arm.state().mode == "holding"
    arm.send(chunk(arm, (0.0, 0.0, 0.0)))
    arm.sleep_until_ns(arm.now_ns() + 20_000_000)
    assert arm.state().mode == "tracking"
    arm.sleep_until_ns(arm.now_ns() + int(1e9 * rig.limits.stop_after_s) + 20_000_000)
    assert arm.state().mode == "stopped" and not arm.moving
    with pytest.raises(Refused, match="stopped"):
        arm.keep()
    at_rest = arm.state().measured.position
    arm.sleep_until_ns(arm.now_ns() + 200_000_000)
    assert np.linalg.norm(arm.state().measured.position - at_rest) < 0.001


def test_the_limits_come_last_and_are_counted(arm, rig):
    for _ in range(30):
        arm.apply(np.array([0.0, 0.03, 0.0, 0.0, 0.0, 0.0, 0.0]))
    interventions = arm.statistics.interventions
    assert interventions["speed"] and interventions["workspace"]
    assert arm.state().commanded.position[1] <= rig.limits.workspace.high_m[1]
    arm.send(chunk(arm, (0.0, -0.2, 0.0)))
    arm.sleep_until_ns(arm.now_ns() + 20_000_000)
    assert interventions["step"] == 1


def test_what_is_no_chunk_is_refused_at_once(arm):
    pose = arm.state().commanded
    with pytest.raises(Refused, match="non_finite"):
        arm.send(chunk(arm, (np.nan, 0.0, 0.0)))
    with pytest.raises(Refused, match="malformed"):
        arm.send(ActionChunk(np.array([1, 2]), pose.position[None], pose.quaternion[None], np.zeros(1)))


def test_a_reflex_is_a_fault_with_the_robots_own_name(arm):
    arm._reflex(RobotError.JOINT_VELOCITY_VIOLATION)
    assert arm.state().mode == "fault"
    with pytest.raises(Refused, match="fault.*joint_velocity_violation"):
        arm.send(chunk(arm, (0.0, 0.0, 0.0)))


def test_the_hand_opens_and_grasps(arm):
    for gripper, opening in ((1.0, 1.0), (0.0, 0.0)):
        for _ in range(20):
            arm.apply(np.array([0.0] * 6 + [gripper]))
        assert arm.state().gripper == pytest.approx(opening, abs=0.02)


def test_two_runs_are_the_same_to_the_bit(rig):
    def path():
        world = World(rig)
        world.reset("press the red button", 4)
        arm, found = DirectArm(world, rig), []
        for tick in range(10):
            arm.apply(np.array([0.01, 0.005, -0.01, 0.0, 0.0, 0.02, tick % 2]))
            found.append(np.concatenate([world.data.qpos, arm.state().measured.quaternion]))
        return np.array(found)

    assert np.array_equal(path(), path())


def test_the_pose_is_that_of_scipy(arm):
    arm.apply(np.array([0.0, 0.0, 0.0, 0.1, -0.1, 0.1, 0.0]))
    measured, exact = arm.state().measured, Pose.from_matrix(arm._world.end_effector_pose())
    assert np.allclose(measured.position, exact.position)
    assert abs(measured.quaternion @ exact.quaternion) == pytest.approx(1.0)
