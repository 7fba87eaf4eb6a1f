"""A camera of the graph: the frames that its node puts into shared memory, without copies over DDS."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from robosteer_core.errors import UserError
from robosteer_core.rig import Camera, Rig
from robosteer_core.runtime.frame import CameraError, CameraStatistics, Frame, FrameStream
from robosteer_core.runtime.frame_buffer import BufferedFrame, FrameReader, graph_segment_name
from robosteer_ros.ros import Node

#: How often a waiting reader looks whether the node has been replaced.
_LOOK_S = 0.1


def segment_of(camera: Camera, rig: Rig, node: Node) -> str:
    """Name of the shared memory of this camera in the domain and the namespace of `node`."""
    return graph_segment_name(rig, camera, node.context.get_domain_id(), node.get_namespace())


class CameraLink(FrameStream):
    """One camera of the rig as `robosteer_ros.hardware.realsense.RealSense` gives it, from the camera node of the domain and
    the namespace that `node` is in.

    A reader never holds up the camera node, and goes on by itself when that is started anew. It is for one thread.
    """

    def __init__(self, camera: Camera, rig: Rig, node: Node) -> None:
        super().__init__(camera)
        self._segment = segment_of(camera, rig, node)
        self._place = f"ROS domain {node.context.get_domain_id()}, namespace {node.get_namespace()}"
        self._command = (
            "robosteer up, or python -m robosteer_ros.nodes.camera --ros-args -p rig:=RIG -p autostart:=true "
            f"-r __node:={camera.name}_camera -r __ns:={node.get_namespace()}"
        )
        self._buffer: FrameReader | None = None

    @property
    def statistics(self) -> CameraStatistics:
        """Of `next`: the frames given, and the `missed` ones that were written over before it came to them."""
        return self._statistics

    def start(self) -> None:
        """Raises UserError where the camera's node is not running or has had no frame yet."""
        self._statistics = CameraStatistics()
        self._buffer = self._open()
        if not self._buffer.alive():
            self.stop()
            raise UserError(f"the node of {self._label} has ended; start it: {self._command}")
        self._seen = max(0, self._buffer.written - 1)

    def read(self, not_before_ns: int, timeout_s: float = 5.0) -> Frame:
        """The newest frame, once that was captured at or after `not_before_ns` on the rig's clock.

        `timeout_s` is wall time. Raises CameraError when no such frame comes in time.
        """

        def newest(buffer: FrameReader) -> int | None:
            index = buffer.written - 1
            stamp_ns = buffer.stamp_ns(index) if index >= 0 else None
            return index if stamp_ns is not None and stamp_ns >= not_before_ns else None

        return self._wait(newest, f"captured at {not_before_ns} ns or later", timeout_s)[1]

    def next(self, timeout_s: float = 5.0) -> Frame:
        """The oldest frame that this has not given yet, beginning with the newest at `start`: each in turn, for who is never
        behind by more than the node keeps. Raises CameraError when none comes in time."""

        def oldest(buffer: FrameReader) -> int | None:
            return max(self._seen, buffer.oldest()) if self._seen < buffer.written else None

        index, frame = self._wait(oldest, "that is new", timeout_s)
        counted = self._statistics
        self._statistics = replace(counted, frames=counted.frames + 1, missed=counted.missed + index - self._seen)
        self._seen = index + 1
        return frame

    def stop(self) -> None:
        """Harmless when it is not started."""
        if self._buffer is not None:
            self._buffer.close()
            self._buffer = None

    def _open(self) -> FrameReader:
        return FrameReader(self._segment, f"the node of {self._label} in {self._place}", self._command)

    def _wait(self, find: Callable[[FrameReader], int | None], wanted: str, timeout_s: float) -> tuple[int, Frame]:
        """The frame whose index `find` gives, once it gives one."""
        if self._buffer is None:
            raise CameraError(f"{self._label} is not started")
        deadline = time.monotonic() + timeout_s
        while True:
            written, index = self._buffer.written, find(self._buffer)
            if index is not None:
                if (found := self._buffer.read(index)) is not None:
                    return index, self._frame(found)
                continue  # overtaken: there are newer ones
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise CameraError(f"{self._label}: no frame {wanted} came within {timeout_s:g} s; {self._reason()}")
            if self._buffer.wait(written, min(left_s, _LOOK_S)) == written and self._buffer.replaced():
                self._follow()

    def _follow(self) -> None:
        """Turn to the shared memory of a node that was started anew."""
        try:
            successor = self._open()
        except UserError:  # gone again: look once more after the next time-out
            return
        self._buffer.close()
        self._buffer, self._seen = successor, 0

    def _frame(self, found: BufferedFrame) -> Frame:
        form = self._buffer.format
        return Frame(
            self._camera.name, found.stamp_ns, found.number, found.colour, found.depth, form.depth_unit_m, form.intrinsics
        )

    def _reason(self) -> str:
        if not self._buffer.alive():
            return f"its node has ended; start it: {self._command}"
        trouble = self._buffer.trouble
        return f"its node says: {trouble}" if trouble else "its node runs and has no complaint: does the rig's time advance?"
