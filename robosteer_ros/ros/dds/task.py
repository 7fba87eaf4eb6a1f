"""Futures and tasks with the names of rclpy.task."""

from __future__ import annotations

import inspect
import sys
import threading
import warnings
import weakref
from collections.abc import Callable


class Future:
    """The outcome of something that is not done yet. Done callbacks run on the executor, where there is one."""

    def __init__(self, *, executor=None) -> None:
        self._done = self._cancelled = False
        self._result = None
        self._exception: BaseException | None = None
        self._exception_fetched = False
        self._callbacks: list[Callable] = []
        self._lock = threading.Lock()
        self._set_executor(executor)

    def __del__(self) -> None:
        if self._exception is not None and not self._exception_fetched:
            print(f"The following exception was never retrieved: {self._exception}", file=sys.stderr)

    def __await__(self):
        while not self._done:
            yield self
        return self.result()

    def _set_executor(self, executor) -> None:
        self._executor = (lambda: None) if executor is None else weakref.ref(executor)

    def cancel(self) -> None:
        with self._lock:
            if not self._done:
                self._cancelled = True
        self._call_back()

    def cancelled(self) -> bool:
        return self._cancelled

    def done(self) -> bool:
        return self._done

    def result(self):
        """What was set; None before. Raises the exception that was set."""
        if self._exception is not None:
            self._exception_fetched = True
            raise self._exception
        return self._result

    def exception(self) -> BaseException | None:
        self._exception_fetched = True
        return self._exception

    def set_result(self, result) -> None:
        self._finish(result, None)

    def set_exception(self, exception: BaseException) -> None:
        self._finish(None, exception)

    def _finish(self, result, exception: BaseException | None) -> None:
        with self._lock:
            self._result, self._exception, self._exception_fetched = result, exception, False
            self._done, self._cancelled = True, False
        self._call_back()

    def _call_back(self) -> None:
        with self._lock:
            callbacks, self._callbacks = self._callbacks, []
        executor = self._executor()
        for callback in callbacks:
            if executor is not None:
                executor.create_task(callback, self)
                continue
            try:
                callback(self)
            except Exception as error:  # the callbacks after it are called all the same
                warnings.warn(f"Unhandled exception in done callback: {error}", stacklevel=2)

    def add_done_callback(self, callback: Callable[[Future], None]) -> None:
        """Call `callback(future)` when done; at once where it is."""
        with self._lock:
            if not self._done:
                self._callbacks.append(callback)
                return
        executor = self._executor()
        if executor is not None:
            executor.create_task(callback, self)
        else:
            callback(self)


class Task(Future):
    """A function or coroutine that an executor runs. A coroutine that awaits a future goes on when that is done."""

    def __init__(self, handler: Callable, args=(), kwargs=None, executor=None) -> None:
        super().__init__(executor=executor)
        self._handler = handler(*args, **(kwargs or {})) if inspect.iscoroutinefunction(handler) else handler
        self._args, self._kwargs = tuple(args or ()), kwargs or {}
        self._running = threading.Lock()

    def executing(self) -> bool:
        return self._running.locked()

    def __call__(self) -> None:
        """Run, or go on; a failure is the task's exception."""
        if self._done or not self._running.acquire(blocking=False):
            return
        try:
            if not inspect.iscoroutine(self._handler):
                self.set_result(self._handler(*self._args, **self._kwargs))
                return
            awaited = self._handler.send(None)
        except StopIteration as stop:
            self.set_result(stop.value)
            return
        except Exception as error:
            self.set_exception(error)
            return
        finally:
            self._running.release()
        executor = self._executor()
        if executor is None:
            return
        if isinstance(awaited, Future):
            awaited.add_done_callback(lambda _: executor._resume(self))
        else:
            executor._resume(self)
