"""Teleoperation: reads the operator's device, moves the arm while an episode is recorded, tells every tick of it."""

from __future__ import annotations

import threading
from collections.abc import Callable

from robosteer_core.runtime.clock import MonotonicClock, rig_clock
from robosteer_core.runtime.lab_link import LabLink
from robosteer_ros.graph.arm_link import GraphArm
from robosteer_ros.graph.messages import Stamps, report
from robosteer_ros.graph.qos import DIAGNOSTICS, LATCHED, STATES
from robosteer_ros.hardware.teleop.devices import DEVICES, SPEED_M_PER_S, TURN_RAD_PER_S, open_device
from robosteer_ros.nodes import rig_node
from robosteer_ros.nodes.rig_node import Declared
from robosteer_ros.ros import (
    MutuallyExclusiveCallbackGroup,
    diagnostic_msgs,
    sensor_msgs,
    std_srvs,
)
from robosteer_ros.steering import RecordingStatus
from robosteer_ros.teleoperation import Recording, Teleoperation

DIAGNOSTICS_PERIOD_S = 1.0
#: As whom the arm is commanded.
SOURCE = "teleop"


class TeleopNode(rig_node.RigNode):
    """Publishes `teleop/command` at the policy's rate, hears `recorder/status`, answers `teleop/drive` and `teleop/rest`."""

    PARAMETERS = rig_node.RigNode.PARAMETERS | {
        "device": Declared("remote", f"the operator's device: {', '.join(DEVICES)}"),
        "speed_m_per_s": Declared(SPEED_M_PER_S, "of the end effector at full deflection of the device; at most the rig's limit, and 0.25"),
        "turn_rad_per_s": Declared(TURN_RAD_PER_S, "of the end effector at full deflection of the device; at most the rig's limit"),
    }

    def __init__(self, **options) -> None:
        super().__init__("teleop", **options)

    def configure(self) -> None:
        self._stamps = Stamps(self.rig)
        self._device = open_device(self.value("device"), self.rig.at_reduced_speed(), self.value("speed_m_per_s"), self.value("turn_rad_per_s"))
        self.resources.callback(self._device.close)
        self._command = self.create_lifecycle_publisher(sensor_msgs.msg.Joy, "teleop/command", STATES)
        self.resources.callback(self.destroy_lifecycle_publisher, self._command)
        self._health = self.create_lifecycle_publisher(diagnostic_msgs.msg.DiagnosticArray, "/diagnostics", DIAGNOSTICS)
        self.resources.callback(self.destroy_lifecycle_publisher, self._health)

    def activate(self) -> None:
        rig = self.rig
        arm = GraphArm(self, rig, SOURCE)
        self.running.callback(arm.close)
        self._recording, self._recorders = Recording(), set()
        now_ns = MonotonicClock().now_ns
        if rig.lab is not None:
            now_ns = self.running.enter_context(LabLink(rig.lab.control, "teleop")).now_ns
        self._loop = Teleoperation(
            rig, arm, self._device, lambda: rig_clock(rig, "policy"), now_ns,
            lambda steering: self._command.publish(steering.message(self._stamps)), self._recording,
        )  # fmt: skip
        self._recorder = self.create_subscription(
            diagnostic_msgs.msg.DiagnosticArray, "recorder/status", self._hear, LATCHED, callback_group=MutuallyExclusiveCallbackGroup()
        )
        self.running.callback(self.destroy_subscription, self._recorder)
        for name, act in (("drive", self._loop.drive), ("rest", self._loop.rest)):
            service = self.create_service(std_srvs.srv.Trigger, f"teleop/{name}", self._answer(act))
            self.running.callback(self.destroy_service, service)
        timer = self.create_timer(DIAGNOSTICS_PERIOD_S, self._look)
        self.running.callback(self.destroy_timer, timer)
        thread = threading.Thread(target=self._loop.run, name="teleoperation", daemon=True)
        thread.start()
        self.running.callback(self._end, thread)

    def _hear(self, message: diagnostic_msgs.msg.DiagnosticArray) -> None:
        self._recording.update(RecordingStatus.of(message, self._stamps))

    def _answer(self, act: Callable[[], None]) -> Callable:
        def answer(_: object, response: std_srvs.srv.Trigger.Response) -> std_srvs.srv.Trigger.Response:
            act()
            response.success, response.message = True, self._loop.stage
            return response

        return answer

    def _look(self) -> None:
        """Once a second: is the recorder there still, and how does the loop keep time."""
        there = {bytes(found.endpoint_gid) for found in self.get_publishers_info_by_topic(self._recorder.topic_name)}
        # One that comes back has lost the episode, and in the lab it cannot say so before time goes on.
        if not self._recording.running or not self._recorders:
            self._recorders = there
        if self._recording.status is not None and not self._recorders & there:
            self.get_logger().error("the recorder has gone")
            self._recording.update(None)
        stage, level = self._loop.stage, diagnostic_msgs.msg.DiagnosticStatus
        values = {"device": self.value("device"), "ticks": self._loop.ticks, "late_ticks": self._loop.late_ticks}
        now = self.get_clock().now().to_msg()
        self._health.publish(report(now, self.get_name(), stage, values, level.ERROR if stage == "fault" else level.OK))

    def _end(self, thread: threading.Thread) -> None:
        self._loop.close()
        self._recording.update(None)  # nobody is waited for any more
        thread.join()


def main() -> None:
    rig_node.main(TeleopNode)


if __name__ == "__main__":
    main()
