"""What teleoperation and recorder tell each other: the operator's command at a tick, and how the recording stands."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robosteer_core.errors import UserError
from robosteer_core.runtime.teleop_link import EVENTS
from robosteer_ros.graph.messages import Stamps, report, values_of
from robosteer_ros.ros import diagnostic_msgs, sensor_msgs, std_msgs

#: The buttons of `teleop/command`, in order: the enabling switch, the operator's decisions, and whether the arm was told.
BUTTONS = ("deadman", *EVENTS, "driven", "guided")

STAGES = ("idle", "ready", "recording", "saving", "finished")
"""Of a recording: no dataset is open; one is, and an episode may start; one runs; it is being written; the session is over."""


@dataclass(frozen=True)
class Steering:
    """One tick of teleoperation.

    `action` (7,) float32 of the rig's Cartesian deltas: what the arm was told at `stamp_ns` for the tick to come, where
    `driven`; with `guided` the arm is led by hand instead, and its motion says what `action` does not. `steered_ns` is when
    the operator's hand said so. `events` of `teleop_link.EVENTS`.
    """

    stamp_ns: int
    action: np.ndarray
    steered_ns: int
    deadman: bool
    driven: bool
    guided: bool = False
    events: tuple[str, ...] = ()

    def message(self, stamps: Stamps) -> sensor_msgs.msg.Joy:
        """Axes: the action, and the age of the hand's command at the tick [s]. Buttons: `BUTTONS`."""
        held = {"deadman": self.deadman, "driven": self.driven, "guided": self.guided} | dict.fromkeys(self.events, True)
        return sensor_msgs.msg.Joy(
            header=std_msgs.msg.Header(stamp=stamps.message(self.stamp_ns)),
            axes=[*map(float, self.action), (self.stamp_ns - self.steered_ns) / 1e9],
            buttons=[int(held.get(name, False)) for name in BUTTONS],
        )

    @classmethod
    def of(cls, message: sensor_msgs.msg.Joy, stamps: Stamps) -> Steering:
        """Raises UserError where the message has not the form of `message`."""
        if len(message.axes) != 8 or len(message.buttons) != len(BUTTONS):
            found = f"{len(message.axes)} axes and {len(message.buttons)} buttons"
            raise UserError(f"teleop/command has 8 axes and the buttons {', '.join(BUTTONS)}; found {found}")
        *action, age_s = message.axes
        pressed = {name for name, value in zip(BUTTONS, message.buttons, strict=True) if value}
        stamp_ns = stamps.ns(message.header.stamp)
        return cls(
            stamp_ns, np.array(action, np.float32), stamp_ns - round(age_s * 1e9), "deadman" in pressed, "driven" in pressed,
            "guided" in pressed, tuple(name for name in EVENTS if name in pressed),
        )  # fmt: skip


@dataclass(frozen=True)
class RecordingStatus:
    """How a recording stands: `stage` of `STAGES`; `stamp_ns` of the last command that has been dealt with.

    `kept`, `discarded` and `frames` count in this session, `dataset_episodes` all there are; `wanted` 0 is without an end. `owner` is
    the full name of the node for which the session was opened, empty where it was opened by parameters alone.
    """

    stage: str
    stamp_ns: int = 0
    kept: int = 0
    discarded: int = 0
    frames: int = 0
    wanted: int = 0
    dataset_episodes: int = 0
    task: str = ""
    dataset: str = ""
    problem: str = ""
    owner: str = ""

    def message(self, stamps: Stamps) -> diagnostic_msgs.msg.DiagnosticArray:
        names = ("kept", "discarded", "frames", "wanted", "dataset_episodes", "task", "dataset", "owner")
        values = {name: getattr(self, name) for name in names}
        level = diagnostic_msgs.msg.DiagnosticStatus.WARN if self.problem else diagnostic_msgs.msg.DiagnosticStatus.OK
        words = f"{self.stage}: {self.problem}" if self.problem else self.stage
        return report(stamps.message(self.stamp_ns), "recorder", words, {name: str(value) for name, value in values.items()}, level)

    @classmethod
    def of(cls, message: diagnostic_msgs.msg.DiagnosticArray, stamps: Stamps) -> RecordingStatus:
        status = message.status[0]
        stage, _, problem = status.message.partition(": ")
        values = values_of(message)
        texts = {name: values.pop(name) for name in ("task", "dataset", "owner")}
        counts = {name: int(value) for name, value in values.items()}
        return cls(stage, stamps.ns(message.header.stamp), problem=problem, **texts, **counts)
