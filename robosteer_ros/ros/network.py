"""Where DDS may go: by ROS 2's own variables, and a configuration of Cyclone DDS, ours and that of real ROS 2 on rmw_cyclonedds."""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import struct
from collections.abc import Sequence
from xml.sax.saxutils import quoteattr

from robosteer_core.errors import UserError

logger = logging.getLogger(__name__)

LOOPBACK = ("lo", "127.0.0.1")
RANGE, CONFIGURATION = "ROS_AUTOMATIC_DISCOVERY_RANGE", "CYCLONEDDS_URI"
#: What a rig says of its network, in ROS's words.
RANGES = {"loopback": "LOCALHOST", "subnet": "SUBNET"}
#: netdevice(7): flags and address of an interface, and the flag that it is up.
_SIOCGIF, _UP = (0x8913, 0x8915), 1


def keep_to(network: str) -> None:
    """Let this process and those that it starts be heard as a rig's `network` says, unless the environment says something."""
    if not os.environ.get(RANGE) and not os.environ.get(CONFIGURATION):
        os.environ[RANGE] = RANGES[network]


def configuration() -> str:
    """What Cyclone DDS is told by the environment; without a word there it stays on loopback. Raises UserError for what is none."""
    if uri := os.environ.get(CONFIGURATION):
        return uri
    found = os.environ.get(RANGE) or RANGES["loopback"]
    if found not in RANGES.values():
        raise UserError(f"{RANGE} is {' or '.join(RANGES.values())} here, found {found!r}; {CONFIGURATION} may say more")
    if found == RANGES["subnet"] and not networks():
        logger.warning("this machine is in no network: the graph is heard on it alone; start the graph again when it is in one")
        found = RANGES["loopback"]
    return cyclonedds_uri() if found == RANGES["loopback"] else cyclonedds_uri(None)


def networks() -> list[str]:
    """Names of the interfaces that Cyclone DDS may choose beside loopback: they are up, and have an address of IPv4."""
    return [name for _, name in socket.if_nameindex() if (address := address_of(name)) and not address.startswith("127.")]


def address_of(name: str) -> str | None:
    """The address of IPv4 of an interface that is up, None where there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            flags, answer = (fcntl.ioctl(probe.fileno(), number, struct.pack("256s", name.encode()[:15])) for number in _SIOCGIF)
        except OSError:
            return None
    return socket.inet_ntoa(answer[20:24]) if flags[16] & _UP else None


def cyclonedds_uri(interface: str | None = "lo", peers: Sequence[str] = ("127.0.0.1",)) -> str:
    """A value for the variable CYCLONEDDS_URI that keeps DDS on one network interface.

    What is sent, discovery and data, leaves by this interface alone. The receiving ports are open on the others too, as
    Cyclone DDS binds them; a firewall closes them.

    Args:
        interface: name or address of the interface; "lo": nothing leaves the machine; None: loopback and, with multicast, the one
            that Cyclone DDS chooses.
        peers: addresses that are asked who is there, without multicast. Empty: discovery by multicast, where the
            interface has it.
    """
    multicast = "false" if peers and interface is not None else "true"
    if interface is None:
        chosen = '<NetworkInterface name="lo" multicast="false"/><NetworkInterface autodetermine="true" multicast="true"/>'
    else:
        chosen = f"<NetworkInterface {'address' if interface[:1].isdigit() else 'name'}={quoteattr(interface)}/>"
    asked = "".join(f"<Peer address={quoteattr(peer)}/>" for peer in peers)
    # Fragments of 64 kB let images through to Fast DDS (180 of 180 arrive, by default 36 of 210). On a real network each
    # would be cut into 44 packets, of which all must arrive.
    sizes = "<MaxMessageSize>65500B</MaxMessageSize><FragmentSize>65000B</FragmentSize>" if interface in LOOPBACK else ""
    # 60 processes can be found on a host: each takes a port of its own, and each asks so many ports of every peer.
    return (
        f'<CycloneDDS><Domain Id="any"><General><Interfaces>{chosen}</Interfaces>'
        f"<AllowMulticast>{multicast}</AllowMulticast>{sizes}</General>"
        f"<Discovery><ParticipantIndex>auto</ParticipantIndex><MaxAutoParticipantIndex>59</MaxAutoParticipantIndex>"
        f"<Peers>{asked}</Peers></Discovery>"
        f'<Internal><SocketReceiveBufferSize min="default" max="4MB"/></Internal></Domain></CycloneDDS>'
    )
