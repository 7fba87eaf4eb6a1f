"""What an executor waits for: timers, subscriptions, services, clients and guard conditions have this in common."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from robosteer_ros.ros.dds.endpoints import Reader, close


class Entity:
    """Something of a node with a callback. `reader`, where there is one, says when there is work."""

    reader: Reader | None = None

    def __init__(self, node, callback: Callable | None, callback_group) -> None:
        self._node = node
        self.callback = callback
        self.callback_group = callback_group
        self._executor_event = False  # dispatched, and not taken yet
        self._destroyed = False
        callback_group.add_entity(self)

    @property
    def condition(self):
        """What the executor's wait set holds for it; None: there is nothing to wait for."""
        return None if self.reader is None else self.reader.condition

    def can_execute(self) -> bool:
        return not (self._destroyed or self._executor_event) and self.callback_group.can_execute(self)

    def take(self) -> tuple | None:
        """What `run` is called with; None when there is nothing after all."""
        raise NotImplementedError

    async def run(self, *taken) -> None:
        """Call back with what was taken."""
        result = self.callback(*taken)
        if inspect.isawaitable(result):
            await result

    def endpoints(self) -> tuple:
        """Its readers and writers."""
        return () if self.reader is None else (self.reader,)

    def destroy(self) -> None:
        """Take it off the graph. Safe to repeat."""
        if not self._destroyed:
            self._destroyed = True
            self._node._forget(self)
            close(*self.endpoints())


class GuardCondition(Entity):
    """Calls back once after each `trigger`, from whatever thread."""

    def __init__(self, node, callback: Callable, callback_group) -> None:
        super().__init__(node, callback, callback_group)
        self._triggered = False

    def is_ready(self) -> bool:
        return self._triggered

    def trigger(self) -> None:
        self._triggered = True
        self._node._wake_executor()

    def take(self) -> tuple | None:
        triggered, self._triggered = self._triggered, False
        return () if triggered else None
