"""The life of a ROS process: one DDS participant, between `init` and `shutdown`. The names of rclpy.context."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import contextmanager

from cyclonedds.core import Policy, Qos
from cyclonedds.domain import DomainParticipant
from cyclonedds.topic import Topic

from robosteer_ros.ros.dds import arguments as ros_arguments
from robosteer_ros.ros.dds import domain, idl, logging
from robosteer_ros.ros.dds.endpoints import Reader, Writer, close
from robosteer_ros.ros.dds.exceptions import NotInitializedException
from robosteer_ros.ros.dds.graph import Graph
from robosteer_ros.ros.dds.qos import QoSProfile


class Context:
    """What the nodes of a process share. `init` and `shutdown` may follow each other more than once."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._callbacks: list[Callable[[], None]] = []
        self._topics: dict[tuple[str, bool], Topic] = {}
        self._ok = False
        self._levels_before: dict[str, int] = {}
        self._waiting = 0
        self._left = threading.Condition()
        self.participant: DomainParticipant | None = None
        self.graph: Graph | None = None
        self.arguments = ros_arguments.Arguments()

    def init(self, args: Sequence[str] | None = None, *, domain_id: int | None = None, initialize_logging: bool = True) -> None:
        """Join the graph. `args` default to those of the process. RuntimeError if it has been done already."""
        with self._lock:
            if self._ok:
                raise RuntimeError("Context.init() must only be called once")
            self.arguments = ros_arguments.parse(sys.argv if args is None else args)
            number = domain.domain_id() if domain_id is None else domain_id
            domain.open_domain(number)
            self.participant = DomainParticipant(number, qos=Qos(Policy.Userdata(b"enclave=/;")))
            self._domain_id = number
            self._topics = {}
            self.graph = Graph(self)
            self._ok = True
        if initialize_logging:
            for name, level in self.arguments.log_levels:
                self._levels_before.setdefault(name, logging.get_logger_level(name))
                logging.set_logger_level(name, level)

    def ok(self) -> bool:
        return self._ok

    def get_domain_id(self) -> int:
        self.check()
        return self._domain_id

    def check(self) -> None:
        if not self._ok:
            raise NotInitializedException

    def on_shutdown(self, callback: Callable[[], None]) -> None:
        """Call `callback` when the context is shut down. Methods are held weakly, as rclpy holds them."""
        with self._lock:
            self._callbacks.append(logging.weak_method(callback))

    def interrupt(self) -> None:
        """End `ok()` and wake who waits, without touching DDS: what a signal may do from any thread."""
        with self._lock:
            was_ok, self._ok = self._ok, False
            callbacks = self._callbacks if was_ok else []
            self._callbacks = []
        for callback in callbacks:
            callback()

    def shutdown(self) -> None:
        """Leave the graph. RuntimeError if that has been done."""
        if self.participant is None:
            raise RuntimeError("Context must be initialized before it can be shutdown")
        self.try_shutdown()

    def try_shutdown(self) -> None:
        self.interrupt()
        with self._lock:
            participant, self.participant = self.participant, None
            self._topics, self.graph = {}, None
        while self._levels_before:
            logging.set_logger_level(*self._levels_before.popitem())
        if participant is not None:
            with self._left:  # whoever waits on DDS has been woken, and must not find it deleted
                self._left.wait_for(lambda: not self._waiting, timeout=1)
            close(participant)

    @contextmanager
    def waiting(self):
        """Around a wait on DDS entities."""
        with self._left:
            self._waiting += 1
        try:
            yield
        finally:
            with self._left:
                self._waiting -= 1
                self._left.notify_all()

    def create_writer(self, topic: str, type_name: str, profile: QoSProfile, data: str, header: bool = False) -> Writer:
        """A writer of CDR bytes on a DDS topic; `header`: a service's, with the call's number before the fields."""
        return Writer(self.participant, self._topic(topic, type_name, header), qos=profile.dds(data))

    def create_reader(self, topic: str, type_name: str, profile: QoSProfile, data: str, header: bool = False) -> Reader:
        return Reader(self.participant, self._topic(topic, type_name, header), qos=profile.dds(data))

    def _topic(self, name: str, type_name: str, header: bool) -> Topic:
        with self._lock:
            key = (name, type_name)
            if key not in self._topics:
                self._topics[key] = Topic(self.participant, name, idl.struct(type_name, header))
            return self._topics[key]

    def __enter__(self) -> Context:
        return self

    def __exit__(self, *exception) -> None:
        self.try_shutdown()


_default = Context()


def get_default_context() -> Context:
    return _default
