"""Messages of the FCI, robot server version 10 and gripper server version 3: little-endian, packed.

What other versions of the robot server have differently stands in versions.py. Source: the headers that libfranka publishes
(research_interface, Apache-2.0), and captures of libfranka 0.21.
"""

from __future__ import annotations

import struct
from enum import IntEnum

import numpy as np

ROBOT_PORT, GRIPPER_PORT = 1337, 1338
GRIPPER_VERSION = 3

ROBOT_HEADER = struct.Struct("<III")  # command, command id, size with the header
GRIPPER_HEADER = struct.Struct("<HII")
CONNECT_REQUEST = struct.Struct("<HH")  # version, the client's UDP port
MOVE_REQUEST = struct.Struct("<II6d?7d")  # controller, generator, deviations, asynchronous generator, its velocities
MOVE_GRIPPER_REQUEST = struct.Struct("<2d")  # width, speed
GRASP_REQUEST = struct.Struct("<5d")  # width, epsilon inner, epsilon outer, speed, force
GRIPPER_STATE = struct.Struct("<Idd?H")  # message id, width, largest width, grasping, temperature


class Command(IntEnum):
    CONNECT = 0
    MOVE = 1
    STOP_MOVE = 2
    SET_COLLISION_BEHAVIOR = 3
    SET_JOINT_IMPEDANCE = 4
    SET_CARTESIAN_IMPEDANCE = 5
    SET_GUIDING_MODE = 6
    SET_EE_TO_K = 7
    SET_NE_TO_EE = 8
    SET_LOAD = 9
    AUTOMATIC_ERROR_RECOVERY = 10
    GET_ROBOT_MODEL = 11


class MoveStatus(IntEnum):
    """Answers to a Move request: one when it is taken or refused, another when the motion ends."""

    SUCCESS = 0
    MOTION_STARTED = 1
    PREEMPTED = 2
    NOT_POSSIBLE = 5
    INVALID_ARGUMENT = 7
    REFLEX_ABORTED = 8
    EMERGENCY_ABORTED = 9
    INPUT_ERROR_ABORTED = 10


class RecoveryStatus(IntEnum):
    """Answers to a request for automatic error recovery."""

    SUCCESS = 0
    NOT_POSSIBLE = 1
    MANUAL_RECOVERY_REQUIRED = 3
    EMERGENCY_ABORTED = 5


class Status(IntEnum):
    """Answers to every other request."""

    SUCCESS = 0
    NOT_POSSIBLE = 1
    INVALID_ARGUMENT = 2


class Controller(IntEnum):
    """Controller modes of a Move request; `OTHER` is reported while no motion runs."""

    JOINT_IMPEDANCE = 0
    CARTESIAN_IMPEDANCE = 1
    EXTERNAL = 2
    OTHER = 3


class Generator(IntEnum):
    """Motion generators as the state reports them; a Move request counts from 0 without IDLE."""

    IDLE = 0
    JOINT_POSITION = 1
    JOINT_VELOCITY = 2
    CARTESIAN_POSITION = 3
    CARTESIAN_VELOCITY = 4
    NONE = 5


class Mode(IntEnum):
    OTHER = 0
    IDLE = 1
    MOVE = 2
    GUIDING = 3
    REFLEX = 4
    USER_STOPPED = 5
    AUTOMATIC_ERROR_RECOVERY = 6


