"""The node `policy`: a policy that sees through the rig's cameras and moves its arm, between `policy/start` and `policy/stop`."""

from __future__ import annotations

import math
import threading
import time
import traceback
from pathlib import Path

from robosteer_core.errors import UserError
from robosteer_core.evaluation.trial_policy import CheckpointPolicy, PolicySpec, TrialPolicy, load_trial_policy
from robosteer_ros.graph.messages import report
from robosteer_ros.graph.participant import is_there
from robosteer_ros.graph.qos import LATCHED
from robosteer_ros.graph.station import GraphStation
from robosteer_ros.nodes.rig_node import Declared, RigNode
from robosteer_ros.nodes.rig_node import main as run_process
from robosteer_ros.policy_run import Outcome, PolicyRun, Wishes
from robosteer_ros.ros import Parameter, ReentrantCallbackGroup, diagnostic_msgs, rcl_interfaces, std_msgs, std_srvs

#: Wall seconds: between two words on `policy/status` of a run; for a run to begin, and to end.
STATUS_PERIOD_S, BEGIN_TIMEOUT_S, END_TIMEOUT_S = 0.2, 20.0, 20.0

_LOADED_WITH = "; taken when the node is configured, and when a run starts; not to be set during a run"
_STARTED_WITH = "; taken when a run starts; not to be set during a run"
_Level = diagnostic_msgs.msg.DiagnosticStatus


