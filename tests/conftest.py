"""The lab's processes as they are in use, at addresses and in a ROS domain of their own."""

import os
import random
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from datetime import datetime, timezone
from importlib.util import find_spec
from itertools import count

# Here and in every process that a test starts: what tests compute is small, and threads that wait for each other take most of the
# processor's time, on a busy machine most of the clock's too. Read when numpy and torch are imported.
for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np
import pytest
import yaml
from websockets.sync.server import serve

from robosteer_core.camera_calibration import (
    CalibratedCamera,
    CalibratedLens,
    CalibrationErrors,
    CameraCalibration,
    StaticTransform,
    frames,
)
from robosteer_core.evaluation.ndarray_packing import pack
from robosteer_core.rig import load_rig

# A shell's background ignores SIGINT, and so would every process that a test starts and interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_numbers = count(1)


@pytest.fixture(autouse=True)
def ordinary_priority():
    """libfranka gives the thread that moves an arm the highest real-time priority where it may, as root. What a test starts
    later would inherit it, and two busy processes of that kind would leave no time for any other."""
    yield
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


@pytest.fixture(scope="session", autouse=True)
def domain():
    """A domain that no other run on this machine has: runs hold a port each."""
    # Ports of domains above 101 are those that the system gives out for other things.
    for number in random.sample(range(1, 101), 100):
        holder = socket.socket()
        try:
            holder.bind(("127.0.0.1", 20100 + number))
        except OSError:
            holder.close()
            continue
        before = {name: os.environ.get(name) for name in ("ROS_DOMAIN_ID", "CYCLONEDDS_URI", "RMW_IMPLEMENTATION")}
        os.environ["ROS_DOMAIN_ID"] = str(number)
        os.environ.pop("CYCLONEDDS_URI", None)
        if find_spec("rclpy") is not None:  # real ROS 2 on the loopback interface too, and of the vendor whose services we answer
            from robosteer_ros.ros.network import cyclonedds_uri

            os.environ |= {"CYCLONEDDS_URI": cyclonedds_uri(), "RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"}
        yield number
        holder.close()
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
        return
    pytest.fail("all 100 domains are taken")


@contextmanager
def running(*words, line):
    """A `robosteer` command that has printed a line with `line` in it; ended by SIGTERM."""
    process = subprocess.Popen([sys.executable, "-m", "robosteer_core.cli", *words], stdout=subprocess.PIPE, text=True)
    patience = threading.Timer(90, process.kill)
    patience.start()
    try:
        found = process.stdout.readline()
        assert line in found, f"{words} printed {found!r} instead of a line with {line!r}"
        patience.cancel()
        yield process
    finally:
        patience.cancel()
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
    rig["arm"]["address"] = host
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


@contextmanager
def serving(answer, metadata=pack({"model": "test"})):
    """A policy server at a free port; `answer(request bytes)` gives the reply, None for silence."""

    def handle(connection):
        connection.send(metadata)
        for message in connection:
            reply = answer(message)
            if reply is not None:
                connection.send(reply)

    with serve(handle, "127.0.0.1", 0, compression=None, max_size=None) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"ws://127.0.0.1:{listening.socket.getsockname()[1]}"
        listening.shutdown()


@pytest.fixture(scope="session")
def policy_server():
    """`with policy_server(answer) as address`: a server that speaks openpi's protocol."""
    return serving


@pytest.fixture(scope="session")
def start_lab():
    """A context manager that runs the lab of a rig file: `with start_lab(path, pace="real") as process`."""

    def start(path, pace="free"):
        address = load_rig(path).arm.address
        return running("sim", "serve", "--rig", str(path), "--host", address, "--pace", pace, line="accepting")

    return start


@pytest.fixture(scope="session")
def calibration():
    """A function that makes an accepted calibration of a camera of the lab, `x` metres from its parent frame."""

    def make(name="wrist", serial=None, mount="hand", x=0.07):
        camera = np.eye(4)
        camera[0, 3] = x
        parent, optical, other = frames("fr3", name, mount)
        return CameraCalibration(
            date=datetime(2026, 11, 21, tzinfo=timezone.utc), robot="lab", arm="fr3",
            camera=CalibratedCamera(name=name, serial=serial or f"lab:{name}", mount=mount), board={"columns": 7},
            transform=StaticTransform.of(parent, optical, camera), target=StaticTransform.of(other, "calibration_board", np.eye(4)),
            lens=CalibratedLens(width=640, height=480, fx=600, fy=600, cx=320, cy=240, distortion=(0,) * 5, sigma=(1,) * 4),
            errors=CalibrationErrors(
                loo_mm=1, loo_deg=0.1, sigma_mm=0.2, sigma_deg=0.02, spread_mm=1, spread_deg=0.1, poses=20, outliers=()
            ),
            covariance=tuple(map(tuple, (1e-8 * np.eye(6)).tolist())), ellipsoid_95=12.6, verdict="accepted", reason="",
        )  # fmt: skip

    return make


@pytest.fixture(scope="module")
def rig_file(new_rig):
    return new_rig()


@pytest.fixture(scope="module")
def rig(rig_file):
    return load_rig(rig_file)
