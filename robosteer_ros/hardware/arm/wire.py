"""Chunks and states as JSON: arrays as lists, stamps as whole nanoseconds."""

from __future__ import annotations

import numpy as np

from robosteer_core.errors import UserError
from robosteer_core.runtime.chunk import ActionChunk
from robosteer_core.runtime.observation import ArmState
from robosteer_core.runtime.pose import Pose

def chunk_to_message(chunk: ActionChunk) -> dict:
    return {
        "stamps_ns": np.asarray(chunk.stamps_ns).tolist(),
        "positions": np.asarray(chunk.positions).tolist(),
        "quaternions": np.asarray(chunk.quaternions).tolist(),
        "gripper": np.asarray(chunk.gripper).tolist(),
    }


def chunk_from_message(message: dict) -> ActionChunk:
    """Raises UserError naming the field that is missing or of another shape; values are judged by the limits."""
    count = len(message["stamps_ns"]) if isinstance(message.get("stamps_ns"), list) else -1
    wanted = {"stamps_ns": (count,), "positions": (count, 3), "quaternions": (count, 4), "gripper": (count,)}
    fields = {}
    for name, shape in wanted.items():
        try:
            array = np.array(message[name], dtype=np.int64 if name == "stamps_ns" else float)
        except KeyError:
            raise UserError(f"a chunk needs the field {name!r}; found {', '.join(sorted(message)) or 'none'}") from None
        except (TypeError, ValueError, OverflowError) as error:
            raise UserError(f"field {name!r} of a chunk: expected numbers of shape {shape}: {error}") from None
        if array.shape != shape:
            raise UserError(f"field {name!r} of a chunk: expected shape {shape} for {count} stamps, found {array.shape}")
        fields[name] = array
    return ActionChunk(**fields)


def state_to_message(state: ArmState) -> dict:
    return {
        "stamp_ns": int(state.stamp_ns),
        "measured": [*state.measured.position.tolist(), *state.measured.quaternion.tolist()],
        "commanded": [*state.commanded.position.tolist(), *state.commanded.quaternion.tolist()],
        "joint_positions": state.joint_positions.tolist(),
        "force": state.force.tolist(),
        "gripper": float(state.gripper),
        "mode": state.mode,
    }


def state_from_message(message: dict) -> ArmState:
    measured, commanded = np.array(message["measured"]), np.array(message["commanded"])
    return ArmState(
        stamp_ns=message["stamp_ns"],
        measured=Pose(measured[:3], measured[3:]),
        commanded=Pose(commanded[:3], commanded[3:]),
        joint_positions=np.array(message["joint_positions"]),
        force=np.array(message["force"]),
        gripper=message["gripper"],
        mode=message["mode"],
    )
