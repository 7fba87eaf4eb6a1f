"""The backend without ROS: which one is chosen, what it tells real ROS 2 on the wire, and where it refuses."""

import os
import shutil
import socket
import subprocess
import sys
import threading
import time

import pytest

from robosteer_core.errors import UserError
from robosteer_ros import ros

needs_dds = pytest.mark.skipif(ros.BACKEND != "dds", reason="real rclpy is in use")


def imported(code="print(ros.BACKEND)", path="", **environment):
    """What a fresh Python prints that imports the facade with these variables."""
    inherited = os.environ | {"PYTHONPATH": f"{path}:{os.environ.get('PYTHONPATH', '')}"}
    command = [sys.executable, "-c", f"from robosteer_ros import ros\n{code}"]
    done = subprocess.run(command, capture_output=True, text=True, env=inherited | environment, timeout=60)
    return done.stdout.strip() + done.stderr.strip().splitlines()[-1] if done.returncode else done.stdout.strip()


def test_the_backend_is_forced_by_a_variable(tmp_path):
    assert imported(ROBOSTEER_ROS="dds") == "dds"
    assert "ROBOSTEER_ROS is rclpy or dds, found 'fast'" in imported(ROBOSTEER_ROS="fast")


@needs_dds
def test_without_rclpy_it_cannot_be_forced():
    assert "source ROS 2's setup.bash" in imported(ROBOSTEER_ROS="rclpy")


def test_an_rclpy_of_another_python_is_no_reason_to_leave_the_graph_silently(tmp_path):
    (tmp_path / "rclpy.py").write_text("raise ImportError('_rclpy_pybind11 is of another Python')")
    assert "this Python cannot import its rclpy (_rclpy_pybind11 is of another Python)" in imported(path=tmp_path)
    assert imported(path=tmp_path, ROBOSTEER_ROS="dds") == "dds"


@needs_dds
def test_type_hashes_are_those_of_rosidl():
    """Known from ROS 2 Jazzy; the second has a `char` in it, which rosbags alone hashes wrongly."""
    from robosteer_ros.ros.dds.definitions import type_hash

    assert type_hash("std_msgs/msg/String") == "RIHS01_df668c740482bbd48fb39d76a70dfd4bd59db1288021743503259e948f6b1a18"
    known = "RIHS01_91a0593bacdcc50ea9bdcf849a938b128412cc1ea821245c663bcd26f83c295e"
    assert type_hash("rmw_dds_common/msg/ParticipantEntitiesInfo") == known


@needs_dds
def test_every_message_survives_the_wire():
    from robosteer_ros.ros.dds.definitions import STORE
    from robosteer_ros.ros.dds.idl import struct
    from robosteer_ros.ros.dds.messages import deserialize, message_class, serialize

    names = [name for name in STORE.fielddefs if name.split("/")[0] in ros.PACKAGES]
    assert len(names) > 100
    for name in names:
        message = message_class(name)()
        assert deserialize(serialize(message), message_class(name)) == message
        struct(name).__idl__.populate()


@pytest.fixture
def node():
    ros.init(args=[])
    node = ros.create_node("near")
    yield node
    node.destroy_node()
    ros.try_shutdown()


@needs_dds
def test_endpoints_tell_their_type_hash_and_services_their_identity(node):
    """As rmw_cyclonedds does; real ROS 2 warns of endpoints without, and matches a service's two ends by it."""
    from robosteer_ros.ros.dds.graph import user_data

    node.create_service(ros.std_srvs.srv.Trigger, "go", lambda request, response: response)
    found = {one.topic_name: one for publications in (True, False) for one in node.context.graph.endpoints(publications)}
    request, reply = found["rq/goRequest"], found["rr/goReply"]
    types = "std_srvs::srv::dds_::Trigger_Request_", "std_srvs::srv::dds_::Trigger_Response_"
    assert (request.type_name, reply.type_name) == types
    assert user_data(request.qos, "serviceid") == user_data(reply.qos, "serviceid") is not None
    for topic in ("rt/rosout", "ros_discovery_info", "rq/goRequest"):
        assert user_data(found[topic].qos, "typehash").startswith("RIHS01_")
    assert request.key.bytes[:2] == b"\x01\x10"  # the vendor, Eclipse Cyclone DDS


