"""What the thread of control promises to those who ask, whatever the moment; in this process, on the lab's robot."""

import threading

import numpy as np
import pytest

from robosteer_core.errors import UserError
from robosteer_core.runtime.clock import rig_clock
from robosteer_core.runtime.lab_link import LabLink
from robosteer_ros.hardware.arm.bindings import open_arm
from robosteer_ros.hardware.arm.controller import ArmController
from robosteer_ros.hardware.gripper import GripperDriver


def controller_of(rig, lab):
    gripper = GripperDriver(rig.arm, rig.gripper, lambda: rig_clock(rig, "gripper"))
    return ArmController(rig, open_arm(rig.arm, rig.limits), gripper, lambda: rig_clock(rig, "setpoints"), lab.now_ns)


@pytest.mark.parametrize("motion", ["start", "home"])
def test_a_stop_before_a_motion_has_begun_prevents_it(rig_file, rig, start_lab, motion):
    """It is answered at once, so it must hold also for a motion that still waits in the queue."""
    with start_lab(rig_file), LabLink(rig.lab.control, "test") as lab:
        controller = controller_of(rig, lab)
        before, refusals = np.array(lab.truth()["end_effector"]), []

        def ask():
            try:
                controller.request(motion, "one")
            except UserError as error:
                refusals.append(str(error))

        asking = threading.Thread(target=ask)
        asking.start()
        while not (waiting := controller.status()["motion"]):
            assert asking.is_alive()
        assert waiting == f"about to {motion}"
        with pytest.raises(UserError, match="stop it and let it rest"):
            controller.request("home", "another")
        controller.request("release", "another")
        # Only now does the thread begin that would have moved the arm.
        control = threading.Thread(target=controller.run)
        control.start()
        asking.join(20)
        controller.close()
        control.join(20)
        assert refusals and "a stop was asked for" in refusals[0] and not control.is_alive()
        assert lab.status()["motions"] == 0
        np.testing.assert_allclose(lab.truth()["end_effector"], before, atol=1e-4)


def test_a_reflex_while_a_motion_begins_is_told_by_its_name(rig_file, rig, start_lab):
    """libfranka tells it without one then, in about every third try on the FR3."""
    with start_lab(rig_file), LabLink(rig.lab.control, "test") as lab:
        controller = controller_of(rig, lab)
        control = threading.Thread(target=controller.run)
        control.start()
        try:
            for _ in range(10):
                controller.request("home", "one")
                while not lab.status()["moving"]:
                    assert control.is_alive()
                lab.fault("reflex", error="cartesian_reflex")
                while controller.status()["motion"]:
                    assert control.is_alive()
                assert controller.status()["last_error"].startswith("cartesian_reflex: libfranka")
                controller.request("recover", "one")
        finally:
            controller.close()
            control.join(20)
