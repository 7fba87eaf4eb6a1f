"""TCP sockets of this machine and who has them, as /proc tells."""

from __future__ import annotations

import re
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

LISTENS, ESTABLISHED = 0x0A, 0x01


@dataclass(frozen=True)
class Socket:
    """Addresses as "127.0.0.1"; an address of zeros stands for all. IPv4 alone: neither FCI nor the rig's ports are IPv6."""

    local: tuple[str, int]
    peer: tuple[str, int]
    state: int
    inode: int


def tcp_sockets() -> list[Socket]:
    found = []
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        found.append(Socket(_address(words[1]), _address(words[2]), int(words[3], 16), int(words[9])))
    return found


def listener(host: str, port: int) -> Socket | None:
    """Who listens there, or on all addresses."""
    at = ((host, port), ("0.0.0.0", port))
    return next((one for one in tcp_sockets() if one.state == LISTENS and one.local in at), None)


def holder(host: str, port: int, but_us: bool = False) -> str | None:
    """The process of this machine, maybe another than this one, that is connected with that port, in words; None where there is none."""
    try:
        peer = (socket.gethostbyname(host), port)
    except OSError:
        return None
    held = (one for one in tcp_sockets() if one.peer == peer and one.state == ESTABLISHED)
    return next((owner(one) for one in held if not (but_us and _has("self", one))), None)


def owner(found: Socket) -> str:
    """The process that has a socket, in words: "12 (robosteer sim serve)"."""
    for folder in Path("/proc").glob("[0-9]*"):
        if _has(folder.name, found):
            words = (folder / "cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
            return f"{folder.name} ({' '.join(words)[:120]})"
    return "a process of another user"


def _has(process: str, found: Socket) -> bool:
    """Whether a process, a number or "self", has the socket, as far as this user may look."""
    for link in Path("/proc", process, "fd").glob("*"):
        with suppress(OSError):
            if link.readlink() == Path(f"socket:[{found.inode}]"):
                return True
    return False


def _address(hexadecimal: str) -> tuple[str, int]:
    host, port = hexadecimal.split(":")
    return ".".join(str(int(octet, 16)) for octet in reversed(re.findall("..", host))), int(port, 16)
