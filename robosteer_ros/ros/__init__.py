"""ROS 2 for nodes: real `rclpy` where ROS is sourced, else the same names on Cyclone DDS and rosbags from PyPI.

Nodes import from here alone, never `rclpy`: `from robosteer_ros.ros import Node, QoSProfile, sensor_msgs`, then
`sensor_msgs.msg.Image`. The environment variable ROBOSTEER_ROS=rclpy|dds forces one of the two.
"""

from __future__ import annotations

import functools
import os
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec

from robosteer_core.errors import UserError
from robosteer_ros.ros.network import keep_to

PACKAGES = (
    "std_msgs", "sensor_msgs", "geometry_msgs", "trajectory_msgs", "std_srvs", "diagnostic_msgs", "rcl_interfaces",
    "lifecycle_msgs", "builtin_interfaces", "tf2_msgs", "rosgraph_msgs",
)  # fmt: skip
"""The message packages that nodes may use; each is a name of this module."""

#: Names by the module of rclpy that has them; the DDS backend has the same modules.
_NAMES = {
    "": "create_node get_global_executor ok shutdown spin spin_once spin_until_future_complete try_shutdown",
    "callback_groups": "CallbackGroup MutuallyExclusiveCallbackGroup ReentrantCallbackGroup",
    "clock": "Clock ClockType ROSClock",
    "context": "Context",
    "duration": "Duration",
    "exceptions": "InvalidHandle InvalidNamespaceException InvalidNodeNameException InvalidParameterTypeException "
    "InvalidParameterValueException InvalidTopicNameException NotInitializedException ParameterAlreadyDeclaredException "
    "ParameterImmutableException ParameterNotDeclaredException ParameterUninitializedException",
    "executors": "Executor ExternalShutdownException MultiThreadedExecutor SingleThreadedExecutor",
    "lifecycle": "LifecycleNode LifecycleNodeMixin LifecyclePublisher LifecycleState ManagedEntity TransitionCallbackReturn",
    "logging": "LoggingSeverity get_logger set_logger_level",
    "node": "Node",
    "parameter": "Parameter get_parameter_value parameter_value_to_python",
    "publisher": "Publisher",
    "qos": "DurabilityPolicy HistoryPolicy InvalidQoSProfileException QoSProfile ReliabilityPolicy "
    "qos_profile_parameters qos_profile_sensor_data qos_profile_services_default qos_profile_system_default",
    "signals": "SignalHandlerOptions",
    "subscription": "Subscription",
    "task": "Future",
    "time": "Time",
    "timer": "Rate Timer",
}


def _choose() -> str:
    """The module that stands for rclpy. Raises UserError where the one that was asked for is not to be had."""
    asked = os.environ.get("ROBOSTEER_ROS", "")
    if asked not in ("", "rclpy", "dds"):
        raise UserError(f"ROBOSTEER_ROS is rclpy or dds, found {asked!r}; unset it to take rclpy where ROS is sourced")
    if asked != "dds":
        try:
            import_module("rclpy")
            return "rclpy"
        except ImportError as error:
            absent = isinstance(error, ModuleNotFoundError) and error.name == "rclpy"
            if asked == "rclpy":
                reason = f"ROBOSTEER_ROS=rclpy, and rclpy cannot be imported ({error})"
                raise UserError(f"{reason}; source ROS 2's setup.bash") from error
            if not absent:
                raise UserError(
                    f"ROS 2 is sourced, and this Python cannot import its rclpy ({error}); run robosteer on the Python of that "
                    "ROS 2, or set ROBOSTEER_ROS=dds for a graph without it"
                ) from error
    return f"{__name__}.dds"


_MODULE = _choose()
BACKEND = "rclpy" if _MODULE == "rclpy" else "dds"
"""Which of the two is in use."""

_root = import_module(_MODULE)
for _module, _listed in _NAMES.items():
    _found = import_module(f"{_MODULE}.{_module}") if _module else _root
    for _name in _listed.split():
        globals()[_name] = getattr(_found, _name)

for _name in PACKAGES:
    if BACKEND == "dds":
        globals()[_name] = import_module(f"{_MODULE}.messages").package(_name)
    else:
        globals()[_name] = import_module(_name)
        for _kind in ("msg", "srv"):  # the package imports neither; some have only one of them
            if find_spec(f"{_name}.{_kind}") is not None:
                import_module(f"{_name}.{_kind}")


def description() -> str:
    """The backend in words, for a log."""
    if BACKEND == "rclpy":
        return f"ROS 2 by rclpy ({os.path.dirname(_root.__file__)}, {os.environ.get('ROS_DISTRO', 'distribution unknown')})"
    return f"ROS 2 by cyclonedds {version('cyclonedds')} and rosbags {version('rosbags')}"


@functools.wraps(_root.init)
def init(*, network: str = "loopback", **options) -> None:
    """As rclpy's; nothing is heard beyond what a rig's `network` allows, or the environment. Raises UserError where that is wrong."""
    keep_to(network)
    _root.init(**options)
    globals()["get_logger"]("robosteer.ros").info(description())


def interface(name: str) -> type:
    """The class of "std_msgs/msg/String" or "std_srvs/srv/Trigger". Raises UserError for what is not there."""
    package, slash, rest = name.partition("/")
    kind, _, noun = rest.partition("/")
    if package in PACKAGES and kind in ("msg", "srv") and noun:
        try:
            return getattr(getattr(globals()[package], kind), noun)
        except AttributeError:
            pass
    expected = f"expected one such as std_msgs/msg/String, of {', '.join(PACKAGES)}"
    raise UserError(f"there is no message or service {name!r} here; {expected}")
