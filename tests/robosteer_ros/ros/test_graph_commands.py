"""The looks at the graph, as an operator types them, beside another process."""

import subprocess
import sys

import pytest

from robosteer_core.cli import main
from robosteer_ros import ros


@pytest.fixture
def typed(capfd):
    """`typed("topic", "list")`: standard output of a command; its errors where it must fail with a `code`."""

    def run(*words, code=0):
        found = main(words)
        ros.set_logger_level("", ros.LoggingSeverity.INFO)  # rclpy keeps the level of a command for the whole process
        shown = capfd.readouterr()
        assert found == code, shown.err
        return shown.err if code else shown.out

    return run


def test_lists_name_what_is_there(typed, peer):
    topics = typed("topic", "list", "-t").splitlines()
    assert "/far/pong [std_msgs/msg/String]" in topics and "/far/image [sensor_msgs/msg/Image]" in topics
    assert "/rosout [rcl_interfaces/msg/Log]" in topics
    assert typed("node", "list") == "/far/peer\n"


def test_echo_prints_messages_in_yaml(typed, peer):
    assert typed("topic", "echo", "/far/latched", "--once") in [f"data: kept {number}\n---\n" for number in (2, 3, 4)]


def test_a_service_is_called_with_yaml(typed, peer):
    assert typed("service", "call", "/far/switch", "std_srvs/srv/SetBool", "{data: true}") == (
        "requester: making request: std_srvs.srv.SetBool_Request(data=True)\n\n"
        "response:\nstd_srvs.srv.SetBool_Response(success=True, message='on')\n\n"
    )


def test_parameters_are_read_and_set(typed, peer):
    assert typed("param", "set", "/far/peer", "gain", "4.25") == "Set parameter successful\n"
    assert typed("param", "get", "/far/peer", "gain") == "Double value is: 4.25\n"
    assert typed("param", "get", "/far/peer", "words") == "String values are: ['a', 'b']\n"
    assert "Wrong parameter type" in typed("param", "set", "/far/peer", "gain", "much", code=2)


def test_the_rate_of_a_topic_is_measured(typed, start_peer):
    with start_peer("--ros-args", "-r", "__ns:=/rated"):
        call = ("service", "call", "/rated/peer/change_state", "lifecycle_msgs/srv/ChangeState")
        for number in (1, 3):
            assert "success=True" in typed(*call, f"{{transition: {{id: {number}}}}}")
        command = [sys.executable, "-m", "robosteer_core.cli", "topic", "hz", "/rated/count"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            rate, spread = process.stdout.readline(), process.stdout.readline()
        finally:
            process.terminate()
            process.communicate(timeout=20)
    assert rate.startswith("average rate: ") and 0 < float(rate.split()[-1]) <= 60
    assert spread.startswith("\tmin: ") and "std dev: " in spread and process.returncode == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("topic", "echo", "/nowhere"), "neither published nor subscribed"),
        (("topic", "echo", "/far/pong", "std_msgs/msg/Strings"), "no message or service 'std_msgs/msg/Strings'"),
        (("service", "call", "/far/switch", "std_srvs/srv/SetBool", "{datum: true}"), "no field 'datum'; it has data"),
        (("service", "call", "/far/switch", "std_srvs/srv/SetBool", "{data: 3}"), "data of SetBool_Request is of type boolean"),
        (("service", "call", "/far/switch", "std_msgs/msg/String"), "is no service"),
        (("service", "call", "/nobody", "std_srvs/srv/Empty", "--timeout", "0.2"), "nobody serves /nobody"),
        (("param", "get", "/far/peer", "absent"), "has no parameter 'absent'"),
        (("param", "get", "/far/absent", "gain", "--timeout", "0.2"), "nobody serves /far/absent/get_parameters"),
    ],
)
def test_what_cannot_be_done_is_told(typed, peer, words, told):
    assert told in typed(*words, code=2)
