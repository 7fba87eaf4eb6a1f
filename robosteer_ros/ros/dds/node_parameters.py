"""The parameters of a node: declare, get, set, their callbacks, and the event that tells of a change."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from robosteer_ros.ros.dds.exceptions import (
    InvalidParameterException,
    InvalidParameterTypeException,
    InvalidParameterValueException,
    ParameterAlreadyDeclaredException,
    ParameterImmutableException,
    ParameterNotDeclaredException,
    ParameterUninitializedException,
)
from robosteer_ros.ros.dds.messages import message_class
from robosteer_ros.ros.dds.parameter import PARAMETER_SEPARATOR_STRING, Parameter

ParameterDescriptor = message_class("rcl_interfaces/msg/ParameterDescriptor")
SetParametersResult = message_class("rcl_interfaces/msg/SetParametersResult")
ListParametersResult = message_class("rcl_interfaces/msg/ListParametersResult")
ParameterEvent = message_class("rcl_interfaces/msg/ParameterEvent")
_NUMBERS = {Parameter.Type.INTEGER: "integer_range", Parameter.Type.DOUBLE: "floating_point_range"}


class NodeParameters:
    """The part of Node that holds parameters. Names and exceptions are those of rclpy.node.Node."""

    def _init_parameters(self, overrides: dict[str, Parameter], allow_undeclared: bool) -> None:
        self._parameters: dict[str, Parameter] = {}
        self._descriptors: dict = {}
        self._parameter_overrides = overrides
        self._allow_undeclared_parameters = allow_undeclared
        self._pre_set: list[Callable] = []
        self._on_set: list[Callable] = []
        self._post_set: list[Callable] = []
        self._event_publisher = None

    def declare_parameter(self, name: str, value=None, descriptor=None, ignore_override: bool = False) -> Parameter:
        """Declare a parameter by its default, or by its type (Parameter.Type) alone; an override replaces the default."""
        return self.declare_parameters("", [(name, value, descriptor or ParameterDescriptor())], ignore_override)[0]

    def declare_parameters(self, namespace: str, parameters: list[tuple], ignore_override: bool = False) -> list[Parameter]:
        declared = []
        for name, *rest in parameters:
            full = f"{namespace}{PARAMETER_SEPARATOR_STRING}{name}" if namespace else name
            default = rest[0] if rest else None
            descriptor = rest[1] if len(rest) > 1 else ParameterDescriptor()
            if not isinstance(full, str) or not full:
                raise InvalidParameterException(full)
            if self.has_parameter(full):
                raise ParameterAlreadyDeclaredException(full)
            declared.append(self._declare(full, default, descriptor, ignore_override))
        return declared

    def _declare(self, name: str, default, descriptor, ignore_override: bool) -> Parameter:
        parameter = Parameter(name) if isinstance(default, Parameter.Type) else Parameter(name, value=default)
        if isinstance(default, Parameter.Type):
            if default is Parameter.Type.NOT_SET:
                raise ValueError(f"Cannot declare parameter {{{name}}} as statically typed of type NOT_SET")
            descriptor.type = default.value
        elif default is None and not descriptor.dynamic_typing and not descriptor.type:
            descriptor.dynamic_typing = True  # as rclpy does where neither type nor default is given
        elif not descriptor.dynamic_typing:
            descriptor.type = parameter.type_.value
        override = None if ignore_override else self._parameter_overrides.get(name)
        if override is not None:
            parameter = override
        descriptor.name = name
        self._descriptors[name] = descriptor
        result = self._apply([parameter], declaring=True)
        if not result.successful:
            del self._descriptors[name]
            if descriptor.type and not descriptor.dynamic_typing and parameter.type_.value not in (0, descriptor.type):
                raise InvalidParameterTypeException(parameter, Parameter.Type(descriptor.type).name)
            raise InvalidParameterValueException(name, parameter.value, result.reason)
        return self._parameters[name]

    def undeclare_parameter(self, name: str) -> None:
        if not self.has_parameter(name):
            raise ParameterNotDeclaredException(name)
        if self._descriptors[name].read_only:
            raise ParameterImmutableException(name)
        del self._parameters[name], self._descriptors[name]

    def has_parameter(self, name: str) -> bool:
        return name in self._parameters

    def get_parameter(self, name: str) -> Parameter:
        if self.has_parameter(name):
            parameter, descriptor = self._parameters[name], self._descriptors[name]
            if parameter.type_ is Parameter.Type.NOT_SET and not descriptor.dynamic_typing:
                raise ParameterUninitializedException(name)
            return parameter
        if self._allow_undeclared_parameters:
            return Parameter(name)
        raise ParameterNotDeclaredException(name)

    def get_parameters(self, names: list[str]) -> list[Parameter]:
        return [self.get_parameter(name) for name in names]

    def get_parameter_or(self, name: str, alternative_value: Parameter | None = None) -> Parameter:
        try:
            if self.has_parameter(name):
                return self.get_parameter(name)
        except ParameterUninitializedException:
            pass
        return Parameter(name) if alternative_value is None else alternative_value

    def get_parameter_type(self, name: str) -> Parameter.Type:
        if self.has_parameter(name):
            return self._parameters[name].type_
        if self._allow_undeclared_parameters:
            return Parameter.Type.NOT_SET
        raise ParameterNotDeclaredException(name)

    def get_parameters_by_prefix(self, prefix: str) -> dict[str, Parameter]:
        start = f"{prefix}{PARAMETER_SEPARATOR_STRING}" if prefix else ""
        return {name[len(start) :]: one for name, one in self._parameters.items() if name.startswith(start)}

    def describe_parameter(self, name: str):
        if self.has_parameter(name):
            return self._descriptors[name]
        if self._allow_undeclared_parameters:
            return ParameterDescriptor(name=name)
        raise ParameterNotDeclaredException(name)

    def describe_parameters(self, names: list[str]) -> list:
        return [self.describe_parameter(name) for name in names]

    def list_parameters(self, prefixes: list[str], depth: int):
        """Names below the prefixes (all: []), at most `depth` names deep (0: no limit)."""
        result = ListParametersResult()
        dot = PARAMETER_SEPARATOR_STRING
        names, found = [], []
        for name in self._parameters:
            if not prefixes:
                near = not depth or name.count(dot) < depth
            else:
                near = any(
                    name == prefix or (name.startswith(prefix + dot) and (not depth or name[len(prefix) :].count(dot) <= depth))
                    for prefix in prefixes
                )
            if near:
                names.append(name)
                prefix = name.rpartition(dot)[0]
                if prefix and prefix not in found:
                    found.append(prefix)
        result.names, result.prefixes = names, found
        return result

    def set_parameters(self, parameter_list: list[Parameter]) -> list:
        """Set one after the other; a result each (rcl_interfaces/msg/SetParametersResult)."""
        return [self.set_parameters_atomically([parameter]) for parameter in parameter_list]

    def set_parameters_atomically(self, parameter_list: list[Parameter]):
        """Set all or none. ParameterNotDeclaredException where one is not declared."""
        if not all(isinstance(parameter, Parameter) for parameter in parameter_list):
            raise TypeError(f"parameter must be instance of type {Parameter!r}")
        if self._pre_set:
            parameter_list = [one for callback in self._pre_set for one in callback(parameter_list)]
            if not parameter_list:
                return SetParametersResult(successful=False, reason="parameter list cannot be empty")
        undeclared = [parameter.name for parameter in parameter_list if parameter.name not in self._parameters]
        if undeclared and not self._allow_undeclared_parameters:
            raise ParameterNotDeclaredException(undeclared)
        for name in undeclared:
            self._descriptors[name] = ParameterDescriptor(name=name, dynamic_typing=True)
        return self._apply(parameter_list)

    def _apply(self, parameters: list[Parameter], declaring: bool = False):
        for parameter in parameters:
            reason = self._refusal(parameter, declaring)
            if reason:
                return SetParametersResult(successful=False, reason=reason)
        for callback in self._on_set:
            result = callback(parameters)
            if not result.successful:
                return result
        event = ParameterEvent(node=self.get_fully_qualified_name(), stamp=self.get_clock().now().to_msg())
        for parameter in parameters:
            if declaring or parameter.name not in self._parameters:
                changed = event.new_parameters
            elif parameter.type_ is Parameter.Type.NOT_SET:
                changed = event.deleted_parameters
            else:
                changed = event.changed_parameters
            if not (declaring and parameter.type_ is Parameter.Type.NOT_SET):
                changed.append(parameter.to_parameter_msg())
            self._parameters[parameter.name] = parameter
        for callback in self._post_set:
            callback(parameters)
        if self._event_publisher is not None and (event.new_parameters or event.changed_parameters or event.deleted_parameters):
            self._event_publisher.publish(event)
        return SetParametersResult(successful=True)

    def _refusal(self, parameter: Parameter, declaring: bool) -> str:
        """Why a parameter cannot have a value; "" if it can."""
        descriptor = self._descriptors[parameter.name]
        if descriptor.read_only and not declaring:
            return f"Trying to set a read-only parameter: {parameter.name}."
        if parameter.type_ is Parameter.Type.NOT_SET:
            return "" if declaring or descriptor.dynamic_typing else "Static parameter cannot be undeclared"
        if not descriptor.dynamic_typing and descriptor.type not in (0, parameter.type_.value):
            expected = Parameter.Type(descriptor.type)
            return f"Wrong parameter type, expected '{expected}' got '{parameter.type_}'"
        for limits in getattr(descriptor, _NUMBERS[parameter.type_]) if parameter.type_ in _NUMBERS else ():
            low, high, step, value = limits.from_value, limits.to_value, limits.step, parameter.value
            if value in (low, high):
                continue
            if not low <= value <= high:
                return f"Parameter {parameter.name} out of range. Min: {low}, Max: {high}, value: {value}"
            if step and abs((value - low) / step - round((value - low) / step)) > 1e-9:
                return f"The parameter value for {parameter.name} is not a valid step. Min: {low}, step: {step}, value: {value}"
        return ""

    def add_pre_set_parameters_callback(self, callback: Callable[[list[Parameter]], Iterable[Parameter]]) -> None:
        self._pre_set.insert(0, callback)

    def add_on_set_parameters_callback(self, callback: Callable) -> None:
        self._on_set.insert(0, callback)

    def add_post_set_parameters_callback(self, callback: Callable[[list[Parameter]], None]) -> None:
        self._post_set.insert(0, callback)

    def remove_pre_set_parameters_callback(self, callback: Callable) -> None:
        self._pre_set.remove(callback)

    def remove_on_set_parameters_callback(self, callback: Callable) -> None:
        self._on_set.remove(callback)

    def remove_post_set_parameters_callback(self, callback: Callable) -> None:
        self._post_set.remove(callback)
