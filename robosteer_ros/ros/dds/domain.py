"""The DDS domain of a process, on loopback unless somebody says otherwise."""

from __future__ import annotations

import os
import threading

from cyclonedds.core import DDSException
from cyclonedds.domain import Domain

from robosteer_ros.ros.dds.exceptions import RCLError
from robosteer_ros.ros.network import CONFIGURATION, configuration

_domains: dict[int, Domain] = {}
_lock = threading.Lock()


def domain_id() -> int:
    """ROS_DOMAIN_ID, 0 where it is not set. Raises RCLError if it is none."""
    text = os.environ.get("ROS_DOMAIN_ID") or "0"
    if not text.isdecimal() or int(text) > 232:
        raise RCLError(f"ROS_DOMAIN_ID expects a number from 0 to 232, found {text!r}; correct or unset it")
    return int(text)


def open_domain(number: int) -> None:
    """Configure a DDS domain, once in a process: as the environment says, else on loopback."""
    with _lock:
        if number in _domains:
            return
        told = configuration()
        try:
            _domains[number] = Domain(number, told)
        except DDSException as error:
            raise RCLError(f"Cyclone DDS does not start in domain {number} with {CONFIGURATION}={told}: {error}") from error
