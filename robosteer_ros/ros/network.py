"""Where DDS may go: a configuration of Cyclone DDS, ours and that of real ROS 2 on rmw_cyclonedds."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import quoteattr

LOOPBACK = ("lo", "127.0.0.1")


def cyclonedds_uri(interface: str = "lo", peers: Sequence[str] = ("127.0.0.1",)) -> str:
    """A value for the variable CYCLONEDDS_URI that keeps DDS on one network interface.

    What is sent, discovery and data, leaves by this interface alone. The receiving ports are open on the others too, as
    Cyclone DDS binds them; a firewall closes them.

    Args:
        interface: name or address of the interface; "lo": nothing leaves the machine.
        peers: addresses that are asked who is there, without multicast. Empty: discovery by multicast, where the
            interface has it.
    """
    multicast = "false" if peers else "true"
    chosen = "address" if interface[:1].isdigit() else "name"
    asked = "".join(f"<Peer address={quoteattr(peer)}/>" for peer in peers)
    # Fragments of 64 kB let images through to Fast DDS (180 of 180 arrive, by default 36 of 210). On a real network each
    # would be cut into 44 packets, of which all must arrive.
    sizes = "<MaxMessageSize>65500B</MaxMessageSize><FragmentSize>65000B</FragmentSize>" if interface in LOOPBACK else ""
    # 60 processes can be found on a host: each takes a port of its own, and each asks so many ports of every peer.
    return (
        f'<CycloneDDS><Domain Id="any"><General><Interfaces><NetworkInterface {chosen}={quoteattr(interface)}/></Interfaces>'
        f"<AllowMulticast>{multicast}</AllowMulticast>{sizes}</General>"
        f"<Discovery><ParticipantIndex>auto</ParticipantIndex><MaxAutoParticipantIndex>59</MaxAutoParticipantIndex>"
        f"<Peers>{asked}</Peers></Discovery>"
        f'<Internal><SocketReceiveBufferSize min="default" max="4MB"/></Internal></Domain></CycloneDDS>'
    )
