"""Where DDS may go: the configuration of Cyclone DDS, on loopback unless somebody says otherwise."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from xml.sax.saxutils import quoteattr

from cyclonedds.core import DDSException
from cyclonedds.domain import Domain

from robosteer_ros.ros.dds.exceptions import RCLError

_domains: dict[int, Domain] = {}
_lock = threading.Lock()


def cyclonedds_uri(interface: str = "lo", peers: Sequence[str] = ("127.0.0.1",)) -> str:
    """A configuration for the variable CYCLONEDDS_URI that keeps DDS on one network interface.

    Args:
        interface: name or address of the interface; "lo" leaves nothing on any wire.
        peers: addresses that are asked who is there, without multicast. Empty: discovery by multicast, where the
            interface has it.
    """
    multicast = "false" if peers else "true"
    chosen = "address" if interface[:1].isdigit() else "name"
    asked = "".join(f"<Peer address={quoteattr(peer)}/>" for peer in peers)
    # 59 processes can be found on a host: each takes a port of its own, and each asks so many ports of every peer.
    # Fragments of 64 kB and a buffer for two images: what lets images through to Fast DDS (180 of 180, else 36 of 210).
    return (
        f'<CycloneDDS><Domain Id="any"><General><Interfaces><NetworkInterface {chosen}={quoteattr(interface)}/></Interfaces>'
        f"<AllowMulticast>{multicast}</AllowMulticast><MaxMessageSize>65500B</MaxMessageSize></General>"
        f"<Discovery><ParticipantIndex>auto</ParticipantIndex><MaxAutoParticipantIndex>59</MaxAutoParticipantIndex>"
        f"<Peers>{asked}</Peers></Discovery>"
        f'<Internal><SocketReceiveBufferSize min="default" max="4MB"/></Internal></Domain></CycloneDDS>'
    )


def domain_id() -> int:
    """ROS_DOMAIN_ID, 0 where it is not set. Raises RCLError if it is none."""
    text = os.environ.get("ROS_DOMAIN_ID") or "0"
    if not text.isdecimal() or int(text) > 232:
        raise RCLError(f"ROS_DOMAIN_ID expects a number from 0 to 232, found {text!r}; correct or unset it")
    return int(text)


def open_domain(number: int) -> None:
    """Configure a DDS domain, once in a process: by CYCLONEDDS_URI where it is set, else on loopback."""
    with _lock:
        if number in _domains:
            return
        uri = os.environ.get("CYCLONEDDS_URI")
        try:
            _domains[number] = Domain(number, uri or cyclonedds_uri())
        except DDSException as error:
            where = f"CYCLONEDDS_URI={uri}" if uri else "the configuration for loopback"
            raise RCLError(f"Cyclone DDS does not start in domain {number} with {where}: {error}") from error
