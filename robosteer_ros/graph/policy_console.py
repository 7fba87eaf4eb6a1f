"""What somebody who runs a policy holds of its node: its services and its status."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from robosteer_core.errors import UserError
from robosteer_ros.graph.messages import values_of
from robosteer_ros.graph.participant import call, require_rig, trigger
from robosteer_ros.graph.qos import LATCHED
from robosteer_ros.ros import Node, Parameter, diagnostic_msgs, rcl_interfaces, std_srvs

#: Wall seconds: to be found, for an answer of a node at work, for loading a policy, and of silence in a run.
DISCOVERY_TIMEOUT_S, ANSWER_TIMEOUT_S, LOAD_TIMEOUT_S, SILENT_S = 10.0, 30.0, 600.0, 15.0


class PolicyConsole:
    """The policy node, asked through its services and heard by its status. Another thread spins `node`.

    `status` is what it told last, `instructions` are those of the run that is followed, one after the other. Raises UserError where
    the node is not there, and where it refuses, in its words.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._news, self.status, self._heard_s = threading.Condition(), {}, time.monotonic()
        self.instructions: list[str] = []
        node.create_subscription(diagnostic_msgs.msg.DiagnosticArray, "policy/status", self._hear, LATCHED)
        self._clients = {
            name: node.create_client(kind, f"policy/{name}")
            for name, kind in {
                "start": std_srvs.srv.Trigger, "stop": std_srvs.srv.Trigger,
                "set_parameters_atomically": rcl_interfaces.srv.SetParametersAtomically,
            }.items()
        }  # fmt: skip

    def require_rig(self, rig: str) -> None:
        """Raises UserError where the policy's node is of another rig."""
        self._found("start")  # where it is not there, this says what starts it
        require_rig(self._node, rig, "policy")

    def await_ready(self) -> None:
        """Until the node is active with its policy, however long that loads. Raises UserError where it does not come to that."""
        self._found("start")
        began_s = loading_s = time.monotonic()
        with self._news:
            while (state := self.status.get("state", "silent")) not in ("ready", "running"):
                now_s = time.monotonic()
                if state == "loading" and now_s < began_s + LOAD_TIMEOUT_S:
                    loading_s = now_s
                if now_s > loading_s + ANSWER_TIMEOUT_S:
                    raise UserError(f"the policy node has been {state} for {ANSWER_TIMEOUT_S:.0f} s instead of ready; look at its log")
                self._news.wait(0.5)

    def set(self, **values: object) -> None:
        """All of them or, where the node refuses one, none. With more than the instruction the next run is for our node alone: nobody else
        sets anything while it is there."""
        if values.keys() != {"instruction"}:
            values["owner"] = self._node.get_fully_qualified_name()
        given = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
        request = rcl_interfaces.srv.SetParametersAtomically.Request(parameters=given)
        result = self._call("set_parameters_atomically", request).result
        if not result.successful:
            raise UserError(f"the policy node refuses its parameters: {result.reason}")

    def start(self) -> str:
        """Begin a run, with the policy that the parameters name; its number, as the status tells it."""
        answer = self._trigger("start", LOAD_TIMEOUT_S)
        return answer.partition(":")[0].removeprefix("run ")

    def stop(self) -> str:
        """End the run; returns what came of it, when the arm has held and is released."""
        return self._trigger("stop")

    def follow(self, run: str, show: Callable[[dict[str, str]], None]) -> dict[str, str]:
        """Show each status of a run until it has ended; returns the last."""
        while True:
            with self._news:
                heard_s = self._heard_s
                self._news.wait_for(lambda: self._heard_s > heard_s, 0.5)
                status, silent_s = dict(self.status), time.monotonic() - self._heard_s
            if silent_s > SILENT_S:
                raise UserError(f"the policy node has said nothing for {SILENT_S:.0f} s; without it the arm holds, then stops")
            if status.get("run", run) != run or status.get("state") in ("unconfigured", "inactive"):
                raise UserError(f"run {run} is over, and not by itself: the node of the policy is {status['state']}, look at its log")
            if status.get("run") == run:
                if status["instruction"] not in self.instructions[-1:]:
                    self.instructions.append(status["instruction"])
                show(status)
                if status["outcome"]:
                    return status

    def _hear(self, message) -> None:
        with self._news:
            self.status, self._heard_s = values_of(message), time.monotonic()
            self._news.notify_all()

    def _trigger(self, name: str, timeout_s: float = ANSWER_TIMEOUT_S) -> str:
        return trigger(self._found(name), timeout_s)

    def _call(self, name: str, request):
        return call(self._found(name), request, ANSWER_TIMEOUT_S)

    def _found(self, name: str):
        client = self._clients[name]
        if not client.wait_for_service(DISCOVERY_TIMEOUT_S):
            raise UserError(f"nobody serves {client.service_name}: the policy node is not there; with --policy it is started")
        return client
