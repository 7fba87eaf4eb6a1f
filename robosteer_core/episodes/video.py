"""Video of one camera: MKV while recording, MP4 in the dataset, frames out of either.

H.264 yuv420p by x264, a key frame every second frame, no B-frames: B-frames would shift the first frame away from 0 s,
and LeRobot allows 0.1 ms. Matroska survives a kill at any byte; MP4 has nothing to open before its last byte.
"""

from __future__ import annotations

import queue
import threading
from fractions import Fraction
from pathlib import Path
from typing import Iterator

import av
import numpy as np

from robosteer_core.episodes.statistics import ImageHistogram
from robosteer_core.errors import UserError
from robosteer_core.files import put, temporary_of

#: zerolatency: no look-ahead, so that every frame handed in is in the file and not in the encoder. With it and a key
#: frame every second frame, ultrafast has the better PSNR (40.8 dB, veryfast 40.4; camera noise 38.3, 37.9) at a third of the time.
ENCODER = {"preset": "ultrafast", "g": "2", "bf": "0", "crf": "23", "tune": "zerolatency"}
#: A cluster reaches the file when the next one begins, so every frame is one: a killed process loses the last frame.
MUXER = {"flush_packets": "1", "cluster_time_limit": "1"}
QUEUE_FRAMES = 8


class VideoRecorder:
    """Encodes frames into an MKV file in a thread of its own.

    `add` returns as soon as the frame is queued and blocks when the encoder is `QUEUE_FRAMES` behind: nothing is dropped.
    """

    def __init__(self, path: Path, height: int, width: int, fps: int) -> None:
        self.path = path
        self.histogram = ImageHistogram()
        self._shape = (height, width, 3)
        self._fps = fps
        self._queue: queue.Queue[np.ndarray | None] = queue.Queue(QUEUE_FRAMES)
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._encode, name=f"encode {path.stem}", daemon=True)
        self._thread.start()

    def check(self, image: np.ndarray) -> None:
        """Raises UserError when `image` is not (height, width, 3) uint8, or when an earlier frame could not be written."""
        if self._error is not None:
            raise UserError(f"cannot write {self.path}: {self._error}") from self._error
        if image.shape != self._shape or image.dtype != np.uint8:
            raise UserError(
                f"camera {self.path.stem}: expected images {self._shape} uint8; found {image.shape} {image.dtype}"
            )

    def add(self, image: np.ndarray) -> None:
        """Queue a checked image; it is copied, so the caller may reuse its buffer."""
        self._queue.put(np.array(image, order="C"))

    def close(self) -> None:
        """Wait until everything is in the file. Raises UserError when a frame could not be written."""
        self._queue.put(None)
        self._thread.join()
        if self._error is not None:
            raise UserError(f"cannot write {self.path}: {self._error}") from self._error

    def _encode(self) -> None:
        ended = False
        try:
            with av.open(str(self.path), "w", format="matroska", options=MUXER) as container:
                stream = container.add_stream("libx264", rate=self._fps, options=ENCODER)
                stream.height, stream.width, _ = self._shape
                stream.pix_fmt = "yuv420p"
                stream.codec_context.thread_count = 1
                number = 0
                while not (ended := (image := self._queue.get()) is None):
                    frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                    frame.pts, frame.time_base = number, Fraction(1, self._fps)
                    container.mux(stream.encode(frame))
                    self.histogram.add(image)
                    number += 1
                container.mux(stream.encode(None))
        except Exception as error:  # of any kind: it is raised again in the thread that adds
            self._error = error
            while not ended:  # so that nobody waits for a full queue
                ended = self._queue.get() is None


def mkv_to_mp4(source: Path, target: Path, fps: int, frames: int) -> None:
    """Copy the first `frames` coded frames into an MP4 file, frame k at exactly k / fps: MKV's clock counts milliseconds."""
    temporary = temporary_of(target)
    with av.open(str(source)) as recorded, av.open(str(temporary), "w", format="mp4") as container:
        template = recorded.streams.video[0]
        stream = container.add_stream_from_template(template)
        stream.time_base = Fraction(1, fps * 1000)
        written = 0
        for packet in recorded.demux(template):
            if packet.size == 0 or written == frames:
                break
            packet.stream = stream
            packet.time_base = Fraction(1, fps * 1000)
            packet.pts = packet.dts = written * 1000
            packet.duration = 1000
            container.mux(packet)
            written += 1
    if written < frames:
        raise UserError(f"{source}: expected {frames} frames; found {written}")
    put(temporary, target)


def decodable_frames(path: Path) -> Iterator[np.ndarray]:
    """Frames (height, width, 3) uint8 RGB of a recording that may end anywhere, up to the first that is damaged."""
    try:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                if frame.is_corrupt:
                    return
                yield frame.to_ndarray(format="rgb24")
    except (av.FFmpegError, OSError, IndexError):
        return


def clip_images(path: Path, from_s: float, fps: float, first: int, stop: int) -> Iterator[np.ndarray]:
    """Images of frames first..stop-1 of a clip, each (height, width, 3) uint8 RGB; raises UserError as `clip_frames` does."""
    for frame in clip_frames(path, from_s, fps, first, stop):
        yield frame.to_ndarray(format="rgb24")


def clip_frames(path: Path, from_s: float, fps: float, first: int, stop: int) -> Iterator[av.VideoFrame]:
    """Decoded frames first..stop-1 of an episode whose frame 0 is shown at `from_s`.

    Raises UserError when the file is missing or damaged, ends early, or has no frame within half a period of a time.
    """
    try:
        container = av.open(str(path))
    except FileNotFoundError:
        raise UserError(f"expected the video {path}; it is not there; restore it or run `robosteer dataset repair`") from None
    except (av.FFmpegError, OSError) as error:
        raise _damaged(path, str(error)) from error
    with container:
        if not container.streams.video:
            raise _damaged(path, "no video stream in it")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        wanted = first
        try:
            begin_s = from_s + first / fps
            container.seek(int(begin_s / stream.time_base), stream=stream)
            for frame in container.decode(stream):
                ahead = (frame.time - from_s) * fps - wanted  # in frames
                if ahead < -0.5:
                    continue
                if ahead > 0.5:
                    raise _damaged(path, f"no frame at {from_s + wanted / fps:.4f} s, the next is at {frame.time:.4f} s")
                if frame.is_corrupt:
                    raise _damaged(path, f"the frame at {frame.time:.4f} s")
                yield frame
                wanted += 1
                if wanted == stop:
                    return
        except (av.FFmpegError, OSError) as error:
            raise _damaged(path, str(error)) from error
        raise _damaged(path, f"expected frames up to {from_s + (stop - 1) / fps:.3f} s; it ends after {wanted - first} of {stop - first}")


def _damaged(path: Path, what: str) -> UserError:
    return UserError(f"the video {path} is truncated or damaged ({what}); restore it or run `robosteer dataset repair`")
