"""The robot: whether it is there, and whether the installed binding speaks its version."""

from __future__ import annotations

import socket
from collections.abc import Iterator

from robosteer_core.errors import UserError
from robosteer_core.rig import Rig
from robosteer_ros.doctor.finding import Finding, fail, ok, warn
from robosteer_ros.hardware.arm.bindings import EXTRAS
from robosteer_ros.hardware.arm.fci_version import FCI_PORT, binding_version, robot_version, what_fits
from robosteer_ros.hardware.sockets import holder


def findings(rig: Rig) -> Iterator[Finding]:
    arm, ours = rig.arm, None
    try:
        ours = binding_version(arm.driver)
    except UserError as error:
        yield fail("binding", str(error), f"pip install -e '.[{EXTRAS[arm.driver]}]'")
    else:
        spoken = "a version that is not known" if ours is None else f"server version {ours}"
        yield ok("binding", f"{arm.driver} speaks {spoken}")
    try:
        socket.gethostbyname(arm.address)
    except OSError:
        return  # said of the network
    held = holder(arm.address, FCI_PORT)
    if held is not None:
        # A robot takes one client: who moves it is not disturbed.
        yield ok("robot", f"{arm.address} is held by process {held}, and not asked")
        return
    try:
        spoken = robot_version(arm.address)
    except OSError as error:
        found = f"nobody answers at {arm.address}:{FCI_PORT} ({error.strerror or 'no answer'})"
        if rig.lab is not None:
            yield warn("robot", found, "`robosteer up lab` starts the lab, and `robosteer sim serve` its robot alone")
        else:
            cure = "switch it on, unlock its joints and activate FCI in Desk; check `arm: {address: ...}` in the rig"
            yield fail("robot", found, cure)
        return
    except UserError as error:
        yield fail("robot", str(error), "correct `arm: {address: ...}` in the rig")
        return
    if ours in (None, spoken):
        yield ok("robot", f"{arm.address} speaks server version {spoken}")
    else:
        found = f"{arm.address} speaks server version {spoken}, the installed {arm.driver} speaks {ours}"
        yield fail("robot", found, f"this is {what_fits(spoken)}")
