"""The arm's topics: what its controller tells, as standard messages, and back."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from robosteer_core.rig import Rig
from robosteer_core.runtime.observation import ArmState
from robosteer_ros.graph.messages import Stamp, Stamps, base_frame, hand_frame, pose_message, pose_of, report, values_of
from robosteer_ros.hardware.arm.journal import Report
from robosteer_ros.ros import (
    diagnostic_msgs,
    geometry_msgs,
    sensor_msgs,
    std_msgs,
    tf2_msgs,
)

JOINTS, MEASURED, COMMANDED, WRENCH, STATUS = "joint_states", "arm/pose", "arm/commanded_pose", "arm/wrench", "arm/status"
ANSWERS, TRANSFORMS, WIDTH = "arm/answers", "/tf", "gripper/width"
CLOCK, DIAGNOSTICS = "/clock", "/diagnostics"

STATE_TOPICS = {
    JOINTS: sensor_msgs.msg.JointState,
    MEASURED: geometry_msgs.msg.PoseStamped,
    COMMANDED: geometry_msgs.msg.PoseStamped,
    WRENCH: geometry_msgs.msg.WrenchStamped,
}
"""The topics that together are one state; messages of one state have one stamp, and no two states have the same."""

_Level = diagnostic_msgs.msg.DiagnosticStatus
_LEVELS = {"idle": _Level.OK, "tracking": _Level.OK, "holding": _Level.WARN, "stopped": _Level.WARN, "fault": _Level.ERROR}


def joint_names(rig: Rig) -> list[str]:
    """The seven joints and the two fingers, as in franka_description."""
    model = rig.arm.model
    return [*(f"{model}_joint{number}" for number in range(1, 8)), f"{model}_finger_joint1", f"{model}_finger_joint2"]


def header(rig: Rig, stamps: Stamps, stamp_ns: int) -> std_msgs.msg.Header:
    return std_msgs.msg.Header(stamp=stamps.message(stamp_ns), frame_id=base_frame(rig))


def state_messages(rig: Rig, told: Report, head: std_msgs.msg.Header) -> dict[str, object]:
    """One state as messages by topic; `told.state` is there."""
    state = told.state
    finger_m = state.gripper * rig.gripper.max_width_m / 2
    pose = pose_message(state.measured)
    fx, fy, fz, mx, my, mz = told.wrench.tolist()
    wrench = geometry_msgs.msg.Wrench(
        force=geometry_msgs.msg.Vector3(x=fx, y=fy, z=fz), torque=geometry_msgs.msg.Vector3(x=mx, y=my, z=mz)
    )
    transform = geometry_msgs.msg.Transform(
        translation=geometry_msgs.msg.Vector3(x=pose.position.x, y=pose.position.y, z=pose.position.z), rotation=pose.orientation
    )
    placed = geometry_msgs.msg.TransformStamped(header=head, child_frame_id=hand_frame(rig), transform=transform)
    positions = [*state.joint_positions.tolist(), finger_m, finger_m]
    return {
        JOINTS: sensor_msgs.msg.JointState(header=head, name=joint_names(rig), position=positions),
        MEASURED: geometry_msgs.msg.PoseStamped(header=head, pose=pose),
        COMMANDED: geometry_msgs.msg.PoseStamped(header=head, pose=pose_message(state.commanded)),
        WRENCH: geometry_msgs.msg.WrenchStamped(header=head, wrench=wrench),
        TRANSFORMS: tf2_msgs.msg.TFMessage(transforms=[placed]),
    }


def status_message(told: Report, head: std_msgs.msg.Header) -> diagnostic_msgs.msg.DiagnosticArray:
    """mode, motion, error, commander, latched; empty where there is none."""
    values = {"mode": told.mode, "motion": told.motion, "error": told.error, "commander": told.commander}
    values["latched"] = "true" if told.latched else None
    level = max(_LEVELS[told.mode], _Level.WARN if told.latched else _Level.OK)
    words = f"{told.mode}: {told.error}" if told.error else told.mode
    return report(head.stamp, "arm", words, {key: str(value or "") for key, value in values.items()}, level)


def diagnostics_message(rig: Rig, stamp: Stamp, status: dict) -> diagnostic_msgs.msg.DiagnosticArray:
    """Loop statistics and interventions of the limits, from `ArmController.status`."""
    values = {key: status[key] for key in ("setpoints", "chunks", "late_ticks", "latest_ms", "command_age_ms", "oldest_command_ms",
                                           "success_rate", "robot_mode")}  # fmt: skip
    values |= {f"limit {name}": count for name, count in sorted(status["interventions"].items())}
    off = rig.limits.off_nothing_protects_the_arm
    wrong = status["last_error"] or ("THE LIMITS ARE OFF: nothing keeps a command from the arm" if off else "")
    level = _Level.ERROR if status["last_error"] else _Level.WARN if off or status["latched"] else _Level.OK
    return report(stamp, "arm", wrong or status["mode"], values, level)


def answer_message(head: std_msgs.msg.Header, source: str, refusal: str | None) -> diagnostic_msgs.msg.DiagnosticArray:
    """The answer to a command of `source` under the command's own header; `refusal` None where it is accepted."""
    level = _Level.OK if refusal is None else _Level.ERROR
    return diagnostic_msgs.msg.DiagnosticArray(header=head, status=[_Level(level=level, name=source, message=refusal or "")])


@dataclass
class StateJoiner:
    """Puts the messages of one state together again. Not for several threads."""

    rig: Rig
    stamps: Stamps
    mode: str = ""
    status_ns: int = -1
    modes: dict[int, str] = field(default_factory=dict)
    parts: dict[int, dict[str, object]] = field(default_factory=dict)

    def take(self, topic: str, message: object) -> ArmState | None:
        """The state that `message` of one of the topics completes, or None."""
        stamp = message.header.stamp
        wire_ns = stamp.sec * 1_000_000_000 + stamp.nanosec
        if topic == STATUS:
            self.modes[wire_ns], self.status_ns = values_of(message)["mode"], wire_ns
        else:
            self.parts.setdefault(wire_ns, {})[topic] = message
        # A status stands for a state of before it where its own was overwritten: its topic keeps the newest alone.
        whole = [ns for ns, found in self.parts.items() if len(found) == len(STATE_TOPICS) and ns <= self.status_ns]
        if not whole:
            return None
        newest = max(whole)
        found, mode = self.parts[newest], self.modes.get(newest, self.modes[self.status_ns])
        for ns in [ns for ns in self.parts if ns <= newest]:
            del self.parts[ns]
        for ns in [ns for ns in self.modes if ns < newest]:
            del self.modes[ns]
        return self._state(found, mode)

    def _state(self, found: dict[str, object], mode: str) -> ArmState:
        joints, wrench = found[JOINTS], found[WRENCH].wrench
        width_m = 2 * joints.position[7]
        return ArmState(
            stamp_ns=self.stamps.ns(joints.header.stamp), measured=pose_of(found[MEASURED].pose),
            commanded=pose_of(found[COMMANDED].pose), joint_positions=np.array(joints.position[:7]),
            force=np.array([wrench.force.x, wrench.force.y, wrench.force.z]), gripper=width_m / self.rig.gripper.max_width_m,
            mode=mode,
        )  # fmt: skip
