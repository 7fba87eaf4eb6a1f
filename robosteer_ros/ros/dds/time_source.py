"""Simulated time: the parameter use_sim_time and the topic /clock set a node's clock."""

from __future__ import annotations

from robosteer_ros.ros.dds.callback_groups import MutuallyExclusiveCallbackGroup
from robosteer_ros.ros.dds.clock import ROSClock
from robosteer_ros.ros.dds.messages import message_class
from robosteer_ros.ros.dds.parameter import Parameter
from robosteer_ros.ros.dds.qos import QoSProfile, ReliabilityPolicy
from robosteer_ros.ros.dds.time import ClockType, Time

SetParametersResult = message_class("rcl_interfaces/msg/SetParametersResult")
NAME = "use_sim_time"


class TimeSource:
    def __init__(self, node, clock: ROSClock) -> None:
        self._node, self._clock, self._subscription = node, clock, None
        self._group = MutuallyExclusiveCallbackGroup()  # time goes on while the node's callbacks run
        if not node.has_parameter(NAME):
            node.declare_parameter(NAME, False)
        self._set([node.get_parameter(NAME)])
        node.add_on_set_parameters_callback(self._check)
        node.add_post_set_parameters_callback(self._set)

    def _check(self, parameters: list[Parameter]):
        wrong = [one for one in parameters if one.name == NAME and one.type_ is not Parameter.Type.BOOL]
        if wrong:
            return SetParametersResult(successful=False, reason=f"{NAME} must be set to a boolean type")
        return SetParametersResult(successful=True)

    def _set(self, parameters: list[Parameter]) -> None:
        for parameter in parameters:
            if parameter.name == NAME and bool(parameter.value) != self._clock.ros_time_is_active:
                self._clock._set_ros_time_is_active(bool(parameter.value))
                if parameter.value:
                    profile = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
                    self._subscription = self._node.create_subscription(
                        message_class("rosgraph_msgs/msg/Clock"), "/clock", self._on_clock, profile, callback_group=self._group
                    )
                elif self._subscription is not None:
                    self._node.destroy_subscription(self._subscription)
                    self._subscription = None

    def _on_clock(self, message) -> None:
        self._clock.set_ros_time_override(Time.from_msg(message.clock, clock_type=ClockType.ROS_TIME))
