"""The simulated lab's processes, started by robosteer's own commands."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import yaml

from robosteer_core.errors import UserError
from robosteer_core.rig import Rig

ROBOSTEER = [sys.executable, "-m", "robosteer_core.cli"]
READY_TIMEOUT_S = 120
END_TIMEOUT_S = 10
#: What each process says when it can be used.
READY = {"lab": "accepting FCI", "cameras": "drawing the cameras", "record": "ready for the operator"}
#: The ports of FCI: robot and gripper. They are fixed, so that each lab needs an address of its own.
FCI_PORTS = (1337, 1338)
_PR_SET_PDEATHSIG = 1
#: Loaded here: between fork and exec, with other threads about, nothing may be.
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def environment() -> dict[str, str]:
    """Nothing is looked up on the network while it runs; Python hands on its output at once."""
    return {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}


@contextmanager
def process(what: str, arguments: list[str], logs: Path) -> Iterator[tuple[subprocess.Popen, str]]:
    """A command of robosteer that runs beside this one; goes on when it has said that it is ready. Gives its process and
    what it said. It ends with this process, however that ends. Raises UserError where it does not start."""
    child, log = start(what, [*ROBOSTEER, *arguments], logs), logs / f"{what}.log"
    try:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while (ended := child.poll() is not None) or READY[what] not in log.read_text():
            if ended or time.monotonic() > deadline:
                raise UserError(f"{what} did not start: {log.read_text().strip() or 'no output'} (log: {log})")
            time.sleep(0.05)
        yield child, log.read_text().strip().splitlines()[-1]
    finally:
        end(child)


def start(what: str, command: Sequence[str], logs: Path, mode: str = "w") -> subprocess.Popen:
    """A command whose output goes to `logs`/`what`.log. It ends with the thread that calls this, however that ends. Ctrl-C in
    the terminal does not reach it, so that what belongs together is ended in order."""
    logs.mkdir(parents=True, exist_ok=True)
    # The matrices of these processes are small; threads for them cost each start a fifth of a second of the processor.
    single = {"OPENBLAS_NUM_THREADS": "1", **environment()}
    with (logs / f"{what}.log").open(mode) as file:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, env=single,
            start_new_session=True, preexec_fn=end_with_parent,
        )  # fmt: skip


def end(child: subprocess.Popen) -> None:
    """By SIGTERM, and by SIGKILL where that does not help."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def end_with_parent() -> None:
    """From now on Linux asks this process to end (SIGTERM) when its parent has ended, however that came (prctl(2)); elsewhere an
    orphan has to be ended by hand."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@contextmanager
def lab_processes(
    name: str | Path, rig: Rig, logs: Path, parts: Sequence[str] = ("lab", "cameras")
) -> Iterator[dict[str, tuple[subprocess.Popen, str]]]:
    """The robot's side: physics with the robot's network interface, and cameras. `name` is the rig's name or file. Gives each
    process, and what it has said.

    It runs only while the arm is needed; an idle lab goes on drawing its cameras.
    """
    commands = {
        "lab": ["sim", "serve", "--rig", str(name), "--host", rig.arm.address],
        "cameras": ["sim", "cameras", "--rig", str(name)],
    }
    with ExitStack() as stack:
        yield {part: stack.enter_context(process(part, commands[part], logs)) for part in parts}


def lab_runs(rig: Rig) -> bool:
    """Whether somebody listens at the control address of the rig's lab."""
    host, port = rig.lab.control.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), timeout=1.0).close()
    except OSError:
        return False
    return True


def private_rig(rig: Rig, folder: Path) -> tuple[Rig, Path]:
    """The rig at addresses of the loopback interface that nobody uses, and its file in `folder`."""
    with ExitStack() as held:
        control, teleop = (f"127.0.0.1:{_free_port(held)}" for _ in range(2))
    content = rig.model_dump(mode="json")
    content["arm"]["address"] = _free_address()
    content |= {"teleop_address": teleop, "lab": {**content["lab"], "control": control}}
    private = Rig.model_validate(content)
    return private, write_rig(private, folder)


def write_rig(rig: Rig, folder: Path) -> Path:
    """The rig's file in `folder`, for commands that take one."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "rig.yaml"
    path.write_text(yaml.safe_dump(rig.model_dump(mode="json"), sort_keys=False))
    return path


def _free_port(held: ExitStack) -> int:
    """Kept bound until all are chosen, so that the system gives none of them out twice."""
    keeper = held.enter_context(socket.socket())
    keeper.bind(("127.0.0.1", 0))
    return keeper.getsockname()[1]


def _free_address() -> str:
    """A loopback address at which nobody speaks FCI. Drawn from the system's randomness: processes that look at the same
    time must not find the same one."""
    draw = random.SystemRandom()
    for _ in range(100):
        host = f"127.{draw.randint(100, 250)}.{draw.randint(1, 250)}.{draw.randint(1, 250)}"
        try:
            for port in FCI_PORTS:
                with socket.socket() as probe:
                    probe.bind((host, port))
        except OSError:
            continue
        return host
    raise UserError("no loopback address for a lab: expected 127.x.y.z with free ports 1337 and 1338; start a lab by hand")
