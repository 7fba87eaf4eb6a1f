"""The arm process's socket: requests of other processes, answered by the controller."""

from __future__ import annotations

from robosteer_core.errors import UserError
from robosteer_ros.hardware.arm.controller import ArmController
from robosteer_ros.hardware.arm.wire import chunk_from_message, state_to_message
from robosteer_core.runtime.json_lines import LineServer

REQUESTS = ("state", "status", "send", "keep", "start", "stop", "home", "recover")


class ArmServer:
    """Listens at the rig's `arm.command_address`. Raises UserError when that is taken."""

    def __init__(self, address: str, controller: ArmController) -> None:
        self._controller = controller
        self._server = LineServer(address, self._answer, controller.release, "arm process")

    @property
    def address(self) -> str:
        return self._server.address

    def close(self) -> None:
        self._server.close()

    def _answer(self, message: dict, peer: object) -> dict:
        request = message.pop("request", None)
        if request == "state":
            return state_to_message(self._controller.state())
        if request == "status":
            return self._controller.status()
        if request == "send":
            return self._accepted(self._controller.submit(chunk_from_message(message), peer))
        if request == "keep":
            return self._accepted(self._controller.submit(None, peer))
        if request in REQUESTS:
            self._controller.request("release" if request == "stop" else request, peer)
            return {"ok": True}
        raise UserError(f"unknown request {request!r}; known are {', '.join(REQUESTS)}")

    def _accepted(self, refusal: str | None) -> dict:
        if refusal is not None:
            raise UserError(refusal)
        return {"ok": True}
