"""Demonstrations: the operator's hand moves the arm at the policy's rate, and what both do goes into a dataset."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from robosteer_core.episodes.writer import DatasetWriter
from robosteer_core.errors import UserError
from robosteer_core.rig import Rig
from robosteer_core.runtime.chunk import integrate_deltas
from robosteer_core.runtime.clock import Clock
from robosteer_core.runtime.observation import Observation
from robosteer_core.runtime.runner import last_tick, tick_ns
from robosteer_ros.hardware.arm.client import Refused
from robosteer_ros.hardware.station import Station
from robosteer_ros.hardware.teleop.device import TeleopCommand, TeleopDevice

logger = logging.getLogger(__name__)

WAITING_PERIOD_S = 0.005


@dataclass
class RecordStatistics:
    kept: int = 0
    discarded: int = 0
    frames: int = 0
    late_ticks: int = 0


class Recorder:
    """One session: waits for the operator's `start`, records until `keep` or `discard`, until `episodes` are kept.

    One frame of the dataset is what was seen at a tick and the action that was commanded at it. While the operator's
    enabling switch is released, the action is zero and the arm stands. An episode in which the arm stops or faults is
    discarded; after a fault the operator's `recover` is waited for.
    """

    def __init__(
        self, rig: Rig, station: Station, device: TeleopDevice, writer: DatasetWriter, open_clock: Callable[[], Clock],
        task: str, episodes: int,
    ) -> None:  # fmt: skip
        if rig.action_space.kind != "cartesian_delta" or not rig.action_space.gripper:
            raise UserError(
                f"teleoperation commands Cartesian deltas and a gripper; the rig's action space is {rig.action_space.kind} "
                f"with{'' if rig.action_space.gripper else 'out'} a gripper"
            )
        self._rig, self._station, self._device, self._writer = rig, station, device, writer
        self._open_clock, self._task, self._wanted = open_clock, task, episodes
        self._finished = False
        self._episode_frames: int | None = None
        self.statistics = RecordStatistics()

    def run(self) -> RecordStatistics:
        """Record the session. Leaves the arm at rest."""
        try:
            self._announce("ready")
            while not self._finished and self.statistics.kept < self._wanted:
                time.sleep(WAITING_PERIOD_S)
                for event in self._device.read().events:
                    self._between_episodes(event)
        finally:
            self._announce("finished")
        return self.statistics

    def _between_episodes(self, event: str) -> None:
        arm = self._station.arm
        try:
            if event == "finish":
                self._finished = True
            elif event == "start":
                self._episode()
            elif event == "home":
                self._go_home()
            elif event == "recover":
                arm.recover()
                self._announce("ready")
            else:
                logger.warning("the operator's %r means nothing between episodes", event)
        except Refused as refusal:
            logger.error("%s: %s", event, refusal)
            self._announce("fault" if arm.status()["mode"] == "fault" else "ready")

    def _go_home(self) -> None:
        """Move home for as long as the operator holds the enabling switch. Events that come meanwhile count for nothing."""
        arm = self._station.arm
        arm.home()
        try:
            while arm.status()["motion"] is not None:
                time.sleep(1 / self._rig.rates.policy_hz)
                if not self._device.read().deadman:
                    logger.warning("the way home was stopped: the enabling switch is released")
                    break
        finally:
            arm.stop()
        arm.rest()

    def _episode(self) -> None:
        with ExitStack() as ending:
            # The arm is told to stop before time may run on without us; its rest takes time, so we leave first.
            clock = self._open_clock()
            ending.callback(clock.close)
            self._station.arm.start()
            ending.callback(self._station.arm.stop)
            try:
                self._writer.begin(self._task)
                self._episode_frames = 0
                self._announce("recording")
                verdict = self._record(clock)
            except BaseException:
                self._end_episode("discard")
                raise
        self._announce("saving")
        self._end_episode(verdict)
        self._station.arm.rest()
        self._announce("fault" if verdict == "fault" else "ready")

    def _record(self, clock: Clock) -> str:
        """Run the loop until the operator ends the episode, or the arm does; returns keep, discard or fault."""
        hz, start_ns, tick = self._rig.rates.policy_hz, clock.now_ns(), 0
        gripper = self._station.arm.state().gripper
        while True:
            now_ns = clock.sleep_until_ns(tick_ns(start_ns, tick + 1, hz))
            # Ticks that have passed meanwhile are no frames: what the operator commands now is executed after now.
            missed = last_tick(start_ns, now_ns, hz) - (tick + 1)
            tick += 1 + missed
            due_ns = tick_ns(start_ns, tick, hz)
            self.statistics.late_ticks += missed + (now_ns - due_ns > 0.5e9 / hz)
            command = self._device.read()
            for event in command.events:
                if event in ("keep", "discard", "finish"):
                    self._finished |= event == "finish"
                    return "keep" if event == "keep" else "discard"
            arm = self._station.arm.state()
            if arm.mode in ("stopped", "fault"):
                logger.error("the arm is %s; the episode is discarded", arm.mode)
                return "fault" if arm.mode == "fault" else "discard"
            # With the enabling switch released the hand keeps what it was told last.
            gripper = command.gripper if command.deadman else gripper
            action = np.append(command.delta, gripper).astype(np.float32)
            period_ns = tick_ns(start_ns, tick + 1, hz) - due_ns
            chunk = integrate_deltas(arm.commanded, action[None].astype(float), due_ns + period_ns, period_ns)
            try:
                self._station.arm.send(chunk)
            except Refused as refusal:
                logger.error("%s; the episode is discarded", refusal)
                return "fault" if self._station.arm.status()["mode"] == "fault" else "discard"
            self._add(self._station.observe(now_ns, self._task, arm), command, action)

    def _add(self, observation: Observation, command: TeleopCommand, action: np.ndarray) -> None:
        frames = observation.frames
        stamps = {name: frame.stamp_ns for name, frame in frames.items()}
        self._writer.add(
            state=observation.arm.vector(),
            action=action,
            images={name: frame.colour for name, frame in frames.items()},
            stamps_ns=stamps | {"state": observation.arm.stamp_ns, "command": command.stamp_ns},
        )
        self.statistics.frames += 1
        self._episode_frames += 1

    def _end_episode(self, verdict: str) -> None:
        frames, self._episode_frames = self._episode_frames, None
        if frames is None:
            return
        if verdict == "keep" and frames > 0:
            index = self._writer.keep()
            self.statistics.kept += 1
            logger.info("episode %d kept: %d frames", index, frames)
        else:
            self._writer.discard()
            self.statistics.discarded += 1
            logger.info("episode discarded: %d frames", frames)

    def _announce(self, stage: str) -> None:
        self._device.announce(stage, self.statistics.kept)
