"""The six services by which others see and set a node's parameters."""

from __future__ import annotations

import weakref

from robosteer_ros.ros.dds.exceptions import ParameterNotDeclaredException, ParameterUninitializedException
from robosteer_ros.ros.dds.messages import message_class, service_class
from robosteer_ros.ros.dds.parameter import Parameter
from robosteer_ros.ros.dds.qos import qos_profile_parameters

SetParametersResult = message_class("rcl_interfaces/msg/SetParametersResult")


class ParameterService:
    """Serves a node that it does not keep alive."""

    def __init__(self, node) -> None:
        self._weak = weakref.ref(node)
        for service, name, answer in (
            ("DescribeParameters", "describe_parameters", self._describe),
            ("GetParameters", "get_parameters", self._get),
            ("GetParameterTypes", "get_parameter_types", self._types),
            ("ListParameters", "list_parameters", self._list),
            ("SetParameters", "set_parameters", self._set),
            ("SetParametersAtomically", "set_parameters_atomically", self._set_atomically),
        ):
            kind = service_class(f"rcl_interfaces/srv/{service}")
            node.create_service(kind, f"~/{name}", answer, qos_profile=qos_profile_parameters)

    # Asked for a parameter that is not there, the answers are empty, as rclpy's are.

    def _describe(self, request, response):
        try:
            response.descriptors = self._weak().describe_parameters(list(request.names))
        except ParameterNotDeclaredException:
            pass
        return response

    def _get(self, request, response):
        try:
            response.values = [one.get_parameter_value() for one in self._weak().get_parameters(list(request.names))]
        except (ParameterNotDeclaredException, ParameterUninitializedException):
            pass
        return response

    def _types(self, request, response):
        try:
            response.types = [self._weak().get_parameter_type(name).value for name in request.names]
        except ParameterNotDeclaredException:
            pass
        return response

    def _list(self, request, response):
        response.result = self._weak().list_parameters(list(request.prefixes), request.depth)
        return response

    def _set(self, request, response):
        response.results = [self._set_all([message]) for message in request.parameters]
        return response

    def _set_atomically(self, request, response):
        response.result = self._set_all(request.parameters)
        return response

    def _set_all(self, messages):
        try:
            return self._weak().set_parameters_atomically([Parameter.from_parameter_msg(message) for message in messages])
        except (ParameterNotDeclaredException, ValueError) as error:
            return SetParametersResult(successful=False, reason=str(error))
