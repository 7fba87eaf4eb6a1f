"""`robosteer up`: from nothing to the graph in the simulated lab, back after a kill, and down without leaving anything."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from robosteer_core.rig import load_rig

PATIENCE_S = 120


@pytest.fixture(scope="module")
def rig_file(new_rig):
    cameras = [camera.model_dump(mode="json") | {"width": 160, "height": 120} for camera in load_rig("lab").cameras]
    return new_rig(name=f"up{os.getpid()}", cameras=cameras)


@pytest.fixture
def up(rig_file, tmp_path):
    """`with up(words...) as (process, read)`: `read(words)` gives the lines until one with these words."""

    @contextmanager
    def up(*words):
        command = [sys.executable, "-m", "robosteer_core.cli", "up", str(rig_file), "--logs", str(tmp_path / "logs"), *words]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"}
        )
        patience = threading.Timer(PATIENCE_S, process.kill)
        patience.start()

        def read(words):
            lines = []
            for line in process.stdout:
                lines.append(line)
                if words in line:
                    return lines
            pytest.fail(f"ended before {words!r}: {''.join(lines)}")

        try:
            yield process, read
        finally:
            patience.cancel()
            process.kill()
            process.wait()
            process.stdout.close()

    return up


def children(pid):
    """The processes that `pid` has started, {pid: command line}."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                found[int(stat.parent.name)] = (stat.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
    return found


def gone(pids):
    deadline = time.monotonic() + PATIENCE_S
    while left := [pid for pid in pids if Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes()]:
        assert time.monotonic() < deadline, f"still there: {left}"
        time.sleep(0.05)


def test_from_nothing_to_the_graph_back_after_a_kill_and_down_in_order(up):
    with up("--only", "cameras,arm") as (process, read):
        lines = read("up after")
        active = [line.split("]: ")[1].strip() for line in lines if line.rstrip().endswith(": active")]
        assert sorted(active[:2]) == ["front_camera: active", "wrist_camera: active"] and active[2:] == ["arm: active"]
        started = children(process.pid)
        parts = ("sim serve", "sim cameras", "nodes.camera", "nodes.arm")
        assert [sum(part in words for words in started.values()) for part in parts] == [1, 1, 2, 1]
        os.kill(next(pid for pid, words in started.items() if "nodes.arm" in words), signal.SIGKILL)
        assert any("killed by SIGKILL" in line for line in read("arm: active"))
        started |= children(process.pid)
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        assert process.wait(PATIENCE_S) == 0
        ended = [line.split("]: ")[1] for line in rest.splitlines() if line.endswith(": ended")]
        assert ended[0] == "arm: ended" and sorted(ended[1:]) == ["front_camera: ended", "wrist_camera: ended"]
        gone(started)


def test_a_graph_that_is_up_is_not_started_twice_and_nothing_outlives_it(up):
    with up("--only", "arm") as (process, read):
        read("up after")
        with up("--only", "arm,cameras") as (second, _):
            assert "another process has brought up the graph of domain" in second.stdout.read()
            assert second.wait(PATIENCE_S) == 2
        started = children(process.pid)
        process.kill()
        gone(started)


def test_a_lab_that_ends_is_named_and_takes_the_graph_down(up):
    with up("--only", "arm") as (process, read):
        read("up after")
        started = children(process.pid)
        os.kill(next(pid for pid, words in started.items() if "serve" in words), signal.SIGKILL)
        assert "the simulated lab has ended with exit code -9" in process.stdout.read()
        assert process.wait(PATIENCE_S) == 2
        gone(started)
