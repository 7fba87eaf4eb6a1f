"""Log messages on stderr and on /rosout, with the names of rclpy.logging and the lines of rcutils."""

from __future__ import annotations

import inspect
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from enum import IntEnum


class LoggingSeverity(IntEnum):
    UNSET = 0
    DEBUG = 10
    INFO = 20
    WARN = 30
    ERROR = 40
    FATAL = 50


_levels: dict[str, int] = {"": LoggingSeverity.INFO}
_publishers: dict[str, Callable] = {}  # name of a logger -> writes a record to /rosout
_lock = threading.Lock()
_FORMAT = "[{severity}] [{time}] [{name}]: {message}"


def weak_method(callback: Callable) -> Callable[[], None]:
    """A call that does nothing once the object of the method is gone."""
    if not inspect.ismethod(callback):
        return callback
    reference = weakref.WeakMethod(callback)
    return lambda: (found := reference()) and found()


def set_logger_level(name: str, level: int, detailed_error: bool = False) -> None:
    """The least severity that is logged: of a logger and what is below it, "" all."""
    _levels[name] = LoggingSeverity(level)


def get_logger_level(name: str) -> LoggingSeverity:
    return LoggingSeverity(_levels.get(name, LoggingSeverity.UNSET))


def get_logger_effective_level(name: str) -> LoggingSeverity:
    while name and not _levels.get(name):
        name = name.rpartition(".")[0]
    return LoggingSeverity(_levels.get(name) or LoggingSeverity.INFO)


def get_logger(name: str) -> Logger:
    if not name:
        raise ValueError("Logger name must not be empty.")
    return Logger(name)


def add_rosout(name: str, publish: Callable) -> None:
    """Records of logger `name`, and of those below it, go to `publish(severity, name, message, caller)`."""
    with _lock:
        _publishers[name] = publish


def remove_rosout(name: str) -> None:
    with _lock:
        _publishers.pop(name, None)


class Logger:
    """A named logger; its children are named below it: "camera.driver"."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._seen: dict[tuple, float] = {}  # place in the code -> when it was logged last
        self._severities: dict[tuple, LoggingSeverity] = {}

    def get_child(self, name: str) -> Logger:
        if not name:
            raise ValueError("Child logger name must not be empty.")
        return Logger(f"{self.name}.{name}")

    def set_level(self, level: int) -> None:
        set_logger_level(self.name, level)

    def get_effective_level(self) -> LoggingSeverity:
        return get_logger_effective_level(self.name)

    def is_enabled_for(self, severity: int) -> bool:
        return severity >= self.get_effective_level()

    def debug(self, message: str, **options) -> bool:
        return self._log(message, LoggingSeverity.DEBUG, options)

    def info(self, message: str, **options) -> bool:
        return self._log(message, LoggingSeverity.INFO, options)

    def warning(self, message: str, **options) -> bool:
        return self._log(message, LoggingSeverity.WARN, options)

    def warn(self, message: str, **options) -> bool:
        return self._log(message, LoggingSeverity.WARN, options)

    def error(self, message: str, **options) -> bool:
        return self._log(message, LoggingSeverity.ERROR, options)

    def fatal(self, message: str, **options) -> bool:
        return self._log(message, LoggingSeverity.FATAL, options)

    def log(self, message: str, severity: int, **options) -> bool:
        return self._log(message, LoggingSeverity(severity), options)

    def _log(self, message: str, severity: LoggingSeverity, options: dict) -> bool:
        """Whether the message was logged. Options: once, skip_first, throttle_duration_sec, per place in the code.

        Raises ValueError where a place in the code changes its severity, as rclpy does.
        """
        unknown = set(options) - {"name", "once", "skip_first", "throttle_duration_sec", "throttle_time_source_type"}
        if unknown:
            raise TypeError(f"unknown logging options: {', '.join(sorted(unknown))}")
        if not self.is_enabled_for(severity):
            return False
        caller = sys._getframe(2)
        place = (caller.f_code, caller.f_lasti)
        if self._severities.setdefault(place, severity) != severity:
            raise ValueError("Logger severity cannot be changed between calls.")
        if options and not self._due(place, options):
            return False
        now_ns = time.time_ns()
        seconds, nanoseconds = divmod(now_ns, 1_000_000_000)
        line = os.environ.get("RCUTILS_CONSOLE_OUTPUT_FORMAT", _FORMAT).format_map(_Tokens(
            severity=severity.name, time=f"{seconds}.{nanoseconds:09}", name=self.name, message=message,
            function_name=caller.f_code.co_name, file_name=caller.f_code.co_filename, line_number=caller.f_lineno,
        ))  # fmt: skip
        # In one piece: print would let lines of other threads in before the end of this one.
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
        publish = self._rosout()
        if publish is not None:
            publish(now_ns, severity, self.name, str(message), caller)
        return True

    def _rosout(self) -> Callable | None:
        name = self.name
        with _lock:
            while name and name not in _publishers:
                name = name.rpartition(".")[0]
            return _publishers.get(name)

    def _due(self, place: tuple, options: dict) -> bool:
        last, now = self._seen.get(place), time.monotonic()
        if last is None and options.get("skip_first"):
            self._seen[place] = float("-inf")
            return False
        if last is not None and options.get("once"):
            return False
        period = options.get("throttle_duration_sec", 0)
        if last is not None and now - last < period:
            return False
        self._seen[place] = now
        return True


class _Tokens(dict):
    def __missing__(self, token: str) -> str:
        return f"{{{token}}}"
