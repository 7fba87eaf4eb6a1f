"""Which binding a rig gets, and what its operator reads where it is missing or does not fit the robot."""

import sys

import pytest

from robosteer_core.errors import UserError
from robosteer_core.rig import load_rig
from robosteer_ros.hardware.arm.bindings import open_arm, open_hand

DRIVERS = {"fr3": "franky", "panda": "panda_py"}


def test_the_robot_chooses_its_driver(rig):
    assert rig.arm.driver == DRIVERS[rig.arm.model]


def test_a_franky_for_the_panda_may_be_asked_for_and_panda_python_for_the_fr3_not(new_rig):
    assert load_rig(new_rig(arm={"model": "panda", "driver": "franky"})).arm.driver == "franky"
    with pytest.raises(UserError, match="panda_py is for a panda; an fr3 takes franky"):
        load_rig(new_rig(arm={"model": "fr3", "driver": "panda_py"}))


def test_a_missing_binding_names_the_extra_to_install(rig, monkeypatch):
    monkeypatch.setitem(sys.modules, rig.arm.driver, None)
    extra = {"franky": "ros", "panda_py": "panda"}[rig.arm.driver]
    with pytest.raises(UserError, match=rf"driver {rig.arm.driver} is not installed.*pip install -e '\.\[{extra}\]'"):
        open_arm(rig.arm, rig.limits)


def test_a_robot_of_another_version_is_named_with_what_fits_it_and_its_hand_works(rig, rig_file, start_lab, monkeypatch):
    spoken, robot = {"fr3": (10, "an FR3"), "panda": (5, "a Panda")}[rig.arm.model]
    pytest.importorskip("panda_py")
    wrong = "panda" if rig.arm.model == "fr3" else "fr3"
    with start_lab(rig_file):
        arm = rig.arm.model_copy(update={"model": wrong, "driver": DRIVERS[wrong]})
        with pytest.raises(UserError, match=f"speaks server version {spoken}.*this is {robot}: .*model: {rig.arm.model}.*pip"):
            open_arm(arm, rig.limits)
        if rig.arm.driver == "panda_py":
            monkeypatch.setitem(sys.modules, "franky", None)
        hand = open_hand(rig.arm)
        assert type(hand).__name__ == ("_PandaHand" if rig.arm.driver == "panda_py" else "Gripper")
        assert hand.move(0.05, 0.1) and hand.state.width == pytest.approx(0.05, abs=1e-3)
        assert hand.grasp(0.0, 0.1, 20.0, 0.08, 0.08) and hand.state.is_grasped
