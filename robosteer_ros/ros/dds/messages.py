"""Python classes of ROS messages and services, behaving as those that rosidl generates.

Keyword constructors, defaults, constants, `get_fields_and_field_types()`, and every assignment checked: AssertionError as
rosidl raises it (from Jazzy on with ROS_PYTHON_CHECK_FIELDS=1 alone; here always). Numeric sequences are `array.array`,
numeric arrays of fixed length are numpy arrays.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from functools import cache
from types import SimpleNamespace

import numpy as np
from rosbags.interfaces import Nodetype
from rosbags.typesys import Stores, get_typestore

from robosteer_ros.ros.dds.definitions import DEFAULTS, PLACEHOLDER, SERVICES, STORE

TYPECODES = {
    "int8": "b", "uint8": "B", "int16": "h", "uint16": "H", "int32": "i", "uint32": "I", "int64": "q", "uint64": "Q",
    "float32": "f", "float64": "d",
}  # fmt: skip

FLOAT32_MAX = 3.402823466e38

#: Serialises; its fields carry the names of the classes' slots (an underscore before), so that no check runs there.
_wire = get_typestore(Stores.EMPTY)


class NumberSequence(array):
    """A numeric sequence; `view` is what rosbags asks of it when it serialises."""

    __slots__ = ()

    def view(self, dtype) -> memoryview | bytes:
        return memoryview(self).cast("B") if self else b""


class BoolSequence(list):
    def view(self, dtype) -> bytes:
        return bytes(self)


class OctetSequence(list):
    def view(self, dtype) -> bytes:
        return b"".join(self)


def _check(condition: object, name: str, expected: str) -> None:
    if not condition:
        raise AssertionError(f"The {name!r} field must be {expected}")


class _Field:
    """One field of a message class: its default, its checks, its form in memory and from the wire."""

    def __init__(self, owner: str, name: str, description) -> None:
        self.name = name
        self.kind, rest = description
        self.size = 0
        if self.kind in (Nodetype.ARRAY, Nodetype.SEQUENCE):
            (inner, what), self.size = rest
        else:
            inner, what = description
        self.nested = what if inner == Nodetype.NAME else None
        self.base = what[0] if inner == Nodetype.BASE else None
        self.bound = what[1] if self.base == "string" else 0
        self.given = DEFAULTS.get(owner, {}).get(name)

    @property
    def type_name(self) -> str:
        """As `get_fields_and_field_types` names it: "sequence<double>", "geometry_msgs/Point[4]"."""
        names = {"float32": "float", "float64": "double", "bool": "boolean", "byte": "octet"}
        if self.nested is not None:
            one = self.nested.replace("/msg/", "/")
        else:
            one = f"string<{self.bound}>" if self.bound else names.get(self.base, self.base)
        if self.kind == Nodetype.ARRAY:
            return f"{one}[{self.size}]"
        if self.kind == Nodetype.SEQUENCE:
            return f"sequence<{one}, {self.size}>" if self.size else f"sequence<{one}>"
        return one

    def default(self):
        if self.given is not None:
            return self.given
        if self.kind == Nodetype.SEQUENCE:
            return self.several(())
        if self.kind == Nodetype.ARRAY:
            return self.several([self._one_default() for _ in range(self.size)])
        return self._one_default()

    def _one_default(self):
        if self.nested is not None:
            return message_class(self.nested)()
        return {"bool": False, "string": "", "byte": b"\x00", "float32": 0.0, "float64": 0.0}.get(self.base, 0)

    def checked(self, value):
        """`value` as the message keeps it. Raises AssertionError where rosidl's classes do."""
        if self.kind not in (Nodetype.ARRAY, Nodetype.SEQUENCE):
            self._check_one(value)
            return value
        code = TYPECODES.get(self.base)
        if isinstance(value, np.ndarray) and self.kind == Nodetype.ARRAY and code is not None:
            _check(value.dtype == np.dtype(code), self.name, f"a numpy array of {self.base}")
            _check(value.shape == (self.size,), self.name, f"of length {self.size}")
            return value.copy()
        _check(
            isinstance(value, (Sequence, set, array)) and not isinstance(value, str), self.name,
            f"a sequence of {self.nested or self.base} (numpy arrays: .tolist(), or array.array)",
        )  # fmt: skip
        if self.kind == Nodetype.ARRAY:
            _check(len(value) == self.size, self.name, f"of length {self.size}")
        elif self.size:
            _check(len(value) <= self.size, self.name, f"of at most {self.size} elements")
        if isinstance(value, array) and code is not None:
            _check(value.typecode == code, self.name, f"an array.array of type code {code!r}")
        elif not (isinstance(value, (bytes, bytearray)) and code == "B"):
            for one in value:
                self._check_one(one)
        return self.several(value)

    def several(self, values):
        """Checked elements in the container that the field has."""
        code = TYPECODES.get(self.base)
        if code is not None:
            return np.array(values, code) if self.kind == Nodetype.ARRAY else NumberSequence(code, values)
        container = {"bool": BoolSequence, "byte": OctetSequence}.get(self.base, list)
        return container(values)

    def _check_one(self, value) -> None:
        base = self.base
        if self.nested is not None:
            _check(isinstance(value, message_class(self.nested)), self.name, f"a sub message of type {self.nested!r}")
        elif base == "string":
            _check(isinstance(value, str), self.name, "of type 'str'")
            _check(not self.bound or len(value) <= self.bound, self.name, f"a string of at most {self.bound} characters")
        elif base == "bool":
            _check(isinstance(value, bool), self.name, "of type 'bool'")
        elif base == "byte":
            _check(isinstance(value, (bytes, bytearray)) and len(value) == 1, self.name, "of type 'bytes' and of length 1")
        elif base in ("float32", "float64"):
            _check(isinstance(value, float), self.name, "of type 'float'")
            _check(base == "float64" or not FLOAT32_MAX < abs(value) < np.inf, self.name, f"a float in +-{FLOAT32_MAX}")
        else:
            _check(isinstance(value, int), self.name, "of type 'int'")
            bits = int(base.removeprefix("u").removeprefix("int"))
            low, high = (0, 2**bits - 1) if base[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
            _check(low <= value <= high, self.name, f"an integer in [{low}, {high}]")

    def received(self, value):
        """A value as rosbags gives it, as the message keeps it."""
        if self.kind not in (Nodetype.ARRAY, Nodetype.SEQUENCE):
            return value
        if self.nested is not None or self.base == "string":
            return list(value)
        if self.base == "bool":
            return BoolSequence(value.tolist())
        if self.base == "byte":
            return OctetSequence(bytes((octet,)) for octet in value.tolist())
        if self.kind == Nodetype.ARRAY:
            return value.copy()  # rosbags' array is a view of the received bytes
        sequence = NumberSequence(TYPECODES[self.base])
        sequence.frombytes(value.view(np.uint8))
        return sequence


class Message:
    """What all message classes share."""

    __slots__ = ()
    ros_type__ = ""
    ros_fields__: dict[str, _Field] = {}

    def __init__(self, **values) -> None:
        unknown = set(values) - set(self.ros_fields__)
        if unknown:
            raise AssertionError(f"Invalid arguments passed to constructor: {', '.join(sorted(unknown))}")
        for name, field in self.ros_fields__.items():
            setattr(self, name, values[name] if name in values else field.default())
        if not self.ros_fields__:
            setattr(self, f"_{PLACEHOLDER}", 0)

    @classmethod
    def get_fields_and_field_types(cls) -> dict[str, str]:
        """Names of the fields with their types, in order: {"header": "std_msgs/Header", "data": "sequence<uint8>"}."""
        return {name: field.type_name for name, field in cls.ros_fields__.items()}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, type(self)):
            return False
        return all(np.array_equal(getattr(self, name), getattr(other, name)) if field.kind == Nodetype.ARRAY
                   else getattr(self, name) == getattr(other, name) for name, field in self.ros_fields__.items())  # fmt: skip

    __hash__ = None

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={_shown(getattr(self, name))}" for name in self.ros_fields__)
        return f"{type(self).__module__}.{type(self).__name__}({values})"


