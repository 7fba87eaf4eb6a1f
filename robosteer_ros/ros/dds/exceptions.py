"""What the backend raises, by the names of rclpy.exceptions and rclpy.executors."""

from __future__ import annotations

from robosteer_core.errors import UserError


class NotInitializedException(Exception):
    """There is no context: `init` was not called, or `shutdown` was."""

    def __init__(self, *arguments) -> None:
        super().__init__("rclpy.init() has not been called", *arguments)


class NameValidationException(Exception):
    """A name that ROS 2 does not take; the message says why."""

    def __init__(self, kind: str, name: str, reason: str) -> None:
        super().__init__(f"Invalid {kind}: {reason}:\n  '{name}'")
        self.name = name


class InvalidNodeNameException(NameValidationException):
    def __init__(self, name: str, reason: str) -> None:
        super().__init__("node name", name, reason)


class InvalidNamespaceException(NameValidationException):
    def __init__(self, name: str, reason: str) -> None:
        super().__init__("namespace", name, reason)


class InvalidTopicNameException(NameValidationException):
    def __init__(self, name: str, reason: str) -> None:
        super().__init__("topic name", name, reason)


class InvalidServiceNameException(NameValidationException):
    def __init__(self, name: str, reason: str) -> None:
        super().__init__("service name", name, reason)


class InvalidHandle(Exception):
    """An entity was used after it was destroyed."""


class RCLError(UserError):
    """What the C library of ROS 2 refuses; rclpy has it in rclpy._rclpy_pybind11."""


class RCLInvalidROSArgsError(RCLError):
    """Arguments after --ros-args that cannot be read."""


class UnknownROSArgsError(RCLError):
    """Arguments after --ros-args that are no ROS arguments."""


class ParameterException(Exception):
    def __init__(self, message: str, parameters) -> None:
        super().__init__(message, parameters)


class ParameterNotDeclaredException(ParameterException):
    def __init__(self, parameters) -> None:
        super().__init__("Invalid access to undeclared parameter(s)", parameters)


class ParameterAlreadyDeclaredException(ParameterException):
    def __init__(self, parameters) -> None:
        super().__init__("Parameter(s) already declared", parameters)


class InvalidParameterException(ParameterException):
    def __init__(self, parameter) -> None:
        super().__init__("Invalid parameter name", parameter)


class InvalidParameterTypeException(ParameterException):
    def __init__(self, parameter, expected) -> None:
        super().__init__(
            f"Trying to set parameter '{parameter.name}' to '{parameter.value}' of type '{parameter.type_.name}', "
            f"expecting type '{expected}'",
            parameter.name,
        )


class InvalidParameterValueException(ParameterException):
    def __init__(self, name: str, value, reason: str) -> None:
        super().__init__(f"Invalid parameter value ({value}) for parameter '{name}'. Reason: {reason}", name)


class ParameterImmutableException(ParameterException):
    def __init__(self, parameter) -> None:
        super().__init__("Attempted to modify read-only parameter", parameter)


class ParameterUninitializedException(ParameterException):
    def __init__(self, name: str) -> None:
        super().__init__(f"The parameter '{name}' is not initialized", name)


class ForeignServiceError(RuntimeError):
    """A service call that would reach a peer of another DDS vendor.

    Vendors send a call's number in different ways; a request of Cyclone's kind makes servers on Fast DDS grow without
    bound (ros2/rmw_cyclonedds #577). So nothing is sent.
    """


class TimeoutException(Exception):
    """Nothing became ready in time."""


class ShutdownException(Exception):
    """The executor was shut down."""


class ExternalShutdownException(Exception):
    """The context was shut down, by a signal for one, while an executor was spinning."""


class ConditionReachedException(Exception):
    """What an executor was told to wait for has come about."""
