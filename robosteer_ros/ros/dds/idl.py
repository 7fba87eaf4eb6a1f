"""Types for Cyclone DDS that pass CDR bytes through: one per message, one per half of a service.

The binding serialises in Python, which takes 35 ms for an image of 640x480 (measured); rosbags takes 41 us. Cyclone checks
what it sends and receives against the declared type, so the types carry the real fields.
"""

from __future__ import annotations

from functools import cache

from cyclonedds.idl import IdlMeta, IdlStruct, types
from rosbags.interfaces import Nodetype

from robosteer_ros.ros.dds.definitions import STORE, dds_name

_BASES = {
    "bool": bool, "byte": types.uint8, "string": str, "int8": types.int8, "uint8": types.uint8, "int16": types.int16,
    "uint16": types.uint16, "int32": types.int32, "uint32": types.uint32, "int64": types.int64, "uint64": types.uint64,
    "float32": types.float32, "float64": types.float64,
}  # fmt: skip


class Raw(IdlStruct):
    """A sample that is its CDR bytes, the encapsulation header first."""

    def __init__(self, payload: bytes) -> None:
        self.payload = payload

    def serialize(self, buffer=None, endianness=None, use_version_2=None) -> bytes:
        return self.payload

    @classmethod
    def deserialize(cls, data, has_header=True, use_version_2=None):
        return cls(data)

    @classmethod
    def deserialize_key(cls, data, has_header=True, use_version_2=None):
        return cls(b"")  # asked for when a writer leaves


def _python_type(description):
    kind, rest = description
    if kind == Nodetype.NAME:
        return struct(rest)
    if kind == Nodetype.BASE:
        return types.bounded_str[rest[1]] if rest[0] == "string" and rest[1] else _BASES[rest[0]]
    inner, size = _python_type(rest[0]), rest[1]
    if kind == Nodetype.ARRAY:
        return types.array[inner, size]
    return types.sequence[inner, size] if size else types.sequence[inner]


@cache
def struct(name: str, request_header: bool = False) -> type[Raw]:
    """The type of message `name`; with Cyclone's header of service calls (client, sequence number) before its fields."""
    fields = {"client_guid": types.uint64, "sequence_number": types.int64} if request_header else {}
    fields |= {field: _python_type(description) for field, description in STORE.fielddefs[name][1]}
    noun = dds_name(name).replace("::", ".")
    namespace = IdlMeta.__prepare__(noun, (Raw,), typename=noun)
    namespace["__annotations__"].update(fields)
    return IdlMeta(noun, (Raw,), namespace)
