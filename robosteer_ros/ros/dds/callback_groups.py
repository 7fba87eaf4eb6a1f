"""Which callbacks may run at the same time, with the names of rclpy.callback_groups."""

from __future__ import annotations

import threading
import weakref


class CallbackGroup:
    """Entities whose callbacks have a rule in common. Subclasses are the rules."""

    def __init__(self) -> None:
        self.entities: set[weakref.ref] = set()

    def add_entity(self, entity) -> None:
        self.entities.add(weakref.ref(entity))

    def has_entity(self, entity) -> bool:
        return weakref.ref(entity) in self.entities

    def can_execute(self, entity) -> bool:
        raise NotImplementedError

    def beginning_execution(self, entity) -> bool:
        """Whether the callback may start now; if so, `ending_execution` follows it."""
        raise NotImplementedError

    def ending_execution(self, entity) -> None:
        raise NotImplementedError


class ReentrantCallbackGroup(CallbackGroup):
    """Callbacks run whenever there is a thread."""

    def can_execute(self, entity) -> bool:
        return True

    def beginning_execution(self, entity) -> bool:
        return True

    def ending_execution(self, entity) -> None:
        pass


class MutuallyExclusiveCallbackGroup(CallbackGroup):
    """One callback at a time."""

    def __init__(self) -> None:
        super().__init__()
        self._active = None
        self._lock = threading.Lock()

    def can_execute(self, entity) -> bool:
        return self._active is None

    def beginning_execution(self, entity) -> bool:
        with self._lock:
            if self._active is not None:
                return False
            self._active = entity
            return True

    def ending_execution(self, entity) -> None:
        with self._lock:
            self._active = None
