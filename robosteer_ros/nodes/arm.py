"""The node that holds the arm and its hand: tells their state, takes commands, one commander at a time."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable

from robosteer_core.errors import UserError
from robosteer_core.runtime.clock import rig_clock
from robosteer_ros import arm_messages as wire
from robosteer_ros.hardware.arm.bindings import open_arm
from robosteer_ros.hardware.arm.controller import ArmController, Report
from robosteer_ros.hardware.arm.process import clock_reader
from robosteer_ros.hardware.gripper import GripperDriver
from robosteer_ros.messages import Stamps, chunk_of
from robosteer_ros.nodes.rig_node import RigNode, main as run
from robosteer_ros.ros import (
    MutuallyExclusiveCallbackGroup,
    QoSProfile,
    ReentrantCallbackGroup,
    diagnostic_msgs,
    rosgraph_msgs,
    std_msgs,
    std_srvs,
    tf2_msgs,
    trajectory_msgs,
)

CLOSE_TIMEOUT_S = 30.0
#: What the answer to a stop waits for the arm to come to rest; in the lab somebody may hold its time.
REST_TIMEOUT_S = 10.0
#: Reports that wait to be published, at most; a publisher that is farther behind leaves out the oldest.
LONGEST_QUEUE = 200


class ArmNode(RigNode):
    """Configured it is connected to the robot, active it tells states and takes commands. Services answer in words."""

    def __init__(self) -> None:
        super().__init__("arm")
        self.declare("sources", ["policy", "teleop", "user"], "who may command; each has topics and services arm/<source>/...")
        self.controller: ArmController | None = None
        self._active = False

    def configure(self) -> None:
        rig, self._stamps = self.rig, Stamps(self.rig)
        driver = open_arm(rig.arm, rig.limits)
        gripper = GripperDriver(rig.arm, rig.gripper, lambda: rig_clock(rig, "gripper"))
        self.resources.callback(gripper.close)
        self._teller = Teller(self._publish)
        clock = lambda: rig_clock(rig, "setpoints")  # noqa: E731
        self.controller = ArmController(rig, driver, gripper, clock, clock_reader(rig), self._teller.tell)
        control = threading.Thread(target=self.controller.run, name="control")
        control.start()
        self.resources.callback(control.join, CLOSE_TIMEOUT_S)
        self.resources.callback(self.controller.close)
        self._make_publishers()
        for source in self.value("sources"):
            self._listen_to(source)
        anybody = {"stop": self._stop, "home": self._request("home", "user"), "recover": self._request("recover", "user"),
                   "report": self._report, "look": self._look}  # fmt: skip
        for name, do in anybody.items():
            self._serve(f"arm/{name}", do)

    def activate(self) -> None:
        self._active = True
        self.running.callback(setattr, self, "_active", False)
        self.running.callback(self._come_to_rest)
        self._teller.start()
        self.running.callback(self._teller.stop)

    def _make_publishers(self) -> None:
        self._publishers_by_topic = {}

        def add(topic: str, kind: type, qos: QoSProfile) -> None:
            made = self._publishers_by_topic[topic] = self.create_lifecycle_publisher(kind, topic, qos)
            self.resources.callback(self.destroy_lifecycle_publisher, made)

        for topic, kind in wire.STATE_TOPICS.items():
            add(topic, kind, wire.STATE_QOS)
        add(wire.STATUS, diagnostic_msgs.msg.DiagnosticArray, wire.STATUS_QOS)
        add(wire.ANSWERS, diagnostic_msgs.msg.DiagnosticArray, wire.STATE_QOS)
        add(wire.TRANSFORMS, tf2_msgs.msg.TFMessage, wire.STATE_QOS)
        add(wire.WIDTH, std_msgs.msg.Float64, wire.STATE_QOS)
        if self.rig.lab is not None:
            add(wire.CLOCK, rosgraph_msgs.msg.Clock, wire.CLOCK_QOS)

    # States.

    def _publish(self, report: Report, stamp_ns: int) -> None:
        head = wire.header(self.rig, self._stamps, stamp_ns)
        messages = {wire.STATUS: wire.status_message(report, head)}
        if report.state is not None:
            messages |= wire.state_messages(self.rig, report, head)
            if self.rig.lab is not None:
                messages[wire.CLOCK] = rosgraph_msgs.msg.Clock(clock=head.stamp)
        for topic, message in messages.items():
            self._publishers_by_topic[topic].publish(message)

    # Commands.

    def _listen_to(self, source: str) -> None:
        if not source.isidentifier():
            raise UserError(f"a source of commands is a name of letters, digits and underscores, found {source!r}")
        intake, group = ChunkIntake(lambda *pair: self._take_chunk(source, *pair)), MutuallyExclusiveCallbackGroup()
        poses, widths = trajectory_msgs.msg.MultiDOFJointTrajectory, trajectory_msgs.msg.JointTrajectory
        for kind, topic, take in ((poses, "chunk", intake.take_poses), (widths, "gripper_chunk", intake.take_widths)):
            heard = self.create_subscription(kind, f"arm/{source}/{topic}", take, wire.STATE_QOS, callback_group=group)
            self.resources.callback(self.destroy_subscription, heard)
        self._serve(f"arm/{source}/start", self._request("start", source))
        self._serve(f"arm/{source}/release", self._request("release", source))

    def _take_chunk(self, source: str, poses, widths) -> None:
        try:
            self._require_active()
            chunk = chunk_of(self.rig, poses, widths, self._stamps.ns(poses.header.stamp)) if poses.points else None
            refusal = self.controller.submit(chunk, source)
        except UserError as error:
            refusal = str(error)
        self._publishers_by_topic[wire.ANSWERS].publish(wire.answer_message(poses.header, source, refusal))

    # Services.

    def _serve(self, name: str, do: Callable[[], str]) -> None:
        """A Trigger: `do` returns what to say, and raises UserError where it cannot be done."""

        def answer(request, response):
            try:
                self._require_active()
                response.message, response.success = do(), True
            except UserError as error:
                response.message, response.success = str(error), False
            return response

        service = self.create_service(std_srvs.srv.Trigger, name, answer, callback_group=ReentrantCallbackGroup())
        self.resources.callback(self.destroy_service, service)

    def _require_active(self) -> None:
        if not self._active:
            raise UserError("the arm node is not active: activate it first")

    def _request(self, name: str, source: str) -> Callable[[], str]:
        def do() -> str:
            self.controller.request(name, source)
            return name

        return do

    def _stop(self) -> str:
        self.controller.stop()
        self._come_to_rest()
        return "at rest; it stays so until arm/recover"

    def _come_to_rest(self) -> None:
        deadline = time.monotonic() + REST_TIMEOUT_S
        self.controller.request("release", None)
        while self.controller.status()["motion"] is not None:
            if time.monotonic() > deadline:
                raise UserError(f"told to stop, and not at rest within {REST_TIMEOUT_S:.0f} s; in the lab, time may be held")
            time.sleep(0.005)

    def _look(self) -> str:
        self.controller.look()
        return "told on the topics of the state"

    def _report(self) -> str:
        return json.dumps(self.controller.status())


class ChunkIntake:
    """Puts poses and widths of one chunk together; an assertion of the last one, which has no points, comes alone."""

    def __init__(self, take: Callable[[object, object], None]) -> None:
        self._take, self._poses, self._widths = take, None, None

    def take_poses(self, poses) -> None:
        if not poses.points:
            self._take(poses, None)
            return
        self._poses = poses
        self._join()

    def take_widths(self, widths) -> None:
        self._widths = widths
        self._join()

    def _join(self) -> None:
        poses, widths = self._poses, self._widths
        if poses is not None and widths is not None and poses.header == widths.header:
            self._poses = self._widths = None
            self._take(poses, widths)


class Teller:
    """Publishes reports in a thread of its own, oldest first: whoever tells them does not wait.

    Stamps of states grow: a state told at the instant of the last one is stamped a nanosecond after it.
    """

    def __init__(self, publish: Callable[[Report, int], None]) -> None:
        self._publish, self._reports = publish, deque(maxlen=LONGEST_QUEUE)
        self._news, self._last_ns = threading.Condition(), -1
        self._thread: threading.Thread | None = None

    def tell(self, report: Report) -> None:
        with self._news:
            self._reports.append(report)
            self._news.notify()

    def start(self) -> None:
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="teller", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        with self._news:
            self._stopping = True
            self._news.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._reports or self._stopping)
                if not self._reports:
                    return
                report = self._reports.popleft()
            stamp_ns = report.stamp_ns
            if report.state is not None:
                stamp_ns = self._last_ns = max(stamp_ns, self._last_ns + 1)
            self._publish(report, stamp_ns)


def main() -> None:
    run(ArmNode)


if __name__ == "__main__":
    main()
