"""The node that holds the arm and its hand: tells their state, takes commands, one commander at a time."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from functools import partial

from robosteer_core.errors import UserError
from robosteer_core.rig import REDUCED_SPEED_M_PER_S, Rig, load_rig
from robosteer_core.runtime.chunk import ActionChunk
from robosteer_core.runtime.clock import clock_reader, rig_clock
from robosteer_core.runtime.limits import MAX_POSES, Refusal
from robosteer_ros.arm_commands import ChunkJoiner, SteadyCommands
from robosteer_ros.graph import arm_messages as wire
from robosteer_ros.graph import qos
from robosteer_ros.graph.messages import Stamps, chunk_of
from robosteer_ros.hardware.arm import desk
from robosteer_ros.hardware.arm.bindings import open_arm
from robosteer_ros.hardware.arm.controller import ArmController
from robosteer_ros.hardware.arm.journal import Report
from robosteer_ros.hardware.gripper import GripperDriver
from robosteer_ros.nodes.gripper import GripperNode
from robosteer_ros.nodes.rig_node import Declared, RigNode
from robosteer_ros.nodes.rig_node import main as run
from robosteer_ros.ros import (
    MutuallyExclusiveCallbackGroup,
    QoSProfile,
    ReentrantCallbackGroup,
    diagnostic_msgs,
    geometry_msgs,
    rosgraph_msgs,
    std_srvs,
    tf2_msgs,
    trajectory_msgs,
)
from robosteer_ros.teller import Teller

CLOSE_TIMEOUT_S = 30.0
#: What the answer to a stop waits for the arm to come to rest; in the lab somebody may hold its time.
REST_TIMEOUT_S = 10.0
DIAGNOSTICS_PERIOD_S = 1.0


class ArmNode(RigNode):
    """Configured it is connected to the robot, active it tells states and takes commands. Services answer in words."""

    PARAMETERS = RigNode.PARAMETERS | {
        "sources": Declared(["policy", "teleop", "user"], "who may command; each has topics and services arm/<source>/..."),
        "full_speed": Declared(
            False, "a policy that was tried may be as fast as the rig's limits say; else at most "
            f"{REDUCED_SPEED_M_PER_S} m/s, as all others always", read_only=False,
        ),
    }  # fmt: skip

    def __init__(self) -> None:
        super().__init__("arm")
        self.controller: ArmController | None = None
        self._active = False
        # In any state: without brakes unlocked and FCI active there is nothing to be configured.
        group = ReentrantCallbackGroup()
        for name in desk.ACTIONS:
            self.create_service(std_srvs.srv.Trigger, f"arm/{name}", self._answer(partial(self._ask_desk, name)), callback_group=group)

    def configure(self) -> None:
        rig, self._stamps, self._now_ns = self.rig, Stamps(self.rig), clock_reader(self.rig)
        driver = open_arm(rig.arm, rig.limits)
        gripper = GripperDriver(rig.arm, rig.gripper, lambda: rig_clock(rig, "gripper"))
        self.resources.callback(gripper.close)
        self._teller = Teller(self._publish)
        clock = lambda: rig_clock(rig, "setpoints")  # noqa: E731
        self.controller = ArmController(rig, driver, gripper, clock, self._now_ns, self._teller.tell, self._rig_of)
        control = threading.Thread(target=self.controller.run, name="control")
        control.start()
        self.resources.callback(control.join, CLOSE_TIMEOUT_S)
        self.resources.callback(self.controller.close)
        self._make_publishers()
        for source in self.value("sources"):
            self._listen_to(source)
        anybody = {
            "stop": self._stop, "home": self._request("home", "user"), "recover": self._request("recover", "user"),
            "report": self._report, "look": self._look,
        }  # fmt: skip
        for name, do in anybody.items():
            self._serve(f"arm/{name}", do)
        self._serve("arm/guide", self._guide, std_srvs.srv.SetBool)

    def activate(self) -> None:
        self._active = True
        self._teller.start()
        # At the end everything is refused at once, and states are told until the arm is at rest: a policy that ends at the same
        # moment must not wait for what does not come, least of all where it holds the lab's time.
        self.running.callback(self._teller.stop)
        self.running.callback(self._come_to_rest)
        self.running.callback(setattr, self, "_active", False)
        beat = self.create_timer(DIAGNOSTICS_PERIOD_S, self._diagnose)
        self.running.callback(self.destroy_timer, beat)

    def _rig_of(self, source: str) -> Rig:
        return self.rig if source == "policy" and self.value("full_speed") else self.rig.at_reduced_speed()

    def _make_publishers(self) -> None:
        self._told_on = {}

        def add(topic: str, kind: type, profile: QoSProfile) -> None:
            made = self._told_on[topic] = self.create_lifecycle_publisher(kind, topic, profile)
            self.resources.callback(self.destroy_lifecycle_publisher, made)

        for topic, kind in wire.STATE_TOPICS.items():
            add(topic, kind, qos.STATES)
        add(wire.STATUS, diagnostic_msgs.msg.DiagnosticArray, qos.LATCHED)
        add(wire.ANSWERS, diagnostic_msgs.msg.DiagnosticArray, qos.STATES)
        add(wire.DIAGNOSTICS, diagnostic_msgs.msg.DiagnosticArray, qos.DIAGNOSTICS)
        add(wire.TRANSFORMS, tf2_msgs.msg.TFMessage, qos.STATES)
        if self.rig.lab is not None:
            add(wire.CLOCK, rosgraph_msgs.msg.Clock, qos.CLOCK)

    # States.

    def _publish(self, report: Report, stamp_ns: int) -> None:
        head = wire.header(self.rig, self._stamps, stamp_ns)
        messages = {wire.STATUS: wire.status_message(report, head)}
        if report.state is not None:
            messages |= wire.state_messages(self.rig, report, head)
            if self.rig.lab is not None:
                messages[wire.CLOCK] = rosgraph_msgs.msg.Clock(clock=head.stamp)
        for topic, message in messages.items():
            self._told_on[topic].publish(message)

    def _diagnose(self) -> None:
        stamp = self.get_clock().now().to_msg()
        self._told_on[wire.DIAGNOSTICS].publish(wire.diagnostics_message(self.rig, stamp, self.controller.status()))

    # Commands.

    def _listen_to(self, source: str) -> None:
        if not source.isidentifier():
            raise UserError(f"a source of commands is a name of letters, digits and underscores, found {source!r}")
        joiner = ChunkJoiner(lambda *pair: self._take_chunk(source, *pair), lambda poses: self._take_chunk(source, poses, None))
        steady = SteadyCommands(self.rig)
        heard = {
            "chunk": (trajectory_msgs.msg.MultiDOFJointTrajectory, joiner.take_poses),
            "gripper_chunk": (trajectory_msgs.msg.JointTrajectory, joiner.take_widths),
            "pose": (geometry_msgs.msg.PoseStamped, lambda message: self._take_steady(source, steady, steady.to_pose, message)),
            "twist": (geometry_msgs.msg.TwistStamped, lambda message: self._take_steady(source, steady, steady.by_twist, message)),
        }
        group = MutuallyExclusiveCallbackGroup()  # commands of one source are taken in their order
        for topic, (kind, take) in heard.items():
            made = self.create_subscription(kind, f"arm/{source}/{topic}", take, qos.STATES, callback_group=group)
            self.resources.callback(self.destroy_subscription, made)
        self._serve(f"arm/{source}/start", self._request("start", source))
        self._serve(f"arm/{source}/release", self._request("release", source))

    def _take_chunk(self, source: str, poses, widths) -> None:
        def chunk() -> ActionChunk | None:
            if not poses.points:
                return None
            if widths is None:
                raise UserError(f"no widths of the gripper have come with the chunk, on arm/{source}/gripper_chunk")
            if len(poses.points) > MAX_POSES:
                raise UserError(f"a chunk has at most {MAX_POSES} poses, found {len(poses.points)}")
            return chunk_of(self.rig, poses, widths, self._stamps.ns(poses.header.stamp))

        self._take(source, poses.header, chunk)

    def _take_steady(self, source: str, commands: SteadyCommands, make: Callable, message) -> None:
        def chunk() -> ActionChunk | Refusal:
            stamp_ns = self._stamps.ns(message.header.stamp)
            return commands.refusal(stamp_ns, self._now_ns()) or make(message, stamp_ns, self.controller.setpoint)

        self._take(source, message.header, chunk, moves_gripper=False)

    def _take(self, source: str, head, make: Callable[[], ActionChunk | Refusal | None], moves_gripper: bool = True) -> None:
        """Hand what `make` makes of a message to the controller, and answer; an answer may come later, too, from the tick."""

        def answer(refusal: str | None) -> None:
            self._told_on[wire.ANSWERS].publish(wire.answer_message(head, source, refusal))

        try:
            self._require_active()
            self.controller.require_commander(source)
            try:
                made = make()
            except UserError as error:
                made = Refusal("malformed", f"malformed: {error}")
            if isinstance(made, Refusal):
                answer(self.controller.refuse(made))
            else:
                answer(self.controller.submit(made, source, answer, moves_gripper))
        except UserError as error:
            answer(str(error))

    # Services.

    def _serve(self, name: str, do: Callable[..., str], kind: type = std_srvs.srv.Trigger) -> None:
        """While the node is configured, a Trigger, or a SetBool whose value `do` takes; refused where it is not active."""

        def when_active(*given: bool) -> str:
            self._require_active()
            return do(*given)

        service = self.create_service(kind, name, self._answer(when_active), callback_group=ReentrantCallbackGroup())
        self.resources.callback(self.destroy_service, service)

    def _answer(self, do: Callable[..., str]) -> Callable:
        """`do` returns what to say, and raises UserError where it cannot be."""

        def answer(request, response):
            try:
                response.message = do(request.data) if hasattr(request, "data") else do()
                response.success = True
            except UserError as error:
                response.message, response.success = str(error), False
            return response

        return answer

    def _ask_desk(self, name: str) -> str:
        if name == "lock" and self.controller is not None and self.controller.status()["motion"] is not None:
            raise UserError("the arm moves: arm/stop first, then lock its brakes")
        return desk.ACTIONS[name](load_rig(self.value("rig")).arm, *desk.credentials())

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

    def _guide(self, wanted: bool) -> str:
        """The arm comes to rest, and its buttons let it be led; who presses them is the operator. Nothing of ours moves it."""
        self._come_to_rest()
        if not wanted:
            return "at rest; the arm stays where it is when the buttons at its hand are let go"
        self.controller.request("guide", "user")
        return "at rest, and free in all directions: press the two buttons at the hand and lead it; arm/report tells robot_mode Guiding"

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


def main() -> None:
    arms: list[ArmNode] = []

    def arm() -> ArmNode:
        arms.append(ArmNode())
        return arms[0]

    run(arm, lambda: GripperNode(lambda: arms[0].controller))


if __name__ == "__main__":
    main()