@needs_dds
def test_no_request_is_sent_to_a_server_that_is_not_of_cyclone(node):
    """A reader of requests without Cyclone's `serviceid` is what a server of another vendor looks like."""
    from cyclonedds.domain import DomainParticipant

    from robosteer_ros.ros.dds.context import Context
    from robosteer_ros.ros.dds.endpoints import close
    from robosteer_ros.ros.dds.exceptions import ForeignServiceError
    from robosteer_ros.ros.dds.qos import QoSProfile

    client = node.create_client(ros.std_srvs.srv.Trigger, "go")
    foreign = Context()
    foreign.participant = DomainParticipant(node.context.get_domain_id())
    kind = "std_srvs/srv/Trigger_Request"
    reader = foreign.create_reader("rq/goRequest", kind, QoSProfile(depth=10), "", header=True)
    while not client._servers():
        ros.spin_once(node, timeout_sec=0.05)
    assert not client.service_is_ready()
    with pytest.raises(ForeignServiceError, match="rmw_cyclonedds_cpp"):
        client.call_async(ros.std_srvs.srv.Trigger.Request())
    assert not client._pending and reader.take_messages(10) == []
    close(foreign.participant)


@needs_dds
def test_what_is_no_message_is_dropped_and_told(node, capfd):
    heard = []
    node.create_subscription(ros.std_msgs.msg.String, "words", heard.append, 10)
    publisher = node.create_publisher(ros.std_msgs.msg.String, "words", 10)
    while not publisher.get_subscription_count():
        ros.spin_once(node, timeout_sec=0.05)
    publisher.publish(b"\x00\x01\x00\x00\x02\x00\x00\x00\xff\x00\x00\x00")  # a string of one byte that is no UTF-8
    publisher.publish(ros.std_msgs.msg.String(data="after"))
    while not heard:
        ros.spin_once(node, timeout_sec=0.05)
    assert [message.data for message in heard] == ["after"]
    assert "dropped a message of /words" in capfd.readouterr().err


@needs_dds
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("-r", "chatter"), "expects FROM:=TO, found 'chatter'"), (("-p",), "-p needs a value"),
        (("--log-level", "loud"), "expects one of unset"), (("--params-file", "/nowhere.yaml"), "/nowhere.yaml"),
        (("--params",), "unknown ROS arguments: '--params'"),
    ],
)  # fmt: skip
def test_arguments_that_cannot_be_read_are_named(arguments, told):
    from robosteer_ros.ros.dds.exceptions import RCLError

    with pytest.raises(RCLError, match=told):
        ros.init(args=["test", "--ros-args", *arguments])
    assert not ros.ok()


@needs_dds
def test_a_domain_that_is_none_is_refused(monkeypatch):
    from robosteer_ros.ros.dds.exceptions import RCLError

    monkeypatch.setenv("ROS_DOMAIN_ID", "lab")
    with pytest.raises(RCLError, match="ROS_DOMAIN_ID expects a number from 0 to 232, found 'lab'"):
        ros.init(args=[])


@needs_dds
def test_dds_is_kept_on_the_interface_that_is_named(node):
    """Addresses that a participant tells others are those of its interface."""
    from robosteer_ros.ros.network import cyclonedds_uri

    assert '<NetworkInterface name="lo"/>' in cyclonedds_uri() and "<AllowMulticast>false" in cyclonedds_uri()
    other = cyclonedds_uri("10.0.0.2", ["10.0.0.1", "10.0.0.3"])
    assert 'address="10.0.0.2"' in other and '<Peer address="10.0.0.3"/>' in other and "FragmentSize" not in other
    sending = {line.split()[1].partition(":")[0] for line in open("/proc/self/net/udp").readlines()[1:] if _is_ours(line)}
    assert sending <= {"0100007F", "00000000"} and "0100007F" in sending


def _is_ours(line):
    """Whether a socket of /proc/net/udp is one of this process."""
    folder = "/proc/self/fd"
    links = {os.readlink(f"{folder}/{name}") for name in os.listdir(folder) if os.path.islink(f"{folder}/{name}")}
    return f"socket:[{line.split()[9]}]" in links


