"""What the processes of a policy, a recorder and an operator hold of the arm: its topics and services."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from robosteer_core.errors import UserError
from robosteer_core.rig import Rig
from robosteer_core.runtime.chunk import ActionChunk
from robosteer_core.runtime.clock import clock_reader
from robosteer_core.runtime.json_lines import Refused
from robosteer_core.runtime.observation import ArmState, RecentStates
from robosteer_ros.graph import arm_messages as wire
from robosteer_ros.graph.messages import Stamps, chunk_messages, values_of
from robosteer_ros.graph.participant import trigger
from robosteer_ros.graph.qos import EVERY_LATCHED, STATES
from robosteer_ros.ros import MutuallyExclusiveCallbackGroup, Node, diagnostic_msgs, std_srvs, trajectory_msgs

DISCOVERY_TIMEOUT_S = 10.0
ANSWER_TIMEOUT_S = 10.0
#: A torque stop takes at most 2 s of robot time, the way home more; the lab may run slower than the wall clock.
REST_TIMEOUT_S = 60.0
#: A real arm's newest state may be that old, s.
OLDEST_STATE_S = 0.2
_ASK_AGAIN_S = 0.2


class GraphArm:
    """Commands the arm node of a rig as `source`, one of the node's parameter `sources`; with None only looks, and `stop`s.

    `node` is spun by an executor in a thread of its caller's. Whose source has called `start` is the commander until the arm
    stops: others may only look, and `stop`. Every method raises Refused when the arm node says no, and UserError when it is not
    there. In the lab: `start` when time runs or stands in a reset's hold, joined to the clock before it if runs are to repeat
    exactly. `rest` and `stop` only after leaving the clock: coming to rest takes robot time. The node has to be there, and
    active, within `patience_s`.
    """

    def __init__(self, node: Node, rig: Rig, source: str | None, patience_s: float = DISCOVERY_TIMEOUT_S) -> None:
        self._node, self._rig, self._source, self._stamps = node, rig, source, Stamps(rig)
        self._now_ns = clock_reader(rig)
        self._joiner = wire.StateJoiner(rig, self._stamps)
        self._news = threading.Condition()
        self._recent = RecentStates()
        self._status: dict[str, str] = {}
        self._asked: object | None = None
        self._answer: tuple[str | None] | None = None
        self._asking = threading.Lock()
        group, array = MutuallyExclusiveCallbackGroup(), diagnostic_msgs.msg.DiagnosticArray
        self._ends: list[tuple[Callable[[object], bool], object]] = []
        heard = {topic: (kind, self._hear(topic)) for topic, kind in wire.STATE_TOPICS.items()}
        heard |= {wire.ANSWERS: (array, self._hear_answer), wire.STATUS: (array, self._hear(wire.STATUS))}
        for topic, (kind, take) in heard.items():
            qos = EVERY_LATCHED if topic == wire.STATUS else STATES
            self._own(node.destroy_subscription, node.create_subscription(kind, topic, take, qos, callback_group=group))
        names = ["stop", "home", "recover", "report", "look"]
        if source is not None:
            poses, widths = trajectory_msgs.msg.MultiDOFJointTrajectory, trajectory_msgs.msg.JointTrajectory
            self._poses = self._own(node.destroy_publisher, node.create_publisher(poses, f"arm/{source}/chunk", STATES))
            self._widths = self._own(node.destroy_publisher, node.create_publisher(widths, f"arm/{source}/gripper_chunk", STATES))
            names += [f"{source}/start", f"{source}/release"]
        self._clients = {
            name: self._own(node.destroy_client, node.create_client(std_srvs.srv.Trigger, f"arm/{name}", callback_group=group))
            for name in names
        }
        try:
            self._await_arm(patience_s)
        except UserError:
            self.close()
            raise

    def state(self, measured_at_ns: int | None = None) -> ArmState:
        """The newest state, on a real arm with what was measured nearest to `measured_at_ns`. In the lab, whose time its caller
        holds, the state of now: two runs see the same."""
        oldest_ns = self._now_ns()
        if self._rig.lab is None:
            oldest_ns -= int(OLDEST_STATE_S * 1e9)
        else:
            self._call("look")
        with self._news:
            # A robot in fault may tell nothing more.
            if not self._news.wait_for(
                lambda: self._recent.newest.stamp_ns >= oldest_ns or self._status["mode"] == "fault", ANSWER_TIMEOUT_S
            ):
                raise UserError(f"no state of the arm for {ANSWER_TIMEOUT_S:.0f} s: is its node alive?")
            aligned = measured_at_ns is not None and self._rig.lab is None
            state = self._recent.nearest(measured_at_ns) if aligned else self._recent.newest
            return replace(state, mode=self._status["mode"])

    def status(self) -> dict:
        """Mode and its log, last error, loop statistics, interventions of the limits by name, gripper."""
        return json.loads(self._call("report"))

    def send(self, chunk: ActionChunk) -> None:
        """Play a chunk. On return the arm node has it: the next tick of its set-point loop plays it.

        Raises Refused for what is no chunk, and while the arm is not tracking for this source: stopped by the watchdog, or in
        fault. Chunks that only the tick can judge (stale, too far a step) are not played and are counted in
        `status()["interventions"]`.
        """
        head = wire.header(self._rig, self._stamps, int(chunk.stamps_ns[0]) if len(chunk) else self._now_ns())
        poses, widths = chunk_messages(self._rig, chunk, head)
        self._ask(head, lambda: (self._widths.publish(widths), self._poses.publish(poses)))

    def keep(self) -> None:
        """Say that the last chunk still stands, between two chunks that are farther apart than the watchdog's patience.

        To be called from the loop that would send the next chunk, never from a thread of its own: the watchdog is there
        for the case that this loop hangs.
        """
        head = wire.header(self._rig, self._stamps, self._now_ns())
        self._ask(head, lambda: self._poses.publish(trajectory_msgs.msg.MultiDOFJointTrajectory(header=head)))

    def start(self) -> None:
        """Become the commander and begin to follow set-points, from the measured pose."""
        before = self._recent.newest.stamp_ns
        self._call(f"{self._source}/start")

        def begun() -> bool:
            # States of before the start must not be taken for later ones; what ended at once has begun, too.
            newest = self._recent.newest
            return newest.stamp_ns > before and (newest.mode != "idle" or self._status["mode"] in ("stopped", "fault"))

        with self._news:
            if not self._news.wait_for(begun, ANSWER_TIMEOUT_S):
                raise UserError("the arm node has started the arm, and tells no state of it")

    def release(self) -> None:
        """Bring the arm to rest and give up its command. Returns when the next tick of the loop is certain to do so."""
        self._call(f"{self._source}/release")

    def stop(self) -> None:
        """Hold, stop and come to rest, whoever commands; until a `recover` nothing starts. Returns when it is at rest."""
        self._call("stop")

    def home(self) -> None:
        """Begin to move home, slowly."""
        self._call("home")

    def recover(self) -> None:
        """Clear the robot's errors after a fault, and a stop. Nothing moves."""
        self._call("recover")

    def rest(self, timeout_s: float = REST_TIMEOUT_S) -> None:
        """Wait until no motion runs. Raises UserError after `timeout_s` of wall time."""
        deadline = time.monotonic() + timeout_s
        while (motion := self.status()["motion"]) is not None:
            if time.monotonic() > deadline:
                raise UserError(
                    f"the arm still moves ({motion}) after {timeout_s:.0f} s; in the lab, leave the clock before waiting for it"
                )
            time.sleep(0.005)

    def close(self) -> None:
        """Take topics and services off the node; the node itself is its owner's."""
        while self._ends:
            destroy, entity = self._ends.pop()
            destroy(entity)

    def _own(self, destroy: Callable[[object], bool], entity):
        self._ends.append((destroy, entity))
        return entity

    def _hear(self, topic: str) -> Callable[[object], None]:
        def take(message) -> None:
            with self._news:
                if topic == wire.STATUS:
                    self._status = values_of(message)
                if (state := self._joiner.take(topic, message)) is not None:
                    self._recent.add(state)
                self._news.notify_all()

        return take

    def _hear_answer(self, message) -> None:
        status = message.status[0]
        if status.name != self._source:
            return
        refused = status.level != diagnostic_msgs.msg.DiagnosticStatus.OK
        with self._news:
            if message.header == self._asked:
                self._asked, self._answer = None, (status.message if refused else None,)
                self._news.notify_all()
                return
        if refused:  # by the tick, after it was taken
            self._node.get_logger().warning(f"a command of {self._source} was not carried out: {status.message}")

    def _ask(self, head, publish: Callable[[], object], timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        with self._asking:
            self._asked, self._answer = head, None
            publish()
            with self._news:
                if not self._news.wait_for(lambda: self._answer is not None, timeout_s):
                    raise UserError(f"the arm node did not answer a command within {timeout_s:g} s; look at its log")
                (refusal,) = self._answer
        if refusal is not None:
            raise Refused(refusal)

    def _call(self, name: str) -> str:
        return trigger(self._clients[name], 2 * ANSWER_TIMEOUT_S)

    def _await_arm(self, patience_s: float) -> None:
        """Until every way to the arm node and back has been seen to work."""
        deadline = time.monotonic() + patience_s
        for client in self._clients.values():
            if not client.wait_for_service(max(0.0, deadline - time.monotonic())):
                raise UserError(
                    f"no arm node answers at {client.service_name}; start it with `robosteer up "
                    f"{self._rig.given}` or `python -m robosteer_ros.nodes.arm --ros-args -p rig:={self._rig.given} -p autostart:=true`"
                )
        with self._news:
            if not self._news.wait_for(lambda: self._recent.newest is not None, max(0.0, deadline - time.monotonic())):
                raise UserError("the arm node tells no state; is it active?")
        while self._source is not None:
            head = wire.header(self._rig, self._stamps, self._now_ns())
            empty = trajectory_msgs.msg.MultiDOFJointTrajectory(header=head)
            try:
                self._ask(head, lambda: self._poses.publish(empty), _ASK_AGAIN_S)
            except Refused:
                return
            except UserError:
                if time.monotonic() > deadline:
                    raise
