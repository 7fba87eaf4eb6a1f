"""Requests and replies between processes, over real sockets."""

import json
import socket

import pytest

from robosteer_core.errors import UserError
from robosteer_core.runtime.json_lines import MAX_LINE, LineClient, LineServer, Refused, split_address


@pytest.fixture
def server():
    gone = []

    def answer(message, peer):
        if message.get("request") == "fail":
            raise UserError("cannot do that")
        if message.get("request") == "hang":
            import time

            time.sleep(0.5)
        return {"echo": message, "peer": id(peer)}

    server = LineServer("127.0.0.1:0", answer, gone.append, "test")
    server.gone = gone
    yield server
    server.close()


def test_replies_come_back_to_the_connection_that_asked(server):
    first, second = (LineClient(server.address, "test", "") for _ in range(2))
    replies = [client.request({"number": number}, 2) for number, client in enumerate((first, second, first))]
    assert [reply["echo"]["number"] for reply in replies] == [0, 1, 2]
    assert replies[0]["peer"] == replies[2]["peer"] != replies[1]["peer"]


def test_a_refusal_leaves_the_connection_open(server):
    client = LineClient(server.address, "test", "")
    with pytest.raises(Refused, match="cannot do that"):
        client.request({"request": "fail"}, 2)
    assert client.request({"a": 1}, 2)["echo"] == {"a": 1}


@pytest.mark.parametrize("line, complaint", [(b"{not json\n", "not JSON"), (b"[1, 2]\n", "found list"), (b"\xff\xfe\n", "not JSON")])
def test_a_malformed_line_is_answered_and_the_next_one_is_heard(server, line, complaint):
    with socket.create_connection(split_address(server.address), timeout=2) as connection, connection.makefile("rb") as lines:
        connection.sendall(line)
        assert complaint in json.loads(lines.readline())["error"]
        connection.sendall(b'{"a": 1}\n')
        assert json.loads(lines.readline())["echo"] == {"a": 1}


def test_an_endless_line_is_cut_off(server):
    with socket.create_connection(split_address(server.address), timeout=5) as connection, connection.makefile("rb") as lines:
        connection.sendall(b"x" * (MAX_LINE + 1))
        assert "at most" in json.loads(lines.readline())["error"]
        assert lines.readline() == b""


def test_a_late_reply_is_not_taken_for_the_next_one(server):
    client = LineClient(server.address, "test", "look at its log")
    with pytest.raises(UserError, match="did not answer within"):
        client.request({"request": "hang"}, 0.05)
    with pytest.raises(UserError, match="lost"):
        client.request({"a": 1}, 2)


def test_nobody_listening_names_the_address_and_what_to_do():
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = "127.0.0.1:%d" % free.getsockname()[1]
    with pytest.raises(UserError, match=f"no thing at {address}.*start it"):
        LineClient(address, "thing", "start it")


def test_an_address_in_use_is_a_user_error(server):
    with pytest.raises(UserError, match="cannot listen"):
        LineServer(server.address, lambda message, peer: {}, lambda peer: None, "second")


def test_the_end_of_a_connection_is_told(server):
    client = LineClient(server.address, "test", "")
    peer = client.request({}, 2)["peer"]
    client.close()
    watcher = LineClient(server.address, "test", "")
    for _ in range(200):
        if server.gone:
            break
        watcher.request({}, 2)
    assert [id(each) for each in server.gone] == [peer]
