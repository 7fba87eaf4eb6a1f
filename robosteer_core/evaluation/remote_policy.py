"""A policy on another machine, by openpi's websocket protocol (Physical-Intelligence/openpi, packages/openpi-client).

The server sends its metadata when a client connects; then each observation is answered by actions, or by a text with the
server's traceback. All messages are MessagePack with arrays (`ndarray_packing`).
"""

from __future__ import annotations

import json
from contextlib import ExitStack

import numpy as np
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from robosteer_core.errors import UserError
from robosteer_core.evaluation.ndarray_packing import pack, unpack
from robosteer_core.evaluation.trial_policy import Act, TrialPolicy, Truth
from robosteer_core.evaluation.trials import Trial
from robosteer_core.rig import Rig
from robosteer_core.runtime.observation import Observation
from robosteer_core.vla.images import resize

CONNECT_TIMEOUT_S = 5.0
#: The first request may have the server compile its policy; openpi's takes about a minute.
FIRST_TIMEOUT_S, TIMEOUT_S = 300.0, 30.0
#: Side of the square images that openpi's policies take, pixels.
IMAGE_SIZE = 224
#: What of a server's text goes into an error message.
_LONGEST = 600


class RemotePolicy(TrialPolicy):
    """The policy served at `ws://host:port`.

    A request holds what openpi's LIBERO policies read: `observation/image` from the first fixed camera and
    `observation/wrist_image` from the first on the hand, uint8 (224, 224, 3), padded to a square; `observation/state`,
    float32 (7,), as `ArmState.vector`; and `prompt`. The answer's `actions` (chunk, 7) must be of the rig's action space,
    in its units: what a server was trained for cannot be asked.

    Raises UserError where no server answers within 5 s, and in a trial where it goes, is silent, or answers otherwise.
    """

    def __init__(self, address: str, rig: Rig, first_timeout_s: float = FIRST_TIMEOUT_S, timeout_s: float = TIMEOUT_S) -> None:
        self._address, self._first_timeout_s, self._timeout_s = address, first_timeout_s, timeout_s
        self._names = {
            key: next((camera.name for camera in rig.cameras if camera.mount == mount), None)
            for key, mount in {"observation/image": "fixed", "observation/wrist_image": "hand"}.items()
        }
        self._asked, self._open = False, ExitStack()
        try:
            # Without pings: a server that infers in its event loop answers none meanwhile.
            connection = connect(address, compression=None, max_size=None, open_timeout=CONNECT_TIMEOUT_S, ping_interval=None)
            self._socket = self._open.enter_context(connection)
        except (OSError, ValueError, WebSocketException) as error:
            raise UserError(
                f"no policy server at {address}: {error or type(error).__name__}; start one that speaks openpi's websocket "
                "protocol (openpi's scripts/serve_policy.py), or look at the address: ws://host:port"
            ) from error
        self._metadata = self._receive(CONNECT_TIMEOUT_S, "its metadata")

    def identity(self) -> object:
        return {"remote": self._address, "metadata": json.loads(json.dumps(self._metadata, default=str, sort_keys=True))}

    def begin(self, trial: Trial, truth: Truth) -> Act:
        return self._act

    def close(self) -> None:
        self._open.close()

    def _act(self, observation: Observation) -> np.ndarray:
        request = {"observation/state": observation.arm.vector(), "prompt": observation.instruction}
        for key, name in self._names.items():
            if name is not None:
                request[key] = resize(observation.frames[name].colour, IMAGE_SIZE, "openpi")
        try:
            self._socket.send(pack(request))
        except (OSError, WebSocketException) as error:
            raise self._gone(error) from error
        answer = self._receive(self._timeout_s if self._asked else self._first_timeout_s, "actions")
        self._asked = True
        if not isinstance(answer.get("actions"), np.ndarray):
            raise UserError(f"the policy server at {self._address} answered without an array `actions`; found: {_keys(answer)}")
        return answer["actions"]

    def _receive(self, timeout_s: float, what: str) -> dict:
        try:
            message = self._socket.recv(timeout=timeout_s)
        except TimeoutError as error:
            # An answer that comes late would be taken for the next one's.
            self._socket.close()
            raise UserError(f"the policy server at {self._address} did not send {what} within {timeout_s:g} s") from error
        except (OSError, WebSocketException) as error:
            raise self._gone(error) from error
        if isinstance(message, str):
            raise UserError(f"the policy server at {self._address} failed: ...{message.strip()[-_LONGEST:]}")
        try:
            content = unpack(message)
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(f"the policy server at {self._address} sent {what} that are no MessagePack of openpi's kind: {error}") from error
        if not isinstance(content, dict):
            raise UserError(f"the policy server at {self._address} sent {type(content).__name__} instead of a map with {what}")
        return content

    def _gone(self, error: Exception) -> UserError:
        return UserError(f"the connection to the policy server at {self._address} is lost: {error or type(error).__name__}")


def _keys(answer: dict) -> str:
    return ", ".join(sorted(map(str, answer))) or "nothing"
