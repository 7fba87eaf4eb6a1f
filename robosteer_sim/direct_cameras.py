"""The lab's cameras inside one process: frames that are drawn when somebody looks at them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from robosteer_core.rig import Rig
from robosteer_core.runtime.frame import Frame
from robosteer_sim.cameras import due_ns, frame_number
from robosteer_sim.direct_arm import START_NS
from robosteer_sim.studio import DEPTH_UNIT_M, Studio, lab_cameras


class DirectCameras:
    """`frames` of a world's state, as the cameras' process draws them; the studio is built at the first look."""

    def __init__(self, rig: Rig) -> None:
        self._rig, self._cameras = rig, {camera.name: camera for camera in lab_cameras(rig)}
        self._studio: Studio | None = None
        self._wanted: tuple | None = None
        self._built: tuple | None = None
        self._scenes = 0

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._cameras)

    def scene(self, *scene: object) -> None:
        """Look at the scene of (task, seed, variation) from now on."""
        self._scenes += 1
        self._wanted = scene

    def frames(self, stamp_ns: int, qpos: np.ndarray) -> Mapping[str, Frame]:
        """What the cameras see of the joint positions `qpos` (nq,) at `stamp_ns`, each drawn when it is first asked for."""
        return _Frames(self, self._scenes, stamp_ns, qpos.copy())

    def draw(self, name: str, scene: int, stamp_ns: int, qpos: np.ndarray) -> Frame:
        if scene != self._scenes:
            raise RuntimeError("this frame is of a scene that is no longer there, and was not looked at in its time")
        if self._studio is None:
            self._studio = Studio(self._rig)
        if self._built != (self._scenes, self._wanted):
            self._studio.build(*self._wanted)
            self._built = (self._scenes, self._wanted)
        camera, studio = self._cameras[name], self._studio
        studio.pose(qpos)
        number = frame_number(stamp_ns, camera.fps)
        colour, depth = studio.draw(camera, number - frame_number(START_NS, camera.fps))
        return Frame(
            name, due_ns(number, camera.fps), number, colour, depth, DEPTH_UNIT_M, studio.format(camera).intrinsics
        )

    def close(self) -> None:
        if self._studio is not None:
            self._studio.close()
            self._studio = None


class _Frames(Mapping[str, Frame]):
    def __init__(self, cameras: DirectCameras, scene: int, stamp_ns: int, qpos: np.ndarray) -> None:
        self._cameras, self._arguments, self._drawn = cameras, (scene, stamp_ns, qpos), {}

    def __getitem__(self, name: str) -> Frame:
        if name not in self._cameras.names:
            raise KeyError(name)
        if name not in self._drawn:
            self._drawn[name] = self._cameras.draw(name, *self._arguments)
        return self._drawn[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._cameras.names)

    def __len__(self) -> int:
        return len(self._cameras.names)
