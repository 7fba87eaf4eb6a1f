"""The rig contract: what cameras, arm, actions, rates and limits a lab has.

The single source that recorder, dataset, policy, nodes and calibration read. A rig is one YAML file; unknown keys
and impossible values are refused with the path of the key.
"""

from __future__ import annotations

import logging
import shlex
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from robosteer_core.errors import UserError

logger = logging.getLogger(__name__)


def _rigs_folder() -> Path:
    """The launch/ of a checkout; of an installation, <prefix>/share/robosteer/launch."""
    above = Path(__file__).resolve().parents
    # Beside an installed package `launch` may well be a folder: the package of ROS 2.
    return above[1] / "launch" if (above[1] / "pyproject.toml").is_file() else above[4] / "share/robosteer/launch"


RIGS_FOLDER = _rigs_folder()

NODES = ("cameras", "arm", "teleop", "recorder", "policy")
"""What the graph of a rig is made of, in the order in which it comes up; `cameras` is a node for each."""

#: How fast the end effector may be while somebody teleoperates or a policy is tried, m/s; the reduced speed of ISO 10218-1.
REDUCED_SPEED_M_PER_S = 0.25

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Vector3 = tuple[Finite, Finite, Finite]
Vector7 = tuple[Finite, Finite, Finite, Finite, Finite, Finite, Finite]

#: Joint position limits of the data sheets by model, low and high, rad.
JOINT_LIMITS_RAD: dict[str, tuple[Vector7, Vector7]] = {
    "fr3": (
        (-2.7437, -1.7837, -2.9007, -3.0421, -2.8065, 0.5445, -3.0159), (2.7437, 1.7837, 2.9007, -0.1518, 2.8065, 4.5169, 3.0159)
    ),
    "panda": (
        (-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973), (2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973)
    ),
}  # fmt: skip


