"""What a policy and a recorder see of a rig through its graph: its cameras and its arm, together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

from robosteer_core.rig import Camera, Rig, load_rig
from robosteer_core.runtime.frame import CameraError, Frame, FrameStream
from robosteer_core.runtime.observation import ArmState, Observation
from robosteer_core.runtime.runner import last_tick, tick_ns
from robosteer_ros import ros
from robosteer_ros.graph.arm_link import GraphArm
from robosteer_ros.graph.camera_link import CameraLink
from robosteer_ros.graph.participant import spinning
from robosteer_ros.ros import Node

#: A real camera's newest frame may be that many frame periods old: one of exposure and transport, one of phase.
OLDEST_PERIODS = 2.0


class GraphStation:
    """Cameras and arm through the camera nodes and the arm node in the domain and the namespace of `node`, which another thread
    spins; `source` is as whom the arm is commanded, None for who only looks. A context manager that lets go of all of them.
    Raises UserError naming the node that is not there."""

    def __init__(self, node: Node, rig: Rig, source: str | None) -> None:
        self.rig = rig
        with ExitStack() as stack:
            self.arm = GraphArm(node, rig, source)
            stack.callback(self.arm.close)
            self._cameras = {camera.name: stack.enter_context(CameraLink(camera, rig, node)) for camera in rig.cameras}
            self._open = stack.pop_all()

    def __enter__(self) -> GraphStation:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._open.close()

    def frames(self, stamp_ns: int) -> dict[str, Frame]:
        """The newest frame of each camera, as `frames_of_now`."""
        return frames_of_now(self.rig, self._cameras, stamp_ns)

    def observe(self, stamp_ns: int, instruction: str, arm: ArmState | None = None) -> Observation:
        """Everything there is to see at `stamp_ns`, which is now; `arm` where its state has been read already.

        On a real arm the state is that measured nearest to the middle of the frames' captures; the lab's is of now. What is left
        between them is the observation's skew.
        """
        if arm is None and self.rig.lab is None and self._cameras:
            frames = self.frames(stamp_ns)
            captures_ns = [frame.stamp_ns for frame in frames.values()]
            return Observation(stamp_ns, frames, self.arm.state((min(captures_ns) + max(captures_ns)) // 2), instruction)
        arm = arm or self.arm.state()
        return Observation(stamp_ns, self.frames(stamp_ns), arm, instruction)


def frames_of_now(rig: Rig, cameras: Mapping[str, FrameStream], stamp_ns: int) -> dict[str, Frame]:
    """The newest frame of each camera at `stamp_ns`, which is now. Raises CameraError when one has none, or, in the
    lab where that cannot be, one of later than now."""
    frames = {name: camera.read(oldest_frame_ns(rig, rig.camera(name), stamp_ns)) for name, camera in cameras.items()}
    for name, frame in frames.items():
        if rig.lab is not None and frame.stamp_ns > stamp_ns:
            raise CameraError(
                f"camera {name!r}: frame number {frame.number} is stamped {(frame.stamp_ns - stamp_ns) / 1e6:.0f} ms after "
                "now: the camera's clock is off (`robosteer sim fault` tells the faults of the lab)"
            )
    return frames


def oldest_frame_ns(rig: Rig, camera: Camera, stamp_ns: int) -> int:
    """Capture time of the oldest frame of `camera` that may stand for what it sees at `stamp_ns`.

    The lab's cameras capture on the clock's grid: the last frame at or before `stamp_ns` exists or is being drawn, and
    it alone makes two runs alike. A real camera runs by itself.
    """
    if rig.lab is None:
        return stamp_ns - int(OLDEST_PERIODS * 1e9 / camera.fps)
    return tick_ns(0, last_tick(0, stamp_ns, camera.fps), camera.fps)


@contextmanager
def rig_station(rig_name: str, say: Callable[[str], None]) -> Iterator[GraphStation]:
    """The station of a rig by name or file, its arm commanded as `user`; nodes of cameras and arm that do not run yet are started,
    and ended after it. `say` hears what has been started of the simulated lab."""
    from robosteer_ros.bringup import GraphSettings
    from robosteer_ros.up import bring_up

    rig = load_rig(rig_name)
    with ExitStack() as stack:
        ros.init(args=["--ros-args", "--log-level", "warn"], signal_handler_options=ros.SignalHandlerOptions.NO, network=rig.network)
        stack.callback(ros.try_shutdown)
        stack.enter_context(bring_up(GraphSettings(rig=rig_name, only="cameras,arm"), say, missing_only=True)).wait()
        node = ros.create_node("robosteer_station", start_parameter_services=False)
        stack.enter_context(spinning(node))
        yield stack.enter_context(GraphStation(node, rig, "user"))
