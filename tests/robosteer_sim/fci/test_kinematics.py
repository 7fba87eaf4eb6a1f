import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from robosteer_sim.fci.kinematics import ArmKinematics, moved_by, twist_between


@pytest.fixture(scope="module")
def kinematics():
    return ArmKinematics()


def pose(position, rotation_vector):
    result = np.eye(4)
    result[:3, :3], result[:3, 3] = Rotation.from_rotvec(rotation_vector).as_matrix(), position
    return result


def test_the_end_effector_is_where_the_physics_has_it(kinematics, world):
    kinematics.move_to(world.joint_positions())
    np.testing.assert_allclose(kinematics.pose(), world.end_effector_pose(), atol=1e-12)
    np.testing.assert_allclose(kinematics.jacobian(), world.jacobian(), atol=1e-12)


def test_the_jacobian_belongs_to_the_tool_that_is_mounted(world):
    kinematics, q = ArmKinematics(), world.joint_positions().copy()
    kinematics.tool = pose([0.02, -0.03, 0.1], [0.3, 0.1, -0.2])
    kinematics.move_to(q)
    start, jacobian = kinematics.pose(), kinematics.jacobian().copy()
    np.testing.assert_allclose(start, world.end_effector_pose() @ kinematics.tool, atol=1e-12)
    for joint in range(7):
        kinematics.move_to(q + 1e-6 * np.eye(7)[joint])
        np.testing.assert_allclose(twist_between(start, kinematics.pose(), 1e-6), jacobian[:, joint], atol=1e-5)


def test_a_twist_takes_one_pose_to_the_other():
    start, end = pose([0.4, 0.1, 0.3], [3.0, 0.2, -0.1]), pose([0.41, 0.09, 0.31], [2.9, 0.25, -0.3])
    twist = twist_between(start, end, 0.5)
    np.testing.assert_allclose(moved_by(start, twist, 0.5), end, atol=1e-12)
    turn = Rotation.from_matrix(end[:3, :3] @ start[:3, :3].T).as_rotvec()
    np.testing.assert_allclose(twist, np.concatenate([end[:3, 3] - start[:3, 3], turn]) / 0.5, atol=1e-9)
