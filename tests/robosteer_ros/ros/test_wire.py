"""Real `ros2` beside a node of ours on the DDS backend, over the wire. What is tried here is ROS 2's own program."""

import os
import re
import shutil
import subprocess

import pytest

from robosteer_ros import ros

pytestmark = pytest.mark.skipif(shutil.which("ros2") is None, reason="ROS 2 is not sourced: no ros2 in the PATH")

LOOK = ("--no-daemon", "--spin-time", "3")


@pytest.fixture(scope="module")
def ours(start_on):
    with start_on("dds", "--ros-args", "-r", "__ns:=/ours") as process:
        yield process


@pytest.fixture
def ros2(ours):
    """`ros2("topic", "list")`: what the real command prints, complaints included."""

    def run(*words):
        done = subprocess.run(["ros2", *words], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


def test_lists_name_our_node_and_its_topics(ros2):
    assert "/ours/peer" in ros2("node", "list", *LOOK).splitlines()
    topics = ros2("topic", "list", "-t", *LOOK).splitlines()
    assert {"/ours/pong [std_msgs/msg/String]", "/ours/image [sensor_msgs/msg/Image]"} <= set(topics)
    told = ros2("node", "info", "/ours/peer", *LOOK)
    assert re.search(r"Subscribers:\n(.*\n)*    /ours/ping: std_msgs/msg/String\n(.*\n)*  Publishers:", told)
    assert re.search(r"Service Servers:\n(.*\n)*    /ours/switch: std_srvs/srv/SetBool", told)


def test_a_topic_tells_its_node_its_type_hash_and_its_quality_of_service(ros2):
    told = ros2("topic", "info", "-v", "/ours/latched", *LOOK)
    assert "Node name: peer\nNode namespace: /ours\nTopic type: std_msgs/msg/String\n" in told
    # As rosidl gives it for std_msgs/msg/String of Jazzy.
    assert "Topic type hash: RIHS01_df668c740482bbd48fb39d76a70dfd4bd59db1288021743503259e948f6b1a18\n" in told
    assert "Reliability: RELIABLE\n" in told and "Durability: TRANSIENT_LOCAL\n" in told


def test_echo_prints_what_our_node_kept(ros2):
    said = ros2("topic", "echo", "/ours/latched", "--once", *LOOK)
    assert said in [f"data: kept {number}\n---\n" for number in (2, 3, 4)]


def test_hz_measures_our_topic_once_lifecycle_has_made_it_speak(ros2):
    assert ros2("lifecycle", "nodes", *LOOK) == "/ours/peer\n"
    assert ros2("lifecycle", "get", "/ours/peer", *LOOK) == "unconfigured [1]\n"
    assert "- configure [1]" in ros2("lifecycle", "list", "/ours/peer", *LOOK)
    for transition in ("configure", "activate"):
        assert ros2("lifecycle", "set", "/ours/peer", transition, *LOOK) == "Transitioning successful\n"
    assert ros2("lifecycle", "get", "/ours/peer", *LOOK) == "active [3]\n"
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(["ros2", "topic", "hz", "/ours/count"], stdout=subprocess.PIPE, text=True, env=environment)
    try:
        rate = next(line for line in process.stdout if line.startswith("average rate: "))
    finally:
        process.terminate()
        process.communicate(timeout=20)
    assert 0 < float(rate.split()[-1]) <= 60  # its timer is of 50 Hz
    assert ros2("lifecycle", "set", "/ours/peer", "deactivate", *LOOK) == "Transitioning successful\n"
    # Cleaning up fails in this node: it stays as it was.
    assert ros2("lifecycle", "set", "/ours/peer", "cleanup", *LOOK) == "Transitioning failed\n"
    assert ros2("lifecycle", "get", "/ours/peer", *LOOK) == "inactive [2]\n"


def test_a_service_of_our_node_is_called(ros2):
    said = ros2("service", "call", "/ours/switch", "std_srvs/srv/SetBool", "{data: true}")
    assert "std_srvs.srv.SetBool_Response(success=True, message='on')" in said


def test_parameters_of_our_node_are_listed_described_read_and_set(ros2):
    assert {"  gain", "  words", "  use_sim_time"} <= set(ros2("param", "list", "/ours/peer", *LOOK).splitlines())
    assert ros2("param", "set", "/ours/peer", "gain", "4.25", *LOOK) == "Set parameter successful\n"
    assert ros2("param", "get", "/ours/peer", "gain", *LOOK) == "Double value is: 4.25\n"
    assert ros2("param", "get", "/ours/peer", "words", *LOOK) == "String values are: ['a', 'b']\n"
    assert "Type: double\n" in ros2("param", "describe", "/ours/peer", "gain", *LOOK)
    assert "Wrong parameter type" in ros2("param", "set", "/ours/peer", "gain", "much", *LOOK)


def test_our_node_hears_what_ros2_publishes(ros2):
    echo = ["ros2", "topic", "echo", "/ours/pong", "std_msgs/msg/String", "--once", "--no-daemon"]
    process = subprocess.Popen(echo, stdout=subprocess.PIPE, text=True)
    try:
        # Ten a second until both have found each other; -w 1 waits for our subscription.
        publish = ["ros2", "topic", "pub", "-r", "10", "-w", "1", "/ours/ping", "std_msgs/msg/String", "data: hello"]
        publisher = subprocess.Popen(publish, stdout=subprocess.DEVNULL)
        try:
            assert process.communicate(timeout=60)[0] == "data: hello back\n---\n"
        finally:
            publisher.terminate()
            publisher.wait(20)
    finally:
        process.kill()


def _installed(rmw):
    folders = os.environ.get("AMENT_PREFIX_PATH", "").split(":")
    return any(os.path.exists(f"{folder}/share/ament_index/resource_index/rmw_typesupport/{rmw}") for folder in folders if folder)


@pytest.mark.skipif(ros.BACKEND != "dds", reason="what refuses is the DDS backend; run with ROBOSTEER_ROS=dds as well")
@pytest.mark.skipif(not _installed("rmw_fastrtps_cpp"), reason="this ROS 2 has no rmw_fastrtps_cpp")
def test_a_server_on_fast_dds_gets_no_request_and_its_topics_are_heard(start_on, until):
    """A request in Cyclone's form is not for a server of another vendor (ros2/rmw_cyclonedds #577); topics are for all."""
    ros.init(args=[])
    node, heard = ros.create_node("near"), []
    executor = ros.SingleThreadedExecutor()
    executor.add_node(node)
    try:
        with start_on("rclpy", "--ros-args", "-r", "__ns:=/other", RMW_IMPLEMENTATION="rmw_fastrtps_cpp"):
            ping = node.create_publisher(ros.std_msgs.msg.String, "/other/ping", 10)
            node.create_subscription(ros.std_msgs.msg.String, "/other/pong", heard.append, 10)
            until(executor, lambda: heard or ping.publish(ros.std_msgs.msg.String(data="hello")))
            assert heard[0].data == "hello back"
            client = node.create_client(ros.std_srvs.srv.SetBool, "/other/switch")
            until(executor, client._servers)
            assert not client.service_is_ready()
            with pytest.raises(Exception, match="rmw_cyclonedds_cpp"):
                client.call_async(ros.std_srvs.srv.SetBool.Request())
    finally:
        node.destroy_node()
        ros.try_shutdown()