def _shown(value) -> str:
    if isinstance(value, array):
        return repr(value.tolist()) if value else "[]"
    return repr(list(value)) if isinstance(value, list) else repr(value)


def _property(name: str, field: _Field) -> property:
    slot = f"_{name}"
    if field.type_name == "octet":  # bytes of length 1 to see, a number for the wire
        return property(
            lambda message: bytes((getattr(message, slot),)),
            lambda message, value: setattr(message, slot, field.checked(value)[0]),
        )
    return property(
        lambda message: getattr(message, slot),
        lambda message, value: setattr(message, slot, field.checked(value)),
    )


class _Constants(type):
    """Constants of a definition are read from its class and never written."""

    def __setattr__(cls, name: str, value) -> None:
        if name in cls.__dict__.get("ros_constants__", ()):
            raise AttributeError(f"{cls.__name__}.{name} is a constant")
        super().__setattr__(name, value)


@cache
def message_class(name: str) -> type:
    """The class of a message: "std_msgs/msg/String". Raises KeyError for a name rosbags has no definition of."""
    constants, definitions = STORE.fielddefs[name]
    fields = {field: _Field(name, field, description) for field, description in definitions if field != PLACEHOLDER}
    package, kind, noun = name.split("/")
    octets = {constant for constant, base, _ in constants if base == "byte"}
    content = {constant: bytes((value,)) if constant in octets else value for constant, _, value in constants}
    content |= {field: _property(field, how) for field, how in fields.items()}
    content |= {
        "__slots__": tuple(f"_{field}" for field in fields) or (f"_{PLACEHOLDER}",), "__module__": f"{package}.{kind}",
        "ros_type__": name, "ros_fields__": fields, "ros_constants__": frozenset(constant for constant, *_ in constants),
    }  # fmt: skip
    made = _Constants(noun, (Message,), content)
    slots = [(f"_{field}", description) for field, description in definitions]
    _wire.fielddefs[name] = ([], [(slot, _plain(description)) for slot, description in slots])
    _wire.types[name] = _receiver(made, fields)
    for field in fields.values():
        if field.nested is not None:
            message_class(field.nested)
    return made


