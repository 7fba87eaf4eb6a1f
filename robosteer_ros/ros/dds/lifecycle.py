"""Nodes with a managed life, with the names of rclpy.lifecycle. States and transitions: rcl_lifecycle, REP-2002's design."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from robosteer_ros.ros.dds.exceptions import RCLError
from robosteer_ros.ros.dds.messages import message_class, service_class
from robosteer_ros.ros.dds.node import Node
from robosteer_ros.ros.dds.publisher import Publisher
from robosteer_ros.ros.dds.qos import QoSProfile

State = message_class("lifecycle_msgs/msg/State")
Transition = message_class("lifecycle_msgs/msg/Transition")
TransitionDescription = message_class("lifecycle_msgs/msg/TransitionDescription")
TransitionEvent = message_class("lifecycle_msgs/msg/TransitionEvent")

_STATES = {
    0: "unknown", 1: "unconfigured", 2: "inactive", 3: "active", 4: "finalized", 10: "configuring", 11: "cleaningup",
    12: "shuttingdown", 13: "activating", 14: "deactivating", 15: "errorprocessing",
}  # fmt: skip
_RESULTS = ("transition_success", "transition_failure", "transition_error")
#: (id, label, state before, state after)
_TRANSITIONS = [
    (1, "configure", 1, 10), (2, "cleanup", 2, 11), (3, "activate", 2, 13), (4, "deactivate", 3, 14),
    (5, "shutdown", 1, 12), (6, "shutdown", 2, 12), (7, "shutdown", 3, 12),
    *((first + index, label, start, goal) for first, start, goals in (
        (10, 10, (2, 1, 15)), (20, 11, (1, 2, 15)), (30, 13, (3, 2, 15)), (40, 14, (2, 3, 15)), (50, 12, (4, 4, 15)),
        (60, 15, (1, 4, 4)),
    ) for index, (label, goal) in enumerate(zip(_RESULTS, goals, strict=True))),
]  # fmt: skip
_CALLBACKS = {
    10: "on_configure", 11: "on_cleanup", 12: "on_shutdown", 13: "on_activate", 14: "on_deactivate", 15: "on_error",
}  # fmt: skip


class TransitionCallbackReturn(Enum):
    """How a transition went. The number is that of the transition it triggers."""

    SUCCESS = 97
    FAILURE = 98
    ERROR = 99

    def to_label(self) -> str:
        return _RESULTS[self.value - 97]


class LifecycleState(NamedTuple):
    label: str
    state_id: int


class ManagedEntity:
    """Something that follows the life of a node. Callbacks get the state before and return a TransitionCallbackReturn."""

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        return TransitionCallbackReturn.SUCCESS

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return TransitionCallbackReturn.SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        return TransitionCallbackReturn.SUCCESS


class LifecyclePublisher(Publisher, ManagedEntity):
    """Publishes while its node is active, and drops what it is given otherwise."""

    is_activated = False

    def publish(self, msg) -> None:
        if self.is_activated:
            super().publish(msg)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.is_activated = True
        return TransitionCallbackReturn.SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.is_activated = False
        return TransitionCallbackReturn.SUCCESS


class LifecycleNodeMixin(ManagedEntity):
    """What makes a Node a LifecycleNode: the state, its services and the topic ~/transition_event."""

    def __init__(self, *, enable_communication_interface: bool = True, callback_group=None) -> None:
        self._state = 1
        self._managed_entities: list[ManagedEntity] = []
        self._event = None
        if enable_communication_interface:
            self._event = Node.create_publisher(self, TransitionEvent, "~/transition_event", QoSProfile(depth=10))
            for service, name, answer in (
                ("ChangeState", "change_state", self._on_change_state),
                ("GetState", "get_state", self._on_get_state),
                ("GetAvailableStates", "get_available_states", self._on_get_available_states),
                ("GetAvailableTransitions", "get_available_transitions", self._on_get_available_transitions),
                ("GetAvailableTransitions", "get_transition_graph", self._on_get_transition_graph),
            ):
                kind = service_class(f"lifecycle_msgs/srv/{service}")
                self.create_service(kind, f"~/{name}", answer, callback_group=callback_group)

    def trigger_configure(self) -> TransitionCallbackReturn:
        return self._change("configure")

    def trigger_cleanup(self) -> TransitionCallbackReturn:
        return self._change("cleanup")

    def trigger_shutdown(self) -> TransitionCallbackReturn:
        return self._change("shutdown")

    def trigger_activate(self) -> TransitionCallbackReturn:
        return self._change("activate")

    def trigger_deactivate(self) -> TransitionCallbackReturn:
        return self._change("deactivate")

    def add_managed_entity(self, entity: ManagedEntity) -> None:
        if not isinstance(entity, ManagedEntity):
            raise TypeError("Expected a rclpy.lifecycle.ManagedEntity instance.")
        self._managed_entities.append(entity)

    def create_lifecycle_publisher(self, *arguments, **options) -> LifecyclePublisher:
        """As create_publisher; it publishes while the node is active."""
        publisher = Node.create_publisher(self, *arguments, **options, publisher_class=LifecyclePublisher)
        self._managed_entities.append(publisher)
        return publisher

    def destroy_lifecycle_publisher(self, publisher: LifecyclePublisher) -> bool:
        if publisher in self._managed_entities:
            self._managed_entities.remove(publisher)
        return Node.destroy_publisher(self, publisher)

    # Defaults; a node that overrides one calls its super().

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._on_all("on_configure", state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._on_all("on_cleanup", state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._on_all("on_shutdown", state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._on_all("on_activate", state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._on_all("on_deactivate", state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._on_all("on_error", state)

    def _on_all(self, name: str, state: LifecycleState) -> TransitionCallbackReturn:
        for entity in self._managed_entities:
            result = getattr(entity, name)(state)
            if result is not TransitionCallbackReturn.SUCCESS:
                return result
        return TransitionCallbackReturn.SUCCESS

    def _change(self, transition: str | int) -> TransitionCallbackReturn:
        """Go through a transition by label or number. Raises RCLError if the state has no such transition."""
        before = LifecycleState(_STATES[self._state], self._state)
        self._go(transition)
        result = self._call_back(before)
        self._go(result.to_label())
        if result is TransitionCallbackReturn.ERROR:
            self._go(self._call_back(before).to_label())
        return result

    def _call_back(self, before: LifecycleState) -> TransitionCallbackReturn:
        callback: Callable = getattr(self, _CALLBACKS[self._state])
        try:
            result = callback(before)
            if not isinstance(result, TransitionCallbackReturn):
                raise TypeError(f"{callback.__name__} returned {result!r}, expected a TransitionCallbackReturn")
        except Exception as error:  # one transition that fails must not end the process
            self.get_logger().error(f"{callback.__name__} failed: {type(error).__name__}: {error}")
            return TransitionCallbackReturn.ERROR
        return result

    def _go(self, transition: str | int) -> None:
        for number, label, start, goal in _TRANSITIONS:
            if start == self._state and transition in (number, label):
                self._state = goal
                if self._event is not None:
                    self._event.publish(
                        TransitionEvent(
                            timestamp=self.get_clock().now().nanoseconds, transition=Transition(id=number, label=label),
                            start_state=_state(start), goal_state=_state(goal),
                        )
                    )  # fmt: skip
                return
        raise RCLError(f"Transition {transition} is not possible in state {_STATES[self._state]}")

    def _on_change_state(self, request, response):
        try:
            result = self._change(request.transition.label or request.transition.id)
        except RCLError as error:
            self.get_logger().warning(str(error))
            return response
        response.success = result is TransitionCallbackReturn.SUCCESS
        return response

    def _on_get_state(self, request, response):
        response.current_state = _state(self._state)
        return response

    def _on_get_available_states(self, request, response):
        response.available_states = [_state(number) for number in _STATES]
        return response

    def _on_get_available_transitions(self, request, response):
        response.available_transitions = [_described(*one) for one in _TRANSITIONS if one[2] == self._state]
        return response

    def _on_get_transition_graph(self, request, response):
        response.available_transitions = [_described(*one) for one in _TRANSITIONS]
        return response


def _state(number: int):
    return State(id=number, label=_STATES[number])


def _described(number: int, label: str, start: int, goal: int):
    return TransitionDescription(
        transition=Transition(id=number, label=label), start_state=_state(start), goal_state=_state(goal)
    )


class LifecycleNode(LifecycleNodeMixin, Node):
    """A node that others configure, activate, deactivate, clean up and shut down."""

    def __init__(self, node_name: str, *, enable_communication_interface: bool = True, **options) -> None:
        Node.__init__(self, node_name, **options)
        LifecycleNodeMixin.__init__(self, enable_communication_interface=enable_communication_interface)
