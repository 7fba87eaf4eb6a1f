"""Which version of the FCI a robot speaks, which one the installed binding speaks, and what to install so that they agree.

Source: libfranka's compatibility matrix (docs/compatibility_matrix.rst) and the wheels of franky (its README).
"""

from __future__ import annotations

import re
import socket
import struct
from importlib.metadata import PackageNotFoundError, files

from robosteer_core.errors import UserError

FCI_PORT = 1337
#: The distribution of each driver of a rig; it carries its libfranka.
DISTRIBUTIONS = {"franky": "franky-control", "panda_py": "panda-python"}
PANDA, FR3 = 5, 10
"""The versions of the bindings that the extras `panda` and `ros` install."""

_HEADER = struct.Struct("<III")  # command, command id, size with the header
_CONNECT = 0
#: A version that no robot speaks: the robot answers with its own and opens no session, so that nobody is in the way.
_NO_VERSION = 0
#: The first libfranka of each server version, newest first.
_SERVERS = (((0, 18), 10), ((0, 15), 9), ((0, 14), 8), ((0, 13), 7), ((0, 10), 6), ((0, 9), 5), ((0, 8), 4), ((0, 7), 3))
#: By server version the libfranka that franky's wheels for it are built with.
_FRANKY_BUILDS = {3: "0-7-1", 4: "0-8-0", 6: "0-12-1", 7: "0-13-3", 8: "0-14-2", 9: "0-17-0"}


def robot_version(address: str, timeout_s: float = 2.7) -> int:
    """The server version of the robot at `address`, without opening a session. Raises OSError where nobody answers, UserError
    where what answers is no robot."""
    body = struct.pack("<HH", _NO_VERSION, 0)
    with socket.create_connection((address, FCI_PORT), timeout_s) as peer:
        peer.sendall(_HEADER.pack(_CONNECT, 1, _HEADER.size + len(body)) + body)
        answer = b""
        while len(answer) < _HEADER.size + 3:
            answer += (part := peer.recv(64))
            if not part:
                break
    try:
        command, _, _ = _HEADER.unpack_from(answer)
        _, version = struct.unpack_from("<BH", answer, _HEADER.size)  # status, version
    except struct.error:
        version = command = -1
    if command != _CONNECT or not 1 <= version < 100:
        raise UserError(f"what listens at {address}:{FCI_PORT} is no robot: it answered {answer[:32].hex() or 'nothing'}")
    return version


def binding_version(driver: str) -> int | None:
    """The server version that the installed binding speaks, by the libfranka in its wheel; None where that is not known.
    Raises UserError where the binding is not installed."""
    try:
        names = [file.name for file in files(DISTRIBUTIONS[driver]) or ()]
    except PackageNotFoundError:
        raise UserError(f"{DISTRIBUTIONS[driver]} is not installed") from None
    for name in names:
        if found := re.fullmatch(r"libfranka.*\.so\.(\d+)\.(\d+)(\.\d+)*", name):
            carried = int(found[1]), int(found[2])
            return next((server for first, server in _SERVERS if carried >= first), None)
    return None


def what_fits(spoken: int) -> str:
    """The robot that speaks this server version, and what to install for it, in words."""
    if spoken == PANDA:
        return (
            "a Panda: in the rig, `arm: {model: panda}` takes panda-python (pip install -e '.[panda]'), which speaks version 5; "
            "so does a franky wheel for it (franky's README) with `driver: franky`"
        )
    if spoken >= FR3:
        return "an FR3: in the rig, `arm: {model: fr3}` takes franky (pip install -e '.[ros]'), which speaks version 10"
    robot = "a Panda with an older system" if spoken < PANDA else "an FR3 with an older system"
    if (build := _FRANKY_BUILDS.get(spoken)) is None:
        return f"{robot}, for which there is no binding: update the robot"
    archive = f"libfranka_{build}_wheels.zip"
    return (
        f"{robot}: update it, or install franky's wheel for it: "
        f"wget https://github.com/TimSchneider42/franky/releases/latest/download/{archive} && unzip {archive} && "
        "pip install --no-index --no-deps --force-reinstall --find-links=./dist franky-control"
    )
