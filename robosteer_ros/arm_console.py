"""What `robosteer arm` asks of whoever holds the arm: its process at the rig's command address, or its node."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack

from robosteer_core.errors import UserError
from robosteer_core.rig import Rig

FOUND_WITHIN_S = 5.0
ANSWERED_WITHIN_S = 20.0


class ArmConsole:
    """A context manager. Raises UserError where nobody holds the arm, Refused where who does says no."""

    def __init__(self, rig: Rig, namespace: str = "") -> None:
        self._rig, self._namespace = rig, namespace
        self._open = ExitStack()

    def __enter__(self) -> ArmConsole:
        from robosteer_ros.hardware.arm.client import ArmClient

        try:
            self._client = ArmClient(self._rig)
            self._open.callback(self._client.close)
        except UserError:
            self._client = None
            self._join()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def status(self) -> dict:
        return self._client.status() if self._client else json.loads(self._call("report"))

    def ask(self, name: str) -> None:
        """Do `stop`, `home` or `recover`."""
        getattr(self._client, name)() if self._client else self._call(name)

    def _join(self) -> None:
        from robosteer_ros import ros
        from robosteer_ros.participant import spinning

        ros.init(args=["--ros-args", "--log-level", "warn"])
        self._open.callback(ros.try_shutdown)
        name = f"_arm_console_{os.getpid()}"
        self._node = ros.create_node(name, namespace=self._namespace or None, start_parameter_services=False)
        self._open.enter_context(spinning(self._node))

    def _call(self, name: str) -> str:
        from robosteer_ros.participant import trigger
        from robosteer_ros.ros import std_srvs

        client = self._node.create_client(std_srvs.srv.Trigger, f"arm/{name}")
        if not client.wait_for_service(FOUND_WITHIN_S):
            raise UserError(
                f"nobody holds the arm of rig {self._rig.name}: no process at {self._rig.arm.command_address}, no node at "
                f"{client.srv_name}; start `robosteer up {self._rig.name}` or `robosteer arm --rig {self._rig.name}`"
            )
        return trigger(client, ANSWERED_WITHIN_S)