def _plain(description):
    """The description of a field for the wire, where an octet is a number."""
    kind, rest = description
    if kind in (Nodetype.ARRAY, Nodetype.SEQUENCE):
        return kind, (_plain(rest[0]), rest[1])
    return (kind, ("uint8", 0)) if rest == ("byte", 0) else description


def _receiver(made: type, fields: dict[str, _Field]):
    """What rosbags calls with the values it has read, in place of a constructor."""
    pairs = tuple((f"_{name}", field.received) for name, field in fields.items()) or ((f"_{PLACEHOLDER}", int),)

    def receive(*values):
        message = made.__new__(made)
        for (slot, received), value in zip(pairs, values, strict=True):
            setattr(message, slot, received(value))
        return message

    return receive


def serialize(message: Message) -> bytes:
    """CDR of `message`, encapsulation header first (little endian, plain CDR)."""
    return bytes(_wire.serialize_cdr(message, message.ros_type__))


def deserialize(payload: bytes, kind: type) -> Message:
    """The message of class `kind` in CDR bytes with their encapsulation header. Raises rosbags' SerdeError."""
    return _wire.deserialize_cdr(memoryview(payload), kind.ros_type__)


@cache
def service_class(name: str) -> type:
    """The class of a service: "std_srvs/srv/Trigger", with Request and Response in it."""
    package, kind, noun = name.split("/")
    if name not in SERVICES:
        raise KeyError(name)
    halves = {half: message_class(f"{name}_{half}") for half in ("Request", "Response")}
    return type(noun, (), {"__module__": f"{package}.{kind}", "ros_type__": name, **halves})


class _Module(SimpleNamespace):
    """The `msg` or the `srv` of a package: its classes as attributes, made when asked for."""

    def __getattr__(self, noun: str):
        name = f"{self.package}/{self.kind}/{noun}"
        try:
            made = message_class(name) if self.kind == "msg" else service_class(name)
        except KeyError:
            raise AttributeError(f"there is no {name} among the messages of rosbags") from None
        setattr(self, noun, made)
        return made


def package(name: str) -> SimpleNamespace:
    """A message package: `package("std_msgs").msg.String`."""
    return SimpleNamespace(__name__=name, msg=_Module(package=name, kind="msg"), srv=_Module(package=name, kind="srv"))
