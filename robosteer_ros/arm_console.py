"""What `robosteer arm` asks of the arm's node."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack

from robosteer_core.errors import UserError
from robosteer_core.rig import load_rig
from robosteer_ros import ros
from robosteer_ros.graph.participant import require_rig, spinning, trigger
from robosteer_ros.ros import std_srvs

FOUND_WITHIN_S = 5.0
ANSWERED_WITHIN_S = 20.0


class ArmConsole:
    """A context manager. Asks also an arm that tells no state, as after the loss of its robot. `rig` is a name or a file, "" for
    whatever arm this machine hears. Raises UserError where there is no arm node, Refused where it says no."""

    def __init__(self, rig: str = "", namespace: str = "") -> None:
        self._rig, self._namespace = rig, namespace
        self._network = load_rig(rig).network if rig else "loopback"
        self._open = ExitStack()

    def __enter__(self) -> ArmConsole:
        ros.init(args=["--ros-args", "--log-level", "warn"], network=self._network)
        self._open.callback(ros.try_shutdown)
        name = f"_arm_console_{os.getpid()}"
        self._node = ros.create_node(name, namespace=self._namespace or None, start_parameter_services=False)
        self._open.enter_context(spinning(self._node))
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def require_rig(self) -> None:
        """Raises UserError where the arm is of another rig."""
        self._client("report")  # where there is no arm's node, this says what starts it
        require_rig(self._node, self._rig, "arm")

    def status(self) -> dict:
        return json.loads(self.ask("report"))

    def ask(self, name: str) -> str:
        """Call the service `arm/<name>`; what it says."""
        return trigger(self._client(name), ANSWERED_WITHIN_S)

    def _client(self, name: str):
        client = self._node.create_client(std_srvs.srv.Trigger, f"arm/{name}")
        if not client.wait_for_service(FOUND_WITHIN_S):
            raise UserError(f"no arm node answers at {client.service_name}; start one with `robosteer up {self._rig or 'RIG'} --only arm`")
        return client
