"""How a teleoperation device's process reaches the recorder: the sending end of `rig.teleop_address`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robosteer_core.rig import Rig
from robosteer_core.runtime.json_lines import LineClient

#: What an operator decides besides the motion: begin an episode; end it and keep or discard it; between episodes send
#: the arm home, or clear its errors after a fault; end the whole session.
EVENTS = ("start", "keep", "discard", "home", "recover", "finish")

REPLY_TIMEOUT_S = 30.0


class TeleopLink:
    """One device's connection. Raises UserError when nobody listens, Refused when the listener says no.

    Wire: one JSON object a line, `{"delta": [6 numbers], "gripper": number, "deadman": bool, "stamp_ns": integer,
    "events": [names]}`, or `{"request": "session"}`; the answer to either is `{"session": name, "episodes": number}`.
    """

    def __init__(self, rig: Rig) -> None:
        self._link = LineClient(
            rig.teleop_address, "recorder", f"start it with `robosteer record --rig {rig.given}` before the device"
        )

    def publish(
        self, delta: np.ndarray, gripper: float, deadman: bool, stamp_ns: int, events: Sequence[str] = ()
    ) -> str:  # fmt: skip
        """Put a command in place. On return the next tick of the recorder sees it; returns the session's stage.

        `delta` (6,): translation [m] and rotation vector [rad] in the base frame per policy tick; `gripper` opening in
        [0, 1], 1 is open; `deadman` whether the operator holds the enabling switch; `stamp_ns` when the hand moved.
        """
        message = {
            "delta": [float(value) for value in delta],
            "gripper": float(gripper),
            "deadman": bool(deadman),
            "stamp_ns": int(stamp_ns),
            "events": list(events),
        }
        return self._link.request(message, REPLY_TIMEOUT_S)["session"]

    def session(self) -> str:
        """The recorder's stage: `ready` for a `start`, `recording`, `saving`, `fault` (recover it) or `finished`."""
        return self._link.request({"request": "session"}, REPLY_TIMEOUT_S)["session"]

    def episodes(self) -> int:
        """How many episodes have been kept in this session."""
        return self._link.request({"request": "session"}, REPLY_TIMEOUT_S)["episodes"]

    def close(self) -> None:
        self._link.close()