class RobotError(IntEnum):
    """Places in the state's list of errors, with the robot's own names, the same in both versions (robot/error.h)."""

    JOINT_POSITION_LIMITS_VIOLATION = 0
    CARTESIAN_POSITION_LIMITS_VIOLATION = 1
    SELF_COLLISION_AVOIDANCE_VIOLATION = 2
    JOINT_VELOCITY_VIOLATION = 3
    CARTESIAN_VELOCITY_VIOLATION = 4
    FORCE_CONTROL_SAFETY_VIOLATION = 5
    JOINT_REFLEX = 6
    CARTESIAN_REFLEX = 7
    MAX_GOAL_POSE_DEVIATION_VIOLATION = 8
    MAX_PATH_POSE_DEVIATION_VIOLATION = 9
    CARTESIAN_VELOCITY_PROFILE_SAFETY_VIOLATION = 10
    JOINT_POSITION_MOTION_GENERATOR_START_POSE_INVALID = 11
    JOINT_MOTION_GENERATOR_POSITION_LIMITS_VIOLATION = 12
    JOINT_MOTION_GENERATOR_VELOCITY_LIMITS_VIOLATION = 13
    JOINT_MOTION_GENERATOR_VELOCITY_DISCONTINUITY = 14
    JOINT_MOTION_GENERATOR_ACCELERATION_DISCONTINUITY = 15
    CARTESIAN_POSITION_MOTION_GENERATOR_START_POSE_INVALID = 16
    CARTESIAN_MOTION_GENERATOR_ELBOW_LIMIT_VIOLATION = 17
    CARTESIAN_MOTION_GENERATOR_VELOCITY_LIMITS_VIOLATION = 18
    CARTESIAN_MOTION_GENERATOR_VELOCITY_DISCONTINUITY = 19
    CARTESIAN_MOTION_GENERATOR_ACCELERATION_DISCONTINUITY = 20
    CARTESIAN_MOTION_GENERATOR_ELBOW_SIGN_INCONSISTENT = 21
    CARTESIAN_MOTION_GENERATOR_START_ELBOW_INVALID = 22
    FORCE_CONTROLLER_DESIRED_FORCE_TOLERANCE_VIOLATION = 23
    START_ELBOW_SIGN_INCONSISTENT = 24
    COMMUNICATION_CONSTRAINTS_VIOLATION = 25
    POWER_LIMIT_VIOLATION = 26
    CARTESIAN_MOTION_GENERATOR_JOINT_POSITION_LIMITS_VIOLATION = 27
    CARTESIAN_MOTION_GENERATOR_JOINT_VELOCITY_LIMITS_VIOLATION = 28
    CARTESIAN_MOTION_GENERATOR_JOINT_VELOCITY_DISCONTINUITY = 29
    CARTESIAN_MOTION_GENERATOR_JOINT_ACCELERATION_DISCONTINUITY = 30
    CARTESIAN_POSITION_MOTION_GENERATOR_INVALID_FRAME = 31
    CONTROLLER_TORQUE_DISCONTINUITY = 32
    JOINT_P2P_INSUFFICIENT_TORQUE_FOR_PLANNING = 33
    TAU_J_RANGE_VIOLATION = 34
    INSTABILITY_DETECTED = 35
    JOINT_MOVE_IN_WRONG_DIRECTION = 36
    CARTESIAN_SPLINE_MOTION_GENERATOR_VIOLATION = 37
    JOINT_VIA_MOTION_GENERATOR_PLANNING_JOINT_LIMIT_VIOLATION = 38
    BASE_ACCELERATION_INITIALIZATION_TIMEOUT = 39
    BASE_ACCELERATION_INVALID_READING = 40


class GripperCommand(IntEnum):
    CONNECT = 0
    HOMING = 1
    GRASP = 2
    MOVE = 3
    STOP = 4


class GripperStatus(IntEnum):
    SUCCESS = 0
    FAIL = 1
    UNSUCCESSFUL = 2
    ABORTED = 3



def state_layout(real: str, *last: tuple) -> np.dtype:
    """The robot's state, as one UDP packet, its numbers of type `real`; `last` are fields after those of every version.

    Poses are 4x4, column by column.
    """
    sizes = {
        "O_T_EE": 16, "O_T_EE_d": 16, "F_T_EE": 16, "EE_T_K": 16, "F_T_NE": 16, "NE_T_EE": 16, "m_ee": 0, "I_ee": 9,
        "F_x_Cee": 3, "m_load": 0, "I_load": 9, "F_x_Cload": 3, "elbow": 2, "elbow_d": 2, "tau_J": 7, "tau_J_d": 7,
        "dtau_J": 7, "q": 7, "q_d": 7, "dq": 7, "dq_d": 7, "ddq_d": 7, "joint_contact": 7, "cartesian_contact": 6,
        "joint_collision": 7, "cartesian_collision": 6, "tau_ext_hat_filtered": 7, "O_F_ext_hat_K": 6, "K_F_ext_hat_K": 6,
        "O_dP_EE_d": 6, "O_ddP_O": 3, "elbow_c": 2, "delbow_c": 2, "ddelbow_c": 2, "O_T_EE_c": 16, "O_dP_EE_c": 6,
        "O_ddP_EE_c": 6, "theta": 7, "dtheta": 7,
    }  # fmt: skip
    numbers = [(name, real, size) if size else (name, real) for name, size in sizes.items()]
    modes = [
        ("motion_generator_mode", "u1"), ("controller_mode", "u1"), ("errors", "u1", 41), ("reflex_reason", "u1", 41),
        ("robot_mode", "u1"), ("control_command_success_rate", real),
    ]  # fmt: skip
    return np.dtype([("message_id", "<u8"), *numbers, *last, *modes])


STATE = state_layout("<f4", ("accelerometer_top", "<f4", 18), ("accelerometer_bottom", "<f4", 18))
assert STATE.itemsize == 1377

#: The client's command of one cycle, as one UDP packet.
CONTROL = np.dtype(
    [
        ("message_id", "<u8"), ("q_c", "<f8", 7), ("dq_c", "<f8", 7), ("O_T_EE_c", "<f8", 16), ("O_dP_EE_c", "<f8", 6),
        ("elbow_c", "<f8", 2), ("valid_elbow", "u1"), ("motion_finished", "u1"), ("tau_J_d", "<f8", 7),
        ("torque_finished", "u1"),
    ]
)  # fmt: skip
assert CONTROL.itemsize == 371