@needs_dds
@pytest.mark.skipif(len(socket.if_nameindex()) < 2, reason="this machine is in no network")
def test_who_is_heard_in_the_network_is_heard_on_its_own_machine_too(node, start_on):
    """And where nobody says anything, a process is on loopback alone."""
    with start_on("dds", ROS_AUTOMATIC_DISCOVERY_RANGE="SUBNET"):
        deadline = time.monotonic() + 20
        while ("peer", "/far") not in node.get_node_names_and_namespaces():
            assert time.monotonic() < deadline, "the peer is not found"
            time.sleep(0.05)


IN_NO_NETWORK = """
import fcntl, socket, struct
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as lo:
    fcntl.ioctl(lo.fileno(), 0x8914, struct.pack("16sh22x", b"lo", 1))  # SIOCSIFFLAGS: up
from robosteer_core.rig import load_rig
from robosteer_ros import ros
from robosteer_ros.doctor import graph
print(graph.where(load_rig("lab").model_copy(update={"network": "subnet"})))
ros.init(args=["test"], network="subnet")
print(ros.create_node("alone").get_node_names())
"""


@needs_dds
@pytest.mark.skipif(
    shutil.which("unshare") is None or subprocess.run(["unshare", "-rn", "true"], capture_output=True).returncode != 0,
    reason="we may not make a machine without a network here",
)
def test_a_graph_for_the_network_is_on_its_own_machine_alone_where_that_is_in_none():
    environment = {name: value for name, value in os.environ.items() if name not in ("ROS_AUTOMATIC_DISCOVERY_RANGE", "CYCLONEDDS_URI")}
    words = ["unshare", "-rn", sys.executable, "-c", IN_NO_NETWORK]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=60, env=environment)
    assert ended.returncode == 0, ended.stderr
    assert "Level.WARN" in ended.stdout and "this machine is in no network, as the rig says" in ended.stdout
    assert "['alone']" in ended.stdout and "this machine is in no network: the graph is heard on it alone" in ended.stderr


@needs_dds
def test_how_far_the_graph_is_heard_is_told_by_the_rig_unless_the_environment_does(monkeypatch):
    from robosteer_ros.ros import network

    for name in (network.RANGE, network.CONFIGURATION):
        monkeypatch.delenv(name, raising=False)
    assert network.configuration() == network.cyclonedds_uri()
    network.keep_to("subnet")
    assert network.configuration() == network.cyclonedds_uri(None if network.networks() else "lo")
    assert "autodetermine" in network.cyclonedds_uri(None)
    network.keep_to("loopback")
    assert os.environ[network.RANGE] == "SUBNET", "what the environment says counts"
    monkeypatch.setenv(network.RANGE, "FAR")
    with pytest.raises(UserError, match="ROS_AUTOMATIC_DISCOVERY_RANGE is LOCALHOST or SUBNET here, found 'FAR'"):
        network.configuration()
    monkeypatch.setenv(network.CONFIGURATION, "file:///etc/cyclone.xml")
    assert network.configuration() == "file:///etc/cyclone.xml"


@needs_dds
def test_a_configuration_that_cannot_be_read_is_named():
    code = "ros.init(args=[])"
    told = imported(code, CYCLONEDDS_URI="<CycloneDDS><Nonsense/></CycloneDDS>")
    assert "Cyclone DDS does not start" in told and "CYCLONEDDS_URI=<CycloneDDS><Nonsense/>" in told


@needs_dds
def test_many_threads_may_look_for_services_at_once():
    """The binding reads the QoS of others through buffers that threads share: without a lock 17 of 9000 looks went wrong."""
    ros.init(args=["test"])
    node, kind, missed = ros.create_node("asked"), ros.std_srvs.srv.Trigger, []
    try:
        for number in range(6):
            node.create_service(kind, f"service{number}", lambda request, response: response)
        clients = [node.create_client(kind, f"service{number}") for number in range(6)]
        assert all(client.wait_for_service(20) for client in clients)

        def look(client):
            missed.append(sum(not client.service_is_ready() for _ in range(600)))

        threads = [threading.Thread(target=look, args=(client,)) for client in clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert missed == [0] * 6
    finally:
        node.destroy_node()
        ros.try_shutdown()
