"""What a policy and a recorder see of a rig through its graph."""

from __future__ import annotations

from robosteer_core.rig import Rig
from robosteer_ros.arm_graph import GraphArm
from robosteer_ros.camera_link import CameraLink
from robosteer_ros.hardware.station import Station
from robosteer_ros.ros import Node


class GraphStation(Station):
    """Cameras and arm through the camera nodes and the arm node in the domain and the namespace of `node`, which another thread
    spins; `source` is as whom the arm is commanded, None for who only looks. Raises UserError naming the node that is not there."""

    def __init__(self, node: Node, rig: Rig, source: str | None) -> None:
        super().__init__(rig, lambda rig: GraphArm(node, rig, source), lambda camera, rig: CameraLink(camera, rig, node))
