"""Parameters with the names of rclpy.parameter."""

from __future__ import annotations

import array
from enum import Enum

import yaml

from robosteer_ros.ros.dds.messages import message_class

ParameterValue = message_class("rcl_interfaces/msg/ParameterValue")
ParameterMsg = message_class("rcl_interfaces/msg/Parameter")
PARAMETER_SEPARATOR_STRING = "."

#: Field of rcl_interfaces/msg/ParameterValue by the number of the type.
_FIELDS = (
    "", "bool_value", "integer_value", "double_value", "string_value", "byte_array_value", "bool_array_value",
    "integer_array_value", "double_array_value", "string_array_value",
)  # fmt: skip
_ELEMENTS = ((5, bytes), (6, bool), (7, int), (8, float), (9, str))


class Parameter:
    """A name with a value of one of ROS's types. ValueError where type and value do not agree."""

    class Type(Enum):
        NOT_SET = 0
        BOOL = 1
        INTEGER = 2
        DOUBLE = 3
        STRING = 4
        BYTE_ARRAY = 5
        BOOL_ARRAY = 6
        INTEGER_ARRAY = 7
        DOUBLE_ARRAY = 8
        STRING_ARRAY = 9

        @classmethod
        def from_parameter_value(cls, value) -> Parameter.Type:
            """The type of a Python value; TypeError if there is none. An empty list is one of bytes, as in rclpy."""
            if value is None:
                return cls.NOT_SET
            for number, kind in ((1, bool), (2, int), (3, float), (4, str)):
                if isinstance(value, kind):
                    return cls(number)
            if isinstance(value, (list, tuple, array.array)):
                for number, kind in _ELEMENTS:
                    if all(isinstance(one, kind) for one in value):
                        return cls(number)
                raise TypeError(f"The given value is not a list of one of the allowed types '{value}'.")
            raise TypeError(f"The given value is not one of the allowed types '{value}'.")

        def check(self, value) -> bool:
            scalars = {0: type(None), 1: bool, 2: int, 3: float, 4: str}
            if self.value in scalars:
                return isinstance(value, scalars[self.value])
            containers = (list, tuple, array.array) if self.value in (7, 8) else (list, tuple)
            return isinstance(value, containers) and all(isinstance(one, dict(_ELEMENTS)[self.value]) for one in value)

    def __init__(self, name: str, type_: Parameter.Type | None = None, value=None) -> None:
        if type_ is None:
            type_ = Parameter.Type.from_parameter_value(value)
        if not isinstance(type_, Parameter.Type):
            raise TypeError(f"type must be an instance of {Parameter.Type!r}")
        if not type_.check(value):
            raise ValueError(f"Type '{type_}' and value '{value}' do not agree")
        self._name, self._type_, self._value = name, type_, value

    @property
    def name(self) -> str:
        return self._name

    @property
    def type_(self) -> Parameter.Type:
        return self._type_

    @property
    def value(self):
        return self._value

    @classmethod
    def from_parameter_msg(cls, message) -> Parameter:
        return cls(message.name, Parameter.Type(message.value.type), parameter_value_to_python(message.value))

    def get_parameter_value(self):
        """As rcl_interfaces/msg/ParameterValue."""
        message = ParameterValue(type=self._type_.value)
        if self._type_ is not Parameter.Type.NOT_SET:
            setattr(message, _FIELDS[self._type_.value], self._value)
        return message

    def to_parameter_msg(self):
        return ParameterMsg(name=self._name, value=self.get_parameter_value())

    def __repr__(self) -> str:
        return f"Parameter({self._name!r}, {self._type_}, {self._value!r})"


def parameter_value_to_python(message):
    """The value in rcl_interfaces/msg/ParameterValue; None: not set."""
    if not 0 <= message.type < len(_FIELDS):
        raise RuntimeError(f"unexpected parameter type {message.type}")
    value = getattr(message, _FIELDS[message.type]) if message.type else None
    return list(value) if message.type >= 5 else value


def get_parameter_value(string_value: str):
    """rcl_interfaces/msg/ParameterValue of what somebody typed, read as YAML."""
    try:
        value = yaml.safe_load(string_value)
        kind = Parameter.Type.from_parameter_value(value)
    except (yaml.YAMLError, TypeError):
        value, kind = string_value, Parameter.Type.STRING
    if value is None:
        value, kind = string_value, Parameter.Type.STRING
    return Parameter("", kind, value).get_parameter_value()
