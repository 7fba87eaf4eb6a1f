"""A simulated lab and the arm process, both as the processes they are in use; free addresses for them."""

import os
import socket
import subprocess
import sys
from contextlib import contextmanager
from itertools import count

import numpy as np
import pytest
import yaml

from robosteer_core.rig import load_rig
from robosteer_core.runtime.chunk import integrate_deltas
from robosteer_core.runtime.clock import rig_clock
from robosteer_core.runtime.lab_link import LabLink
from robosteer_ros.hardware.arm.client import ArmClient

#: A little less than the time to the next tick, so that each pose is reached by then.
PERIOD_NS = 66_000_000
TASK = "press the red button"
_numbers = count(1)


@contextmanager
def running(*words, line):
    """A `robosteer` command that has printed a line with `line` in it; ended by SIGTERM."""
    process = subprocess.Popen([sys.executable, "-m", "robosteer_core.cli", *words], stdout=subprocess.PIPE, text=True)
    try:
        found = process.stdout.readline()
        assert line in found, f"{words} printed {found!r} instead of a line with {line!r}"
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        finally:
            process.kill()


def write_rig(folder, free_port, changes):
    """A rig file like the lab's at addresses of its own; `changes` by section are laid over it."""
    rig = load_rig("lab").model_dump(mode="json")
    # The FCI's ports are fixed, so each lab gets an address of its own.
    host = f"127.{os.getpid() // 250 % 250 + 1}.{os.getpid() % 250 + 1}.{next(_numbers)}"
    rig["arm"] |= {"address": host, "command_address": f"127.0.0.1:{free_port()}"}
    rig |= {"lab": {"control": f"127.0.0.1:{free_port()}"}, "teleop_address": f"127.0.0.1:{free_port()}"}
    for section, values in changes.items():
        rig[section] = rig[section] | values if isinstance(values, dict) else values
    path = folder / f"rig{next(_numbers)}.yaml"
    path.write_text(yaml.safe_dump(rig))
    return path


@pytest.fixture(scope="session")
def free_ports():
    """A function that gives ports of the loopback interface nobody listens on, a different one at each call."""
    given = []

    def give() -> int:
        # Kept bound until the end, without listening: the system gives none of them out twice.
        keeper = socket.socket()
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        keeper.bind(("127.0.0.1", 0))
        given.append(keeper)
        return keeper.getsockname()[1]

    yield give
    for keeper in given:
        keeper.close()


@pytest.fixture(scope="session")
def new_rig(tmp_path_factory, free_ports):
    """A function that writes a rig file, like the lab's but at addresses of its own: `new_rig(limits={...})`."""
    return lambda **changes: write_rig(tmp_path_factory.mktemp("rig"), free_ports, changes)


@pytest.fixture(scope="session")
def start():
    """`with start("sim", "cameras", ..., line="drawing") as process`: a command that has printed its line."""
    return running


@pytest.fixture(scope="session")
def start_lab():
    """A context manager that runs the lab of a rig file: `with start_lab(path, pace="real") as process`."""

    def start(path, pace="free"):
        address = load_rig(path).arm.address
        return running("sim", "serve", "--rig", str(path), "--host", address, "--pace", pace, line="accepting")

    return start


@pytest.fixture(scope="session")
def start_arm():
    """A context manager that runs the arm process of a rig file."""
    return lambda path: running("arm", "--rig", str(path), line="ready")


@pytest.fixture(scope="module")
def rig_file(new_rig):
    return new_rig()


@pytest.fixture(scope="module")
def rig(rig_file):
    return load_rig(rig_file)


@pytest.fixture(scope="module")
def arm_process(rig_file, start_lab, start_arm):
    with start_lab(rig_file), start_arm(rig_file) as process:
        yield process


@pytest.fixture
def arm(arm_process, rig):
    client = ArmClient(rig)
    yield client
    client.close()


@pytest.fixture
def lab(arm_process, rig):
    with LabLink(rig.lab.control, "test") as link:
        yield link


@pytest.fixture
def tracking(rig, lab, arm):
    """A context manager: a fresh scene, this test joined as the policy, the arm tracking; gives the clock."""

    @contextmanager
    def track(seed=0):
        lab.reset(TASK, seed, hold=True)
        clock = rig_clock(rig, "policy")
        try:
            arm.start()
            yield clock
        finally:
            arm.stop()
            clock.close()
            arm.rest()

    return track


@pytest.fixture(scope="session")
def chunk():
    """A function that makes a chunk from where the command is: `chunk(state, clock, delta, count, gripper)`."""

    def make(state, clock, delta=(0.0,) * 6, count=1, gripper=0.0, lead_ns=PERIOD_NS):
        actions = np.tile([*delta, gripper], (count, 1))
        return integrate_deltas(state.commanded, actions, clock.now_ns() + lead_ns, PERIOD_NS)

    return make
