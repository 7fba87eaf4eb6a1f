"""The rig's cameras and arm, as another package brings them."""

from __future__ import annotations

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
    """What of the arm's client is used; see `robosteer_ros.hardware.arm.client`."""

    def state(self) -> ArmState: ...
    def send(self, chunk: ActionChunk) -> None: ...
    def keep(self) -> None: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def rest(self) -> None: ...


class Station(AbstractContextManager, Protocol):
    rig: Rig
    arm: Arm

    def frames(self, stamp_ns: int) -> Mapping[str, Frame]: ...


def open_station(rig: Rig) -> Station:
    """Connect to the arm's process and start the cameras. Raises UserError where a part is not installed or not there."""
    points = entry_points(group=STATIONS_GROUP, name="rig")
    if not points:
        raise UserError(
            "taking images needs the rig's drivers, which are not installed; in robosteer's folder, type: pip install -e "
            "'.[ros]'"
        )
    return next(iter(points)).load()(rig)
