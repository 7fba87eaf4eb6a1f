"""What tests of the graph share."""

import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest

PATIENCE_S = 20

# From Jazzy on, the classes that rosidl generates check what they are given where this is set before they are imported.
os.environ.setdefault("ROS_PYTHON_CHECK_FIELDS", "1")


BACKENDS = ("dds",) if find_spec("rclpy") is None else ("dds", "rclpy")
"""What the other process of a test may run on: where ROS is sourced, each test meets both."""


@contextmanager
def started(backend, *words, **environment):
    """peer.py on a backend, once it has said "ready"; ended after the test."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    command = [sys.executable, str(Path(__file__).with_name("peer.py")), *words]
    process = subprocess.Popen(command, text=True, env=os.environ | {"ROBOSTEER_ROS": backend} | environment, **pipes)
    killer = threading.Timer(3 * PATIENCE_S, process.kill)
    killer.start()
    try:
        line = process.stdout.readline()
        killer.cancel()
        assert line == "ready\n", f"{words} said {line!r}"
        yield process
    finally:
        process.terminate()
        try:
            process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()


@pytest.fixture(scope="module", params=BACKENDS)
def peer(request):
    with started(request.param) as process:
        yield process


@pytest.fixture(scope="session")
def start_on():
    """`with start_on("dds", "--ros-args", ...) as process`: the other process on a backend."""
    return started


@pytest.fixture(params=BACKENDS)
def start_peer(request):
    return partial(started, request.param)


@pytest.fixture
def until():
    """`until(executor, condition)` spins until the condition holds; fails after 20 s."""

    def wait(executor, condition):
        deadline = time.monotonic() + PATIENCE_S
        while not (found := condition()):
            assert time.monotonic() < deadline, f"did not come about within {PATIENCE_S} s"
            executor.spin_once(timeout_sec=0.05)
        return found

    return wait
