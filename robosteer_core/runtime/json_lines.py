"""Requests and replies between processes: one JSON object a line over TCP, each line answered by one line."""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Callable

from robosteer_core.errors import UserError

logger = logging.getLogger(__name__)

#: The longest line that is read, bytes: a chunk of a thousand actions takes 150 kB.
MAX_LINE = 1_000_000
CONNECT_TIMEOUT_S = 3.0


def split_address(address: str) -> tuple[str, int]:
    """`host:port`; the rig has checked its form."""
    host, port = address.rsplit(":", 1)
    return host, int(port)


class Refused(UserError):
    """The other process has understood the request and says no; the connection goes on."""


class LineServer:
    """Listens at `address` and answers each line by `answer(message, peer)`, in one thread per connection.

    `peer` is a token, the same for all requests of one connection. A UserError of `answer`, and a line that is no JSON
    object, are answered by `{"error": ...}` and leave the connection open. `gone(peer)` is called when it closes.
    Raises UserError when the address cannot be listened on.
    """

    def __init__(
        self, address: str, answer: Callable[[dict, object], dict], gone: Callable[[object], None], what: str
    ) -> None:
        self._answer, self._gone, self._what = answer, gone, what
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._closed = False
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._listener.bind(split_address(address))
        except OSError as error:
            self._listener.close()
            raise UserError(
                f"{what} cannot listen at {address}: {error.strerror}; another one may be running, or the rig names an "
                "address of another machine"
            ) from error
        self._listener.listen()
        threading.Thread(target=self._accept, name=f"{what} listener", daemon=True).start()

    @property
    def address(self) -> str:
        """Where it listens: with port 0 asked for, the port that was given."""
        host, port = self._listener.getsockname()
        return f"{host}:{port}"

    def close(self) -> None:
        """Close the listener and every connection."""
        with self._lock:
            self._closed = True
            connections = list(self._open)
        for each in [self._listener, *connections]:
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # The other side was faster.
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                if self._closed:
                    connection.close()
                    return
                self._open.add(connection)
            threading.Thread(target=self._serve, args=(connection,), name=self._what, daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        prepare(connection)
        peer = object()
        try:
            with connection, connection.makefile("rb") as lines:
                while line := lines.readline(MAX_LINE + 1):
                    if len(line) > MAX_LINE:
                        connection.sendall(_encode({"error": f"a line has at most {MAX_LINE} bytes"}))
                        return
                    connection.sendall(_encode(self._reply(line, peer)))
        except OSError:
            logger.debug("%s: a connection broke", self._what, exc_info=True)
        finally:
            with self._lock:
                self._open.discard(connection)
            self._gone(peer)

    def _reply(self, line: bytes, peer: object) -> dict:
        try:
            message = json.loads(line)
        except ValueError as error:
            return {"error": f"expected one JSON object a line; this line is not JSON: {error}"}
        if not isinstance(message, dict):
            return {"error": f"expected a JSON object, found {type(message).__name__}"}
        try:
            return self._answer(message, peer)
        except UserError as error:
            return {"error": str(error)}


class LineClient:
    """One connection to a LineServer. `request` may be called from several threads; `what` and `hint` word the errors."""

    def __init__(self, address: str, what: str, hint: str) -> None:
        self._address, self._what, self._hint = address, what, hint
        self._lock = threading.Lock()
        try:
            self._socket = socket.create_connection(split_address(address), timeout=CONNECT_TIMEOUT_S)
        except OSError as error:
            raise UserError(f"no {what} at {address} ({error.strerror or error}); {hint}") from error
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._lines = self._socket.makefile("rb")

    def request(self, message: dict, timeout_s: float) -> dict:
        """Send one message and return its reply. Raises Refused, or UserError when the link is lost."""
        with self._lock:
            try:
                self._socket.settimeout(timeout_s)
                self._socket.sendall(_encode(message))
                line = self._lines.readline()
            except OSError as error:
                # A reply that comes late would be taken for the next one's.
                self.close()
                raise UserError(
                    f"the {self._what} at {self._address} did not answer within {timeout_s:.0f} s; {self._hint}"
                    if isinstance(error, TimeoutError)
                    else f"the connection to the {self._what} at {self._address} is lost: {error}; {self._hint}"
                ) from error
        if not line.endswith(b"\n"):
            raise UserError(f"the {self._what} at {self._address} has closed the connection; {self._hint}")
        reply = json.loads(line)
        if "error" in reply:
            raise Refused(reply["error"])
        return reply

    def close(self) -> None:
        """End the connection; a `request` that waits in another thread raises."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # The other side was faster.
        self._lines.close()
        self._socket.close()


def prepare(connection: socket.socket) -> None:
    """Send small messages at once, and notice a peer whose machine has gone without a word: after 5 s of silence it is
    asked, 3 times."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in ((socket.TCP_KEEPIDLE, 5), (socket.TCP_KEEPINTVL, 2), (socket.TCP_KEEPCNT, 3)):
        connection.setsockopt(socket.IPPROTO_TCP, option, value)


def _encode(message: dict) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"
