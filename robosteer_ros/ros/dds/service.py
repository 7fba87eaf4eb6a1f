"""Services and their clients, with the names of rclpy.service and rclpy.client.

As rmw_cyclonedds has them on the wire: 16 bytes before the fields, the client and the number of the call, which the server
sends back. Other vendors do it otherwise, so calls and answers go to peers that are Cyclone DDS alone.
"""

from __future__ import annotations

import inspect
import struct
import threading
import time

from robosteer_ros.ros.dds.endpoints import Reader, Writer, reading_qos
from robosteer_ros.ros.dds.entity import Entity
from robosteer_ros.ros.dds.exceptions import ForeignServiceError, InvalidHandle
from robosteer_ros.ros.dds.graph import CYCLONE, user_data
from robosteer_ros.ros.dds.messages import deserialize, serialize
from robosteer_ros.ros.dds.qos import QoSProfile
from robosteer_ros.ros.dds.task import Future

_HEADER = struct.Struct("=Qq")  # the client's identity, the number of its call
_POLL_S = 0.01


def _pack(message, header: bytes) -> bytes:
    payload = serialize(message)
    return payload[:4] + header + payload[4:]


def _unpack(payload: bytes, kind: type) -> tuple[bytes, object]:
    return bytes(payload[4:20]), deserialize(bytes(payload[:4]) + bytes(payload[20:]), kind)


class _End(Entity):
    """A request and a reply topic, seen from one of the two sides."""

    def __init__(
        self, node, reader: Reader, writer: Writer, srv_type: type, srv_name: str, callback, callback_group,
        qos_profile: QoSProfile,
    ) -> None:  # fmt: skip
        self.reader, self._writer = reader, writer
        self.srv_type, self.srv_name, self.service_name, self.qos_profile = srv_type, srv_name, srv_name, qos_profile
        super().__init__(node, callback, callback_group)

    def endpoints(self) -> tuple:
        return self.reader, self._writer


class Service(_End):
    """Calls back with (request, response) and sends the response that the callback returns."""

    def take(self) -> tuple | None:
        for payload, info in self.reader.take_messages():
            if payload is None:
                continue
            with reading_qos:
                client = self.reader.get_matched_publication_data(info.publication_handle)
            if client is not None and client.key.bytes[:2] != CYCLONE:
                self._node.get_logger().warning(
                    f"a client of {self.srv_name} is not of Cyclone DDS, its requests cannot be read and are dropped; "
                    "set RMW_IMPLEMENTATION=rmw_cyclonedds_cpp there",
                    throttle_duration_sec=10,
                )
                continue
            header, request = _unpack(payload, self.srv_type.Request)
            return header, request
        return None

    async def run(self, header: bytes, request) -> None:
        response = self.callback(request, self.srv_type.Response())
        if inspect.isawaitable(response):
            response = await response
        if not self._destroyed:  # meanwhile
            self.send_response(response, header)

    def send_response(self, response, header: bytes) -> None:
        if not isinstance(response, self.srv_type.Response):
            raise TypeError(f"the callback of {self.srv_name} returned {type(response)}, expected its Response")
        self._writer.write_message(_pack(response, header))


class Client(_End):
    """Calls a service. A response completes the future of its call, on the executor."""

    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        self.context = self._node.context
        self._identity = self._writer.get_instance_handle() & (2**64 - 1)  # the binding has it signed
        self._number = 0
        self._pending: dict[int, Future] = {}
        self._lock = threading.Lock()

    def _servers(self) -> list:
        """The readers of requests that this client reaches (cyclonedds' DcpsEndpoint)."""
        with reading_qos:
            found = [self._writer.get_matched_subscription_data(handle) for handle in self._writer.matched_sub]
        return [server for server in found if server is not None]

    def _foreign(self) -> list:
        return [
            server for server in self._servers() if server.key.bytes[:2] != CYCLONE or not user_data(server.qos, "serviceid")
        ]

    def service_is_ready(self) -> bool:
        """Whether there is a server that can be called: its both ends found, and no server of another vendor beside it."""
        if self._destroyed:
            raise InvalidHandle("cannot use a client that was destroyed")
        servers = self._servers()
        if not servers or self._foreign():
            return False
        with reading_qos:
            answering = [self.reader.get_matched_publication_data(handle) for handle in self.reader.matched_pub]
        identities = {user_data(writer.qos, "serviceid") for writer in answering if writer is not None}
        return any(user_data(server.qos, "serviceid") in identities for server in servers)

    def wait_for_service(self, timeout_sec: float | None = None) -> bool:
        """Wait until the service is ready. Whether it is."""
        deadline = None if timeout_sec is None else time.monotonic() + timeout_sec
        while self.context.ok() and not self.service_is_ready():
            if deadline is not None and time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_S)
        return self.context.ok() and self.service_is_ready()

    def call_async(self, request) -> Future:
        """Send a request. Raises ForeignServiceError, and sends nothing, if a server of another vendor would get it."""
        if not isinstance(request, self.srv_type.Request):
            raise TypeError(f"expected a request of {self.srv_type.ros_type__}, found {type(request)}")
        if self._destroyed:
            raise InvalidHandle("cannot use a client that was destroyed")
        foreign = self._foreign()
        if foreign:
            raise ForeignServiceError(
                f"{self.srv_name} is served by a peer of another DDS vendor (GUID {foreign[0].key}), which cannot read a "
                "request of Cyclone DDS; nothing was sent. Set RMW_IMPLEMENTATION=rmw_cyclonedds_cpp for the server"
            )
        future = Future()
        with self._lock:
            self._number += 1
            number = self._number
            self._pending[number] = future
        future.add_done_callback(self.remove_pending_request)
        self._writer.write_message(_pack(request, _HEADER.pack(self._identity, number)))
        return future

    def call(self, request, timeout_sec: float | None = None):
        """Send a request and wait for the response, in a thread other than the one that spins. None: timed out."""
        done = threading.Event()
        future = self.call_async(request)
        future.add_done_callback(lambda _: done.set())
        if not done.wait(timeout_sec):
            self.remove_pending_request(future)
        return future.result()

    def remove_pending_request(self, future: Future) -> None:
        """Forget a call; its response, if it comes, is dropped."""
        with self._lock:
            for number, pending in self._pending.items():
                if pending is future:
                    del self._pending[number]
                    break

    def take(self) -> tuple | None:
        for payload, _ in self.reader.take_messages():
            if payload is None:
                continue
            identity, number = _HEADER.unpack(payload[4:20])
            with self._lock:
                future = self._pending.get(number) if identity == self._identity else None
            if future is not None:
                return future, _unpack(payload, self.srv_type.Response)[1]
        return None

    async def run(self, future: Future, response) -> None:
        future._set_executor(self._node.executor)
        future.set_result(response)
