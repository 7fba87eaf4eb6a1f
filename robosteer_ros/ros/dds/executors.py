"""Executors with the names of rclpy.executors: they wait for work of their nodes and call back."""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ctypes import c_void_p

from cyclonedds.core import DDSException, Entity, GuardCondition, WaitSet

from robosteer_ros.ros.dds.context import Context, get_default_context
from robosteer_ros.ros.dds.exceptions import (
    ConditionReachedException,
    ExternalShutdownException,
    ShutdownException,
    TimeoutException,
)
from robosteer_ros.ros.dds.task import Future, Task

__all__ = [
    "ConditionReachedException", "Executor", "ExternalShutdownException", "MultiThreadedExecutor", "ShutdownException",
    "SingleThreadedExecutor", "TimeoutException",
]  # fmt: skip

_NEVER_NS = 2**63 - 1


class _Waiter(WaitSet):
    """A wait set that says which of its conditions are triggered."""

    def __init__(self, participant) -> None:
        super().__init__(participant)
        self._held: dict[int, Entity] = {}  # handle of a condition -> the condition
        self._asked: list[Entity] = []

    def hold(self, conditions: list[Entity]) -> None:
        """Wait for these conditions and no others."""
        if conditions == self._asked:
            return
        self._asked = conditions
        wanted = {condition._ref: condition for condition in conditions}
        for reference in self._held.keys() - wanted.keys():
            self._waitset_detach(self._ref, reference)  # an error: it was deleted, and is off the set with that
            del self._held[reference]
        for reference in wanted.keys() - self._held.keys():
            if self._waitset_attach(self._ref, reference, c_void_p(reference)) >= 0:
                self._held[reference] = wanted[reference]

    def wait_ns(self, timeout_ns: int) -> set[int]:
        """Handles of the conditions that are triggered within a time."""
        triggered = (c_void_p * (len(self._held) + 1))()
        count = self._waitset_wait(self._ref, triggered, len(triggered), timeout_ns)
        if count < 0:
            raise DDSException(count, "while waiting for work")
        return {triggered[index] for index in range(min(count, len(triggered)))}


class Executor:
    """What executors share; how callbacks run is up to `spin_once`."""

    def __init__(self, *, context: Context | None = None) -> None:
        self._context = get_default_context() if context is None else context
        self._context.check()
        self._nodes: list = []
        self._lock = threading.RLock()
        self._tasks: deque[Task] = deque()
        self._ready: deque = deque()
        self._is_shutdown = False
        self._guard: GuardCondition | None = GuardCondition(self._context.participant)
        self._waiter = _Waiter(self._context.participant)
        self._context.on_shutdown(self.wake)

    @property
    def context(self) -> Context:
        return self._context

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, *exception) -> None:
        self.shutdown()

    def add_node(self, node) -> bool:
        """Whether the node was added; False: it was there already."""
        with self._lock:
            if node in self._nodes:
                return False
            self._nodes.append(node)
        node.executor = self
        self.wake()
        return True

    def remove_node(self, node) -> None:
        with self._lock:
            if node not in self._nodes:
                return
            self._nodes.remove(node)
        self.wake()

    def get_nodes(self) -> list:
        with self._lock:
            return list(self._nodes)

    def create_task(self, callback: Callable, *args, **kwargs) -> Task:
        """Run a function or coroutine while spinning."""
        task = Task(callback, args, kwargs, executor=self)
        self._resume(task)
        return task

    def _resume(self, task: Task) -> None:
        self._tasks.append(task)
        self.wake()

    def wake(self) -> None:
        """End a wait: something has changed. From any thread."""
        with self._lock:
            if self._guard is not None and self._context.participant is not None:
                self._guard.set(True)

    def shutdown(self, timeout_sec: float | None = None) -> bool:
        """Stop. Whether all callbacks have ended within the time."""
        self._is_shutdown = True
        self.wake()
        with self._lock:
            self._nodes = []
            guard, self._guard = self._guard, None
        if guard is not None and self._context.participant is not None:
            guard.set(True)
        return True

    def spin(self) -> None:
        """Call back until the context or the executor is shut down. ExternalShutdownException: the context was, meanwhile."""
        while self._context.ok() and not self._is_shutdown:
            self.spin_once()

    def spin_once(self, timeout_sec: float | None = None) -> None:
        """Wait for one callback and run it. No waiting at 0, without end by default or below 0."""
        raise NotImplementedError

    def spin_until_future_complete(self, future: Future, timeout_sec: float | None = None) -> None:
        future.add_done_callback(lambda _: self.wake())
        deadline = None if timeout_sec is None or timeout_sec < 0 else time.monotonic() + timeout_sec
        while self._context.ok() and not future.done() and not self._is_shutdown:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            self.spin_once_until_future_complete(future, left)
            if deadline is not None and time.monotonic() >= deadline:
                return

    def spin_once_until_future_complete(self, future: Future, timeout_sec: float | None = None) -> None:
        raise NotImplementedError

    def _next(self, timeout_sec: float | None, reached: Callable[[], bool]) -> Task:
        """The next task to run. Raises one of the four exceptions of this module when there is none."""
        waits = timeout_sec is None or timeout_sec < 0
        deadline_ns = None if waits else time.monotonic_ns() + round(timeout_sec * 1e9)
        looked = False
        while True:
            if self._is_shutdown:
                raise ShutdownException
            if not self._context.ok():
                raise ExternalShutdownException
            if reached():
                raise ConditionReachedException
            try:
                return self._tasks.popleft()
            except IndexError:
                pass
            while self._ready:
                entity = self._ready.popleft()
                if entity.can_execute() and entity._node in self._nodes:
                    entity._executor_event = True
                    return Task(self._execute, (entity,), executor=self)
            left_ns = _NEVER_NS if deadline_ns is None else max(0, deadline_ns - time.monotonic_ns())
            if looked and left_ns == 0:
                raise TimeoutException
            self._wait(left_ns)
            looked = True

    def _wait(self, timeout_ns: int) -> None:
        """Wait until entities are ready, at most for a time, and queue them."""
        entities = [one for node in self.get_nodes() for one in node.entities() if one.can_execute()]
        waiting, conditions = [], []
        for entity in entities:
            condition = entity.condition
            if condition is not None:
                conditions.append(condition)
            else:
                waiting.append(entity)
                if entity.is_ready():
                    timeout_ns = 0
                elif hasattr(entity, "wait_ns") and (left_ns := entity.wait_ns()) is not None:
                    timeout_ns = min(timeout_ns, left_ns)
        with self._lock:
            guard = self._guard
        if guard is None:
            return
        with self._context.waiting():
            if not self._context.ok():
                return
            self._waiter.hold([*conditions, guard])
            try:
                triggered = self._waiter.wait_ns(timeout_ns)
            except DDSException:
                if self._context.participant is not None:
                    raise
                return  # the context was shut down meanwhile
            if guard._ref in triggered:
                guard.set(False)  # before entities are looked at again, so that no wake is lost
        self._ready.extend(one for one in waiting if one.is_ready())
        self._ready.extend(one for one in entities if one.condition is not None and one.condition._ref in triggered)

    async def _execute(self, entity) -> None:
        group = entity.callback_group
        if self._is_shutdown or not group.beginning_execution(entity):
            entity._executor_event = False
            self._freed()
            return
        try:
            try:
                taken = None if entity._destroyed else entity.take()
            except DDSException:
                if not entity._destroyed and self._context.participant is not None:
                    raise
                taken = None  # it was destroyed in another thread, just now
            entity._executor_event = False
            if taken is not None:
                self._freed()
                await entity.run(*taken)
        finally:
            entity._executor_event = False
            group.ending_execution(entity)
            self._freed()

    def _freed(self) -> None:
        """An entity may be waited for again."""


