"""The scripted operator as a process of its own: looks at the lab's ground truth, speaks as a teleoperation device."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from robosteer_core.errors import UserError
from robosteer_core.rig import Rig
from robosteer_core.runtime.clock import RANKS
from robosteer_core.runtime.lab_link import LabLink
from robosteer_core.runtime.runner import tick_ns
from robosteer_core.runtime.teleop_link import TeleopLink
from robosteer_sim.operator import Operator

logger = logging.getLogger(__name__)

#: A person's hand is not steady: standard deviation per command, metres.
TREMOR_M = 0.002
#: Commands given after success, before the operator ends the episode.
TAIL_TICKS = 3
_ANSWER_TIMEOUT_S = 120.0
_STILL = np.zeros(6)


@dataclass
class Outcome:
    kept: int = 0
    discarded: int = 0


def demonstrate(
    rig: Rig, task: str, episodes: int, seed: int, on_episode: Callable[[Outcome], None], variation: str = "none"
) -> Outcome:
    """Do `task` until `episodes` have succeeded, in scenes of seeds `seed`, `seed` + 1, ... varied by `variation`; failures
    are discarded.

    Raises UserError when the lab or the recorder is missing, or more than half of all episodes fail.
    """
    device, outcome = TeleopLink(rig), Outcome()
    try:
        while outcome.kept < episodes:
            good = _episode(rig, device, task, seed + outcome.kept + outcome.discarded, variation)
            outcome.kept += good
            outcome.discarded += not good
            on_episode(outcome)
            if outcome.discarded > max(3, outcome.kept):
                raise UserError(f"{outcome.discarded} of {outcome.kept + outcome.discarded} episodes of {task!r} failed; giving up")
    finally:
        device.close()
    return outcome


def _episode(rig: Rig, device: TeleopLink, task: str, seed: int, variation: str) -> bool:
    _await(device, "ready")
    with LabLink(rig.lab.control, "operator", RANKS["operator"]) as link:
        start_ns = link.reset(task, seed, hold=True, variation=variation)["now_ns"]
        device.publish(_STILL, 0.0, True, start_ns, ["start"])
        _await(device, "recording")
        operator, hz, tail = Operator(task, seed, TREMOR_M), rig.rates.policy_hz, TAIL_TICKS
        for tick in range(1, int(operator.task.longest_s * hz)):
            now_ns = link.wait(tick_ns(start_ns, tick, hz)).now_ns
            truth = link.truth()
            tail -= truth["success"]
            if tail < 0 or truth["failure"]:
                break
            action = operator.act(truth)
            if device.publish(action[:6], action[6], True, now_ns) != "recording":
                logger.warning("seed %d of %r: the recorder has ended the episode; its log says why", seed, task)
                return False
        device.publish(_STILL, 0.0, False, now_ns, ["keep" if truth["success"] else "discard"])
    if not truth["success"]:
        logger.warning("seed %d of %r failed: %s", seed, task, truth["failure"] or "out of time")
    return truth["success"]


def _await(device: TeleopLink, stage: str) -> None:
    deadline = time.monotonic() + _ANSWER_TIMEOUT_S
    while (found := device.session()) != stage:
        if found in ("fault", "finished"):
            raise UserError(f"the recorder is in stage {found!r}, not {stage!r}; look at its log")
        if time.monotonic() > deadline:
            raise UserError(f"the recorder stays in stage {found!r} for {_ANSWER_TIMEOUT_S:.0f} s, expected {stage!r}")
        time.sleep(0.005)
