"""The graph: ROS and DDS settings, and the ports that the rig's processes listen at."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from robosteer_core.errors import UserError
from robosteer_core.rig import Rig
from robosteer_ros.doctor.finding import Finding, fail, ok, warn
from robosteer_ros.hardware.sockets import listener, owner
from robosteer_ros.ros.network import RANGE, RANGES, networks

BUFFER_BYTES = 4_000_000
"""A receive buffer that holds a few images; Cyclone DDS asks for so much."""


OURS = r"robosteer_core\.cli|robosteer_ros\.nodes|bin/robosteer"
"""In the command line of a process of robosteer."""


def findings(rig: Rig) -> Iterator[Finding]:
    try:
        from robosteer_ros import ros
    except (UserError, ImportError) as error:
        yield fail("ROS", str(error), "pip install -e '.[ros]', or source ROS 2's setup.bash on its own Python")
        return
    yield ok("ROS", ros.description())
    yield domain()
    yield rmw(ros.BACKEND)
    yield where(rig)
    yield buffers()
    yield from ports(rig)


def domain() -> Finding:
    text = os.environ.get("ROS_DOMAIN_ID") or "0"
    cure = "export ROS_DOMAIN_ID=<0 to 101>, the same on every machine of the graph"
    if not text.isdecimal() or int(text) > 232:
        return fail("ROS domain", f"ROS_DOMAIN_ID={text}", cure)
    if int(text) > 101:
        return warn("ROS domain", f"{text}, whose ports Linux gives to other programs too", cure)
    return ok("ROS domain", text)


def rmw(backend: str) -> Finding:
    chosen = os.environ.get("RMW_IMPLEMENTATION", "")
    if backend == "dds":
        if chosen not in ("", "rmw_cyclonedds_cpp"):
            cure = "machines with ROS need rmw_cyclonedds_cpp for services to reach this one"
            return warn("RMW", f"{chosen}, which does not count here", cure)
        return ok("RMW", "Cyclone DDS, of its own")
    if chosen == "rmw_cyclonedds_cpp":
        return ok("RMW", chosen)
    cure = "export RMW_IMPLEMENTATION=rmw_cyclonedds_cpp where machines without ROS take part; among machines with ROS any will do"
    return warn("RMW", chosen or "the distribution's own", cure)


def where(rig: Rig) -> Finding:
    uri = os.environ.get("CYCLONEDDS_URI", "")
    files = [part.removeprefix("file://") for part in uri.split(",") if part.startswith("file://")]
    if missing := [file for file in files if not Path(file).is_file()]:
        return fail("DDS network", f"CYCLONEDDS_URI names {', '.join(missing)}, which is not there", "correct or unset CYCLONEDDS_URI")
    if uri:
        return ok("DDS network", f"as CYCLONEDDS_URI says: {uri[:80]}")
    told = os.environ.get(RANGE, "")
    heard, who = told or RANGES[rig.network], f"as {RANGE} says" if told else f"as the rig says: `network: {rig.network}`"
    if heard not in RANGES.values():
        return warn("DDS network", f"{RANGE}={heard}", f"export {RANGE}={' or '.join(RANGES.values())}, or unset it")
    if heard == RANGES["subnet"] and not networks():
        return warn("DDS network", f"this machine is in no network, {who}", "connect it; till then its graph is heard on it alone")
    return ok("DDS network", f"{'loopback: nothing leaves this machine' if heard == RANGES['loopback'] else 'all that it reaches'}, {who}")


def buffers(root: Path = Path("/")) -> Finding:
    most = int((root / "proc/sys/net/core/rmem_max").read_text())
    if most >= BUFFER_BYTES:
        return ok("DDS buffers", f"receive buffers of up to {most / 1e6:.1f} MB")
    found = f"receive buffers of up to {most / 1e6:.1f} MB; images may be lost"
    return warn("DDS buffers", found, f"sudo sysctl -w net.core.rmem_max={BUFFER_BYTES}")


def ports(rig: Rig) -> Iterator[Finding]:
    """Of this machine; those of others are theirs to look at."""
    wanted = {"teleoperation": rig.teleop_address}
    if rig.lab is not None:
        wanted |= {"lab control": rig.lab.control, "lab FCI": f"{rig.arm.address}:1337", "lab hand": f"{rig.arm.address}:1338"}
    taken, ours = [], []
    for what, address in wanted.items():
        host, port = address.rsplit(":", 1)
        if (found := listener(host, int(port))) is not None:
            by = owner(found)
            (ours if re.search(OURS, by) else taken).append(f"{address} ({what}) by process {by}")
    if taken:
        yield fail("ports", f"taken: {'; '.join(taken)}", "end that process, or give the rig other addresses")
    elif ours:
        yield ok("ports", f"robosteer runs: {'; '.join(ours)}")
    else:
        yield ok("ports", f"free: {', '.join(wanted.values())}")
