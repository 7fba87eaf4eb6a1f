"""One run of a policy on a rig, from start to release. The node `policy` begins and ends it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass
from enum import Enum

import numpy as np

from robosteer_core.errors import UserError
from robosteer_core.evaluation.trial_policy import Act, TrialPolicy
from robosteer_core.evaluation.trial_run import checked
from robosteer_core.evaluation.trials import Trial
from robosteer_core.runtime.clock import rig_clock
from robosteer_core.runtime.lab_link import LabLink
from robosteer_core.runtime.observation import Observation
from robosteer_core.runtime.runner import PolicyRunner, RunStatistics
from robosteer_ros.graph.station import GraphStation

logger = logging.getLogger(__name__)


class Outcome(str, Enum):
    """How a run ended: somebody asked for it, its time was over, or something went wrong."""

    STOPPED, OVER, FAILED = "stopped", "over", "failed"


@dataclass(frozen=True)
class Wishes:
    """What a run is asked for. `seconds` of the rig's clock, may be infinite; `executed` 0: as many as the policy says."""

    seconds: float
    executed: int = 0
    seed: int = 0


class PolicyRun(threading.Thread):
    """Moves the arm of `station` with `policy`, which gets what `instruction()` says at each tick; `taken` hears each one
    that it acts by, `ended` that the run has ended. Both are called in this thread.

    `begun` is set when the arm follows, or will not. At the end, `outcome` and, where something went wrong, `error` in words
    are there; the arm has held, has been released and rests, unless it is that which went wrong.
    """

    def __init__(
        self, policy: TrialPolicy, station: GraphStation, instruction: Callable[[], str], wishes: Wishes,
        taken: Callable[[str], None], ended: Callable[[PolicyRun], None],
    ) -> None:  # fmt: skip
        super().__init__(name="policy", daemon=True)
        self._policy, self._station, self._instruction, self._wishes = policy, station, instruction, wishes
        self._taken, self._ended = taken, ended
        self._stopping = threading.Event()
        self.begun = threading.Event()
        self.statistics = RunStatistics()
        self.outcome: Outcome | None = None
        self.error = ""

    def stop(self) -> None:
        """Let the run end at its next tick: the arm holds, and is released."""
        self._stopping.set()

    def run(self) -> None:
        try:
            with ExitStack() as opened:
                self._drive(opened)
            outcome = Outcome.STOPPED if self._stopping.is_set() else Outcome.OVER
        except UserError as error:
            self.error, outcome = str(error), Outcome.FAILED
        except Exception as error:
            # The policy's own, whatever it is: the arm is at rest, and the next run may begin.
            logger.exception("the run was broken off")
            self.error, outcome = f"{type(error).__name__}: {error}", Outcome.FAILED
        self.outcome = outcome
        self.begun.set()
        self._ended(self)

    def _drive(self, opened: ExitStack) -> None:
        station, wishes, lab = self._station, self._wishes, None
        if station.rig.lab is not None:
            lab = opened.enter_context(LabLink(station.rig.lab.control, "run"))
        truth = _unknown if lab is None else lab.truth
        self._begin = lambda words: self._policy.begin(Trial(policy="policy", task=words, seed=wishes.seed), truth)
        # From the last to the first: the arm has held and is released before lab time may go on without us, and rests after it.
        opened.callback(station.arm.rest)
        clock = rig_clock(station.rig, "policy")
        opened.callback(clock.close)
        runner = PolicyRunner(
            station.rig, clock, station.arm, lambda stamp_ns, _: station.observe(stamp_ns, self._instruction()), self._act(),
            wishes.executed or self._policy.executed, self._policy.charged,
        )  # fmt: skip
        self.statistics = runner.statistics
        # The lab's robot tells no state while time stands, but for a scene that waits for the first motion: a run in that
        # one repeats exactly.
        waits = lab is None or lab.status()["frozen"]
        with nullcontext() if waits else clock.away():
            station.arm.start()
        opened.callback(self._let_go, runner)
        self.begun.set()
        runner.run("", wishes.seconds, self._stopping.is_set)

    def _let_go(self, runner: PolicyRunner) -> None:
        with suppress(UserError):  # an arm that has stopped by itself holds no more
            runner.hold()
        self._station.arm.release()

    def _act(self) -> Act:
        """The policy, begun anew where the instruction is another than before."""
        words, act, width = None, None, len(self._station.rig.action_space.names)

        def following(observation: Observation) -> np.ndarray:
            nonlocal words, act
            if observation.instruction != words:
                self._taken(observation.instruction)
                words, act = observation.instruction, checked(self._begin(observation.instruction), width)
            return act(observation)

        return following


def _unknown() -> dict:
    raise UserError("this policy asks for the ground truth, which only the simulated lab has; choose another policy")
