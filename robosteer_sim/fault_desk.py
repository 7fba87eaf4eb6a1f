"""Where faults are asked for: carries them out, ends them in time, and tells which ones there are."""

from __future__ import annotations

from dataclasses import dataclass

from robosteer_sim import faults
from robosteer_sim.faults import CameraFault, Fault, Lasting
from robosteer_sim.fci.gripper_server import GripperServer
from robosteer_sim.fci.robot_server import RobotServer
from robosteer_sim.fci.wire import RobotError


@dataclass(frozen=True)
class _Standing:
    """A fault that lasts, until `end_ns` of lab time where that is given."""

    fault: Lasting
    end_ns: int | None


class FaultDesk:
    """The faults of one lab. `timed` tells whether any of them will end by itself: only then `expire` has something to do."""

    def __init__(self, robot: RobotServer, gripper: GripperServer, cameras: tuple[str, ...]) -> None:
        self._robot, self._gripper, self._cameras = robot, gripper, cameras
        self._standing: dict[tuple[str, str | None], _Standing] = {}
        self.timed = False

    def ask(self, message: dict, now_ns: int) -> None:
        """Let the fault that `message` ({kind, parameter: value, ...}) describes happen, from lab time `now_ns` on.

        A lasting one takes the place of one of its kind (and camera). Raises UserError for what is unknown or cannot
        happen now; nothing has happened then.
        """
        fault = faults.parse_fault(message, self._cameras)
        if isinstance(fault, faults.UserStop) and not fault.pressed:
            self.clear(fault.kind)
            return
        self._begin(fault)
        if isinstance(fault, Lasting):
            end_ns = None if fault.seconds is None else now_ns + int(fault.seconds * 1e9)
            self._standing[_key(fault)] = _Standing(fault, end_ns)
            self._look_for_ends()

    def expire(self, now_ns: int) -> None:
        """End those whose time is up."""
        for each in list(self._standing.values()):
            if each.end_ns is not None and each.end_ns <= now_ns:
                self._end(each.fault)

    def clear(self, kind: str | None = None) -> None:
        """End all faults, or those of one kind; those that are still to come do not come. Raises UserError for no kind."""
        if kind is not None:
            faults.parse_kind(kind)
        for each in list(self._standing.values()):
            if kind in (None, each.fault.kind):
                self._end(each.fault)
        self._robot.clear_link_faults(kind)

    def describe(self, now_ns: int) -> list[dict]:
        """The faults that last or are still to come, as plain types; `left_s` of lab time where they end by themselves."""
        found = self._robot.link_faults()
        for each in self._standing.values():
            left = {} if each.end_ns is None else {"left_s": max(0, each.end_ns - now_ns) / 1e9}
            found.append({**each.fault.described, **left})
        return found

    def of_cameras(self) -> list[dict]:
        """What the process that draws the cameras has to know."""
        return [each.fault.described for each in self._standing.values() if isinstance(each.fault, CameraFault)]

    def _begin(self, fault: Fault) -> None:
        robot, gripper = self._robot, self._gripper
        match fault:
            case faults.Drop() | faults.Duplicate():
                robot.upset(**{f"{fault.kind}_states": fault.states, f"{fault.kind}_commands": fault.commands})
            case faults.Delay():
                robot.upset(delay_cycles=fault.cycles)
            case faults.ClockJump():
                robot.upset(jump_ms=fault.milliseconds)
            case faults.Freeze():
                robot.freeze()
            case faults.Reflex():
                robot.reflex(RobotError[fault.error.upper()])
            case faults.UserStop():
                robot.user_stop(True)
            case faults.Disconnect():
                robot.disconnect()
            case faults.GripperStuck():
                gripper.jam(True)
            case faults.GripperLostObject():
                gripper.lose_object()
            case faults.GripperDisconnect():
                gripper.disconnect()
            case CameraFault():
                pass  # The process that draws asks with every frame.

    def _end(self, fault: Lasting) -> None:
        del self._standing[_key(fault)]
        self._look_for_ends()
        match fault:
            case faults.Freeze():
                self._robot.thaw()
            case faults.UserStop():
                self._robot.user_stop(False)
            case faults.GripperStuck():
                self._gripper.jam(False)

    def _look_for_ends(self) -> None:
        self.timed = any(each.end_ns is not None for each in self._standing.values())


def _key(fault: Lasting) -> tuple[str, str | None]:
    return fault.kind, getattr(fault, "camera", None)
