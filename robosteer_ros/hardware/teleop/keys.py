"""Keys of a terminal, as they are pressed."""

from __future__ import annotations

import os
import select
import sys
import termios
import tty
from contextlib import suppress


class Keys:
    """A context manager in which the terminal hands on each key at once and does not show it; Ctrl-C stays what it is.

    Hears nothing where it is not `wanted`, or where standard input is no terminal.
    """

    def __init__(self, wanted: bool = True) -> None:
        self.listening = wanted and sys.stdin is not None and sys.stdin.isatty()
        self._before: list | None = None

    def __enter__(self) -> Keys:
        if self.listening:
            self._file = sys.stdin.fileno()
            self._before = termios.tcgetattr(self._file)
            tty.setcbreak(self._file)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            with suppress(termios.error):  # a terminal that was closed
                termios.tcsetattr(self._file, termios.TCSADRAIN, self._before)

    def read(self) -> str:
        """What has been typed since the last read. Never waits."""
        typed = b""
        while self.listening and select.select([self._file], [], [], 0)[0]:
            some = os.read(self._file, 1024)
            if not some:
                self.listening = False  # the terminal has gone
            typed += some
        return typed.decode(errors="replace")
