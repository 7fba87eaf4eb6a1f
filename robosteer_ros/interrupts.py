"""What ends a command: Ctrl-C, SIGTERM, and a terminal that is closed."""

from __future__ import annotations

import errno
import os
import signal
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def signals_to(handler: Callable[..., object]) -> Iterator[None]:
    """SIGNALS call `handler(number, frame)` until the end of the block. Under `nohup` the end of the terminal is none of them.

    A block that fails because it spoke to the closed terminal before it heard of its end raises KeyboardInterrupt instead."""
    deaf_to_hangup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    closed = False

    def caught(number: int, frame: object) -> None:
        nonlocal closed
        if number == signal.SIGHUP:
            closed |= _leave_terminal()
        handler(number, frame)

    before = {number: signal.signal(number, caught) for number in SIGNALS if number != signal.SIGHUP or not deaf_to_hangup}
    try:
        yield
    except OSError as error:
        if error.errno == errno.EIO and (closed or _leave_terminal()):
            raise KeyboardInterrupt from error
        raise
    finally:
        for number, was in before.items():
            signal.signal(number, was)


def _leave_terminal() -> bool:
    """Whether the terminal was closed. What is said to it goes nowhere from now on: to say it must not fail who has an arm to stop."""
    closed = False
    for descriptor in (1, 2):
        try:
            termios.tcgetattr(descriptor)
        except termios.error as error:
            if error.args[0] == errno.EIO:
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, descriptor)
                os.close(nowhere)
                closed = True
    return closed
