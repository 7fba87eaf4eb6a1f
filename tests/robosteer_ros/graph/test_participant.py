"""What is asked of a node, and of one that is there no longer."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from robosteer_core.errors import UserError
from robosteer_ros.graph.participant import call, spinning
from robosteer_ros.ros import MultiThreadedExecutor, create_node, std_srvs

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
