"""Faults on demand: what the lab can be asked to do wrong, and how long it lasts.

Each kind is a model whose fields are its parameters. `parse_fault` reads what comes over the control socket;
`robosteer_sim.fault_desk` carries it out.
"""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from robosteer_core.errors import UserError
from robosteer_sim.fci.wire import RobotError

Count = Annotated[int, Field(ge=0, le=100_000)]


class Fault(BaseModel):
    """Parameters of a fault. `kind` is its name, the docstring what happens."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @property
    def described(self) -> dict:
        """Kind and the parameters that say something, as plain types."""
        return {"kind": self.kind, **self.model_dump(exclude={"kind"}, exclude_none=True)}


class Lasting(Fault):
    """A fault that stays until it is cleared, the scene is reset, or its time is up."""

    seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        default=None, description="lab time after which it ends by itself; by default it does not"
    )


class CameraFault(Lasting):
    camera: str = Field(description="name of a lab camera of the rig")


# --- the robot's link and the robot ---------------------------------------------------------------------------------


class _Packets(Fault):
    states: Count = Field(default=0, description="how many of the next states")
    commands: Count = Field(default=0, description="how many of the next commands")

    @model_validator(mode="after")
    def _some(self) -> _Packets:
        if not self.states and not self.commands:
            raise ValueError("give `states`, `commands` or both: how many packets, at least 1")
        return self


class Drop(_Packets):
    """Packets of the running or the next motion get lost. Each is a cycle in which the robot has no command."""

    kind: Literal["drop"] = "drop"


class Duplicate(_Packets):
    """Packets of the running or the next motion arrive twice."""

    kind: Literal["duplicate"] = "duplicate"


class Delay(Fault):
    """States of a motion are held back, then arrive all at once. Their answers are late: cycles without command."""

    kind: Literal["delay"] = "delay"
    cycles: int = Field(ge=1, le=100_000, description="for how many cycles, milliseconds of robot time")


class Freeze(Lasting):
    """The robot says nothing more and hears nothing; lab time goes on without it, at most as fast as the wall's."""

    kind: Literal["freeze"] = "freeze"


class Reflex(Fault):
    """The robot stops with an error, whatever it does."""

    kind: Literal["reflex"] = "reflex"
    error: str = Field(description="the robot's own name of the error, e.g. cartesian_reflex")

    @field_validator("error")
    @classmethod
    def _known(cls, error: str) -> str:
        if error.upper() not in RobotError.__members__:
            raise ValueError(f"the robot has no such error; it has {', '.join(RobotError.__members__).lower()}")
        return error.lower()


class UserStop(Lasting):
    """The user stop is pressed: the arm stops, and does not move before it is released."""

    kind: Literal["user_stop"] = "user_stop"
    pressed: bool = Field(default=True, description="false releases it")


class Disconnect(Fault):
    """The robot closes the connections of its client, which may connect again."""

    kind: Literal["disconnect"] = "disconnect"


class ClockJump(Fault):
    """The robot's own time jumps forward: the stamps of its states, not the physics."""

    kind: Literal["clock_jump"] = "clock_jump"
    milliseconds: int = Field(ge=1, le=86_400_000, description="by how much")


# --- the hand -------------------------------------------------------------------------------------------------------


class GripperStuck(Lasting):
    """The fingers stay where they are; commands end unsuccessful."""

    kind: Literal["gripper_stuck"] = "gripper_stuck"


class GripperLostObject(Fault):
    """The fingers lose their force: what they hold slips out."""

    kind: Literal["gripper_lost_object"] = "gripper_lost_object"


class GripperDisconnect(Fault):
    """The hand closes the connections of its client, which may connect again."""

    kind: Literal["gripper_disconnect"] = "gripper_disconnect"


# --- the cameras ----------------------------------------------------------------------------------------------------


class CameraStop(CameraFault):
    """No frame comes any more; the camera is still there."""

    kind: Literal["camera_stop"] = "camera_stop"


class CameraRepeat(CameraFault):
    """The last frame comes again and again, with its number and its stamps."""

    kind: Literal["camera_repeat"] = "camera_repeat"


class CameraJumpBack(CameraFault):
    """The camera's frame numbers fall back and count on from there; images and stamps are new."""

    kind: Literal["camera_jump_back"] = "camera_jump_back"
    frames: int = Field(ge=1, le=10**9, description="by how many; numbers stay at 0 or above")


class CameraSkew(CameraFault):
    """The camera's stamps are off."""

    kind: Literal["camera_skew"] = "camera_skew"
    depth_ms: int = Field(default=0, ge=-60_000, le=60_000, description="of depth against colour")
    clock_ms: int = Field(default=0, ge=-60_000, le=60_000, description="of both against lab time")

    @model_validator(mode="after")
    def _some(self) -> CameraSkew:
        if not self.depth_ms and not self.clock_ms:
            raise ValueError("give `depth_ms`, `clock_ms` or both, other than 0")
        return self


class CameraDisconnect(CameraFault):
    """The camera is unplugged; when cleared, it is plugged in again."""

    kind: Literal["camera_disconnect"] = "camera_disconnect"


KINDS: dict[str, type[Fault]] = {
    get_args(model.model_fields["kind"].annotation)[0]: model
    for model in (
        Drop, Delay, Duplicate, Freeze, Reflex, UserStop, Disconnect, ClockJump,
        GripperStuck, GripperLostObject, GripperDisconnect,
        CameraStop, CameraRepeat, CameraJumpBack, CameraSkew, CameraDisconnect,
    )
}  # fmt: skip


def parse_kind(kind: object) -> type[Fault]:
    """The model of a kind of fault. Raises UserError listing the kinds there are."""
    if not isinstance(kind, str) or kind not in KINDS:
        raise UserError(f"the lab knows no fault {kind!r}; it knows {', '.join(KINDS)}")
    return KINDS[kind]


def parse_fault(message: dict, cameras: tuple[str, ...]) -> Fault:
    """The fault that `message` ({kind, parameter: value, ...}) asks for, in a lab with these cameras.

    Raises UserError naming what is wrong: the kind, a parameter or its value, the camera; with what is known instead.
    """
    parameters = dict(message)
    model = parse_kind(parameters.pop("kind", None))
    kind = model.model_fields["kind"].default
    try:
        fault = model(**parameters)
    except ValidationError as error:
        reasons = "; ".join(_reason(each, model) for each in error.errors(include_url=False))
        raise UserError(f"fault {kind!r}: {reasons}") from error
    if isinstance(fault, CameraFault) and fault.camera not in cameras:
        raise UserError(f"fault {kind!r}: no lab camera {fault.camera!r}; there is: {', '.join(cameras) or 'none'}")
    return fault


def parameters_of(model: type[Fault]) -> dict[str, str]:
    """Parameters of a kind with what they mean."""
    return {name: field.description or "" for name, field in model.model_fields.items() if name != "kind"}


def _reason(error: dict, model: type[Fault]) -> str:
    name = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        return f"no parameter {name!r}; it takes {', '.join(parameters_of(model)) or 'none'}"
    if error["type"] == "missing":
        return f"it needs {name!r} ({parameters_of(model)[name]})"
    text = error["msg"].removeprefix("Value error, ")
    return f"{name}: {text} (found {error['input']!r:.60})" if name else text
