"""Nodes with the names of rclpy.node."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from itertools import count

from robosteer_ros.ros.dds import arguments as ros_arguments
from robosteer_ros.ros.dds import logging, names
from robosteer_ros.ros.dds.callback_groups import CallbackGroup, MutuallyExclusiveCallbackGroup
from robosteer_ros.ros.dds.clock import Clock, ROSClock
from robosteer_ros.ros.dds.context import Context, get_default_context
from robosteer_ros.ros.dds.entity import Entity, GuardCondition
from robosteer_ros.ros.dds.graph import hash_data
from robosteer_ros.ros.dds.messages import Message, message_class
from robosteer_ros.ros.dds.node_graph import NodeGraph
from robosteer_ros.ros.dds.node_parameters import NodeParameters, ParameterEvent
from robosteer_ros.ros.dds.parameter import Parameter
from robosteer_ros.ros.dds.parameter_service import ParameterService
from robosteer_ros.ros.dds.publisher import Publisher
from robosteer_ros.ros.dds.qos import (
    QoSProfile,
    as_profile,
    qos_profile_parameter_events,
    qos_profile_rosout_default,
    qos_profile_services_default,
)
from robosteer_ros.ros.dds.service import Client, Service
from robosteer_ros.ros.dds.subscription import Subscription
from robosteer_ros.ros.dds.time_source import TimeSource
from robosteer_ros.ros.dds.timer import Rate, Timer

_keys = count(1)


class Node(NodeParameters, NodeGraph):
    """A name on the graph, with publishers, subscriptions, services, clients, timers and parameters."""

    def __init__(
        self,
        node_name: str,
        *,
        context: Context | None = None,
        cli_args: list[str] | None = None,
        namespace: str | None = None,
        use_global_arguments: bool = True,
        enable_rosout: bool = True,
        start_parameter_services: bool = True,
        parameter_overrides: list[Parameter] | None = None,
        allow_undeclared_parameters: bool = False,
        automatically_declare_parameters_from_overrides: bool = False,
        enable_logger_service: bool = False,
    ) -> None:
        self._context = get_default_context() if context is None else context
        self._context.check()
        process = self._context.arguments if use_global_arguments else ros_arguments.Arguments()
        own = ros_arguments.parse(["--ros-args", *(word for word in cli_args or () if word != "--ros-args")])
        # The node's own arguments count before those of the process.
        self._arguments = ros_arguments.Arguments(own.remaps + process.remaps, process.parameters + own.parameters)
        namespace = self._arguments.namespace(node_name, namespace or os.environ.get("ROS_NAMESPACE") or "/")
        self._namespace = namespace if namespace.startswith("/") else f"/{namespace}"
        self._name = self._arguments.node_name(node_name)
        names.check_node_name(self._name)
        names.check_namespace(self._namespace)
        self._publishers: list[Publisher] = []
        self._entities: list[Entity] = []
        self._executor: Callable = lambda: None
        self._default_callback_group = MutuallyExclusiveCallbackGroup()
        self._clock = ROSClock()
        self._key = next(_keys)
        self._destroyed = False
        self._logger = logging.get_logger(self.get_fully_qualified_name()[1:].replace("/", "."))
        self._context.graph.add_node(self._key, self._namespace, self._name)
        given = self._arguments.parameters_of(self.get_fully_qualified_name())
        overrides = {name: Parameter(name, value=value) for name, value in given.items()}
        overrides |= {parameter.name: parameter for parameter in parameter_overrides or ()}
        self._init_parameters(overrides, allow_undeclared_parameters)
        if enable_rosout and process.rosout:
            self._rosout = self.create_publisher(message_class("rcl_interfaces/msg/Log"), "/rosout", qos_profile_rosout_default)
            logging.add_rosout(self._logger.name, _rosout_by(self._rosout))
        self._event_publisher = self.create_publisher(ParameterEvent, "/parameter_events", qos_profile_parameter_events)
        if automatically_declare_parameters_from_overrides:
            for name, parameter in overrides.items():
                self.declare_parameter(name, parameter.value)
        self._time_source = TimeSource(self, self._clock)
        if start_parameter_services:
            self._parameter_service = ParameterService(self)

    # What it is.

    def get_name(self) -> str:
        return self._name

    def get_namespace(self) -> str:
        return self._namespace

    def get_fully_qualified_name(self) -> str:
        return names.full_node_name(self._namespace, self._name)

    def get_clock(self) -> ROSClock:
        return self._clock

    def get_logger(self) -> logging.Logger:
        return self._logger

    @property
    def context(self) -> Context:
        return self._context

    @property
    def default_callback_group(self) -> CallbackGroup:
        return self._default_callback_group

    @property
    def executor(self):
        return self._executor()

    @executor.setter
    def executor(self, executor) -> None:
        current = self.executor
        if current is executor:
            return
        if current is not None:
            current.remove_node(self)
        self._executor = (lambda: None) if executor is None else weakref.ref(executor)
        if executor is not None:
            executor.add_node(self)

    def _wake_executor(self) -> None:
        executor = self.executor
        if executor is not None:
            executor.wake()

    def entities(self) -> list[Entity]:
        """What an executor waits for."""
        return list(self._entities)

    publishers = property(lambda self: iter(self._publishers))
    subscriptions = property(lambda self: (one for one in self.entities() if isinstance(one, Subscription)))
    services = property(lambda self: (one for one in self.entities() if isinstance(one, Service)))
    clients = property(lambda self: (one for one in self.entities() if isinstance(one, Client)))
    timers = property(lambda self: (one for one in self.entities() if isinstance(one, Timer)))
    guards = property(lambda self: (one for one in self.entities() if isinstance(one, GuardCondition)))

    # What it has on the graph.

    def create_publisher(
        self, msg_type: type, topic: str, qos_profile: QoSProfile | int, *,
        callback_group: CallbackGroup | None = None, publisher_class: type = Publisher,
    ) -> Publisher:  # fmt: skip
        name = self.resolve_topic_name(topic)
        profile, kind = as_profile(qos_profile), _message_name(msg_type)
        writer = self._context.create_writer(f"rt{name}", kind, profile, hash_data(kind))
        publisher = publisher_class(self, writer, msg_type, name, profile)
        self._publishers.append(publisher)
        self._context.graph.add_endpoints(self._key, writers=[writer])
        return publisher

    def create_subscription(
        self, msg_type: type, topic: str, callback: Callable, qos_profile: QoSProfile | int, *,
        callback_group: CallbackGroup | None = None, raw: bool = False,
    ) -> Subscription:  # fmt: skip
        """Call back with each message; with its CDR bytes where `raw`."""
        name = self.resolve_topic_name(topic)
        profile, kind = as_profile(qos_profile), _message_name(msg_type)
        reader = self._context.create_reader(f"rt{name}", kind, profile, hash_data(kind))
        group = callback_group or self.default_callback_group
        return self._add(Subscription(self, reader, msg_type, name, callback, group, profile, raw))

    def create_service(
        self, srv_type: type, srv_name: str, callback: Callable, *,
        qos_profile: QoSProfile = qos_profile_services_default, callback_group: CallbackGroup | None = None,
    ) -> Service:  # fmt: skip
        return self._create_end(Service, "serviceid", ("rq", "rr"), srv_type, srv_name, callback, qos_profile, callback_group)

    def create_client(
        self, srv_type: type, srv_name: str, *,
        qos_profile: QoSProfile = qos_profile_services_default, callback_group: CallbackGroup | None = None,
    ) -> Client:  # fmt: skip
        return self._create_end(Client, "clientid", ("rr", "rq"), srv_type, srv_name, None, qos_profile, callback_group)

    def _create_end(self, made, identity: str, kinds: tuple[str, str], srv_type, srv_name, callback, qos_profile, group):
        """One side of a service: it reads the first of two kinds of topic (rq: requests, rr: replies), writes the second."""
        name = self.resolve_service_name(srv_name)
        topics = {"rq": (f"rq{name}Request", srv_type.Request), "rr": (f"rr{name}Reply", srv_type.Response)}
        identity = f"{identity}={'.'.join(f'{octet:x}' for octet in os.urandom(16))};"
        profile = as_profile(qos_profile)
        ends = []
        for create, kind in zip((self._context.create_reader, self._context.create_writer), kinds, strict=True):
            topic, half = topics[kind]
            ends.append(create(topic, half.ros_type__, profile, identity + hash_data(half.ros_type__), header=True))
        return self._add(made(self, *ends, srv_type, name, callback, group or self.default_callback_group, profile))

    def create_timer(
        self, timer_period_sec: float, callback: Callable | None, callback_group: CallbackGroup | None = None,
        clock: Clock | None = None, autostart: bool = True,
    ) -> Timer:  # fmt: skip
        group = callback_group or self.default_callback_group
        timer = Timer(self, callback, round(float(timer_period_sec) * 1e9), clock or self._clock, group)
        if not autostart:
            timer.cancel()
        return self._add(timer)

    def create_rate(self, frequency: float, clock: Clock | None = None) -> Rate:
        """A rhythm [Hz] to sleep to. ValueError below 0."""
        if frequency <= 0:
            raise ValueError("frequency must be > 0")
        return Rate(self.create_timer(1 / frequency, None, MutuallyExclusiveCallbackGroup(), clock), self._context)

    def create_guard_condition(self, callback: Callable, callback_group: CallbackGroup | None = None) -> GuardCondition:
        return self._add(GuardCondition(self, callback, callback_group or self.default_callback_group))

    def _add(self, entity: Entity):
        self._entities.append(entity)
        ends = entity.endpoints()
        if ends:
            self._context.graph.add_endpoints(self._key, readers=ends[:1], writers=ends[1:])
        self._wake_executor()
        return entity

    def _forget(self, entity) -> None:
        held = self._publishers if isinstance(entity, Publisher) else self._entities
        if entity in held:
            held.remove(entity)
        graph = self._context.graph
        if graph is not None and entity.endpoints():
            graph.remove_endpoints(self._key, *(end.guid.bytes for end in entity.endpoints()))

    def _destroy(self, entity) -> bool:
        found = entity in self._publishers or entity in self._entities
        if found:
            entity.destroy()
            self._wake_executor()
        return found

    def destroy_publisher(self, publisher: Publisher) -> bool:
        return self._destroy(publisher)

    def destroy_subscription(self, subscription: Subscription) -> bool:
        return self._destroy(subscription)

    def destroy_service(self, service: Service) -> bool:
        return self._destroy(service)

    def destroy_client(self, client: Client) -> bool:
        return self._destroy(client)

    def destroy_timer(self, timer: Timer) -> bool:
        return self._destroy(timer)

    def destroy_guard_condition(self, guard: GuardCondition) -> bool:
        return self._destroy(guard)

    def destroy_rate(self, rate: Rate) -> bool:
        rate.destroy()
        return True

    def destroy_node(self) -> None:
        """Take the node and all it has off the graph. Safe to repeat, and after shutdown."""
        if self._destroyed:
            return
        self._destroyed = True
        if self.executor is not None:
            self.executor.remove_node(self)
        logging.remove_rosout(self._logger.name)
        self._event_publisher = None
        graph = self._context.graph
        if graph is not None:
            graph.remove_node(self._key)
            for entity in [*self.entities(), *self._publishers]:
                entity.destroy()
        self._entities.clear()
        self._publishers.clear()


def _message_name(msg_type: type) -> str:
    """The ROS name of a message class. Raises TypeError for what is none."""
    if not (isinstance(msg_type, type) and issubclass(msg_type, Message)):
        raise TypeError(f"expected a message class of robosteer_ros.ros, found {msg_type!r}")
    return msg_type.ros_type__


def _rosout_by(publisher: Publisher) -> Callable:
    """What a logger calls to publish a record as rcl_interfaces/msg/Log."""
    kind, stamp = message_class("rcl_interfaces/msg/Log"), message_class("builtin_interfaces/msg/Time")

    def publish(now_ns: int, severity: int, name: str, message: str, caller) -> None:
        seconds, nanoseconds = divmod(now_ns, 1_000_000_000)
        code = caller.f_code
        publisher.publish(
            kind(
                stamp=stamp(sec=seconds, nanosec=nanoseconds), level=int(severity), name=name, msg=message,
                file=code.co_filename, function=code.co_name, line=caller.f_lineno,
            )
        )  # fmt: skip

    return publish
