"""The lab's process: physics, the robot's network interface and the one clock, in a single loop.

One millisecond of lab time: the client of a running motion answers the state of the instant; participants whose time has
come act, in rank order; the last command is carried out, the physics stepped and the next state sent. Until each of
these is done time stands still, whatever the machine is busy with.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from robosteer_core.errors import UserError
from robosteer_core.rig import Rig
from robosteer_core.runtime.frame_buffer import LAB_SERIAL
from robosteer_sim.control import ControlServer
from robosteer_sim.fault_desk import FaultDesk
from robosteer_sim.fci.gripper_server import GripperServer
from robosteer_sim.fci.robot_server import RobotServer
from robosteer_sim.poller import Poller
from robosteer_sim.tasks import parse
from robosteer_sim.variations import parse_variation
from robosteer_sim.world import World

MS = 1_000_000
SECOND = 1_000_000_000
PACES = ("free", "real")
#: The scene before the first reset.
FIRST_TASK, FIRST_SEED = "press the red button", 0
#: With which somebody pulls at the hand at most, newtons.
MOST_GUIDING_N = 50.0
#: Waits shorter than this are slept, because a poll's are rounded up to it.
_POLL_GRAIN_S = 0.001
#: Lab time that lies this far behind its pace is not made up for in a rush.
_LATE_S = 0.05
_REPEAT_S = 0.1


class LabServer:
    """The simulated lab: robot and gripper at `host`, lab time at `control` (host:port).

    `pace` free: as fast as it goes while somebody moves the arm or takes part in lab time, else at wall time;
    real: never faster than wall time, and a client that is late misses its cycle. Raises UserError when an address is taken.
    """

    def __init__(self, rig: Rig, host: str, control: str, pace: str = "free") -> None:
        if pace not in PACES:
            raise UserError(f"the pace is one of {', '.join(PACES)}; found {pace!r}")
        self._pace = pace
        self._poller = Poller()
        self._now_ns = 0
        self._generation = 0
        self._frozen = False
        self._steps = self._holds = 0
        self._held_s, self._held_since = 0.0, None
        self._world = World(rig)
        self._world.reset(FIRST_TASK, FIRST_SEED)
        self._control = ControlServer(control, self._poller, self._answer, lambda: self._now_ns, self._scene)
        self._robot = RobotServer(self._world, host, self._poller, self._thaw)
        self._gripper = GripperServer(
            self._world, host, self._poller, self._gripper_arrived, self._control.gripper_answered
        )
        lab_cameras = tuple(camera.name for camera in rig.cameras if camera.serial.startswith(LAB_SERIAL))
        self._faults = FaultDesk(self._robot, self._gripper, lab_cameras)
        self._began = self._anchor_wall = time.perf_counter()
        self._anchor_ns = 0

    @property
    def control_address(self) -> str:
        """host:port of the control socket."""
        return self._control.address

    def run(self, stopped: Callable[[], bool]) -> None:
        """Serve until `stopped()`."""
        while not stopped():
            self._poller.poll(self._turn())

    def close(self) -> None:
        self._control.close()
        self._gripper.close()
        self._robot.close()

    def _turn(self) -> float:
        """Do what is due, a step if it may be made; returns for how long there is nothing to do, seconds."""
        now = time.perf_counter()
        idle_s = min(self._robot.attend(now), self._gripper.attend(now))
        if self._pace == "real" and (patience_s := self._robot.patience_s(now)) < math.inf:
            patience_s = max(patience_s, self._ahead_s(now))
            if patience_s > 0.0:
                return min(idle_s, patience_s)
            # The answer may lie there unread: a late look is not the client's fault.
            self._poller.poll(0)
            self._robot.miss_command()
        if not self._robot.ready:
            return idle_s
        if not self._control.release():
            if self._held_since is None:
                self._held_since = now
                self._holds += 1
            return idle_s
        if self._frozen:
            return idle_s
        ahead_s = self._ahead_s(now)
        if ahead_s >= _POLL_GRAIN_S:
            return min(idle_s, ahead_s)
        if ahead_s > 0:
            time.sleep(ahead_s)
        if self._held_since is not None:
            self._held_s += now - self._held_since
            self._held_since = None
        self._robot.step()
        self._gripper.after_step()
        self._now_ns += MS
        if self._faults.timed:
            self._faults.expire(self._now_ns)
        self._steps += 1
        return 0.0 if self._robot.ready else idle_s

    def _ahead_s(self, now: float) -> float:
        """How far lab time is ahead of the wall time that it is to keep to."""
        # A robot that has fallen silent is waited for by the wall's clock.
        driven = self._robot.moving or self._gripper.moving or self._control.driven
        if self._pace == "free" and driven and not self._robot.frozen:
            self._anchor_wall, self._anchor_ns = now, self._now_ns
            return 0.0
        ahead_s = (self._now_ns - self._anchor_ns) / 1e9 - (now - self._anchor_wall)
        if ahead_s < -_LATE_S:
            self._anchor_wall, self._anchor_ns = now, self._now_ns
        # While nothing moves, a few steps at a time cost less than each at its own.
        return ahead_s if self._robot.moving or ahead_s <= 0 else max(ahead_s, 2 * _POLL_GRAIN_S)

    def _thaw(self) -> None:
        self._frozen = False

    def _gripper_arrived(self, command_id: int) -> None:
        self._frozen = False
        self._control.gripper_arrived(command_id)

    # --- requests ---------------------------------------------------------------------------------------------------

    def _scene(self, with_state: bool) -> dict:
        world = self._world
        scene = {"generation": self._generation, "task": world.task, "seed": world.seed, "variation": world.variation}
        if with_state:
            scene |= {"qpos": world.data.qpos.tolist(), "camera_faults": self._faults.of_cameras()}
        return scene

    def _answer(self, op: str, message: dict) -> dict:
        if op == "now":
            return {"now_ns": self._now_ns, "generation": self._generation}
        if op == "truth":
            return {"now_ns": self._now_ns, "generation": self._generation, **self._world.truth()}
        if op == "status":
            return self._status()
        if op == "reset":
            variation = str(message.get("variation", "none"))
            return self._reset(str(message["task"]), int(message["seed"]), variation, bool(message.get("hold", False)))
        if op == "guide":
            return self._guide(message["active"], message.get("force", [0.0, 0.0, 0.0]))
        if op == "fault":
            self._faults.ask({name: value for name, value in message.items() if name != "op"}, self._now_ns)
            return self._active_faults()
        if op == "faults":
            return self._active_faults()
        if op == "clear":
            self._faults.clear(message.get("kind"))
            return self._active_faults()
        raise UserError(
            f"the lab knows no request {op!r}; it knows join, wait, leave, external, now, status, truth, reset, guide, fault, "
            "faults, clear"
        )

    def _guide(self, active: object, force: object) -> dict:
        if not isinstance(active, bool):
            raise UserError(f"guiding is switched by `active`, true or false; found {active!r}")
        numbers = isinstance(force, list) and len(force) == 3 and all(type(each) in (int, float) for each in force)
        if not numbers or not math.hypot(*force) <= MOST_GUIDING_N:
            raise UserError(f"`force` is three numbers, N in the base frame, of at most {MOST_GUIDING_N:.0f} N; found {force!r}")
        self._robot.guide(active, force)
        if active:
            self._thaw()
        return {"now_ns": self._now_ns, "robot_mode": self._robot.firmware.mode.name.lower()}

    def _active_faults(self) -> dict:
        return {"now_ns": self._now_ns, "faults": self._faults.describe(self._now_ns)}

    def _status(self) -> dict:
        robot = self._robot
        return {
            "now_ns": self._now_ns,
            "generation": self._generation,
            "variation": self._world.variation,
            "steps": self._steps,
            "wall_s": time.perf_counter() - self._began,
            "pace": self._pace,
            "frozen": self._frozen,
            "moving": robot.moving,
            "robot_mode": robot.firmware.mode.name.lower(),
            "motions": robot.motions,
            # Commands that answered another state than the last, and cycles that had none: at pace free, this loop waits.
            "lost_cycles": robot.lost_cycles,
            "missed_cycles": robot.missed_cycles,
            # Motions whose client was so slow to start that they may not repeat exactly; see RobotServer.
            "uneven_starts": robot.uneven_starts,
            # Instants at which time stood for a participant, and for how long in all.
            "holds": self._holds,
            "held_s": self._held_s,
            "participants": self._control.describe(),
            "faults": self._faults.describe(self._now_ns),
        }

    def _reset(self, task: str, seed: int, variation: str, hold: bool) -> dict:
        if self._robot.moving:
            raise UserError(f"the scene cannot be reset while a motion runs ({self._robot.motion}): stop the arm first")
        parse(task)
        parse_variation(variation)
        if seed < 0:
            raise UserError(f"a seed is a whole number of at least 0; found {seed}")
        # Beside this thread, because on a busy machine it takes longer than a client waits for a sign of life.
        failed: list[Exception] = []

        def build() -> None:
            try:
                self._world.reset(task, seed, variation)
            except Exception as error:  # noqa: BLE001  (answered)
                failed.append(error)

        building = threading.Thread(target=build)
        building.start()
        while building.is_alive():
            building.join(_REPEAT_S)
            self._robot.repeat_state()
        if failed:
            raise UserError(
                f"the scene of {task!r}, seed {seed}, variation {variation!r} cannot be put up ({type(failed[0]).__name__}: "
                f"{failed[0]}); the one before stays: take another seed"
            ) from failed[0]
        self._faults.clear()
        self._robot.reset()
        self._gripper.reset()
        self._now_ns = (self._now_ns // SECOND + 1) * SECOND
        self._generation += 1
        self._frozen = hold
        return {"now_ns": self._now_ns, "generation": self._generation, "instruction": self._world.instruction}
