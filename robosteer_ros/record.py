"""Recording: what teleoperation does and what is seen meanwhile becomes a dataset."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np

from robosteer_core.episodes.reader import Dataset
from robosteer_core.episodes.writer import DatasetWriter
from robosteer_core.errors import UserError
from robosteer_core.evaluation.video import TrialVideo
from robosteer_core.rig import Rig
from robosteer_core.runtime.observation import Observation
from robosteer_core.runtime.quaternion import turn
from robosteer_ros.steering import RecordingStatus, Steering
from robosteer_ros.teleoperation import require_deltas

logger = logging.getLogger(__name__)


class EpisodeLog(Protocol):
    """What is written beside the dataset, episode by episode."""

    def begin(self) -> None: ...
    def end(self, index: int | None) -> None: ...


class RecordingSession:
    """Episodes of one task into one dataset, until `wanted` are kept (0: without an end), for the node `owner` where one asked for it.

    `observe(stamp_ns, instruction)` gives what there is to see at a tick. One frame of the dataset is that, and the action
    of the tick. Where the arm is led by hand, that is its motion until the next tick. Called from one thread.
    """

    def __init__(
        self, rig: Rig, observe: Callable[[int, str], Observation], writer: DatasetWriter, log: EpisodeLog, task: str, wanted: int = 0,
        owner: str = "",
    ) -> None:  # fmt: skip
        require_deltas(rig)
        self._observe, self._writer, self._log = observe, writer, log
        self.task, self.wanted, self.owner = task, wanted, owner
        self._stage, self._problem = "ready", ""
        self._stamp_ns = self._kept = self._discarded = self._frames = self._episode_frames = 0
        self._led: tuple[Observation, Steering] | None = None

    @property
    def status(self) -> RecordingStatus:
        return RecordingStatus(
            self._stage, self._stamp_ns, self._kept, self._discarded, self._frames, self.wanted, len(self._writer), self.task,
            str(self._writer.folder), self._problem, self.owner,
        )  # fmt: skip

    def start(self) -> None:
        """Begin an episode. Raises UserError saying why none can begin."""
        if self._stage != "ready":
            raise UserError(f"an episode starts when the recorder is ready; it is {self._stage}")
        if not self.task.strip():
            raise UserError("an episode needs a task in words; set the parameter `task`")
        self._writer.begin(self.task)
        try:
            self._log.begin()
        except BaseException:
            self._writer.discard()
            raise
        self._stage, self._problem, self._episode_frames, self._led = "recording", "", 0, None

    def keep(self) -> int | None:
        """End the running episode and keep it; its index, None where it had not one frame. Raises UserError where none runs."""
        return self._end(True)

    def discard(self) -> None:
        """End the running episode and drop it. Raises UserError where none runs."""
        self._end(False)

    def finish(self) -> None:
        """End the session; an episode that runs is dropped."""
        if self._stage == "recording":
            self.discard()
        self._stage = "finished"

    def take(self, steering: Steering) -> None:
        """Deal with one tick of teleoperation. Raises UserError where it cannot be recorded; the episode is dropped then."""
        self._stamp_ns = steering.stamp_ns
        try:
            if self._stage == "recording" and (steering.driven or steering.guided):
                self._add(steering)
        except UserError as error:
            self._problem = str(error)
            self.discard()
            raise

    def saving(self) -> None:
        """Show that the running episode is about to be written."""
        self._stage = "saving"

    def _add(self, steering: Steering) -> None:
        observation = self._observe(steering.stamp_ns, self.task)
        if not steering.guided:
            self._write(observation, steering, steering.action)
            return
        if self._led is not None:
            before, now = self._led[0].arm.measured, observation.arm.measured
            moved = (now.position - before.position, turn(before.quaternion, now.quaternion), [observation.arm.gripper])
            self._write(*self._led, np.concatenate(moved).astype(np.float32))
        self._led = (observation, steering)

    def _write(self, observation: Observation, steering: Steering, action: np.ndarray) -> None:
        frames = observation.frames
        stamps = {name: frame.stamp_ns for name, frame in frames.items()}
        stamps |= {"state": observation.arm.stamp_ns, "command": steering.stamp_ns, "steering": steering.steered_ns}
        images = {name: frame.colour for name, frame in frames.items()}
        self._writer.add(state=observation.arm.vector(), action=action, images=images, stamps_ns=stamps)
        self._frames += 1
        self._episode_frames += 1

    def _end(self, keep: bool) -> int | None:
        if self._stage not in ("recording", "saving"):
            raise UserError(f"no episode is running; the recorder is {self._stage}")
        index = len(self._writer) if keep and self._episode_frames else None
        self._stage = "ready"
        # The log first: where the process ends in between, the dataset's next writer gives the episode this very index.
        self._log.end(index)
        if index is None:
            self._writer.discard()
            self._discarded += 1
            logger.info("episode discarded: %d frames", self._episode_frames)
            return None
        self._writer.keep()
        self._kept += 1
        logger.info("episode %d kept: %d frames", index, self._episode_frames)
        if self.wanted and self._kept >= self.wanted:
            self._stage = "finished"
        return index


def review(folder: Path) -> Path:
    """A video of the last episode of a dataset, its cameras side by side: `review/episode_000003.mp4` in its folder.

    Raises UserError where there is no episode.
    """
    dataset = Dataset(folder)
    if not dataset.episodes:
        raise UserError(f"there is no episode in {folder} yet")
    index = len(dataset.episodes) - 1
    video = TrialVideo(dataset.fps)
    for images in zip(*(dataset.images(index, camera) for camera in dataset.cameras), strict=True):
        video.add(images)
    path = Path(folder) / "review" / f"episode_{index:06d}.mp4"
    video.save(path)
    return path
