"""Trials through FCI: the nodes of the rig's cameras and of its arm and, in the simulated lab, the lab's control socket."""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from contextlib import ExitStack
from itertools import count
from pathlib import Path

from robosteer_core.errors import UserError
from robosteer_core.evaluation.trials import Trial
from robosteer_core.evaluation.venue import Stage, Venue
from robosteer_core.rig import Rig
from robosteer_core.runtime.clock import rig_clock
from robosteer_core.runtime.lab_link import LabLink
from robosteer_core.runtime.lab_processes import lab_runs, private_rig, write_rig
from robosteer_core.runtime.observation import ArmState, Observation
from robosteer_ros import ros
from robosteer_ros.bringup import GraphSettings
from robosteer_ros.graph.participant import spinning
from robosteer_ros.graph.station import GraphStation
from robosteer_ros.up import bring_up

logger = logging.getLogger(__name__)

#: Names of the robot's errors, as libfranka tells them: one or more, then a colon.
ERRORS = re.compile(r"\w+_\w+(, \w+)*[,:]")
#: The one that is no policy's doing: too few commands have come in time, or have come at all.
LINK_ERROR = "communication_constraints_violation"
_numbers = count(1)


class ArmVenue(Venue):
    """`robosteer eval --through arm`: a node beside those of cameras and arm, and a hand on the lab.

    Where no lab runs at the rig's addresses, or other workers are there, it starts one of its own at other addresses, and
    with it the nodes, in a namespace of their own.
    """

    def __init__(self, rig: Rig, folder: Path, alone: bool) -> None:
        if rig.lab is None:
            raise UserError(f"trials need a rig that can reset its scenes, the simulated lab; rig {rig.name!r} is none")
        if not alone or not lab_runs(rig):
            rig, path = private_rig(rig, folder)
            namespace = f"trials_{os.getpid()}_{next(_numbers)}"
        else:
            path, namespace = write_rig(rig, folder), ""
        with ExitStack() as stack:
            if not ros.ok():
                ros.init(args=["--ros-args", "--log-level", "warn"], signal_handler_options=ros.SignalHandlerOptions.NO, network=rig.network)
                stack.callback(ros.try_shutdown)
            given = GraphSettings(rig=str(path), only="cameras,arm", namespace=namespace, logs=folder)
            stack.enter_context(bring_up(given, logger.info, missing_only=True)).wait()
            node = ros.create_node("trials", namespace=namespace or None, start_parameter_services=False)
            stack.enter_context(spinning(node))
            self.rig = rig
            self.station = stack.enter_context(GraphStation(node, rig, "policy"))
            self.link = stack.enter_context(LabLink(rig.lab.control, "trials"))
            self._open = stack.pop_all()

    def begin(self, trial: Trial) -> Stage:
        return ArmStage(self, trial)

    def close(self) -> None:
        self._open.close()


class ArmStage(Stage):
    """One trial: the scene is up and time stands until the arm starts."""

    def __init__(self, venue: ArmVenue, trial: Trial) -> None:
        self._station, self._link = venue.station, venue.link
        self.arm = venue.station.arm
        self.arm.rest()
        status = self.arm.status()
        if status["mode"] == "fault":
            self.arm.recover()
        self._before = Counter(status["interventions"])
        self._link.reset(trial.task, trial.seed, hold=True, variation=trial.variation)
        self.clock = rig_clock(venue.rig, "policy")
        try:
            self.arm.start()
        except BaseException:
            self.clock.close()  # not the policy's fault: nothing is put on record
            raise

    def observe(self, stamp_ns: int, instruction: str, arm: ArmState | None = None) -> Observation:
        return self._station.observe(stamp_ns, instruction, arm)

    def truth(self) -> dict:
        return self._link.truth()

    def interventions(self) -> Counter[str]:
        return Counter(self.arm.status()["interventions"]) - self._before

    def interruption(self) -> str | None:
        # The robot's own errors come first in the message, by their names; what has none came from the network.
        error = self.arm.status()["last_error"]
        names = ERRORS.match(error or "")
        return None if error is None or (names is not None and LINK_ERROR not in names[0]) else error

    def close(self) -> None:
        try:
            self.arm.release()
        finally:
            self.clock.close()
