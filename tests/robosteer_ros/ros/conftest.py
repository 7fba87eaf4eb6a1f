"""What tests of the graph share."""

import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

PATIENCE_S = 20

# From Jazzy on, the classes that rosidl generates check what they are given where this is set before they are imported.
os.environ.setdefault("ROS_PYTHON_CHECK_FIELDS", "1")


@contextmanager
def started(*words):
    """A Python process that has said "ready"; ended after the test."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    process = subprocess.Popen([sys.executable, *words], text=True, **pipes)
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


@pytest.fixture(scope="module")
def peer():
    with started(str(Path(__file__).with_name("peer.py"))) as process:
        yield process


@pytest.fixture
def start_peer():
    return lambda *arguments: started(str(Path(__file__).with_name("peer.py")), *arguments)


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
