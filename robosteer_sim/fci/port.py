"""One TCP port of the robot: requests of one client, and the UDP link that it asks for."""

from __future__ import annotations

import logging
import socket
import struct
from collections.abc import Callable

from robosteer_core.errors import UserError
from robosteer_core.runtime.json_lines import prepare
from robosteer_sim.fci.wire import CONNECT_REQUEST
from robosteer_sim.poller import Poller

logger = logging.getLogger(__name__)

_CONNECT, _CONNECT_SUCCESS, _CONNECT_INCOMPATIBLE = 0, 0, 1
_LARGEST_MESSAGE = 100_000
_REPLY_TIMEOUT_S = 1.0


class FciPort:
    """Does the Connect handshake, and hands the client's complete requests to `handle(command, id, payload)`.

    Anyone may open a connection; who says Connect first is the client, and others that say it are turned away while it
    is there. `datagram(packet)` gets what the client sends by UDP; `lost()` is called when the client goes.
    `status_format` packs the status of a reply. Raises UserError when the port is taken.
    """

    def __init__(
        self, host: str, port: int, version: int, header: struct.Struct, status_format: str, poller: Poller,
        handle: Callable[[int, int, bytes], None], datagram: Callable[[bytes], None], lost: Callable[[], None],
    ) -> None:  # fmt: skip
        self._host, self._version, self._header, self._status_format = host, version, header, status_format
        self._poller, self._handle, self._datagram, self._lost = poller, handle, datagram, lost
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._listener.bind((host, port))
            self._listener.listen(8)
        except OSError as error:
            self._listener.close()
            raise UserError(
                f"cannot listen on {host}:{port}: {error.strerror}; another lab or robot server may be running there: "
                "stop it, or choose another address with --host"
            ) from error
        self._listener.setblocking(False)
        poller.register(self._listener, self._accept)
        self._buffers: dict[socket.socket, bytearray] = {}
        self._client: socket.socket | None = None
        self._udp: socket.socket | None = None
        self._silenced = False
        self._unsaid: list[tuple[socket.socket, bytes]] = []

    @property
    def connected(self) -> bool:
        """Whether a client has done its handshake and takes states."""
        return self._udp is not None

    def send_state(self, packet: bytes) -> None:
        try:
            self._udp.send(packet)
        except ConnectionRefusedError:
            # Nobody receives any more; on one machine that is known at once, and sooner than by TCP.
            self._drop(self._client)
        except OSError:
            pass  # Its buffer is full: the client will find a later packet.

    def reply(self, command: int, command_id: int, status: int, payload: bytes = b"") -> None:
        if self._client is not None:
            self._answer(self._client, command, command_id, struct.pack(self._status_format, status) + payload)

    def drop_client(self) -> None:
        self._drop(self._client)

    def silence(self) -> None:
        """Hear nothing and answer nothing until `resume`, as a server that hangs. States are the owner's to hold back."""
        self._silenced = True
        for each in filter(None, (self._listener, *self._buffers, self._udp)):
            self._poller.suspend(each)

    def resume(self) -> None:
        """Go on where `silence` began: answers that were due go out, what has arrived meanwhile is read."""
        self._silenced = False
        self._poller.register(self._listener, self._accept)
        for peer in self._buffers:
            self._listen(peer)
        if self._udp is not None:
            self._poller.register(self._udp, self._receive_datagram)
        unsaid, self._unsaid = self._unsaid, []
        for peer, message in unsaid:
            if peer in self._buffers:
                self._send(peer, message)

    def close(self) -> None:
        for each in list(self._buffers):
            self._drop(each)
        self._poller.close(self._listener)

    def _answer(self, peer: socket.socket, command: int, command_id: int, body: bytes) -> None:
        message = self._header.pack(command, command_id, self._header.size + len(body)) + body
        if self._silenced:
            self._unsaid.append((peer, message))
        else:
            self._send(peer, message)

    def _send(self, peer: socket.socket, message: bytes) -> None:
        try:
            peer.settimeout(_REPLY_TIMEOUT_S)
            peer.sendall(message)
            peer.setblocking(False)
        except OSError:
            self._drop(peer)

    def _accept(self) -> None:
        try:
            peer, _ = self._listener.accept()
        except OSError:
            return  # It has gone again.
        peer.setblocking(False)
        prepare(peer)
        self._buffers[peer] = bytearray()
        self._listen(peer)

    def _listen(self, peer: socket.socket) -> None:
        self._poller.register(peer, lambda: self._receive(peer))

    def _receive(self, peer: socket.socket) -> None:
        try:
            data = peer.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(peer)
            return
        buffer = self._buffers[peer]
        buffer += data
        while peer in self._buffers and len(buffer) >= self._header.size:
            command, command_id, size = self._header.unpack_from(buffer)
            if not self._header.size <= size <= _LARGEST_MESSAGE:
                logger.warning("a client sent a message of impossible size %d and is disconnected", size)
                self._drop(peer)
                return
            if len(buffer) < size:
                return
            payload = bytes(buffer[self._header.size : size])
            del buffer[:size]
            if command == _CONNECT:
                self._connect(peer, command_id, payload)
            elif peer is self._client:
                self._handle(command, command_id, payload)
            else:
                logger.warning("a connection that has not said Connect sends request %d and is closed", command)
                self._drop(peer)

    def _connect(self, peer: socket.socket, command_id: int, payload: bytes) -> None:
        if len(payload) < CONNECT_REQUEST.size:
            self._drop(peer)
            return
        version, udp_port = CONNECT_REQUEST.unpack_from(payload)
        if version != self._version:
            logger.warning("a client of version %d is refused: this server speaks version %d", version, self._version)
            self._answer(peer, _CONNECT, command_id, self._connect_body(_CONNECT_INCOMPATIBLE))
            return
        if self._client is not None and self._client is not peer:
            self._receive(self._client)  # The end of the previous client may lie there unread.
        if self._client is not None:
            logger.warning("%s is turned away: another client is connected", peer.getpeername())
            self._drop(peer)
            return
        self._client = peer
        self._answer(peer, _CONNECT, command_id, self._connect_body(_CONNECT_SUCCESS))
        if self._client is None:
            return
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind((self._host, 0))
        self._udp.connect((peer.getpeername()[0], udp_port))
        self._udp.setblocking(False)
        self._poller.register(self._udp, self._receive_datagram)

    def _connect_body(self, status: int) -> bytes:
        return struct.pack(self._status_format, status) + struct.pack("<H", self._version)

    def _receive_datagram(self) -> None:
        try:
            packet = self._udp.recv(2048)
        except ConnectionRefusedError:
            self._drop(self._client)
        except OSError:
            return
        else:
            self._datagram(packet)

    def _drop(self, peer: socket.socket | None) -> None:
        if self._buffers.pop(peer, None) is None:
            return
        self._poller.close(peer)
        if peer is self._client:
            self._client = None
            if self._udp is not None:
                self._poller.close(self._udp)
                self._udp = None
            self._lost()
