"""Waiting, without polling, for another process to change a counter in shared memory."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import platform
import time

#: Number of the futex system call (linux/arch/*/syscalls), by machine.
_FUTEX_CALL = {"x86_64": 202, "aarch64": 98}.get(platform.machine()) if platform.system() == "Linux" else None
_FUTEX_WAIT, _FUTEX_WAKE = 0, 1
_POLL_S = 0.0005


class _Timespec(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]


class Doorbell:
    """A 32-bit counter at `offset` of a shared mapping: one process counts up, any number of others wait for it.

    Linux futexes do the waiting (futex(2)); on other systems and machines the counter is polled every 0.5 ms.
    """

    def __init__(self, mapping: mmap.mmap, offset: int) -> None:
        self._word = ctypes.c_uint32.from_buffer(mapping, offset)
        self._system_call = ctypes.CDLL(None, use_errno=True).syscall if _FUTEX_CALL is not None else None

    @property
    def count(self) -> int:
        return self._word.value

    def ring(self, count: int) -> None:
        """Set the counter and wake everybody who waits."""
        self._word.value = count
        if self._system_call is not None:
            self._futex(_FUTEX_WAKE, 2**31 - 1, None)

    def wait(self, seen: int, timeout_s: float) -> int:
        """Block until the counter differs from `seen`, at most `timeout_s`; returns the counter."""
        deadline = time.monotonic() + timeout_s
        while (count := self._word.value) == seen and (left_s := deadline - time.monotonic()) > 0:
            if self._system_call is None:
                time.sleep(min(_POLL_S, left_s))
                continue
            # The wake-up of a count that was seen already may still arrive: only the counter decides.
            self._futex(_FUTEX_WAIT, seen, _Timespec(int(left_s), int(left_s % 1 * 1e9)))
        return count

    def release(self) -> None:
        """Let go of the mapping, so that it can be closed."""
        self._word = None

    def _futex(self, operation: int, value: int, timeout: _Timespec | None) -> int:
        result = self._system_call(
            ctypes.c_long(_FUTEX_CALL),
            ctypes.c_void_p(ctypes.addressof(self._word)),
            ctypes.c_int(operation),
            ctypes.c_uint32(value),
            ctypes.byref(timeout) if timeout is not None else None,
            None,
            ctypes.c_int(0),
        )
        if result < 0:
            number = ctypes.get_errno()
            if number not in (errno.EAGAIN, errno.EINTR, errno.ETIMEDOUT):
                raise OSError(number, os.strerror(number))
        return result
