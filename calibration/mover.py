"""How the hand gets from pose to pose: by itself, slowly, or led by the operator."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np

from calibration.station import Arm
from robosteer_core.errors import UserError
from robosteer_core.rig import Rig
from robosteer_core.runtime.chunk import ActionChunk
from robosteer_core.runtime.clock import Clock
from robosteer_core.runtime.pose import Pose, interpolate

#: Half of what the rig allows, and no more than this: nobody waits for a policy here.
SPEED_M_PER_S, SPEED_RAD_PER_S = 0.1, 0.4
#: At rest the measured pose changes by less than this from one look to the next: friction lets an impedance creep for seconds,
#: and what it does between an image and the pose beside it must stay below the arm's own error.
STILL_M, STILL_RAD = 1e-4, np.deg2rad(0.03)
_LOOK_S, _LOOKS = 0.1, 40
_STEP_S = 0.1


class Mover(ABC):
    """Brings the hand to rest at, or near, a pose."""

    @abstractmethod
    def go(self, wanted: np.ndarray, words: str) -> bool:
        """Move to `wanted` (4x4, base frame), in words `words`; False where the operator has had enough."""


class ArmMover(Mover):
    """The arm moves itself, in straight lines and great circles, at the rig's limits and behind them. It tracks from `__init__`
    on."""

    def __init__(self, rig: Rig, arm: Arm, clock: Clock) -> None:
        self._rig, self._arm, self._clock = rig, arm, clock

    def go(self, wanted: np.ndarray, words: str) -> bool:
        state = self._arm.state()
        start, end = state.commanded, Pose.from_matrix(wanted)
        limits = self._rig.limits
        speed = min(SPEED_M_PER_S, limits.max_speed_m_per_s / 2)
        turning = min(SPEED_RAD_PER_S, limits.max_angular_speed_rad_per_s / 2)
        delta = start.delta_to(end)
        seconds = max(np.linalg.norm(delta[:3]) / speed, np.linalg.norm(delta[3:]) / turning, 0.3)
        steps = int(np.ceil(seconds / _STEP_S))
        # Smoothly from rest to rest.
        part = np.linspace(0, 1, steps + 1)[1:]
        part = part * part * (3 - 2 * part)
        first_ns = self._clock.now_ns() + int(_STEP_S * 1e9)
        poses = [interpolate(start, end, fraction) for fraction in part]
        chunk = ActionChunk(
            first_ns + int(1.5 * _STEP_S * 1e9) * np.arange(steps, dtype=np.int64),
            np.array([pose.position for pose in poses]), np.array([pose.quaternion for pose in poses]), np.full(steps, state.gripper),
        )  # fmt: skip
        self._arm.send(chunk)
        self._wait(int(chunk.stamps_ns[-1]))
        self.settle()
        return True

    def settle(self) -> None:
        """Wait until the hand is at rest. Raises UserError where it does not come to rest, and where the arm has stopped."""
        before = self._arm.state()
        for _ in range(_LOOKS):
            self._wait(self._clock.now_ns() + int(_LOOK_S * 1e9))
            now = self._arm.state()
            if now.mode not in ("tracking", "holding"):
                raise UserError(f"the arm has stopped (it is {now.mode}): look at its log, recover it and begin anew")
            delta = before.measured.delta_to(now.measured)
            if np.linalg.norm(delta[:3]) < STILL_M and np.linalg.norm(delta[3:]) < STILL_RAD:
                return
            before = now
        raise UserError(
            f"the hand does not come to rest within {_LOOKS * _LOOK_S:.0f} s; stiffen the arm or remove what pushes it"
        )

    def _wait(self, until_ns: int) -> None:
        """Until then, saying to the watchdog that this loop is alive."""
        period_ns = int(1e9 * self._rig.limits.hold_after_s / 3)
        while (now_ns := self._clock.now_ns()) < until_ns:
            self._clock.sleep_until_ns(min(now_ns + period_ns, until_ns))
            self._arm.keep()


class LedByHand(Mover):
    """The operator guides the arm (its enabling button pressed) and says when it stands; `ask` shows the words and waits."""

    def __init__(self, ask: Callable[[str], bool]) -> None:
        self._ask = ask

    def go(self, wanted: np.ndarray, words: str) -> bool:
        return self._ask(words)
