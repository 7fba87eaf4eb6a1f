"""The ROS graph: who has which nodes, topics and services. As rmw_cyclonedds tells and reads it (rmw_dds_common).

A participant writes its nodes with their endpoints to the topic ros_discovery_info; endpoints, types and quality of
service are those of DDS discovery, with ROS's type hash in their user data.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
from cyclonedds.builtin import BuiltinDataReader, BuiltinTopicDcpsPublication, BuiltinTopicDcpsSubscription
from cyclonedds.core import InstanceState, ReadCondition, SampleState, ViewState

from robosteer_ros.ros.dds.definitions import ros_name, type_hash
from robosteer_ros.ros.dds.endpoints import reading_qos
from robosteer_ros.ros.dds.messages import deserialize, message_class, serialize
from robosteer_ros.ros.dds.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, from_dds

TOPIC = "ros_discovery_info"
INFO = "rmw_dds_common/msg/ParticipantEntitiesInfo"
#: The first two bytes of a GUID are the vendor's (RTPS 2.5, 9.3.1.5); these are Eclipse Cyclone DDS.
CYCLONE = b"\x01\x10"
_MOST = 4096
_ALIVE = ViewState.Any | SampleState.Any | InstanceState.Alive


def user_data(qos, key: str) -> str | None:
    """A value of an endpoint's user data, which reads "typehash=RIHS01_...;serviceid=...;"."""
    text = next((policy.data for policy in qos if hasattr(policy, "data")), b"").decode(errors="replace")
    pairs = (part.partition("=") for part in text.split(";"))
    return next((value for name, _, value in pairs if name == key), None)


def hash_data(name: str) -> str:
    return f"typehash={type_hash(name)};"


@dataclass(frozen=True)
class TopicEndpointInfo:
    """What is known of a publisher or subscription, as rclpy.topic_endpoint_info."""

    node_name: str
    node_namespace: str
    topic_type: str
    topic_type_hash: str | None
    endpoint_gid: list[int]
    qos_profile: QoSProfile


def _split(topic: str) -> tuple[str, str] | None:
    """("rt", "/chatter") of a DDS topic name, None where it is not of ROS."""
    kind, slash, name = topic.partition("/")
    if not slash or kind not in ("rt", "rq", "rr"):
        return None
    name = f"/{name}"
    return kind, {"rq": name.removesuffix("Request"), "rr": name.removesuffix("Reply")}.get(kind, name)


