"""The node `supervisor`: brings the nodes of a rig up in order, watches them, brings back what falls, and brings all down."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress

from robosteer_core.errors import UserError, settings
from robosteer_core.rig import load_rig
from robosteer_core.runtime.lab_processes import end_with_parent
from robosteer_ros import ros
from robosteer_ros.bringup import GraphSettings, processes_of
from robosteer_ros.graph.participant import spinning
from robosteer_ros.graph.qos import LATCHED
from robosteer_ros.node_process import NodeProcess, WatchedProcess
from robosteer_ros.nodes.rig_node import END_WITH_PARENT
from robosteer_ros.ros import (
    Future,
    LoggingSeverity,
    Node,
    QoSProfile,
    SignalHandlerOptions,
    diagnostic_msgs,
    lifecycle_msgs,
    rcl_interfaces,
    std_srvs,
)

STOP_TIMEOUT_S = 5.0
#: What moves the arm is asked to stop before anything is taken down: service, and the process that has it.
STOPS = (("policy/stop", "policy"), ("teleop/rest", "teleop"), ("arm/stop", "arm"))

_Status, _Log = diagnostic_msgs.msg.DiagnosticStatus, rcl_interfaces.msg.Log
_LEVELS = {"active": _Status.OK, "given up": _Status.ERROR, "silent": _Status.STALE}


class Supervisor(Node):
    """Its parameters are those of GraphSettings, and `processes`: false where a launch file starts the processes.

    `begin` starts the processes, `open` says that the robot is there and lets its nodes be configured, `finish` brings all down:
    what moves the arm is stopped, then the arm, then all nodes are deactivated and ended in the reverse of their order. Nothing
    that comes back moves by itself. Callbacks are called by whoever spins the node; `begin`, `open` and `finish` are for another
    thread.
    """

    def __init__(self, processes: Sequence[NodeProcess] | None = None, name: str = "supervisor", **options) -> None:
        super().__init__(name, **options)
        given: dict[str, object] = {"namespace": self.get_namespace().strip("/")}
        for name, field in GraphSettings.model_fields.items():
            if name not in given:
                self.declare_parameter(name, str(field.default), _described(field.description))
                given[name] = self.get_parameter(name).value
        self.declare_parameter("processes", True, _described("start the processes; false: a launch file does"))
        self.settings = settings(GraphSettings, **given)
        if processes is None:
            processes = processes_of(load_rig(self.settings.rig), self.settings)
        self.asked_to_end = threading.Event()
        self._gate, self._errors, self._lock = threading.Event(), {}, threading.Lock()
        self._callers = {
            (node, service): self.create_client(kind, f"{node}/{service}")
            for process in processes for node in process.nodes
            for service, kind in (("get_state", lifecycle_msgs.srv.GetState), ("change_state", lifecycle_msgs.srv.ChangeState))
        }  # fmt: skip
        self._stops = [(self.create_client(std_srvs.srv.Trigger, service), process) for service, process in STOPS]
        self._status = self.create_publisher(diagnostic_msgs.msg.DiagnosticArray, "~/status", LATCHED)
        self._diagnostics = self.create_publisher(diagnostic_msgs.msg.DiagnosticArray, "/diagnostics", 10)
        self.watched: list[WatchedProcess] = []
        logs = self.settings.logs if self.get_parameter("processes").value else None
        for process in sorted(processes, key=lambda process: process.stage):
            before = [other for other in self.watched if other.process.stage < process.stage]
            self.watched.append(WatchedProcess(process, self, self._gate, before, logs, self._changed))
        self.create_subscription(_Log, "/rosout", self._hear, QoSProfile(depth=1000))
        self.create_service(std_srvs.srv.Trigger, "~/retry", self._on_retry)
        self.create_service(std_srvs.srv.Trigger, "~/shutdown", self._on_shutdown)
        self.create_timer(1.0, lambda: self._diagnostics.publish(self._report()))

    def begin(self) -> None:
        for watched in reversed(self.watched):  # the policy first: it takes longest
            watched.begin()

    def open(self) -> None:
        self._gate.set()

    def finish(self) -> None:
        """Safe to repeat; returns when every process has ended."""
        for stop, name in self._stops:
            if any(watched.process.name == name and watched.state == "active" for watched in self.watched):
                self._stop(stop)
        for stage in sorted({watched.process.stage for watched in self.watched}, reverse=True):
            members = [watched for watched in self.watched if watched.process.stage == stage]
            for watched in members:
                watched.end()
            for watched in members:
                if watched.begun:
                    watched.at_rest.wait()
        for watched in self.watched:
            watched.join()

    def hurry(self) -> None:
        """End every process at once, without asking anybody; for who is tired of waiting for `finish`. The arm's process
        stops the arm however it is ended."""
        for watched in self.watched:
            watched.end(hurry=True)

    @property
    def is_settled(self) -> bool:
        """Everything is active, or given up."""
        return all(watched.state in ("active", "given up") for watched in self.watched)

    @property
    def given_up(self) -> list[WatchedProcess]:
        return [watched for watched in self.watched if watched.state == "given up"]

    # What the watched processes ask; from their threads.

    def is_there(self, node: str) -> bool:
        with suppress(Exception):  # as in `_ask`
            return self._callers[node, "get_state"].service_is_ready()
        return False

    def get_state(self, node: str) -> Future:
        return self._ask(node, "get_state", lifecycle_msgs.srv.GetState.Request())

    def change_state(self, node: str, transition: int) -> Future:
        request = lifecycle_msgs.srv.ChangeState.Request(transition=lifecycle_msgs.msg.Transition(id=transition))
        return self._ask(node, "change_state", request)

    def _ask(self, node: str, service: str, request) -> Future:
        try:
            return self._callers[node, service].call_async(request)
        except Exception as error:  # a request that cannot be sent now must not end who watches: it has no answer
            self.get_logger().warning(f"{node}/{service}: {error}", throttle_duration_sec=10)
            return Future()

    def last_error(self, node: str, since_ns: int) -> str:
        stamp_ns, words = self._errors.get(f"{self.get_namespace()}/{node}".replace("/", ".").strip("."), (0, ""))
        return words if stamp_ns >= since_ns else ""

    def _stop(self, stop) -> None:
        if not stop.service_is_ready():
            return
        done, answer = threading.Event(), stop.call_async(std_srvs.srv.Trigger.Request())
        answer.add_done_callback(lambda _: done.set())
        if not done.wait(STOP_TIMEOUT_S):
            self.get_logger().error(f"{stop.service_name} has not answered within {STOP_TIMEOUT_S:g} s; going on to end its process")
        elif not answer.result().success:
            self.get_logger().error(f"{stop.service_name}: {answer.result().message}")

    def _hear(self, message: _Log) -> None:
        if message.level >= LoggingSeverity.ERROR:
            self._errors[message.name] = (message.stamp.sec * 1_000_000_000 + message.stamp.nanosec, message.msg)

    def _changed(self, watched: WatchedProcess) -> None:
        words = f"{watched.process.name}: {watched.state}{f', {watched.words}' if watched.words else ''}"
        if watched.state == "given up":
            self.get_logger().error(f"{words}; mend it, then call supervisor/retry")
        elif watched.words:
            self.get_logger().warning(words)
        else:
            self.get_logger().info(words)
        with self._lock:
            self._status.publish(self._report())

    def _report(self) -> diagnostic_msgs.msg.DiagnosticArray:
        array = diagnostic_msgs.msg.DiagnosticArray()
        array.header.stamp = self.get_clock().now().to_msg()
        for watched in self.watched:
            values = {"state": watched.state, "restarts": watched.restarts, "pid": watched.pid or ""}
            array.status.append(
                _Status(
                    level=_LEVELS.get(watched.state, _Status.WARN), name=f"supervisor: {watched.process.name}",
                    message=watched.words or watched.state, hardware_id=self.settings.rig,
                    values=[diagnostic_msgs.msg.KeyValue(key=key, value=str(value)) for key, value in values.items()],
                )
            )  # fmt: skip
        return array

    def _on_retry(self, request, response):
        again = self.given_up
        for watched in again:
            watched.begin()
        response.success = bool(again)
        response.message = f"once more: {', '.join(watched.process.name for watched in again)}" if again else "nothing was given up"
        return response

    def _on_shutdown(self, request, response):
        self.asked_to_end.set()
        response.success, response.message = True, "going down"
        return response


def _described(text: str):
    return rcl_interfaces.msg.ParameterDescriptor(description=text, read_only=True)


def main() -> None:
    """The supervisor as a process, until SIGINT, SIGTERM or supervisor/shutdown. Exit code 1 where something was given up,
    2 for parameters that cannot be used."""
    ros.init(signal_handler_options=SignalHandlerOptions.NO)
    try:
        supervisor = Supervisor()
    except UserError as error:
        print(f"robosteer: {error}", file=sys.stderr)
        ros.try_shutdown()
        sys.exit(2)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: supervisor.hurry() if supervisor.asked_to_end.is_set() else supervisor.asked_to_end.set())
    if END_WITH_PARENT in sys.argv:
        end_with_parent()
    with spinning(supervisor):
        supervisor.begin()
        supervisor.open()
        while not supervisor.asked_to_end.is_set():
            time.sleep(0.1)
        given_up = bool(supervisor.given_up)
        supervisor.finish()
    ros.try_shutdown()
    sys.exit(int(given_up))


if __name__ == "__main__":
    main()
