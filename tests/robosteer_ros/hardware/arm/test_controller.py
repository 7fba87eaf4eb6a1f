"""What the thread of control promises to those who ask, whatever the moment."""

import threading

import numpy as np
import pytest

from robosteer_core.errors import UserError
from robosteer_core.rig import load_rig
from robosteer_core.runtime.pose import Pose
from robosteer_ros.hardware.arm.controller import ArmController
from robosteer_ros.hardware.arm.driver import ArmDriver, Reading

READING = Reading(
    robot_time_ns=0, end_effector=Pose(np.array([0.5, 0.0, 0.3]), np.array([1.0, 0, 0, 0])), joint_positions=np.zeros(7),
    force=np.zeros(3), success_rate=0.0, robot_mode="Idle",
)  # fmt: skip


class SilentRobot(ArmDriver):
    """A robot whose states can be made to stay away for a while; it notes what was begun."""

    moving = False

    def __init__(self):
        self.sends, self.begun = threading.Event(), []
        self.sends.set()

    def read(self):
        assert self.sends.wait(20)
        return READING

    def begin_tracking(self, pose):
        self.begun.append("tracking")

    def begin_home(self):
        self.begun.append("home")

    def track(self, pose, twist): ...
    def begin_stop(self): ...
    def raise_fault(self): ...
    def recover(self): ...


@pytest.mark.parametrize("motion", ["start", "home"])
def test_a_stop_before_a_motion_has_begun_prevents_it(motion):
    """It is answered at once, so it must hold also for a motion that still waits in the queue."""
    robot = SilentRobot()
    controller = ArmController(load_rig("lab"), robot, None, None, lambda: 0)
    robot.sends.clear()
    refusals = []

    def ask():
        try:
            controller.request(motion, "one")
        except UserError as error:
            refusals.append(str(error))

    asking = threading.Thread(target=ask)
    asking.start()
    while not (waiting := controller.motion):
        pass
    assert waiting == f"about to {motion}"
    with pytest.raises(UserError, match="stop it and let it rest"):
        controller.request("home", "another")
    controller.request("stop", "another")
    control = threading.Thread(target=controller.run)
    control.start()
    robot.sends.set()
    asking.join(20)
    controller.close()
    control.join(20)
    assert refusals and "a stop was asked for" in refusals[0]
    assert robot.begun == [] and not control.is_alive()
