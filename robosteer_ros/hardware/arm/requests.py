"""What is asked of the thread of control: one motion at a time, and a stop at any time."""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass, field

from robosteer_core.errors import UserError

TIMEOUT_S = 8.0


@dataclass
class Request:
    """Is `done` when it is answered: carried out or begun, or with an `error` refused. What is `abandoned` must not happen."""

    name: str
    commander: str | None
    done: threading.Event = field(default_factory=threading.Event)
    error: str | None = None
    abandoned: bool = False


class Requests:
    """Other threads `ask`, `release` and `stop`; the thread of control takes the `next` request, says what it will `begin`, and
    when it is `at_rest`. A stop is one of the motion that runs, and of one that is asked for and has not begun.

    `motion` is what runs or is about to, None at rest; `stop_asked` that it shall end; `latched` a stop that stands.
    """

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Request] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self.motion: str | None = None
        self.stop_asked = self.latched = False

    def ask(self, name: str, commander: str | None) -> None:
        """Have `name` carried out; returns when it is answered. Raises UserError saying why not."""
        with self._lock:
            if self.latched and name not in ("recover", "guide"):
                raise UserError(f"the arm was stopped and stays so until it is recovered: look why, then recover it before it may {name}")
            if self.motion is not None:
                raise UserError(f"the arm is moving ({self.motion}): stop it and let it rest before it may {name}")
            # From here on a stop is one of this motion, although it has not begun.
            self.motion = f"about to {name}"
        request = Request(name, commander)
        self._queue.put(request)
        if not request.done.wait(TIMEOUT_S):
            # What nobody waits for any more must not happen later.
            request.abandoned = True
            self.release()
            raise UserError(
                f"the arm did not {name} within {TIMEOUT_S:.0f} s; in the lab, time may be held by another "
                "participant: reset with hold, or leave the clock, before asking the arm to move"
            )
        if request.error is not None:
            raise UserError(request.error)

    def release(self) -> None:
        """The motion shall end."""
        with self._lock:
            self.stop_asked = self.motion is not None

    def stop(self) -> None:
        """The motion shall end, and none begin before `recovered`."""
        with self._lock:
            self.latched = True
            self.stop_asked = self.motion is not None

    def next(self, timeout_s: float) -> Request | None:
        """The oldest request that waits, or None when none comes in time."""
        try:
            return self._queue.get(timeout=timeout_s)
        except queue.Empty:
            return None

    def begin(self, motion: str) -> None:
        """The last moment before something moves. Raises UserError where a stop was asked for meanwhile."""
        with self._lock:
            if self.stop_asked:
                raise UserError(f"a stop was asked for before the arm began to move ({motion})")
            self.motion = motion

    def at_rest(self) -> None:
        with self._lock:
            self.motion, self.stop_asked = None, False
