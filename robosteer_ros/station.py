"""What a policy and a recorder see of a rig through its graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from robosteer_core.rig import Rig, load_rig
from robosteer_ros import ros
from robosteer_ros.arm_graph import GraphArm
from robosteer_ros.camera_link import CameraLink
from robosteer_ros.hardware.station import Station
from robosteer_ros.participant import spinning
from robosteer_ros.ros import Node


class GraphStation(Station):
    """Cameras and arm through the camera nodes and the arm node in the domain and the namespace of `node`, which another thread
    spins; `source` is as whom the arm is commanded, None for who only looks. Raises UserError naming the node that is not there."""

    def __init__(self, node: Node, rig: Rig, source: str | None) -> None:
        super().__init__(rig, lambda rig: GraphArm(node, rig, source), lambda camera, rig: CameraLink(camera, rig, node))


@contextmanager
def rig_station(rig_name: str, say: Callable[[str], None]) -> Iterator[GraphStation]:
    """The station of a rig by name or file, its arm commanded as `user`; nodes of cameras and arm that do not run yet are started,
    and ended after it. `say` hears what has been started of the simulated lab."""
    from robosteer_ros.bringup import GraphSettings
    from robosteer_ros.up import bring_up

    with ExitStack() as stack:
        ros.init(args=["--ros-args", "--log-level", "warn"], signal_handler_options=ros.SignalHandlerOptions.NO)
        stack.callback(ros.try_shutdown)
        stack.enter_context(bring_up(GraphSettings(rig=rig_name, only="cameras,arm"), say, missing_only=True)).wait()
        node = ros.create_node("robosteer_station", start_parameter_services=False)
        stack.enter_context(spinning(node))
        yield stack.enter_context(GraphStation(node, load_rig(rig_name), "user"))
