"""What a policy and a recorder see of a rig: its cameras and its arm, together."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from robosteer_core.rig import Camera, Rig
from robosteer_core.runtime.frame import CameraError, Frame
from robosteer_core.runtime.observation import ArmState, Observation
from robosteer_core.runtime.runner import last_tick, tick_ns
from robosteer_ros.hardware.arm.client import ArmClient
from robosteer_ros.hardware.realsense import RealSense

#: A real camera's newest frame may be that many frame periods old: one of exposure and transport, one of phase.
OLDEST_PERIODS = 2.0


class Station:
    """Connects to the arm and to the rig's cameras, by default to the arm process and the cameras themselves; a context manager
    that lets go of both. `arm(rig)` and `camera(camera, rig)` make what has the methods of ArmClient and of RealSense.

    Raises UserError when one of them is not there.
    """

    def __init__(
        self, rig: Rig, arm: Callable[[Rig], ArmClient] = ArmClient, camera: Callable[[Camera, Rig], RealSense] = RealSense
    ) -> None:
        self.rig = rig
        with ExitStack() as stack:
            self.arm = arm(rig)
            stack.callback(self.arm.close)
            self._cameras = {one.name: stack.enter_context(camera(one, rig)) for one in rig.cameras}
            self._open = stack.pop_all()

    def __enter__(self) -> Station:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._open.close()

    def frames(self, stamp_ns: int) -> dict[str, Frame]:
        """The newest frame of each camera at `stamp_ns`, which is now. Raises CameraError when one has none, or, in the lab
        where that cannot be, one of later than now."""
        oldest = {camera.name: oldest_frame_ns(self.rig, camera, stamp_ns) for camera in self.rig.cameras}
        frames = {name: camera.read(not_before_ns=oldest[name]) for name, camera in self._cameras.items()}
        for name, frame in frames.items():
            if self.rig.lab is not None and frame.stamp_ns > stamp_ns:
                raise CameraError(
                    f"camera {name!r}: frame number {frame.number} is stamped {(frame.stamp_ns - stamp_ns) / 1e6:.0f} ms after "
                    "now: the camera's clock is off (`robosteer sim fault` tells the faults of the lab)"
                )
        return frames

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


def oldest_frame_ns(rig: Rig, camera: Camera, stamp_ns: int) -> int:
    """Capture time of the oldest frame of `camera` that may stand for what it sees at `stamp_ns`.

    The lab's cameras capture on the clock's grid: the last frame at or before `stamp_ns` exists or is being drawn, and
    it alone makes two runs alike. A real camera runs by itself.
    """
    if rig.lab is None:
        return stamp_ns - int(OLDEST_PERIODS * 1e9 / camera.fps)
    return tick_ns(0, last_tick(0, stamp_ns, camera.fps), camera.fps)