class PolicyNode(RigNode):
    """Configured it has its policy, active its cameras and its arm; a run is begun and ended by services alone.

    A run ends by `policy/stop`, after `seconds`, and by whatever goes wrong, which `policy/status` tells in words: the arm
    holds, and is released. Nothing but `policy/start` begins the next. An instruction that comes while it runs is what the
    policy is asked at its next decision; no other parameter can be set meanwhile. Who sets its own name as `owner`, too, has the
    other parameters for itself, as long as it is on the graph: what it starts is what it has set.
    """

    PARAMETERS = RigNode.PARAMETERS | {
        "policy": Declared("", f"checkpoint folder, ws://host:port, or the name of an installed policy{_LOADED_WITH}", read_only=False),
        "adapter": Declared("", f"adapter folder, empty for none{_LOADED_WITH}", read_only=False),
        "device": Declared("cpu", f"where a checkpoint folder runs: cpu, cuda, cuda:1{_LOADED_WITH}", read_only=False),
        "instruction": Declared("", "in words; what came last counts, this or policy/instruction", read_only=False),
        "executed": Declared(
            0, f"actions of a chunk before the policy is asked again, 0: as it says itself{_STARTED_WITH}", read_only=False
        ),
        "seconds": Declared(0.0, f"of the rig's clock after which a run ends, 0: by policy/stop alone{_STARTED_WITH}", read_only=False),
        "seed": Declared(0, f"of the policy's noise{_STARTED_WITH}", read_only=False),
        "owner": Declared(
            "", "full name of the node that sets all this for its run; while it is there nobody else sets anything but the instruction",
            read_only=False,
        ),
    }  # fmt: skip

    def __init__(self, **options) -> None:
        super().__init__("policy", **options)
        self._policy: TrialPolicy | None = None
        self._loaded: PolicySpec | None = None
        self._station: GraphStation | None = None
        self._run: PolicyRun | None = None
        self._loading = False
        self._runs, self._instruction = 0, str(self.value("instruction")).strip()
        self._starting, self._beginning, self._telling = threading.RLock(), threading.Lock(), threading.Lock()
        self._stops = 0
        self.add_on_set_parameters_callback(self._check)
        self.add_post_set_parameters_callback(self._set)
        # Who waits for a run to begin must not keep others from stopping it.
        group = ReentrantCallbackGroup()
        self._status = self.create_publisher(diagnostic_msgs.msg.DiagnosticArray, "policy/status", LATCHED)
        self._in_use = self.create_publisher(std_msgs.msg.String, "policy/instruction_in_use", LATCHED)
        self._diagnostics = self.create_publisher(diagnostic_msgs.msg.DiagnosticArray, "/diagnostics", 10)
        self.create_subscription(std_msgs.msg.String, "policy/instruction", self._instruct, 10)
        self.create_service(std_srvs.srv.Trigger, "policy/start", self._on_start, callback_group=group)
        self.create_service(std_srvs.srv.Trigger, "policy/stop", self._on_stop, callback_group=group)
        self.create_timer(STATUS_PERIOD_S, self._tell_while_running)
        self.create_timer(1.0, self._diagnose)
        self._tell()

    # The node's life.

    def configure(self) -> None:
        self.resources.callback(self._forget_policy)
        self._load()

    def _load(self) -> None:
        """The policy that the parameters name, unless it is the one that is there. Raises UserError, and that one stays, also in
        the parameters."""
        name, adapter = str(self.value("policy")), str(self.value("adapter"))
        if not name:
            self._put_back()
            raise UserError("the parameter `policy` is empty: give a checkpoint folder, ws://host:port or the name of a policy")
        spec = PolicySpec(name=name, policy=name, adapter=Path(adapter) if adapter else None, device=str(self.value("device")))
        if spec == self._loaded:
            return
        began, self._loading = time.perf_counter(), True
        self._tell()
        self.get_logger().info(f"loading {name}{f' with the adapter {adapter}' if adapter else ''}")
        try:
            if isinstance(self._policy, CheckpointPolicy) and spec == self._loaded.model_copy(update={"adapter": spec.adapter}):
                self._policy.use(spec.adapter)  # the base stays
            else:
                policy = load_trial_policy(spec, self.rig)
                self._forget_policy()
                self._policy = policy
            self._loaded = spec
            self.get_logger().info(f"loaded in {time.perf_counter() - began:.1f} s")
        except UserError:
            self._put_back()
            raise
        except Exception as error:  # the policy's own, whatever it is: the node lives, and the next one may be loaded
            self.get_logger().error(traceback.format_exc())
            self._put_back()
            raise UserError(f"the policy {name!r} cannot be loaded: {type(error).__name__}: {error}") from error
        finally:
            self._loading = False
            self._tell()

    def _put_back(self) -> None:
        if self._loaded is not None:
            values = self._told_of_policy() | {"owner": self.value("owner")}
            self.set_parameters_atomically([Parameter(name, value=value) for name, value in values.items()])

    def _forget_policy(self) -> None:
        if self._policy is not None:
            self._policy.close()
        self._policy = self._loaded = None

    def activate(self) -> None:
        self._station = self.running.enter_context(GraphStation(self, self.rig, "policy"))
        self.running.callback(self._forget_station)
        self.running.callback(self._end_run)
        self._tell()

    def _forget_station(self) -> None:
        self._station = None
        self._tell()

    def clean_up(self) -> None:
        self._forget_policy()
        self._tell()

    # What others ask.

    def _check(self, parameters: list[Parameter]) -> rcl_interfaces.msg.SetParametersResult:
        """What waits for its start, begins or goes is not changed under its feet: all are refused, unless it is the instruction alone."""
        given, owner = {parameter.name: parameter.value for parameter in parameters}, self.value("owner")
        refused = ""
        if given.keys() != {"instruction"}:
            refused = "the policy runs: policy/stop ends it"
            if self._starting.acquire(blocking=False):  # by this thread, too, where it puts back what is loaded
                refused = refused if self._running else ""
                self._starting.release()
            if not refused and owner and given.get("owner", "") != owner and is_there(self, owner):
                refused = f"{owner} has set what it runs: wait for its end; one that was killed is forgotten after some 10 s"
        return rcl_interfaces.msg.SetParametersResult(successful=not refused, reason=refused)

    def _set(self, parameters: list[Parameter]) -> None:
        for parameter in parameters:
            if parameter.name == "instruction":
                self._instruct(std_msgs.msg.String(data=parameter.value))

    def _instruct(self, message: std_msgs.msg.String) -> None:
        words = message.data.strip()
        if not words:
            self.get_logger().warning("an empty instruction was dropped; policy/stop ends a run")
            return
        self._instruction = words
        self.get_logger().info(f"instruction: {words}")

    def _on_start(self, request, response):
        try:
            with self._starting:
                self._start()
        except UserError as error:
            response.success, response.message = False, str(error)
        else:
            response.success, response.message = True, f"run {self._runs}: {self._instruction}"
        return response

    def _start(self) -> None:
        """Raises UserError saying why no run begins."""
        if self._station is None:
            raise UserError("the policy node is not active: configure and activate it")
        if self._running:
            raise UserError("the policy runs already: policy/stop ends the run")
        if not self._instruction:
            raise UserError("there is no instruction: publish one on policy/instruction, or set the parameter `instruction`")
        stops = self._stops
        self._load()
        wishes = Wishes(float(self.value("seconds")) or math.inf, int(self.value("executed")), int(self.value("seed")))
        with self._beginning:
            if self._stops != stops:
                raise UserError("the run was stopped before it began")
            self._runs += 1
            self._run = PolicyRun(self._policy, self._station, lambda: self._instruction, wishes, self._take, self._run_ended)
            self._run.start()
        if not self._run.begun.wait(BEGIN_TIMEOUT_S):
            self._run.stop()
            raise UserError(f"the arm did not begin to follow within {BEGIN_TIMEOUT_S:.0f} s; the run was stopped")
        if self._run.outcome is Outcome.FAILED:
            raise UserError(self._run.error)

    def _take(self, instruction: str) -> None:
        self._in_use.publish(std_msgs.msg.String(data=instruction))

    def _on_stop(self, request, response):
        ran = self._running
        response.success = self._end_run()
        done = "held and released" if ran else "nothing ran"
        response.message = done if response.success else f"the run has not ended within {END_TIMEOUT_S:.0f} s: use arm/stop"
        return response

    @property
    def _running(self) -> bool:
        return self._run is not None and self._run.outcome is None

    def _end_run(self) -> bool:
        """Whether nothing runs any more. A run that is asked for, and waits for its policy, does not begin either."""
        with self._beginning:
            self._stops += 1
        if self._run is not None:
            self._run.stop()
            self._run.join(END_TIMEOUT_S)
        return not self._running

    # What it tells.

    def _run_ended(self, run: PolicyRun) -> None:
        if run.error:
            self.get_logger().error(f"run {self._runs} {run.outcome.value}: {run.error}")
        else:
            self.get_logger().info(f"run {self._runs} {run.outcome.value}")
        if numbers := run.statistics.summary():
            self.get_logger().info(", ".join(f"{name} {value:.4g}" for name, value in numbers.items()))
        self._tell()

    def _tell_while_running(self) -> None:
        if self._running:
            self._tell()

    def _report(self) -> diagnostic_msgs.msg.DiagnosticArray:
        run, running = self._run, self._running
        state = "loading" if self._loading else "unconfigured" if self._policy is None else "inactive" if self._station is None else (
            "running" if running else "ready"
        )  # fmt: skip
        values = {"state": state, **self._told_of_policy(), "instruction": self._instruction}
        if run is not None:
            values |= {"run": self._runs, "outcome": run.outcome.value if run.outcome else "", "error": run.error}
            values |= run.statistics.summary()
        failed = run is not None and run.outcome is Outcome.FAILED
        words = f"{state}; run {self._runs} failed: {run.error}" if failed else state
        return report(self.get_clock().now().to_msg(), self.get_name(), words, values, _Level.ERROR if failed else _Level.OK)

    def _told_of_policy(self) -> dict[str, str]:
        """What is loaded, as the parameters name it."""
        loaded = self._loaded
        if loaded is None:
            return dict.fromkeys(("policy", "adapter", "device"), "")
        return {"policy": loaded.policy, "adapter": str(loaded.adapter or ""), "device": loaded.device}

    def _tell(self) -> None:
        with self._telling:  # so that what is told last is what is the case
            self._status.publish(self._report())

    def _diagnose(self) -> None:
        if self._running:
            self._diagnostics.publish(self._report())


def main() -> None:
    run_process(PolicyNode)


if __name__ == "__main__":
    main()
