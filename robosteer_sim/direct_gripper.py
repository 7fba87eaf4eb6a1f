"""The hand without its network interface: opens and grasps as the gripper's driver and the hand's firmware do together."""

from __future__ import annotations

from robosteer_core.rig import Gripper
from robosteer_core.runtime.gripper_switch import RATE_HZ, GripperSwitch
from robosteer_core.runtime.runner import tick_ns
from robosteer_sim.fci.gripper_server import MAX_SPEED_M_PER_S, MOVE_FORCE_N
from robosteer_sim.fingers import FingersStill
from robosteer_sim.world import World


class DirectGripper:
    """Looks at the wanted opening `RATE_HZ` times a second; a command runs until the fingers have come to rest."""

    def __init__(self, world: World, config: Gripper, now_ns: int) -> None:
        self._world, self._config, self._start_ns = world, config, now_ns
        self._wanted: float | None = None
        self._running: FingersStill | None = None
        self._ticks = 0
        self.due_ns = self._next()
        self._read()
        self._switch = GripperSwitch.at(self.opening)

    def command(self, opening: float) -> None:
        """The opening wanted from now on, in [0, 1]."""
        self._wanted = opening

    def tick(self) -> None:
        """What falls due at `due_ns`: read the width, act on the wanted opening."""
        self.due_ns = self._next()
        self._read()
        if self._wanted is None or self._running:
            return
        change = self._switch.decide(self._wanted)
        if change is None:
            return
        speed = min(self._config.speed_m_per_s, MAX_SPEED_M_PER_S)
        if change:
            self._world.gripper_move(self._config.max_width_m, speed, MOVE_FORCE_N)
        else:
            self._world.gripper_move(0.0, speed, self._config.force_n)
        self._running = FingersStill()

    def after_step(self) -> None:
        """Watch a running command for one millisecond."""
        if self._running and self._running.watch(self._world.gripper_width()):
            self._running = None

    def _next(self) -> int:
        self._ticks += 1
        return tick_ns(self._start_ns, self._ticks, RATE_HZ)

    def _read(self) -> None:
        """The width as a share of the widest, in [0, 1]; 1 is open."""
        self.opening = min(max(self._world.gripper_width() / self._config.max_width_m, 0.0), 1.0)
