"""One connection to the control socket of the simulated lab: its time, its reset, its ground truth.

A participant's connection holds lab time still whenever the participant is busy; see `robosteer_sim.control`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from robosteer_core.runtime.json_lines import LineClient

#: A participant waits for as long as the others take: training code may compile, a person may think.
WAIT_TIMEOUT_S = 3600.0
REQUEST_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class LabState:
    """A copy of the lab at one instant. `generation` counts the resets; `qpos` (nq,) are MuJoCo's joint positions;
    `camera_faults` what is wrong with the cameras, as they were asked for."""

    now_ns: int
    generation: int
    task: str
    seed: int
    variation: str
    qpos: np.ndarray | None
    camera_faults: list[dict] = field(default_factory=list)


class LabLink:
    """Joined as participant `name`, in `rank` order within an instant, or with `rank=None` as an observer.

    Raises UserError when no lab answers at `address`, when it refuses a request, and when it goes away.
    """

    def __init__(self, address: str, name: str, rank: int | None = None, state: bool = False) -> None:
        self._client = LineClient(address, "simulated lab", "start it with `robosteer sim serve`")
        self.joined_ns = self._ask(op="join", name=name, rank=rank, state=state)["now_ns"] if rank is not None else None

    def wait(self, until_ns: int) -> LabState:
        """Let time run, and come back when it is `until_ns` or later; it then stands still until the next call."""
        reply = self._ask(WAIT_TIMEOUT_S, op="wait", until_ns=int(until_ns))
        qpos = reply.get("qpos")
        scene = (reply["task"], reply["seed"], reply["variation"], None if qpos is None else np.array(qpos))
        return LabState(reply["now_ns"], reply["generation"], *scene, reply.get("camera_faults", []))

    def leave(self) -> None:
        """No longer hold time; the next `wait` takes part again."""
        self._ask(op="leave")

    def external(self, event: str) -> None:
        """Announce a blocking call to the lab: time stands until the lab has got it, runs while it works on it, and
        stands again from its answer to the next `wait`. Events: `gripper`."""
        self._ask(op="external", event=event)

    def now_ns(self) -> int:
        return self._ask(op="now")["now_ns"]

    def reset(self, task: str, seed: int, hold: bool = False, variation: str = "none") -> dict:
        """Put up the scene of (task, seed, variation) with the arm at home; time jumps to the next whole second.

        With `hold` physics and time stand still until the next motion of the arm or the gripper begins. Refused while
        the arm moves.
        """
        return self._ask(op="reset", task=task, seed=int(seed), hold=hold, variation=variation)

    def truth(self) -> dict:
        """Where everything is, and whether the task has been done."""
        return self._ask(op="truth")

    def status(self) -> dict:
        """Counters of the lab: steps, seconds, motions, lost cycles."""
        return self._ask(op="status")

    def guide(self, active: bool, force: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> str:
        """Press or release the buttons at the hand by which somebody leads the arm, pulling at it with `force` in N, base
        frame, until the next call; returns the robot's mode. Refused unless the arm is at rest."""
        return self._ask(op="guide", active=active, force=list(force))["robot_mode"]

    def fault(self, kind: str, **parameters: object) -> list[dict]:
        """Let something go wrong, e.g. `fault("camera_stop", camera="front", seconds=2.0)`; returns the faults there are.

        `robosteer sim fault` lists the kinds and their parameters. A reset ends them all.
        """
        return self._ask(op="fault", kind=kind, **parameters)["faults"]

    def faults(self) -> list[dict]:
        """The faults that last or are still to come, each {kind, parameter: value, ...}."""
        return self._ask(op="faults")["faults"]

    def clear(self, kind: str | None = None) -> list[dict]:
        """End all faults, or those of one kind; returns those that are left."""
        return self._ask(op="clear", kind=kind)["faults"]

    def close(self) -> None:
        self._client.close()

    def __enter__(self) -> LabLink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, timeout_s: float = REQUEST_TIMEOUT_S, **message: object) -> dict:
        return self._client.request(message, timeout_s)
