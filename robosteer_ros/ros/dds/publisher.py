"""Publishers with the names of rclpy.publisher."""

from __future__ import annotations

from robosteer_ros.ros.dds.duration import Duration
from robosteer_ros.ros.dds.endpoints import Writer, close
from robosteer_ros.ros.dds.exceptions import InvalidHandle
from robosteer_ros.ros.dds.messages import serialize
from robosteer_ros.ros.dds.qos import QoSProfile


class Publisher:
    def __init__(self, node, writer: Writer, msg_type: type, topic: str, qos_profile: QoSProfile) -> None:
        self._node, self._writer = node, writer
        self.msg_type, self.topic, self.qos_profile = msg_type, topic, qos_profile
        self._destroyed = False

    @property
    def topic_name(self) -> str:
        return self.topic

    def publish(self, msg) -> None:
        """Send a message, or the CDR bytes of one. Raises TypeError for a message of another type."""
        if self._destroyed:
            raise InvalidHandle("cannot use a publisher that was destroyed")
        if isinstance(msg, bytes):
            self._writer.write_message(msg)
        elif isinstance(msg, self.msg_type):
            self._writer.write_message(serialize(msg))
        else:
            raise TypeError(f"Expected {self.msg_type.ros_type__}, got {type(msg)}")

    def get_subscription_count(self) -> int:
        """Subscriptions that this publisher reaches."""
        return len(self._writer.matched_sub)

    def wait_for_all_acked(self, timeout: Duration | None = None) -> bool:
        """Whether all reliable subscriptions have what was sent; waits without end by default."""
        limit_ns = 2**63 - 1 if timeout is None or timeout.nanoseconds < 0 else timeout.nanoseconds
        try:
            return self._writer.wait_for_acks(limit_ns)
        except AttributeError:  # cyclonedds 11.0.1 looks for the code of a timeout where it is not
            return False

    def endpoints(self) -> tuple:
        return (self._writer,)

    def destroy(self) -> None:
        if not self._destroyed:
            self._destroyed = True
            self._node._forget(self)
            close(self._writer)
