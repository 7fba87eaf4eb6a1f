"""The recorder: taps the graph while the operator demonstrates, and writes a LeRobot v3 dataset with a raw log beside it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from robosteer_core.camera_calibration import rig_calibrations
from robosteer_core.episodes.writer import DatasetWriter
from robosteer_core.errors import UserError
from robosteer_ros.graph.messages import Stamps
from robosteer_ros.graph.participant import is_there
from robosteer_ros.graph.qos import DIAGNOSTICS, LATCHED, STATES
from robosteer_ros.graph.station import GraphStation
from robosteer_ros.logs.episode_logs import EpisodeLogs
from robosteer_ros.logs.raw_log import RawLog
from robosteer_ros.nodes import rig_node
from robosteer_ros.nodes.rig_node import Declared
from robosteer_ros.record import RecordingSession, review
from robosteer_ros.ros import (
    MutuallyExclusiveCallbackGroup,
    ReentrantCallbackGroup,
    diagnostic_msgs,
    rcl_interfaces,
    sensor_msgs,
    std_srvs,
)
from robosteer_ros.steering import RecordingStatus, Steering

#: Writing the end of a long episode to a slow disk; a service that waits longer says so.
ANSWER_TIMEOUT_S = 120.0
#: DDS has told everybody of a node within this time.
FOUND_WITHIN_S = 10.0
_SESSION = ("task", "dataset", "episodes", "calibrations", "owner")


class RecorderNode(rig_node.RigNode):
    """Publishes `recorder/status`, hears `teleop/command`, answers `recorder/start|keep|discard|finish|review`.

    It is ready for an episode as soon as the parameter `dataset` names a folder, which may hold a dataset of this rig: setting
    the parameter opens it, and is refused in words where that cannot be. `task` and `episodes` may be set at any time. Who sets its own
    name as `owner`, too, has the session for itself: as long as it is on the graph, nobody else opens another one.
    """

    PARAMETERS = rig_node.RigNode.PARAMETERS | {
        "task": Declared("", "the instruction in words, as the policy will get it", read_only=False),
        "dataset": Declared("", "folder of the LeRobot v3 dataset; appended to when it exists", read_only=False),
        "episodes": Declared(0, "the session is over after so many kept episodes; 0: without an end", read_only=False),
        "calibrations": Declared("calibrations", "folder of <camera>.yaml, which go into the dataset's metadata", read_only=False),
        "owner": Declared(
            "", "full name of the node for which the dataset is opened; no other opens one while it is there", read_only=False
        ),
    }

    def __init__(self, **options) -> None:
        super().__init__("recorder", **options)
        self._session: RecordingSession | None = None
        self._opened = ExitStack()

    def configure(self) -> None:
        self._stamps = Stamps(self.rig)
        array = diagnostic_msgs.msg.DiagnosticArray
        self._status = self.create_lifecycle_publisher(array, "recorder/status", LATCHED)
        self._diagnostics = self.create_lifecycle_publisher(array, "/diagnostics", DIAGNOSTICS)
        for made in (self._status, self._diagnostics):
            self.resources.callback(self.destroy_lifecycle_publisher, made)

    def activate(self) -> None:
        self._station = self.running.enter_context(GraphStation(self, self.rig, None))
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        worker = threading.Thread(target=self._serve, name="recorder", daemon=True)
        worker.start()
        self.running.callback(self._end, worker)
        callback = self._on_parameters
        self.add_on_set_parameters_callback(callback)
        self.running.callback(self.remove_on_set_parameters_callback, callback)
        # In the worker as what comes later, and waited for: a refusal refuses the transition. For nobody: who asked for it before may
        # have gone.
        self._ask(lambda: self._open(**{name: self.value(name) for name in _SESSION} | {"owner": ""}))
        heard = self.create_subscription(
            sensor_msgs.msg.Joy, "teleop/command", self._hear, STATES, callback_group=MutuallyExclusiveCallbackGroup()
        )
        self.running.callback(self.destroy_subscription, heard)
        beat = self.create_timer(1.0, self._diagnose)
        self.running.callback(self.destroy_timer, beat)
        group = ReentrantCallbackGroup()
        for name in ("start", "keep", "discard", "finish", "review"):
            service = self.create_service(std_srvs.srv.Trigger, f"recorder/{name}", self._answer(name), callback_group=group)
            self.running.callback(self.destroy_service, service)

    # What comes from the graph; the worker deals with it, in order.

    def _hear(self, message: sensor_msgs.msg.Joy) -> None:
        try:
            steering = Steering.of(message, self._stamps)
        except UserError as error:
            self.get_logger().warning(str(error), throttle_duration_sec=10)
            return
        self._work.put(lambda: self._take(steering))

    def _answer(self, name: str) -> Callable:
        def answer(_: object, response: std_srvs.srv.Trigger.Response) -> std_srvs.srv.Trigger.Response:
            try:
                response.message, response.success = self._ask(lambda: self._do(name)), True
            except UserError as error:
                response.message = str(error)
            return response

        return answer

    def _on_parameters(self, parameters: list) -> rcl_interfaces.msg.SetParametersResult:
        given = {parameter.name: parameter.value for parameter in parameters if parameter.name in _SESSION}
        session = {name: self.value(name) for name in _SESSION} | {"owner": ""} | given
        try:
            if given:
                self._ask(lambda: self._open(**session))
        except UserError as error:
            return rcl_interfaces.msg.SetParametersResult(successful=False, reason=str(error))
        return rcl_interfaces.msg.SetParametersResult(successful=True)

    def _ask(self, task: Callable[[], str]) -> str:
        """Let the worker do it, and wait. Raises UserError saying why not."""
        asked: Future[str] = Future()

        def work() -> None:
            try:
                asked.set_result(task())
            except BaseException as error:
                asked.set_exception(error)

        self._work.put(work)
        try:
            return asked.result(ANSWER_TIMEOUT_S)
        except TimeoutError:
            raise UserError(f"the recorder has been busy for {ANSWER_TIMEOUT_S:.0f} s; look at its log") from None

    # In the worker.

    def _serve(self) -> None:
        while (task := self._work.get()) is not None:
            task()

    def _take(self, steering: Steering) -> None:
        try:
            for event in steering.events:
                if event in ("start", "keep", "discard", "finish"):
                    self._do(event)
            if self._session is not None:
                self._session.take(steering)
        except UserError as error:
            self.get_logger().error(str(error))
        except Exception as error:  # an episode that fails must not end the recorder
            self.get_logger().error(f"the episode failed: {type(error).__name__}: {error}")
        if self._session is not None:
            self._tell()

    def _do(self, name: str) -> str:
        session = self._session
        if session is None:
            raise UserError("no dataset is open: set the parameters `task` and `dataset` of the recorder, or use `robosteer record`")
        if name == "review":
            if session.status.stage in ("recording", "saving"):
                raise UserError("an episode is running: keep or discard it first")
            return str(review(Path(session.status.dataset)))
        if name in ("keep", "discard") and session.status.stage == "recording":
            session.saving()
            self._tell()
        try:
            getattr(session, name)()
        finally:
            if session.status.stage == "finished":
                self._close()
            self._tell()
        status = session.status
        return f"{status.stage}: {status.kept} episodes kept, {status.discarded} discarded, {status.dataset_episodes} in {status.dataset}"

    def _open(self, task: str, dataset: str, episodes: int, calibrations: str, owner: str) -> str:
        """Another session, or other words for the one that is. Raises UserError while an episode runs, or where it is somebody else's."""
        if episodes < 0:
            raise UserError(f"episodes: expected 0 (without an end) or more, found {episodes}")
        status = self._session.status if self._session is not None else RecordingStatus("idle")
        same = status.dataset == dataset and owner in ("", status.owner)
        if not same and owner != status.owner and status.stage in ("ready", "recording", "saving") and is_there(self, status.owner):
            raise UserError(
                f"{status.owner} records into {status.dataset}, {status.kept} episodes kept: finish its session there, or by "
                f"`robosteer service call {self.resolve_service_name('recorder/finish')} std_srvs/srv/Trigger`, which drops an episode "
                "that runs; one that was killed is forgotten after some 10 s"
            )
        if status.stage in ("recording", "saving"):
            raise UserError("an episode is running; keep or discard it before the session is changed")
        if status.stage == "ready" and same:
            self._session.task, self._session.wanted = task, episodes
        else:
            if owner and not is_there(self, owner, FOUND_WITHIN_S):
                raise UserError(f"owner: expected the full name of a node of this graph; found {owner!r}, which is not on it")
            self._close()
            self._session = None
            if dataset:
                calibrated = rig_calibrations(self.rig, Path(calibrations))
                with ExitStack() as opened:
                    writer = opened.enter_context(DatasetWriter(dataset, self.rig, calibrations=calibrated))
                    log = EpisodeLogs(RawLog(self, self.rig), Path(dataset))
                    opened.callback(log.close)
                    self._session = RecordingSession(self.rig, self._station.observe, writer, log, task, episodes, owner)
                    self._opened = opened.pop_all()
        self._tell()
        return ""

    def _close(self) -> None:
        self._opened.close()

    def _tell(self) -> None:
        self._status.publish(self._report())

    def _diagnose(self) -> None:
        report = self._report()
        report.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(report)

    def _report(self) -> diagnostic_msgs.msg.DiagnosticArray:
        status = self._session.status if self._session is not None else RecordingStatus("idle")
        return status.message(self._stamps)

    def _end(self, worker: threading.Thread) -> None:
        """An episode that runs is dropped: who kills it instead finds it set aside."""
        self._work.put(None)
        worker.join()
        if self._session is not None:
            self._status.publish(replace(self._session.status, stage="idle").message(self._stamps))
        self._close()
        self._session = None


def main() -> None:
    rig_node.main(RecorderNode)


if __name__ == "__main__":
    main()
