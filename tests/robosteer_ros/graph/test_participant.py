"""What is asked of a node, and of one that is there no longer."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from robosteer_core.errors import UserError
from robosteer_ros.bringup import GraphSettings
from robosteer_ros.graph.participant import call, require_rig, spinning
from robosteer_ros.ros import InvalidHandle, MultiThreadedExecutor, create_node, std_srvs
from robosteer_ros.up import bring_up

Trigger = std_srvs.srv.Trigger


@pytest.fixture
def asked():
    """A service that answers when the event is set, the event that it has been asked, its node, and a client of another node."""
    has_come, may_answer = threading.Event(), threading.Event()

    def answer(_, response):
        has_come.set()
        may_answer.wait(60)
        response.message = "at last"
        return response

    server, node = create_node("server"), create_node("asker")
    service = server.create_service(Trigger, "slow", answer)
    client = node.create_client(Trigger, "slow")
    with spinning(server, MultiThreadedExecutor(num_threads=2)), spinning(node):
        assert client.wait_for_service(60)
        yield client, has_come, may_answer, lambda: server.destroy_service(service)
        may_answer.set()


def test_an_answer_is_waited_for(caller, asked):
    client, has_come, may_answer, _ = asked
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(call, client, Trigger.Request(), 60)
        assert has_come.wait(60)
        may_answer.set()
        assert answer.result().message == "at last"


def test_who_asks_a_service_that_ends_meanwhile_is_told_at_once(caller, asked):
    client, has_come, _, end_service = asked
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(call, client, Trigger.Request(), 600)
        assert has_come.wait(60)
        end_service()
        with pytest.raises(UserError, match="/slow went away without an answer"):
            answer.result(60)


def test_no_answer_in_time_is_told_with_the_time(caller, asked):
    with pytest.raises(UserError, match="/slow did not answer within 0 s"):
        call(asked[0], Trigger.Request(), 0.1)


@pytest.mark.parametrize("threads", [1, 2])
def test_what_is_destroyed_under_a_callback_does_not_end_the_others(caller, threads):
    node, calls, goes_on = create_node("destroyed"), [], threading.Event()

    def act():
        calls.append(0)
        if len(calls) == 1:
            raise InvalidHandle("cannot use a publisher that was destroyed")
        goes_on.set()

    node.create_timer(0.01, act)
    with spinning(node, MultiThreadedExecutor(num_threads=threads) if threads > 1 else None):
        assert goes_on.wait(60)


@pytest.fixture
def arm_of(rig_file):
    """What there is of the graph's arm for who asks of which rig it is."""
    arm = create_node("arm")
    arm.declare_parameter("rig", str(rig_file))
    with spinning(arm):
        yield arm


def test_nodes_of_this_rig_are_recognized_however_its_file_is_named(caller, arm_of, rig_file):
    require_rig(caller, str(rig_file), "arm")
    require_rig(caller, os.path.relpath(rig_file), "arm")


def test_a_node_of_another_rig_is_refused_naming_both(caller, arm_of, rig_file):
    with pytest.raises(UserError, match=f"the node arm runs already, for rig '{rig_file}' and not for 'lab': end its graph"):
        require_rig(caller, "lab", "arm")


def test_beside_the_graph_of_another_rig_nothing_is_started(caller, arm_of, new_rig, tmp_path):
    given = GraphSettings(rig=str(new_rig(rates={"policy_hz": 10})), only="arm", logs=tmp_path / "logs")
    with pytest.raises(UserError, match="the node arm runs already, for rig"), bring_up(given, print, missing_only=True):
        pass
    assert not given.logs.exists()
