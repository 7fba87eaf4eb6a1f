"""Subscriptions with the names of rclpy.subscription."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from rosbags.serde import SerdeError

from robosteer_ros.ros.dds.endpoints import Reader
from robosteer_ros.ros.dds.entity import Entity
from robosteer_ros.ros.dds.messages import deserialize
from robosteer_ros.ros.dds.qos import QoSProfile


class Subscription(Entity):
    """Calls back with each message; with its source time too where the callback takes two arguments."""

    def __init__(
        self, node, reader: Reader, msg_type: type, topic: str, callback: Callable, callback_group,
        qos_profile: QoSProfile, raw: bool,
    ) -> None:  # fmt: skip
        self.reader = reader
        self.msg_type, self.topic_name, self.qos_profile, self.raw = msg_type, topic, qos_profile, raw
        try:
            inspect.signature(callback).bind(None)
            self._with_info = False
        except TypeError:
            inspect.signature(callback).bind(None, None)  # TypeError: it takes neither one nor two
            self._with_info = True
        super().__init__(node, callback, callback_group)

    def take(self) -> tuple | None:
        for payload, info in self.reader.take_messages():
            if payload is None:
                continue
            try:
                message = payload if self.raw else deserialize(payload, self.msg_type)
            except SerdeError as error:  # one peer that sends what is no message must not end the process
                self._node.get_logger().warning(f"dropped a message of {self.topic_name}: {error}", throttle_duration_sec=10)
                continue
            return (message, {"source_timestamp": info.source_timestamp}) if self._with_info else (message,)
        return None

    def get_publisher_count(self) -> int:
        return len(self.reader.matched_pub)
