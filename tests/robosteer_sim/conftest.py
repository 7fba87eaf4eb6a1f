"""The simulated lab as the process that it is in use."""

import itertools
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from robosteer_core.rig import Rig, load_rig
from robosteer_core.runtime.clock import RANKS, LabClock
from robosteer_core.runtime.lab_link import LabLink
from robosteer_sim.world import World

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Lab:
    """A running `robosteer sim serve`."""

    host: str
    control_address: str
    process: subprocess.Popen

    def observe(self) -> LabLink:
        return LabLink(self.control_address, "test")

    def join(self, role: str = "policy") -> LabClock:
        return LabClock(self.control_address, role, RANKS[role])

    def robot(self):
        """A client of the robot; imported here, because collecting tests should not take the time that franky takes."""
        from franky import RealtimeConfig, Robot

        return Robot(self.host, realtime_config=RealtimeConfig.Ignore)


@contextmanager
def lab_process(*options):
    """A lab of its own: the FCI's ports are fixed, so each has a loopback address for itself."""
    host = f"127.{os.getpid() // 250 % 250 + 1}.{os.getpid() % 250 + 1}.{next(_numbers) + 100}"
    command = [sys.executable, "-m", "robosteer_core.cli", "sim", "serve", "--host", host, "--control", f"{host}:0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        assert line.startswith(f"robosteer sim: accepting FCI connections on {host}:1337 (control {host}:"), line
        yield Lab(host, line.rsplit(" ", 1)[1].strip(")\n"), process)
    finally:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def lab():
    """One lab for all tests of a module, free-running."""
    with lab_process() as running:
        yield running


@pytest.fixture(scope="session")
def start_lab():
    """A context manager that runs a lab for one test: `with start_lab("--pace", "real") as lab`."""
    return lab_process


@pytest.fixture
def link(lab):
    with lab.observe() as link:
        yield link


@pytest.fixture(scope="session")
def lab_rig() -> Rig:
    return load_rig("lab")


@pytest.fixture
def world(lab_rig) -> World:
    """The physics alone, at the start of a scene."""
    world = World(lab_rig)
    world.reset("press the red button", 0)
    return world
