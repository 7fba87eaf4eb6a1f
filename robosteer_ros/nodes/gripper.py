"""The hand's node, in the process of the arm's: its width, and commands for it while nobody moves the arm."""

from __future__ import annotations

from collections.abc import Callable

from robosteer_core.errors import UserError
from robosteer_ros.graph import arm_messages as wire
from robosteer_ros.graph import qos
from robosteer_ros.graph.messages import report
from robosteer_ros.hardware.arm.controller import ArmController
from robosteer_ros.nodes.rig_node import RigNode
from robosteer_ros.ros import diagnostic_msgs, std_msgs

PERIOD_S = 0.05


class GripperNode(RigNode):
    """Works through the controller that the arm's node has: `controller()` is None until that is configured."""

    def __init__(self, controller: Callable[[], ArmController | None]) -> None:
        super().__init__("gripper")
        self._controller = controller
        self._refused = ""

    def configure(self) -> None:
        self._width = self.create_lifecycle_publisher(std_msgs.msg.Float64, wire.WIDTH, qos.STATES)
        self._diagnostics = self.create_lifecycle_publisher(diagnostic_msgs.msg.DiagnosticArray, wire.DIAGNOSTICS, qos.DIAGNOSTICS)
        for made in (self._width, self._diagnostics):
            self.resources.callback(self.destroy_lifecycle_publisher, made)

    def activate(self) -> None:
        if self._controller() is None:
            raise UserError("the gripper works through the arm's node, which is not configured: configure that first")
        heard = self.create_subscription(std_msgs.msg.Float64, "gripper/command", self._command, qos.STATES)
        self.running.callback(self.destroy_subscription, heard)
        for period_s, do in ((PERIOD_S, self._tell), (1.0, self._diagnose)):
            self.running.callback(self.destroy_timer, self.create_timer(period_s, do))

    def _tell(self) -> None:
        self._width.publish(std_msgs.msg.Float64(data=float(self._controller().status()["gripper"]["width_m"])))

    def _diagnose(self) -> None:
        gripper = self._controller().status()["gripper"]
        wrong = gripper["error"] or self._refused
        level = diagnostic_msgs.msg.DiagnosticStatus.ERROR if gripper["error"] else diagnostic_msgs.msg.DiagnosticStatus.OK
        values = {key: str(value) if isinstance(value, bool) else value for key, value in gripper.items() if key != "error"}
        self._diagnostics.publish(report(self.get_clock().now().to_msg(), "gripper", wrong or "", values, level))

    def _command(self, message: std_msgs.msg.Float64) -> None:
        """Wider than half of the widest opens, less closes and grasps: the hand does no more."""
        widest_m = self.rig.gripper.max_width_m
        try:
            if not 0.0 <= message.data <= widest_m:
                raise UserError(f"a width of the hand is 0 to {widest_m:g} m, found {message.data:g}")
            self._controller().move_gripper(message.data / widest_m)
            self._refused = ""
        except UserError as error:
            self._refused = f"command refused: {error}"
            self.get_logger().warning(self._refused)
