from xml.etree import ElementTree

import numpy as np
import pytest

from robosteer_sim.fci.kinematics import ArmKinematics
from robosteer_sim.fci.limits import FER, FR3, LIMITS
from robosteer_sim.robot import assets


def test_the_limits_are_those_of_the_model_that_clients_are_given():
    """libfranka takes its own rate limits from there."""
    root = ElementTree.parse(assets() / "fr3_clean.urdf").getroot()
    joints = [root.find(f"./joint[@name='joint{number}']") for number in range(1, 8)]

    def numbers(tag, name):
        return tuple(float(joint.find(tag).get(name)) for joint in joints)

    assert FR3.position_low == numbers("limit", "lower") and FR3.position_high == numbers("limit", "upper")
    assert FR3.velocity == numbers("limit", "velocity") and FR3.torque == numbers("limit", "effort")
    assert FR3.velocity_offset == numbers("position_based_velocity_limits", "velocity_offset")
    assert FR3.deceleration == numbers("position_based_velocity_limits", "deceleration_limit")


@pytest.mark.parametrize("model", LIMITS)
def test_the_arms_joints_stop_where_their_range_ends(model):
    low, high = ArmKinematics(model).joint_range
    np.testing.assert_allclose(low, LIMITS[model].position_low)
    np.testing.assert_allclose(high, LIMITS[model].position_high)


def test_a_joint_slows_down_towards_the_end_of_its_range_and_not_away_from_it():
    # Joint 1, 0.2 rad before its end: sqrt(2 * 6 * 0.2) - 0.652.
    low, high = FR3.velocity_range(0, FR3.position_high[0] - 0.2)
    assert high == pytest.approx(0.8972, abs=1e-4) and low == -2.62
    assert FR3.velocity_range(0, FR3.position_low[0] + 0.01) == (0.0, 2.62)
    assert FR3.velocity_range(0, 0.0) == (-2.62, 2.62)
    assert FER.velocity_range(0, FER.position_high[0] - 0.01) == (-2.175, 2.175)
