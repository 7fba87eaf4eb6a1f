"""What the policy's and the recorder's process hold of the arm."""

from __future__ import annotations

import time
from collections.abc import Callable

from robosteer_core.errors import UserError
from robosteer_core.rig import Rig
from robosteer_core.runtime.chunk import ActionChunk
from robosteer_core.runtime.observation import ArmState
from robosteer_ros.hardware.arm.wire import chunk_to_message, state_from_message
from robosteer_core.runtime.json_lines import LineClient, Refused

__all__ = ["ArmClient", "Refused"]

REPLY_TIMEOUT_S = 10.0
#: A torque stop takes at most 2 s of robot time, the way home more; the lab may run slower than the wall clock.
REST_TIMEOUT_S = 60.0


class ArmClient:
    """Commands the arm process of a rig. Imports no robot library.

    The process that called `start` is the commander until the arm stops: others may only look, and `stop`. Every method
    raises Refused when the arm process says no, and UserError when it is not there.

    In the lab: `start` when time runs or stands in a reset's hold, joined to the clock before it if runs are to repeat
    exactly. `rest` only after leaving the clock: coming to rest takes robot time.
    """

    def __init__(self, rig: Rig) -> None:
        self._link = LineClient(
            rig.arm.command_address, "arm process", f"start it with `robosteer arm --rig {rig.name}`, or look at its log"
        )

    def state(self) -> ArmState:
        """The state at the time of this call."""
        return state_from_message(self._ask("state"))

    def status(self) -> dict:
        """Mode and its log, last error, loop statistics, interventions of the limits by name, gripper."""
        return self._ask("status")

    def send(self, chunk: ActionChunk) -> None:
        """Play a chunk. On return the arm process has it: the next tick of its set-point loop plays it.

        Raises Refused for what is no chunk, and while the arm is not tracking: stopped by the watchdog, or in fault. Chunks that only the tick can judge
        (stale, too far a step) are not played and are counted in `status()["interventions"]`.
        """
        self._ask("send", **chunk_to_message(chunk))

    def keep(self) -> None:
        """Say that the last chunk still stands, between two chunks that are farther apart than the watchdog's patience.

        To be called from the loop that would send the next chunk, never from a thread of its own: the watchdog is there
        for the case that this loop hangs.
        """
        self._ask("keep")

    def start(self) -> None:
        """Begin to follow set-points, from the measured pose."""
        self._ask("start")

    def stop(self) -> None:
        """Bring the arm to rest, whoever commands it. Returns when the next tick of the loop is certain to do so."""
        self._ask("stop")

    def home(self) -> None:
        """Begin to move home, slowly."""
        self._ask("home")

    def recover(self) -> None:
        """Clear the robot's errors after a fault. Nothing moves."""
        self._ask("recover")

    def rest(self, timeout_s: float = REST_TIMEOUT_S) -> None:
        """Wait until no motion runs. Raises UserError after `timeout_s` of wall time."""
        await_rest(self.status, timeout_s)

    def close(self) -> None:
        self._link.close()

    def _ask(self, request: str, **fields: object) -> dict:
        return self._link.request({"request": request, **fields}, REPLY_TIMEOUT_S)


def await_rest(status: Callable[[], dict], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while (motion := status()["motion"]) is not None:
        if time.monotonic() > deadline:
            raise UserError(
                f"the arm still moves ({motion}) after {timeout_s:.0f} s; in the lab, leave the clock before waiting for it"
            )
        time.sleep(0.005)
