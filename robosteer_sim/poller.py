"""Many sockets served by one thread."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable


class Poller:
    """Calls `ready()` of each registered socket that something has arrived at."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._ready: dict[int, Callable[[], None]] = {}

    def register(self, each: socket.socket, ready: Callable[[], None]) -> None:
        self._ready[each.fileno()] = ready
        self._epoll.register(each, select.EPOLLIN)

    def suspend(self, each: socket.socket) -> None:
        """Leave what arrives where it is, until `register`."""
        self._epoll.unregister(each)

    def close(self, each: socket.socket) -> None:
        """Forget a socket and close it."""
        self._ready.pop(each.fileno(), None)
        try:
            self._epoll.unregister(each)
        except (OSError, ValueError):
            pass  # Closed already.
        each.close()

    def poll(self, timeout_s: float) -> None:
        """Serve what has arrived; wait at most `timeout_s` for something to arrive."""
        for fd, _ in self._epoll.poll(timeout_s):
            # An earlier one of this batch may have closed it.
            ready = self._ready.get(fd)
            if ready is not None:
                ready()
