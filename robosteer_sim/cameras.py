"""The process of the lab's cameras: frames of every camera at its rate in lab time, into shared memory."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np

from robosteer_core.rig import Camera, Rig
from robosteer_core.runtime.clock import RANKS
from robosteer_core.runtime.frame_buffer import BufferFormat, FrameWriter, refuse_second_writer, segment_name
from robosteer_core.runtime.lab_link import LabLink, LabState
from robosteer_sim.camera_faults import FaultyCamera
from robosteer_sim.studio import Studio, lab_cameras

_MS, _SECOND = 1_000_000, 1_000_000_000


def frame_number(now_ns: int, fps: int) -> int:
    """Number of the last frame due at lab time `now_ns`: frame k is due at ceil(1000 k / fps) ms."""
    return now_ns // _MS * fps // 1000


def due_ns(number: int, fps: int) -> int:
    """Lab time at which a frame is due: the first whole millisecond at or after number / fps seconds."""
    return -(-number * 1000 // fps) * _MS


class Shutter:
    """When each camera is due; frame numbers follow lab time, so that they go on when this process is restarted."""

    def __init__(self, cameras: tuple[Camera, ...]) -> None:
        self._last = dict.fromkeys((camera.name for camera in cameras), -1)
        self._cameras = cameras

    def due(self, now_ns: int) -> list[tuple[Camera, int]]:
        """The cameras of which a frame has become due by `now_ns`, each with the number of its newest due frame."""
        found = []
        for camera in self._cameras:
            number = frame_number(now_ns, camera.fps)
            if number > self._last[camera.name]:
                self._last[camera.name] = number
                found.append((camera, number))
        return found

    def next_ns(self, now_ns: int) -> int:
        """Lab time after `now_ns` at which the next frame of any camera is due."""
        return min(due_ns(frame_number(now_ns, camera.fps) + 1, camera.fps) for camera in self._cameras)


class CameraCrew:
    """Draws states of the lab into the segments of the rig's cameras. `shoot` and `close` belong to its own thread."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._cameras = lab_cameras(rig)
        self._shutter = Shutter(self._cameras)
        self._scene: tuple[int, str, int, str] | None = None
        self._formats: dict[str, BufferFormat] = {}
        self._writers: dict[str, FrameWriter] = {}
        self._faults = {camera.name: FaultyCamera() for camera in self._cameras}
        for camera in self._cameras:  # before the lab is asked: it answers only when no participant holds its time
            refuse_second_writer(segment_name(rig, camera))
        with ExitStack() as stack:
            self._studio = stack.enter_context(Studio(rig))
            stack.callback(self._close_segments)
            self._open = stack.pop_all()

    def shoot(self, state: LabState) -> None:
        """Draw and publish the frames that are due at this state; the scene is put up when it is new."""
        scene = (state.generation, state.task, state.seed, state.variation)
        if scene != self._scene:
            self._studio.build(state.task, state.seed, state.variation)
            self._scene, self._began_ns = scene, state.now_ns // _SECOND * _SECOND
            self._check_formats()
        for camera in self._cameras:
            self._faults[camera.name].suffer([fault for fault in state.camera_faults if fault["camera"] == camera.name])
            self._plug(camera)
        due = self._shutter.due(state.now_ns)
        if due:
            self._studio.pose(np.asarray(state.qpos))
        for camera, number in due:
            # Noise follows from the scene's time, which begins with a whole second, and not from what was before it.
            since = number - frame_number(self._began_ns, camera.fps)
            shot = self._faults[camera.name].take(state.now_ns, number, lambda: self._studio.draw(camera, since))
            if shot is not None:
                self._writers[camera.name].write(*shot)

    def next_ns(self, now_ns: int) -> int:
        return self._shutter.next_ns(now_ns)

    def _check_formats(self) -> None:
        for camera in self._cameras:
            found = self._studio.format(camera)
            if found != self._formats.setdefault(camera.name, found):
                raise RuntimeError(f"the scene has changed the lens of camera {camera.name!r} from {self._formats} to {found}")

    def _plug(self, camera: Camera) -> None:
        """Open the camera's segment, or close that of a camera that has been unplugged."""
        plugged = not self._faults[camera.name].unplugged
        if plugged and camera.name not in self._writers:
            self._writers[camera.name] = FrameWriter(segment_name(self._rig, camera), self._formats[camera.name])
        elif not plugged and camera.name in self._writers:
            self._writers.pop(camera.name).close()

    def _close_segments(self) -> None:
        while self._writers:
            self._writers.popitem()[1].close()

    def close(self) -> None:
        self._open.close()


def run(rig: Rig, ready: Callable[[], None] = lambda: None) -> None:
    """Draw until the lab ends. `ready` is called once, when the first frames can be read.

    The next state is asked for while this one is drawn, so that the physics goes on meanwhile; the one after it only
    when this one's frames are in shared memory, so that the lab never gets more than one frame ahead of its cameras.
    Raises UserError where nothing can be drawn, and when the lab is not there or goes away.
    """
    # Signals interrupt the main thread: it waits for the lab, and the thread that owns the OpenGL context draws.
    with ThreadPoolExecutor(1, "draw") as drawer, ExitStack() as stack:
        crew = drawer.submit(CameraCrew, rig).result()
        stack.callback(lambda: drawer.submit(crew.close).result())
        link = stack.enter_context(LabLink(rig.lab.control, "cameras", RANKS["cameras"], state=True))
        state = link.wait(0)
        drawing = drawer.submit(crew.shoot, state)
        drawing.result()
        ready()
        while True:
            state = link.wait(crew.next_ns(state.now_ns))
            drawing.result()
            drawing = drawer.submit(crew.shoot, state)