class Contract(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Camera(Contract):
    """One RGB-D camera. `serial` is a RealSense serial number, or `lab:<name>` for a camera of the simulated lab."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    serial: str = Field(min_length=1)
    width: int = Field(default=640, ge=16, le=4096, description="pixels")
    height: int = Field(default=480, ge=16, le=4096, description="pixels")
    fps: int = Field(default=30, ge=1, le=90, description="frames per second")
    mount: Literal["fixed", "hand"] = Field(description="where it sits: on a stand, or on the hand")


class Arm(Contract):
    """The arm and the impedance that the set-point loop asks for."""

    model: Literal["fr3", "panda"]
    driver: Literal["franky", "panda_py"] = Field(description="the binding; by default franky for an fr3, panda_py for a panda")
    address: str = Field(min_length=1, description="host name or IP address of the FCI")
    home_joint_positions_rad: Vector7
    translational_stiffness_n_per_m: Positive = 600.0
    rotational_stiffness_nm_per_rad: Positive = 30.0
    collision_force_n: Positive = Field(
        default=60.0, description="external force (and moment, Nm) on the hand, along any axis, that stops the arm with a reflex"
    )
    collision_torque_nm: Positive = Field(
        default=40.0, description="external torque on any joint that stops the arm with a reflex"
    )
    realtime: bool = Field(default=True, description="ask for a real-time scheduler; the lab needs none")

    @model_validator(mode="before")
    @classmethod
    def _without_command_address(cls, arm: object) -> object:
        """Rigs of before the arm was commanded through its node alone have that key, also those in datasets."""
        return {key: value for key, value in arm.items() if key != "command_address"} if isinstance(arm, dict) else arm

    @model_validator(mode="before")
    @classmethod
    def _driver_of_model(cls, arm: object) -> object:
        if isinstance(arm, dict) and arm.get("driver") is None:
            return arm | {"driver": "panda_py" if arm.get("model") == "panda" else "franky"}
        return arm

    @model_validator(mode="after")
    def _driver_speaks(self) -> Arm:
        if (self.model, self.driver) == ("fr3", "panda_py"):
            raise ValueError("the driver panda_py is for a panda; an fr3 takes franky")
        return self


class Gripper(Contract):
    max_width_m: Positive = 0.08
    speed_m_per_s: Positive = 0.1
    force_n: Annotated[float, Field(gt=0, le=70)] = 40.0


class ActionSpace(Contract):
    """What one action of the policy means; the gripper opening in [0, 1] (1 is open) comes last where there is one."""

    kind: Literal["cartesian_delta", "cartesian_absolute", "joint_velocity"]
    gripper: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the action's dimensions, in order; metres, radians and radians per second."""
        names = {
            "cartesian_delta": ("dx", "dy", "dz", "drx", "dry", "drz"),
            "cartesian_absolute": ("x", "y", "z", "rx", "ry", "rz"),
            "joint_velocity": tuple(f"dq{joint}" for joint in range(1, 8)),
        }[self.kind]
        return names + (("gripper",) if self.gripper else ())


class Rates(Contract):
    policy_hz: Positive = 15.0
    setpoint_hz: Annotated[float, Field(ge=50, le=1000)] = 100.0
    inference_delay_ms: Annotated[float, Field(ge=0, le=2000)] = Field(
        default=0.0, description="robot time charged per inference in the lab; on a real arm it is what it is"
    )


class Box(Contract):
    """An axis-aligned box in the base frame, metres."""

    low_m: Vector3
    high_m: Vector3

    @model_validator(mode="after")
    def _ordered(self) -> Box:
        for axis, low, high in zip("xyz", self.low_m, self.high_m):
            if low >= high:
                raise ValueError(f"low_m must lie below high_m on axis {axis}, found {low} and {high}")
        return self


class Limits(Contract):
    """Software limits, applied last before the arm, whoever sent the command. Not safety-rated."""

    workspace: Box
    max_speed_m_per_s: Annotated[float, Field(gt=0, le=1.7)] = 0.25
    max_angular_speed_rad_per_s: Annotated[float, Field(gt=0, le=2.5)] = 1.0
    max_acceleration_m_per_s2: Positive = Field(default=9.0, description="of the command; by default what an FR3 may do")
    max_angular_acceleration_rad_per_s2: Positive = Field(default=17.0, description="of the command; by default what an FR3 may do")
    max_step_m: Positive = Field(default=0.05, description="largest jump between two received set-points")
    max_step_rad: Positive = Field(default=0.35, description="largest rotation between two received set-points")
    max_distance_m: Positive = Field(default=0.05, description="largest distance of the command from the measured pose")
    joint_margin_rad: Annotated[float, Field(ge=0, le=0.5)] = Field(
        default=0.05, description="so near to the end of a joint's range the arm holds and stops"
    )
    max_force_n: Positive = Field(default=50.0, description="external force on the hand at which the arm holds and stops")
    max_moment_nm: Positive = Field(default=30.0, description="external moment on the hand at which the arm holds and stops")
    off_nothing_protects_the_arm: bool = Field(
        default=False, description="true: no limit but those of time is applied to any command; the watchdog stays"
    )
    hold_after_s: Positive = Field(default=0.2, description="without a set-point for this long the arm holds")
    stop_after_s: Positive = Field(default=1.0, description="without a set-point for this long the arm stops")

    @model_validator(mode="after")
    def _hold_first(self) -> Limits:
        if self.hold_after_s >= self.stop_after_s:
            raise ValueError(f"hold_after_s ({self.hold_after_s}) must be smaller than stop_after_s ({self.stop_after_s})")
        return self


class Lab(Contract):
    """Present when the rig is the simulated lab: robot time is then the only time."""

    control: str = Field(pattern=r"^[^:]+:\d+$", description="host:port of the lab's control socket")


class Rig(Contract):
    name: str
    arm: Arm
    gripper: Gripper = Gripper()
    cameras: tuple[Camera, ...] = Field(min_length=1)
    action_space: ActionSpace
    rates: Rates = Rates()
    limits: Limits
    teleop_address: str = Field(
        default="127.0.0.1:1342", pattern=r"^[^:]+:\d+$", description="host:port on which a remote teleoperation device is heard"
    )
    nodes: tuple[Literal["cameras", "arm", "teleop", "recorder", "policy"], ...] = Field(
        default=NODES, description="nodes that `robosteer up` starts; the policy's where one is named"
    )
    network: Literal["loopback", "subnet"] = Field(
        default="loopback", description="how far its graph is heard: on this machine alone, or in the networks that it is in"
    )
    lab: Lab | None = None

    @model_validator(mode="after")
    def _distinct_cameras(self) -> Rig:
        for key in ("name", "serial"):
            values = [getattr(camera, key) for camera in self.cameras]
            twice = sorted({value for value in values if values.count(value) > 1})
            if twice:
                raise ValueError(f"cameras must have distinct {key}s, found twice: {', '.join(twice)}")
        if self.lab is None and any(camera.serial.startswith("lab:") for camera in self.cameras):
            raise ValueError("a camera of the simulated lab (serial lab:...) needs the section `lab`")
        return self

    @cached_property
    def given(self) -> str:
        """How a command line names this rig: the file that it was read from, or the name of one in launch/. No part of the contract:
        two rigs of one content are equal."""
        return self.name

    def at_reduced_speed(self) -> Rig:
        """This rig with a limit of at most `REDUCED_SPEED_M_PER_S`."""
        speed = min(self.limits.max_speed_m_per_s, REDUCED_SPEED_M_PER_S)
        return self.model_copy(update={"limits": self.limits.model_copy(update={"max_speed_m_per_s": speed})})

    def camera(self, name: str) -> Camera:
        for camera in self.cameras:
            if camera.name == name:
                return camera
        raise UserError(f"no camera {name!r} in rig {self.name!r}; it has: {', '.join(c.name for c in self.cameras)}")

    @property
    def state_names(self) -> tuple[str, ...]:
        """Names of the observed state: TCP position [m], rotation vector from tool-down [rad], gripper opening [0, 1]."""
        return ("x", "y", "z", "rx", "ry", "rz", "gripper")


def load_rig(rig: str | Path) -> Rig:
    """Read a rig from a YAML file, or by name from the `launch/` folder (`lab`).

    Raises UserError naming the file and, for each wrong entry, the path of the key.
    """
    path = Path(rig)
    if not path.suffix:
        path = RIGS_FOLDER / f"{rig}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in RIGS_FOLDER.glob("*.yaml"))) or "none"
        raise UserError(f"no rig file {path}; give a YAML file or one of the known rigs: {known}")
    try:
        content = yaml.safe_load(path.read_bytes())
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a mapping of keys, found {type(content).__name__}")
    if isinstance(content.get("arm"), dict) and "command_address" in content["arm"]:
        logger.warning("%s: arm.command_address is not read any more, the arm is commanded through its node: delete that line", path)
    try:
        found = Rig.model_validate(content)
    except ValidationError as error:
        lines = [f"  {'.'.join(map(str, e['loc'])) or 'rig'}: {e['msg']} (found {e['input']!r:.60})" for e in error.errors()]
        raise UserError(f"{path} is not a valid rig:\n" + "\n".join(lines)) from error
    found.__dict__["given"] = shlex.quote(str(rig))  # what is cached: of an instance that cannot be changed nothing else can be set
    return found
