"""What `robosteer arm` asks of whoever holds the arm: its process at the rig's command address, or its node."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack

from robosteer_core.errors import UserError
from robosteer_core.rig import Rig
from robosteer_core.runtime.json_lines import Refused

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

        ros.init(args=["--ros-args", "--log-level", "warn"])
        self._open.callback(ros.try_shutdown)
        self._node = ros.create_node(f"_arm_console_{os.getpid()}", namespace=self._namespace or None, start_parameter_services=False)
        self._open.callback(self._node.destroy_node)

    def _call(self, name: str) -> str:
        from robosteer_ros import ros

        trigger = ros.std_srvs.srv.Trigger
        client = self._node.create_client(trigger, f"arm/{name}")
        if not client.wait_for_service(FOUND_WITHIN_S):
            raise UserError(
                f"nobody holds the arm of rig {self._rig.name}: no process at {self._rig.arm.command_address}, no node at "
                f"{client.srv_name}; start `robosteer up {self._rig.name}` or `robosteer arm --rig {self._rig.name}`"
            )
        future = client.call_async(trigger.Request())
        ros.spin_until_future_complete(self._node, future, timeout_sec=ANSWERED_WITHIN_S)
        self._node.destroy_client(client)
        if not future.done():
            raise UserError(f"arm/{name} has not answered within {ANSWERED_WITHIN_S:.0f} s; look at the node's log")
        response = future.result()
        if not response.success:
            raise Refused(response.message)
        return response.message
