"""Quality of service with the names of rclpy.qos, and its form in DDS."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import IntEnum

from cyclonedds.core import Policy, Qos

from robosteer_ros.ros.dds.duration import Duration

INFINITE_NS = 9_223_372_036_854_775_807
"""A duration without end, in DDS and in ROS 2 [ns]."""


class HistoryPolicy(IntEnum):
    SYSTEM_DEFAULT = 0
    KEEP_LAST = 1
    KEEP_ALL = 2
    UNKNOWN = 3


class ReliabilityPolicy(IntEnum):
    SYSTEM_DEFAULT = 0
    RELIABLE = 1
    BEST_EFFORT = 2
    UNKNOWN = 3


class DurabilityPolicy(IntEnum):
    SYSTEM_DEFAULT = 0
    TRANSIENT_LOCAL = 1
    VOLATILE = 2
    UNKNOWN = 3


QoSHistoryPolicy, QoSReliabilityPolicy, QoSDurabilityPolicy = HistoryPolicy, ReliabilityPolicy, DurabilityPolicy


@dataclass(kw_only=True)
class QoSProfile:
    """How a topic's messages are kept and delivered. `depth` counts with KEEP_LAST alone."""

    history: HistoryPolicy = HistoryPolicy.KEEP_LAST
    depth: int | None = None
    reliability: ReliabilityPolicy = ReliabilityPolicy.RELIABLE
    durability: DurabilityPolicy = DurabilityPolicy.VOLATILE
    lifespan: Duration = field(default_factory=Duration)

    def __post_init__(self) -> None:
        if self.depth is None:
            if self.history == HistoryPolicy.KEEP_LAST:
                raise InvalidQoSProfileException("a history KEEP_LAST needs its depth: QoSProfile(depth=10)")
            self.depth = 0
        if self.depth < 0:
            raise ValueError(f"depth is at least 0, found {self.depth}")

    def dds(self, user_data: str = "") -> Qos:
        """Policies of a reader or writer; `user_data` is what its peers read beside them ("typehash=RIHS01_...;")."""
        keep_all = self.history == HistoryPolicy.KEEP_ALL
        history = Policy.History.KeepAll if keep_all else Policy.History.KeepLast(self.depth or 1)
        policies = [history, Policy.Userdata(user_data.encode()), Policy.WriterDataLifecycle(autodispose=False)]
        if self.reliability == ReliabilityPolicy.BEST_EFFORT:
            policies.append(Policy.Reliability.BestEffort)
        else:
            policies.append(Policy.Reliability.Reliable(INFINITE_NS))
        if self.durability == DurabilityPolicy.TRANSIENT_LOCAL:
            policies.append(Policy.Durability.TransientLocal)
            policies.append(Policy.DurabilityService(0, history, -1, -1, -1))
        else:
            policies.append(Policy.Durability.Volatile)
        if self.lifespan.nanoseconds:
            policies.append(Policy.Lifespan(self.lifespan.nanoseconds))
        return Qos(*policies)


class InvalidQoSProfileException(Exception):
    """A profile that contradicts itself."""


def from_dds(qos: Qos) -> QoSProfile:
    """The profile of a remote endpoint; depth and history are not told on the wire to readers."""
    reliable = Policy.Reliability.BestEffort not in qos
    transient = Policy.Durability.TransientLocal in qos
    return QoSProfile(
        history=HistoryPolicy.UNKNOWN,
        depth=0,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if transient else DurabilityPolicy.VOLATILE,
    )


qos_profile_system_default = QoSProfile(depth=10)
qos_profile_sensor_data = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
qos_profile_services_default = QoSProfile(depth=10)
qos_profile_parameters = QoSProfile(depth=1000)
qos_profile_parameter_events = QoSProfile(depth=1000)
_rosout = {"depth": 1000, "durability": DurabilityPolicy.TRANSIENT_LOCAL, "lifespan": Duration(seconds=10)}
qos_profile_rosout_default = QoSProfile(**_rosout)


def as_profile(qos: QoSProfile | int) -> QoSProfile:
    """A profile as nodes give it: a QoSProfile, or the depth of an otherwise default one."""
    if isinstance(qos, QoSProfile):
        return replace(qos)
    if isinstance(qos, int) and not isinstance(qos, bool) and qos >= 0:
        return QoSProfile(depth=qos)
    raise TypeError(f"expected a QoSProfile or a depth of at least 0, found {qos!r}")
