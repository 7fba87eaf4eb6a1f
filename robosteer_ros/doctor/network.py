"""The way to the robot: interface, and the times of round trips."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

from robosteer_core.rig import Rig
from robosteer_ros.doctor.finding import Finding, fail, ok, warn
from robosteer_ros.ros.network import address_of

PINGS, PERIOD_S, PAYLOAD, PATIENCE_S = 500, 2e-3, 1200, 0.1
"""Franka's own test of a network sends packets of 1200 bytes."""
CYCLE_MS = 1.0
"""A cycle of FCI: the robot wants its answer within it."""


def findings(rig: Rig) -> Iterator[Finding]:
    try:
        address = socket.gethostbyname(rig.arm.address)
    except OSError as error:
        yield fail("network", f"{rig.arm.address} is not known: {error.strerror}", "correct `arm: {address: ...}` in the rig")
        return
    yield interface(address)
    yield round_trips(address)


def interface(address: str) -> Finding:
    """The interface by which packets to `address` leave. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, 1337))
        except OSError as error:
            cure = "give this machine an address in the robot's network"
            return fail("network", f"there is no way to {address}: {error.strerror}", cure)
        local = probe.getsockname()[0]
    if local.startswith("127."):
        return ok("network", f"{address} is this machine")
    name = next((name for _, name in socket.if_nameindex() if address_of(name) == local), None)
    if name is None:
        return warn("network", f"{address} by {local}, whose interface is not known", "look at `ip addr`")
    device = Path("/sys/class/net") / name
    found, cures = f"{address} by {name} ({local})", []
    if (device / "wireless").exists():
        return fail("network", f"{found}, which is Wi-Fi", "connect the robot's control box by cable")
    try:
        speed = int((device / "speed").read_text())
    except (OSError, ValueError):
        speed = -1
    if speed > 0:
        found += f", {speed} Mbit/s"
        if speed < 1000:
            cures.append("a cable and a card for 1000 Mbit/s")
    if "usb" in str((device / "device").resolve()):
        found += ", a USB adapter"
        cures.append("a network card of the computer's own instead of the USB adapter")
    if _through_gateway(address):
        found += ", through a gateway"
        cures.append("a cable from this computer to the control box, with nothing between")
    return warn("network", found, f"take {'; '.join(cures)}") if cures else ok("network", found)


def round_trips(address: str, count: int = PINGS) -> Finding:
    """Echoes (ICMP) of 1200 bytes, one every 2 ms, each waited for."""
    try:
        peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)
        header = 0
    except PermissionError:
        try:
            peer = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
            header = 20  # a raw socket gives the IP header as well
        except PermissionError:
            cure = f"type `sudo ping {address} -i 0.001 -c 10000 -s {PAYLOAD}`: a maximum below {CYCLE_MS:g} ms is good; or permit it: "
            return warn("round trips", "this user may not send echo requests", cure + "sudo sysctl net.ipv4.ping_group_range='0 2147483647'")
    times_ms, mark = [], os.urandom(8)
    with peer:
        peer.settimeout(PATIENCE_S)
        for number in range(1, count + 1):
            began = time.perf_counter()
            try:
                peer.sendto(_echo_request(number, mark), (address, 0))
                while True:
                    kind, sequence, marked = _read_echo(peer.recv(2048)[header:])
                    if kind == 0 and sequence == number and marked == mark:
                        break
                    if time.perf_counter() - began > PATIENCE_S:
                        raise TimeoutError
            except TimeoutError:
                if not times_ms and number >= 5:
                    return fail("round trips", f"{address} does not answer", "check its power, the cable, and the addresses of both")
                continue
            except OSError as error:
                return fail("round trips", f"{address}: {error.strerror}", "check the cable, and the addresses of both")
            times_ms.append((time.perf_counter() - began) * 1e3)
            time.sleep(max(0.0, PERIOD_S - (time.perf_counter() - began)))
    times_ms.sort()
    p50, p99, most = (times_ms[int(part * (len(times_ms) - 1))] for part in (0.5, 0.99, 1.0))
    lost = count - len(times_ms)
    found = f"{p50:.2f} ms (p50), {p99:.2f} ms (p99), {most:.2f} ms (most), {lost} of {count} lost"
    cure = "take the robot off switches and shared networks; end what else loads this machine; see Franka's network test"
    if lost > count // 100 or p99 > CYCLE_MS:
        # On one's own machine nothing but load makes it slow, and the lab's robot waits.
        return (warn if address.startswith("127.") else fail)("round trips", found, cure)
    return warn("round trips", found, cure) if lost or most > CYCLE_MS else ok("round trips", found)


def _echo_request(number: int, mark: bytes) -> bytes:
    body = mark + bytes(PAYLOAD - len(mark))
    packet = struct.pack(">BBHHH", 8, 0, 0, os.getpid() & 0xFFFF, number) + body
    total = sum(struct.unpack(f">{len(packet) // 2}H", packet))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return packet[:2] + struct.pack(">H", ~total & 0xFFFF) + packet[4:]


def _read_echo(packet: bytes) -> tuple[int, int, bytes]:
    """Type (0: an answer), number and mark."""
    return packet[0], int.from_bytes(packet[6:8], "big"), packet[8:16]


def _through_gateway(address: str) -> bool:
    """By the longest prefix in /proc/net/route that holds the address."""
    target = int.from_bytes(socket.inet_aton(address), "little")
    best, gateway = -1, 0
    for line in Path("/proc/net/route").read_text().splitlines()[1:]:
        words = line.split()
        destination, by, mask = int(words[1], 16), int(words[2], 16), int(words[7], 16)
        if target & mask == destination and mask.bit_count() > best:
            best, gateway = mask.bit_count(), by
    return gateway != 0