class SingleThreadedExecutor(Executor):
    """Callbacks run in the thread that spins. What a callback raises, `spin` raises."""

    def spin_once(self, timeout_sec: float | None = None) -> None:
        self._spin_once(timeout_sec, lambda: False)

    def spin_once_until_future_complete(self, future: Future, timeout_sec: float | None = None) -> None:
        self._spin_once(timeout_sec, future.done)

    def _spin_once(self, timeout_sec: float | None, reached: Callable[[], bool]) -> None:
        try:
            task = self._next(timeout_sec, reached)
        except (ShutdownException, TimeoutException, ConditionReachedException):
            return
        task()
        task.result()


class MultiThreadedExecutor(Executor):
    """Callbacks run in a pool of threads, as their groups allow. What a callback raises, `spin` raises."""

    def __init__(self, num_threads: int | None = None, *, context: Context | None = None) -> None:
        super().__init__(context=context)
        if num_threads is None:
            num_threads = len(os.sched_getaffinity(0))
        if num_threads == 1:
            warnings.warn("one thread: use the SingleThreadedExecutor instead", stacklevel=2)
        self._pool = ThreadPoolExecutor(num_threads, thread_name_prefix="ros callbacks")
        self._running: deque[Task] = deque()

    def spin_once(self, timeout_sec: float | None = None) -> None:
        self._spin_once(timeout_sec, lambda: False)

    def spin_once_until_future_complete(self, future: Future, timeout_sec: float | None = None) -> None:
        self._spin_once(timeout_sec, future.done)

    def _spin_once(self, timeout_sec: float | None, reached: Callable[[], bool]) -> None:
        self._raise()
        try:
            task = self._next(timeout_sec, lambda: reached() or self._failed())
        except (ShutdownException, TimeoutException, ConditionReachedException, ExternalShutdownException):
            self._raise()
            return
        self._running.append(task)
        self._pool.submit(self._run, task)

    def _run(self, task: Task) -> None:
        task()
        self.wake()

    def _failed(self) -> bool:
        return any(task.done() and task._exception is not None for task in list(self._running))

    def _raise(self) -> None:
        for task in list(self._running):
            if task.done():
                self._running.remove(task)
                task.result()

    def _freed(self) -> None:
        self.wake()

    def shutdown(self, timeout_sec: float | None = None) -> bool:
        super().shutdown(timeout_sec)
        # A callback that shuts its own executor down cannot wait for itself.
        inside = threading.current_thread() in self._pool._threads
        self._pool.shutdown(wait=not inside and (timeout_sec is None or timeout_sec < 0))
        return all(task.done() for task in self._running)
