"""What the robot answers to requests that set or tell something; those that move it are robot_server.py's."""

from __future__ import annotations

import logging
import platform
import struct
from enum import IntEnum
from functools import cache

import numpy as np

from robosteer_sim.fci.cartesian_controller import LEAST_STIFFNESS, MOST_STIFFNESS
from robosteer_sim.fci.firmware import Firmware
from robosteer_sim.fci.joint_controller import MAX_STIFFNESS_NM_PER_RAD
from robosteer_sim.fci.wire import RecoveryStatus, Status
from robosteer_sim.panda.model_library import library_path
from robosteer_sim.robot import assets

logger = logging.getLogger(__name__)

#: Machines that the model library is for: architecture and system in the words of version 5's request.
_LIBRARY_FOR = {"x86_64": (0, 0), "aarch64": (3, 0)}
#: From this frequency on libfranka's filters are none, Hz.
_NO_FILTER_HZ = 1000.0


def answer(firmware: Firmware, name: str, payload: bytes) -> tuple[IntEnum] | tuple[IntEnum, bytes] | None:
    """The status of a request (`name` as in versions.py) and, where it asks for something, the payload of the answer.

    None for a request that this robot does not know. Raises struct.error for a payload of another size.
    """
    handler = _ANSWERS.get(name)
    return None if handler is None else handler(firmware, payload)


def _set_collision_behavior(firmware: Firmware, payload: bytes) -> tuple[Status]:
    taken = firmware.contact.set_thresholds(np.array(struct.unpack("<52d", payload)))
    return (Status.SUCCESS if taken else Status.INVALID_ARGUMENT,)


def _set_joint_impedance(firmware: Firmware, payload: bytes) -> tuple[Status]:
    stiffness = np.array(struct.unpack("<7d", payload))
    if not np.all((stiffness >= 0.0) & (stiffness <= MAX_STIFFNESS_NM_PER_RAD)):
        return (Status.INVALID_ARGUMENT,)
    if firmware.moving:
        return (Status.NOT_POSSIBLE,)
    firmware.set_stiffness(stiffness)
    return (Status.SUCCESS,)


def _set_cartesian_impedance(firmware: Firmware, payload: bytes) -> tuple[Status]:
    # In effect where a motion asks for the Cartesian controller, as libfranka has it; on FR3s with system 5.7 users find
    # none at all (libfranka issue 180).
    stiffness = np.array(struct.unpack("<6d", payload))
    if not np.all((stiffness >= LEAST_STIFFNESS) & (stiffness <= MOST_STIFFNESS)):
        return (Status.INVALID_ARGUMENT,)
    if firmware.moving:
        return (Status.NOT_POSSIBLE,)
    firmware.set_cartesian_stiffness(stiffness)
    return (Status.SUCCESS,)


def _set_guiding_mode(firmware: Firmware, payload: bytes) -> tuple[Status]:
    *free, elbow = struct.unpack("<7?", payload)
    if firmware.moving:
        return (Status.NOT_POSSIBLE,)
    firmware.set_guiding_mode(np.array(free), elbow)
    return (Status.SUCCESS,)


def _set_ee_to_k(firmware: Firmware, payload: bytes) -> tuple[Status]:
    frame = _frame(payload)
    if frame is None:
        return (Status.INVALID_ARGUMENT,)
    firmware.state["EE_T_K"] = frame.ravel(order="F")
    return (Status.SUCCESS,)


def _set_ne_to_ee(firmware: Firmware, payload: bytes) -> tuple[Status]:
    frame = _frame(payload)
    if frame is None:
        return (Status.INVALID_ARGUMENT,)
    if firmware.moving:
        return (Status.NOT_POSSIBLE,)
    firmware.set_tool(frame)
    return (Status.SUCCESS,)


def _set_load(firmware: Firmware, payload: bytes) -> tuple[Status]:
    mass, *rest = struct.unpack("<13d", payload)
    if not (np.isfinite(rest).all() and 0.0 <= mass < 100.0):
        return (Status.INVALID_ARGUMENT,)
    state = firmware.state
    state["m_load"], state["F_x_Cload"], state["I_load"] = mass, rest[:3], rest[3:]
    return (Status.SUCCESS,)


def _automatic_error_recovery(firmware: Firmware, payload: bytes) -> tuple[RecoveryStatus]:
    return (firmware.recover(),)


def _get_robot_model(firmware: Firmware, payload: bytes) -> tuple[Status, bytes]:
    return Status.SUCCESS, _urdf()


def _load_model_library(firmware: Firmware, payload: bytes) -> tuple:
    architecture, system = struct.unpack("<BB", payload)
    if (architecture, system) != _LIBRARY_FOR.get(platform.machine()):
        logger.warning("a client asks for the model library of architecture %d, system %d; there is none", architecture, system)
        return (Status.NOT_POSSIBLE,)
    return Status.SUCCESS, library_path().read_bytes()


def _get_cartesian_limit(firmware: Firmware, payload: bytes) -> tuple[Status, bytes]:
    struct.unpack("<i", payload)  # which of the virtual walls that Desk sets up; this robot has none
    return Status.SUCCESS, struct.pack("<19d?", *[0.0] * 3, *np.eye(4).ravel(), False)


def _set_filters(firmware: Firmware, payload: bytes) -> tuple[Status]:
    # This robot follows commands as they are: it can do no filtering, and says so.
    frequencies = struct.unpack("<5d", payload)
    return (Status.SUCCESS if min(frequencies) >= _NO_FILTER_HZ else Status.INVALID_ARGUMENT,)


#: By the request's name; a version that does not have the request never comes to it.
_ANSWERS = {
    "SET_COLLISION_BEHAVIOR": _set_collision_behavior,
    "SET_JOINT_IMPEDANCE": _set_joint_impedance,
    "SET_CARTESIAN_IMPEDANCE": _set_cartesian_impedance,
    "SET_GUIDING_MODE": _set_guiding_mode,
    "SET_EE_TO_K": _set_ee_to_k,
    "SET_NE_TO_EE": _set_ne_to_ee,
    "SET_LOAD": _set_load,
    "AUTOMATIC_ERROR_RECOVERY": _automatic_error_recovery,
    "GET_ROBOT_MODEL": _get_robot_model,
    "LOAD_MODEL_LIBRARY": _load_model_library,
    "GET_CARTESIAN_LIMIT": _get_cartesian_limit,
    "SET_FILTERS": _set_filters,
}


@cache
def _urdf() -> bytes:
    # Not fr3.urdf: libfranka takes the fingers' joints in there for the arm's and refuses it.
    return (assets() / "fr3_clean.urdf").read_bytes()


def _frame(payload: bytes) -> np.ndarray | None:
    """A pose (4x4) sent column by column; None where it is not one."""
    frame = np.array(struct.unpack("<16d", payload)).reshape(4, 4).T
    rotation = frame[:3, :3]
    fits = np.isfinite(frame).all() and np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3)
    return frame if fits and np.allclose(frame[3], (0, 0, 0, 1)) else None