class Graph:
    """The graph as one participant sees it, and the part it adds. Methods may be called from any thread."""

    def __init__(self, context) -> None:
        self._context = context
        self._lock = threading.Lock()
        self._nodes: dict[int, tuple[str, str, list[bytes], list[bytes]]] = {}
        self._seen: dict[bytes, object] = {}
        profile = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._writer = context.create_writer(TOPIC, INFO, profile, hash_data(INFO))
        self._reader = None
        self._builtin = []
        for topic in (BuiltinTopicDcpsPublication, BuiltinTopicDcpsSubscription):
            reader = BuiltinDataReader(context.participant, topic)
            self._builtin.append((reader, ReadCondition(reader, _ALIVE)))

    def add_node(self, key: int, namespace: str, name: str) -> None:
        with self._lock:
            self._nodes[key] = (namespace, name, [], [])
            self._announce()

    def remove_node(self, key: int) -> None:
        with self._lock:
            self._nodes.pop(key, None)
            self._announce()

    def add_endpoints(self, key: int, readers=(), writers=()) -> None:
        with self._lock:
            if key in self._nodes:
                self._nodes[key][2].extend(reader.guid.bytes for reader in readers)
                self._nodes[key][3].extend(writer.guid.bytes for writer in writers)
                self._announce()

    def remove_endpoints(self, key: int, *guids: bytes) -> None:
        with self._lock:
            if key in self._nodes:
                for known in self._nodes[key][2:]:
                    known[:] = [guid for guid in known if guid not in guids]
                self._announce()

    def _announce(self) -> None:
        entities, gid = message_class("rmw_dds_common/msg/NodeEntitiesInfo"), message_class("rmw_dds_common/msg/Gid")

        def gids(guids):
            return [gid(data=np.frombuffer(guid, np.uint8)) for guid in guids]

        self._writer.write_message(
            serialize(
                message_class(INFO)(
                    gid=gids([self._context.participant.guid.bytes])[0],
                    node_entities_info_seq=[
                        entities(node_namespace=namespace, node_name=name, reader_gid_seq=gids(r), writer_gid_seq=gids(w))
                        for namespace, name, r, w in self._nodes.values()
                    ],
                )
            )
        )

    def _announced(self) -> dict[bytes, object]:
        """The latest word of each participant that has a node, by its GUID."""
        with self._lock:
            if self._reader is None:
                # Made when somebody asks: what nobody takes would pile up. What was said before comes all the same, soon.
                everything = QoSProfile(history=HistoryPolicy.KEEP_ALL, durability=DurabilityPolicy.TRANSIENT_LOCAL)
                self._reader = self._context.create_reader(TOPIC, INFO, everything, hash_data(INFO))
            for payload, info in self._reader.take_messages(_MOST):
                if payload is not None:
                    word = deserialize(payload, message_class(INFO))
                    self._seen[bytes(word.gid.data)] = word
            words = dict(self._seen)
        alive = {endpoint.participant_key.bytes for endpoint in self.endpoints(True)}
        return {gid: word for gid, word in words.items() if gid in alive}

    def endpoints(self, publications: bool) -> list:
        """All writers, or all readers, that DDS knows of (cyclonedds' DcpsEndpoint), those of this process among them."""
        reader, condition = self._builtin[not publications]
        with reading_qos:
            return [one for one in reader.read(_MOST, condition) if one.sample_info.valid_data]

    def nodes(self) -> list[tuple[str, str]]:
        """(name, namespace) of every node."""
        return [
            (node.node_name, node.node_namespace)
            for word in self._announced().values()
            for node in word.node_entities_info_seq
        ]

    def names_and_types(self, kinds: tuple[str, ...], of: set[bytes] | None = None) -> list[tuple[str, list[str]]]:
        """Names with their types of topics ("rt",) or services ("rq", "rr"), of the endpoints with a GUID in `of` or of all."""
        found: dict[str, set[str]] = {}
        for publications in (True, False):
            for endpoint in self.endpoints(publications):
                split, name = _split(endpoint.topic_name), ros_name(endpoint.type_name)
                if split and name and split[0] in kinds and (of is None or endpoint.key.bytes in of):
                    found.setdefault(split[1], set()).add(name)
        return sorted((name, sorted(types)) for name, types in found.items())

    def endpoints_of_node(self, name: str, namespace: str, readers: bool) -> set[bytes]:
        """GUIDs of a node's readers, or of its writers."""
        return {
            bytes(gid.data)
            for word in self._announced().values()
            for node in word.node_entities_info_seq
            if (node.node_name, node.node_namespace) == (name, namespace)
            for gid in (node.reader_gid_seq if readers else node.writer_gid_seq)
        }

    def count(self, topic: str, publications: bool) -> int:
        return sum(endpoint.topic_name == f"rt{topic}" for endpoint in self.endpoints(publications))

    def endpoint_infos(self, topic: str, publications: bool) -> list[TopicEndpointInfo]:
        owners = {
            bytes(gid.data): (node.node_name, node.node_namespace)
            for word in self._announced().values()
            for node in word.node_entities_info_seq
            for gid in (*node.reader_gid_seq, *node.writer_gid_seq)
        }
        unknown = ("_NODE_NAME_UNKNOWN_", "_NODE_NAMESPACE_UNKNOWN_")
        return [
            TopicEndpointInfo(
                *owners.get(one.key.bytes, unknown), ros_name(one.type_name) or one.type_name, user_data(one.qos, "typehash"),
                list(one.key.bytes), from_dds(one.qos),
            )
            for one in self.endpoints(publications) if one.topic_name == f"rt{topic}"
        ]  # fmt: skip
