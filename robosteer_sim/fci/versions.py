"""The versions of the robot server's protocol, and what the wire has differently from one to the next.

The server itself goes by the names, which mean the same in all of them. Source: research_interface of libfranka 0.9.2 for
version 5 (the Panda, which Franka also calls FER) and of 0.21 for version 10 (the FR3).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

from robosteer_sim.fci import wire
from robosteer_sim.fci.wire import Command, Generator, MoveStatus, RecoveryStatus


class Command5(IntEnum):
    CONNECT = 0
    MOVE = 1
    STOP_MOVE = 2
    GET_CARTESIAN_LIMIT = 3
    SET_COLLISION_BEHAVIOR = 4
    SET_JOINT_IMPEDANCE = 5
    SET_CARTESIAN_IMPEDANCE = 6
    SET_GUIDING_MODE = 7
    SET_EE_TO_K = 8
    SET_NE_TO_EE = 9
    SET_LOAD = 10
    SET_FILTERS = 11
    AUTOMATIC_ERROR_RECOVERY = 12
    LOAD_MODEL_LIBRARY = 13


class MoveStatus5(IntEnum):
    SUCCESS = 0
    MOTION_STARTED = 1
    PREEMPTED = 2
    NOT_POSSIBLE = 3
    START_AT_SINGULAR_POSE = 4
    INVALID_ARGUMENT = 5
    REFLEX_ABORTED = 6
    EMERGENCY_ABORTED = 7
    INPUT_ERROR_ABORTED = 8
    ABORTED = 9


class RecoveryStatus5(IntEnum):
    SUCCESS = 0
    NOT_POSSIBLE = 1
    MANUAL_RECOVERY_REQUIRED = 2
    EMERGENCY_ABORTED = 4


@dataclass(frozen=True)
class Version:
    """One version of the protocol: its number, its requests by name, and its packets.

    `move_request` unpacks to controller, generator, six deviations and perhaps more. `statuses` maps an enumeration of
    wire.py to that of this version, which has the same names; those that are not in there are the same in both. Without the
    generator NONE torques come with the motion of another one.
    """

    number: int
    commands: type[IntEnum]
    move_request: struct.Struct
    state: np.dtype
    control: np.dtype
    last_generator: Generator
    statuses: dict[type[IntEnum], type[IntEnum]] = field(default_factory=dict)

    def code(self, status: IntEnum) -> int:
        """The number by which this version says `status`, a member of one of wire.py's enumerations."""
        there = self.statuses.get(type(status))
        return status if there is None else there[status.name]


V10 = Version(10, Command, wire.MOVE_REQUEST, wire.STATE, wire.CONTROL, Generator.NONE)
V5 = Version(
    5,
    Command5,
    struct.Struct("<II6d"),
    wire.state_layout("<f8"),
    np.dtype([field for field in wire.CONTROL.descr if field[0] != "torque_finished"]),
    Generator.CARTESIAN_VELOCITY,
    {MoveStatus: MoveStatus5, RecoveryStatus: RecoveryStatus5},
)
assert (V5.state.itemsize, V5.control.itemsize, V5.move_request.size) == (2373, 370, 56)

#: By the arm that speaks it (`arm.model` of a rig).
VERSIONS = {"fr3": V10, "panda": V5}
