"""SIGINT and SIGTERM end the default context and wake who spins, with the names of rclpy.signals.

Python runs its handlers between two of its own instructions in the main thread, and that thread may sit in a wait of DDS.
So a thread of ours hears of signals by Python's wake-up descriptor and ends the wait.
"""

from __future__ import annotations

import os
import signal
import threading
from enum import IntEnum

from robosteer_ros.ros.dds.context import get_default_context


class SignalHandlerOptions(IntEnum):
    NO = 0
    SIGINT = 1
    SIGTERM = 2
    ALL = 3


_installed: dict[int, object] = {}
_wakeup: tuple[int, int, int] | None = None  # our end, Python's end, the descriptor that was there before


def _on_sigterm(number, frame) -> None:
    get_default_context().interrupt()


def _listen(descriptor: int) -> None:
    while octets := os.read(descriptor, 64):
        if any(number in _installed for number in octets):
            get_default_context().interrupt()


def install_signal_handlers(options: SignalHandlerOptions = SignalHandlerOptions.ALL) -> None:
    """End the context at these signals. After SIGINT, KeyboardInterrupt follows, as without ROS."""
    global _wakeup
    if threading.current_thread() is not threading.main_thread():
        return  # Python sets handlers in the main thread alone
    if options & SignalHandlerOptions.SIGTERM and signal.SIGTERM not in _installed:
        _installed[signal.SIGTERM] = signal.signal(signal.SIGTERM, _on_sigterm)
    if options & SignalHandlerOptions.SIGINT and signal.SIGINT not in _installed:
        if signal.getsignal(signal.SIGINT) in (signal.SIG_IGN, signal.SIG_DFL):  # as a shell starts what runs behind
            _installed[signal.SIGINT] = signal.signal(signal.SIGINT, signal.default_int_handler)
        else:
            _installed[signal.SIGINT] = signal.getsignal(signal.SIGINT)
    if _installed and _wakeup is None:
        ours, pythons = os.pipe()
        os.set_blocking(pythons, False)
        _wakeup = ours, pythons, signal.set_wakeup_fd(pythons, warn_on_full_buffer=False)
        threading.Thread(target=_listen, args=(ours,), name="ros signals", daemon=True).start()


def uninstall_signal_handlers() -> None:
    """Put back the handlers that were there before."""
    global _wakeup
    if threading.current_thread() is not threading.main_thread():
        return
    for number, handler in _installed.items():
        signal.signal(number, handler)
    _installed.clear()
    if _wakeup is not None:
        ours, pythons, before = _wakeup
        signal.set_wakeup_fd(before)
        os.close(pythons)  # the thread reads the end and leaves
        _wakeup = None
