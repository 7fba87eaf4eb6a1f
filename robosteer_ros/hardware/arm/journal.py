"""What is told of the arm: its mode and why, its state, from instant to instant."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from robosteer_core.errors import UserError
from robosteer_core.runtime.observation import ArmState
from robosteer_core.runtime.pose import Pose
from robosteer_ros.hardware.arm.driver import Reading
from robosteer_ros.hardware.arm.requests import Requests

logger = logging.getLogger(__name__)

MODE_LOG_LENGTH = 200


@dataclass(frozen=True)
class Report:
    """What the controller tells as it goes: `state` and `wrench` (6,) [N, Nm] of one instant, None where only what is said
    of the arm has changed; `motion` that runs, `error` why it is in fault or was stopped, `commander` that tracks, each None
    where there is none; `latched` after a stop, until a recovery."""

    stamp_ns: int
    mode: str
    motion: str | None
    error: str | None
    commander: str | None
    latched: bool
    state: ArmState | None = None
    wrench: np.ndarray | None = None


class Journal:
    """The arm's `mode`, the `error` of a fault, the `commander` that tracks and the log of the last `modes`; `tell` gets a report
    of each change and of each state. `now_ns` reads the rig's clock; `requests` know the motion and the latch."""

    def __init__(self, tell: Callable[[Report], None], now_ns: Callable[[], int], requests: Requests) -> None:
        self._tell, self._now_ns, self._requests = tell, now_ns, requests
        self._told_s = 0.0
        self.mode = "idle"
        self.error: str | None = None
        self.commander: str | None = None
        self.modes: deque[dict] = deque(maxlen=MODE_LOG_LENGTH)

    @property
    def why(self) -> str | None:
        """Why the arm is in fault, or was stopped."""
        return self.error or (self.modes[-1]["reason"] if self.mode == "stopped" else None)

    @property
    def since_state_s(self) -> float:
        """How long ago the last state was told, s of wall time."""
        return time.monotonic() - self._told_s

    def time_ns(self) -> int:
        """Now; where the lab's clock is gone, the last time that is known: a fault must be reported all the same."""
        try:
            return self._now_ns()
        except UserError:
            return self.modes[-1]["stamp_ns"] if self.modes else 0

    def enter(self, mode: str, reason: str, now_ns: int | None = None) -> None:
        """Note and tell a mode; at `now_ns`, or now."""
        stamp_ns = self.time_ns() if now_ns is None else now_ns
        self.modes.append({"stamp_ns": stamp_ns, "mode": mode, "reason": reason})
        self.mode = mode
        level = logging.ERROR if mode == "fault" else logging.INFO
        logger.log(level, "arm %s at %.3f s: %s", mode, stamp_ns / 1e9, reason)
        self._tell(self._report(stamp_ns))

    def fault(self, error: Exception) -> None:
        """Enter the mode `fault`. What comes on top of one is its consequence."""
        if self.mode != "fault":
            self.error = str(error)
            self.enter("fault", self.error)

    def explain_fault(self, error: Exception) -> None:
        """The binding tells later than we have seen that something is wrong, but in the robot's words."""
        if self.mode == "fault" and str(error) not in self.error:
            self.error = f"{error}; {self.error}"
        self.fault(error)

    def tell(self) -> None:
        """What is said of the arm has changed."""
        self._tell(self._report(self.time_ns()))

    def tell_state(self, reading: Reading, commanded: Pose, opening: float, stamp_ns: int) -> None:
        self._told_s = time.monotonic()
        state = ArmState(
            stamp_ns=stamp_ns, measured=reading.end_effector, commanded=commanded, joint_positions=reading.joint_positions,
            force=np.asarray(reading.force), gripper=opening, mode=self.mode,
        )  # fmt: skip
        self._tell(replace(self._report(stamp_ns), state=state, wrench=reading.wrench))

    def _report(self, stamp_ns: int) -> Report:
        return Report(stamp_ns, self.mode, self._requests.motion, self.why, self.commander, self._requests.latched)
