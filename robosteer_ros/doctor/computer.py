"""The computer: kernel, priorities, processor, clock, GPU, disk. `root` is where /proc and /sys lie."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from robosteer_core.rig import Rig
from robosteer_ros.doctor.finding import Finding, fail, ok, warn

ROOT = Path("/")
ROUSED_LATE_MS = 2.0
"""Threads that are roused later than this at the 99th percentile make a set-point loop of 10 ms late."""
CAMERA_MB_PER_S = 5.0
"""What a recording writes per camera of 640x480 at 30 Hz, videos and raw log, rounded up [MB/s]."""
SCARCE_GB, LEAST_GB = 20.0, 1.0


def findings(rig: Rig, folder: Path, root: Path = ROOT) -> Iterator[Finding]:
    real = rig.lab is None
    yield kernel(needed=real and rig.arm.realtime, root=root)
    yield priority(needed=real and rig.arm.realtime)
    yield governor(root)
    yield clock_source(root)
    yield clock_set(needed=real)
    yield punctuality()
    yield gpu()
    yield from disk(folder, CAMERA_MB_PER_S * len(rig.cameras))


def kernel(needed: bool, root: Path = ROOT) -> Finding:
    """libfranka refuses to move an arm with real-time enforced where /sys/kernel/realtime is not 1."""
    name = _read(root / "proc/sys/kernel/osrelease") or os.uname().release
    if _read(root / "sys/kernel/realtime") == "1":
        return ok("kernel", f"{name}, PREEMPT_RT")
    if not needed:
        return ok("kernel", f"{name}, without PREEMPT_RT, which this rig does not ask for")
    return fail(
        "kernel", f"{name}, without PREEMPT_RT",
        "install a real-time kernel (Ubuntu: `sudo pro enable realtime-kernel`; Debian: `sudo apt-get install linux-image-rt-amd64`) "
        "and boot it; or, for slow tests alone, set `arm: {realtime: false}` in the rig",
    )  # fmt: skip


def priority(needed: bool) -> Finding:
    """Asks for the highest real-time priority and gives it back."""
    before, before_param = os.sched_getscheduler(0), os.sched_getparam(0)
    highest = os.sched_get_priority_max(os.SCHED_FIFO)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(highest))
    except PermissionError:
        if not needed:
            return ok("real-time priority", "not permitted, and this rig does not ask for it")
        return fail(
            "real-time priority", "not permitted for this user",
            "put `@realtime - rtprio 99` and `@realtime - memlock unlimited` into /etc/security/limits.d/realtime.conf, type "
            "`sudo groupadd -f realtime; sudo usermod -aG realtime $USER`, and log in again",
        )  # fmt: skip
    os.sched_setscheduler(0, before, before_param)
    return ok("real-time priority", f"permitted, up to {highest}")


def governor(root: Path = ROOT) -> Finding:
    files = sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_governor"))
    found = sorted({_read(file) for file in files})
    if not found:
        return ok("CPU governor", "none: the frequency is not this system's to choose (a virtual machine)")
    if found == ["performance"]:
        return ok("CPU governor", f"performance on {len(files)} CPUs")
    cure = "type `sudo cpupower frequency-set -g performance` (package linux-cpupower or linux-tools)"
    return warn("CPU governor", ", ".join(found), cure)


def clock_source(root: Path = ROOT) -> Finding:
    found = _read(root / "sys/devices/system/clocksource/clocksource0/current_clocksource")
    if found in ("tsc", "kvm-clock", "arch_sys_counter"):
        return ok("clock source", found)
    return warn("clock source", found or "unknown", "reading it is slow: boot with `tsc=reliable` where the processor has an invariant TSC")


def clock_set(needed: bool) -> Finding:
    """By adjtimex(2): whether somebody keeps system time, by which machines of a graph compare their stamps."""
    timex = (ctypes.c_long * 64)()
    state, most_us = ctypes.CDLL(None).adjtimex(ctypes.byref(timex)), timex[3]
    if state not in (-1, 5):  # 5: TIME_ERROR, not synchronised
        return ok("system time", f"kept by NTP or PTP, within {most_us / 1000:.1f} ms")
    if not needed:
        return ok("system time", "kept by nobody; in the lab robot time counts")
    return warn(
        "system time", "kept by nobody", "where the graph spans machines: `sudo apt-get install chrony` on each, one of them as the server"
    )


def punctuality(ticks: int = 500) -> Finding:
    """How late a thread is roused from sleeps of 1 ms, with what the machine does at the moment."""
    late_ms = []
    for _ in range(ticks):
        due = time.monotonic() + 1e-3
        time.sleep(1e-3)
        late_ms.append((time.monotonic() - due) * 1e3)
    late_ms.sort()
    p99 = late_ms[int(0.99 * (ticks - 1))]
    found = f"threads are roused {late_ms[ticks // 2]:.2f} ms late (p50), {p99:.2f} ms (p99), load {os.getloadavg()[0]:.1f}"
    if p99 <= ROUSED_LATE_MS:
        return ok("punctuality", found)
    return warn("punctuality", found, f"end what else runs; expected at most {ROUSED_LATE_MS:g} ms at p99 on {os.cpu_count()} CPUs")


def gpu() -> Finding:
    if shutil.which("nvidia-smi") is None:
        return ok("GPU", "no NVIDIA GPU; large policies run elsewhere (`--policy ws://host:port`)")
    command = ["nvidia-smi", "--query-gpu=name,memory.total,memory.free,driver_version", "--format=csv,noheader"]
    asked = subprocess.run(command, capture_output=True, text=True, timeout=30)
    if asked.returncode:
        said = (asked.stdout + asked.stderr).strip().splitlines()
        return fail("GPU", f"nvidia-smi: {said[0] if said else 'no answer'}", "reinstall the driver, then boot")
    found = "; ".join(asked.stdout.strip().splitlines())
    if importlib.util.find_spec("torch") is None:
        return warn("GPU", f"{found}; PyTorch is not installed", "pip install -e .")
    works = [sys.executable, "-c", "import torch; print(torch.version.cuda); print(torch.cuda.is_available())"]
    said = subprocess.run(works, capture_output=True, text=True, timeout=120).stdout.split()
    if said[-1:] == ["True"]:
        return ok("GPU", f"{found}; PyTorch for CUDA {said[0]}")
    built = said[0] if said else "unknown"
    cure = "take the CUDA build of PyTorch for this driver: make setup without TORCH_INDEX"
    return warn("GPU", f"{found}; PyTorch cannot use it (built for CUDA: {built})", cure)


def disk(folder: Path, need_mb_per_s: float, megabytes: int = 64) -> Iterator[Finding]:
    """Room where recordings go, and how fast a file of so many megabytes is really there (fsync)."""
    place = next(path for path in (folder.resolve(), *folder.resolve().parents) if path.is_dir())
    free_gb = shutil.disk_usage(place).free / 1e9
    found = f"{free_gb:.0f} GB free for {folder}: {free_gb * 1000 / need_mb_per_s / 3600:.1f} hours of recording"
    if free_gb >= SCARCE_GB:
        yield ok("disk space", found)
    else:
        yield (warn if free_gb >= LEAST_GB else fail)("disk space", found, "make room, or record to another disk")
    if free_gb < LEAST_GB:
        return
    try:
        with tempfile.NamedTemporaryFile(dir=place, prefix=".robosteer_doctor_") as file:
            block, began = os.urandom(1 << 20), time.perf_counter()
            for _ in range(megabytes):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
            rate = megabytes * 1.048576 / (time.perf_counter() - began)
    except OSError as error:
        yield fail("disk speed", f"{place} cannot be written to: {error.strerror}", "record to a folder of your own (--folder)")
        return
    found = f"{rate:.0f} MB/s to {place}; a recording of this rig writes up to {need_mb_per_s:g} MB/s"
    if rate >= 4 * need_mb_per_s:
        yield ok("disk speed", found)
    else:
        yield (warn if rate >= need_mb_per_s else fail)("disk speed", found, "record to an SSD that nobody else writes to")


def _read(file: Path) -> str:
    """The content of a small file, "" where it cannot be read."""
    try:
        return file.read_text().strip()
    except OSError:
        return ""
