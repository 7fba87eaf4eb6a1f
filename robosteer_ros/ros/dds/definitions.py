"""Message and service definitions by ROS name, from what `rosbags` carries: fields, constants, type hashes, CDR.

The definitions are those of ROS 2 Jazzy. Of the types used here, other distributions differ in sensor_msgs/Range,
rmw_dds_common/Gid (Humble) and lifecycle_msgs/TransitionEvent (Lyrical).
"""

from __future__ import annotations

from functools import cache

from rosbags.interfaces import Nodetype
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

#: Services of the standard packages, of which rosbags carries none. Source: the .srv files of ROS 2 Jazzy.
SERVICES = {
    "std_srvs/srv/Empty": ("", ""),
    "std_srvs/srv/SetBool": ("bool data", "bool success\nstring message"),
    "std_srvs/srv/Trigger": ("", "bool success\nstring message"),
    "rcl_interfaces/srv/DescribeParameters": ("string[] names", "rcl_interfaces/ParameterDescriptor[] descriptors"),
    "rcl_interfaces/srv/GetParameters": ("string[] names", "rcl_interfaces/ParameterValue[] values"),
    "rcl_interfaces/srv/GetParameterTypes": ("string[] names", "uint8[] types"),
    "rcl_interfaces/srv/ListParameters": (
        "uint64 DEPTH_RECURSIVE=0\nstring[] prefixes\nuint64 depth",
        "rcl_interfaces/ListParametersResult result",
    ),
    "rcl_interfaces/srv/SetParameters": (
        "rcl_interfaces/Parameter[] parameters",
        "rcl_interfaces/SetParametersResult[] results",
    ),
    "rcl_interfaces/srv/SetParametersAtomically": (
        "rcl_interfaces/Parameter[] parameters",
        "rcl_interfaces/SetParametersResult result",
    ),
    "lifecycle_msgs/srv/ChangeState": ("lifecycle_msgs/Transition transition", "bool success"),
    "lifecycle_msgs/srv/GetState": ("", "lifecycle_msgs/State current_state"),
    "lifecycle_msgs/srv/GetAvailableStates": ("", "lifecycle_msgs/State[] available_states"),
    "lifecycle_msgs/srv/GetAvailableTransitions": ("", "lifecycle_msgs/TransitionDescription[] available_transitions"),
}

#: Default values that definitions give and rosbags drops. Source: geometry_msgs/msg/Quaternion.msg.
DEFAULTS = {"geometry_msgs/msg/Quaternion": {"w": 1.0}}

#: The field that stands in a message without fields; no attribute of the Python class.
PLACEHOLDER = "structure_needs_at_least_one_member"


def _without_char(description):
    """`char` of a .msg file is uint8; rosbags hashes it as a character (five wrong hashes of 96, measured)."""
    kind, rest = description
    if kind == Nodetype.BASE:
        return (kind, ("uint8", 0)) if rest[0] == "char" else description
    if kind == Nodetype.NAME:
        return description
    return kind, (_without_char(rest[0]), rest[1])


def _definitions() -> Typestore:
    store = get_typestore(Stores.ROS2_JAZZY)
    for name, halves in SERVICES.items():
        for half, text in zip(("Request", "Response"), halves, strict=True):
            (definition,) = get_types_from_msg(text, name).values()
            store.fielddefs[f"{name}_{half}"] = definition
    for name, (constants, fields) in store.fielddefs.items():
        if not fields:
            fields = [(PLACEHOLDER, (Nodetype.BASE, ("uint8", 0)))]
        store.fielddefs[name] = constants, [(field, _without_char(description)) for field, description in fields]
    return store


STORE = _definitions()


@cache
def type_hash(name: str) -> str:
    """`RIHS01_...` of a message (REP-2016), or of one half of a service ("std_srvs/srv/Trigger_Request")."""
    return STORE.hash_rihs01(name)


def dds_name(name: str) -> str:
    """The DDS type name of a message: std_msgs/msg/String -> std_msgs::msg::dds_::String_."""
    package, kind, noun = name.split("/")
    return f"{package}::{kind}::dds_::{noun}_"


def ros_name(dds: str) -> str | None:
    """The ROS name of a DDS type name; None of a type that is not of ROS. A service's halves give the service."""
    parts = dds.split("::")
    if len(parts) != 4 or parts[2] != "dds_" or not parts[3].endswith("_"):
        return None
    noun = parts[3][:-1]
    return f"{parts[0]}/{parts[1]}/{noun.removesuffix('_Request').removesuffix('_Response')}"
