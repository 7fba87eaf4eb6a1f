"""The rig's cameras and arm, as another package brings them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib.metadata import entry_points
from typing import Mapping, Protocol

from robosteer_core.errors import UserError
from robosteer_core.rig import Rig
from robosteer_core.runtime.chunk import ActionChunk
from robosteer_core.runtime.frame import Frame
from robosteer_core.runtime.observation import ArmState

STATIONS_GROUP = "robosteer.stations"


class Arm(Protocol):
    """What is used of `robosteer_ros.graph.arm_link.GraphArm`."""

    def state(self) -> ArmState: ...
    def send(self, chunk: ActionChunk) -> None: ...
    def keep(self) -> None: ...
    def start(self) -> None: ...
    def release(self) -> None: ...
    def rest(self) -> None: ...


class Station(Protocol):
    rig: Rig
    arm: Arm

    def frames(self, stamp_ns: int) -> Mapping[str, Frame]: ...


def open_station(rig_name: str, say: Callable[[str], None]) -> AbstractContextManager[Station]:
    """Cameras and arm of a rig by name or file; what has to be started for it is said. Raises UserError where a part is not
    installed or not there."""
    points = entry_points(group=STATIONS_GROUP, name="rig")
    if not points:
        raise UserError(
            "taking images needs the rig's drivers, which are not installed; in robosteer's folder, type: pip install -e "
            "'.[ros]'"
        )
    return next(iter(points)).load()(rig_name, say)
