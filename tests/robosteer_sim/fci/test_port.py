"""The port by bytes: what a client that is no libfranka may send."""

import os
import socket
import struct
import threading
import time

import numpy as np
import pytest

from robosteer_sim.fci import wire
from robosteer_sim.fci.robot_server import Phase, RobotServer
from robosteer_sim.fci.versions import V10
from robosteer_sim.poller import Poller

ROBOT, GRIPPER = (wire.ROBOT_PORT, wire.ROBOT_HEADER, "<BH"), (wire.GRIPPER_PORT, wire.GRIPPER_HEADER, "<HH")


class Client:
    """A TCP connection to a port of the robot, and a UDP socket for its states."""

    def __init__(self, host, port, header):
        self.header = header
        self.tcp = socket.create_connection((host, port), timeout=10)
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", 0))
        self.udp.settimeout(10)

    def request(self, command, command_id, payload=b""):
        self.tcp.sendall(self.header.pack(command, command_id, self.header.size + len(payload)) + payload)

    def answer(self):
        """(command, id, body), or None when the connection has been closed."""
        try:
            head = self._read(self.header.size)
            command, command_id, size = self.header.unpack(head)
            return command, command_id, self._read(size - self.header.size)
        except ConnectionError:
            return None

    def connect(self, version):
        self.request(0, 7, struct.pack("<HH", version, self.udp.getsockname()[1]))
        return self.answer()

    def _read(self, size):
        data = b""
        while len(data) < size:
            more = self.tcp.recv(size - len(data))
            if not more:
                raise ConnectionError
            data += more
        return data

    def close(self):
        self.tcp.close()
        self.udp.close()


@pytest.fixture
def client(lab):
    opened = []

    def open_client(port=ROBOT):
        opened.append(Client(lab.host, *port[:2]))
        return opened[-1]

    yield open_client
    for each in opened:
        each.close()


def robot(client):
    """A connected client."""
    each = client()
    assert each.connect(V10.number)[2][0] == 0
    return each


@pytest.mark.parametrize("port", [ROBOT, GRIPPER])
def test_another_version_is_told_which_one_is_spoken(client, port):
    version = V10.number if port is ROBOT else wire.GRIPPER_VERSION
    command, command_id, body = client(port).connect(5)
    assert (command, command_id) == (0, 7) and struct.unpack(port[2], body) == (1, version)


def test_states_are_packets_of_the_published_size_with_growing_ids(client):
    each = robot(client)
    packets = [each.udp.recv(4096) for _ in range(5)]
    assert {len(packet) for packet in packets} == {1377}
    ids = [int(np.frombuffer(packet, wire.STATE)[0]["message_id"]) for packet in packets]
    assert all(np.diff(ids) > 0)
    hand = client(GRIPPER)
    assert struct.unpack("<HH", hand.connect(wire.GRIPPER_VERSION)[2]) == (0, wire.GRIPPER_VERSION)
    assert len(hand.udp.recv(4096)) == 23


@pytest.mark.parametrize(
    ("command", "payload", "status"),
    [
        (wire.Command.SET_GUIDING_MODE, bytes(3), 2),
        (99, b"", 1),  # unknown
        (wire.Command.SET_LOAD, bytes(3), 2),  # too short
        (wire.Command.SET_LOAD, struct.pack("<13d", -1.0, *[0.0] * 12), 2),
        (wire.Command.SET_NE_TO_EE, bytes(128), 2),  # no pose
        (wire.Command.SET_JOINT_IMPEDANCE, struct.pack("<7d", *[1e6] * 7), 2),
        (wire.Command.MOVE, struct.pack("<I", 1), 7),
        (wire.Command.MOVE, wire.MOVE_REQUEST.pack(9, 9, *[0.0] * 6, False, *[0.0] * 7), 7),
        (wire.Command.MOVE, wire.MOVE_REQUEST.pack(0, 0, *[0.0] * 6, True, *[1.0] * 7), 5),  # asynchronous generator
    ],
)
def test_what_the_robot_cannot_do_gets_the_protocols_own_refusal(client, command, payload, status):
    each = robot(client)
    each.request(command, 3, payload)
    assert each.answer() == (command, 3, bytes([status]))


def test_requests_are_read_whatever_pieces_they_come_in(client):
    each = robot(client)
    request = struct.pack("<52d", *[20.0] * 52)
    message = wire.ROBOT_HEADER.pack(wire.Command.SET_COLLISION_BEHAVIOR, 5, 12 + len(request)) + request
    for piece in (message[:5], message[5:200], message[200:] + message):
        each.tcp.sendall(piece)
    assert [each.answer() for _ in range(2)] == [(wire.Command.SET_COLLISION_BEHAVIOR, 5, b"\x00")] * 2


def test_a_message_of_impossible_size_and_an_early_request_end_the_connection(client):
    each = robot(client)
    each.tcp.sendall(wire.ROBOT_HEADER.pack(wire.Command.MOVE, 1, 2**31))
    assert each.answer() is None
    early = client()
    early.request(wire.Command.GET_ROBOT_MODEL, 1)
    assert early.answer() is None
    assert robot(client)


def test_one_client_at_a_time_and_the_next_one_at_once_after_it(client):
    first = robot(client)
    second = client()
    assert second.connect(V10.number) is None
    first.udp.recv(4096)
    for _ in range(20):
        first.close()
        first = robot(client)
    assert len(first.udp.recv(4096)) == 1377


def test_a_connection_that_says_nothing_disturbs_nobody(client):
    silent = client()
    each = robot(client)
    silent.close()
    assert len(each.udp.recv(4096)) == 1377


@pytest.mark.parametrize("commands", [0, 1])
def test_a_client_that_begins_a_motion_and_hangs_is_given_up(world, commands):
    """Before its first command or after it: else lab time would stand still until somebody finds out."""
    host, poller = f"127.{os.getpid() // 250 % 250 + 1}.{os.getpid() % 250 + 1}.{90 + commands}", Poller()
    server, stop = RobotServer(world, host, poller, lambda: None), threading.Event()

    def serve():
        while not stop.is_set():
            poller.poll(0.01)

    loop = threading.Thread(target=serve)
    loop.start()
    each = Client(host, *ROBOT[:2])
    each.connect(V10.number)
    each.request(wire.Command.MOVE, 1, wire.MOVE_REQUEST.pack(0, 0, *[0.0] * 6, False, *[1.0] * 7))
    assert each.answer() == (wire.Command.MOVE, 1, bytes([wire.MoveStatus.MOTION_STARTED]))
    if commands:
        command, (packet, peer) = np.zeros((), wire.CONTROL), each.udp.recvfrom(4096)
        while np.frombuffer(packet, wire.STATE)[0]["robot_mode"] != wire.Mode.MOVE:
            packet, peer = each.udp.recvfrom(4096)
        command["message_id"] = np.frombuffer(packet, wire.STATE)[0]["message_id"]
        each.udp.sendto(command.tobytes(), peer)
        while server.phase is Phase.STARTING:
            time.sleep(0.001)
    stop.set()
    loop.join()
    server.attend(time.perf_counter() + 29)
    assert server.moving
    server.attend(time.perf_counter() + 31)
    assert not server.moving and each.answer() == (wire.Command.MOVE, 1, bytes([wire.MoveStatus.REFLEX_ABORTED]))
    assert each.answer() is None, "disconnected"
    server.close()
    each.close()


def test_stopping_a_motion_answers_both_requests_and_then_the_states_say_idle(client):
    each = robot(client)
    each.request(wire.Command.MOVE, 21, wire.MOVE_REQUEST.pack(0, 0, *[0.0] * 6, False, *[0.0] * 7))
    assert each.answer() == (wire.Command.MOVE, 21, bytes([wire.MoveStatus.MOTION_STARTED]))
    each.request(wire.Command.MOVE, 22, wire.MOVE_REQUEST.pack(0, 0, *[0.0] * 6, False, *[0.0] * 7))
    assert each.answer() == (wire.Command.MOVE, 22, bytes([wire.MoveStatus.NOT_POSSIBLE]))
    each.request(wire.Command.STOP_MOVE, 23)
    answers = {each.answer(), each.answer()}
    assert answers == {(wire.Command.STOP_MOVE, 23, b"\0"), (wire.Command.MOVE, 21, bytes([wire.MoveStatus.PREEMPTED]))}
    modes = [np.frombuffer(each.udp.recv(4096), wire.STATE)[0]["robot_mode"] for _ in range(40)]
    assert wire.Mode.MOVE in modes and modes[-1] == wire.Mode.IDLE


def test_numbers_that_are_not_finite_end_the_motion_and_not_the_lab(client):
    each = robot(client)
    each.request(wire.Command.MOVE, 11, wire.MOVE_REQUEST.pack(2, 4, *[0.0] * 6, False, *[0.0] * 7))
    assert each.answer() == (wire.Command.MOVE, 11, bytes([wire.MoveStatus.MOTION_STARTED]))
    command, answers = np.zeros((), wire.CONTROL), 0
    command["tau_J_d"][3] = np.nan
    while answers < 3:
        packet, peer = each.udp.recvfrom(4096)
        state = np.frombuffer(packet, wire.STATE)[0]
        if state["robot_mode"] == wire.Mode.MOVE:
            command["message_id"] = state["message_id"]
            each.udp.sendto(command.tobytes(), peer)
            answers += 1
        elif answers:
            break
    assert each.answer() == (wire.Command.MOVE, 11, bytes([wire.MoveStatus.INPUT_ERROR_ABORTED]))
    state = np.frombuffer(each.udp.recv(4096), wire.STATE)[0]
    assert state["robot_mode"] == wire.Mode.IDLE and np.isfinite(state["q"]).all()


@pytest.mark.parametrize(
    ("command", "payload"),
    [
        (99, b""),
        (wire.GripperCommand.MOVE, struct.pack("<2d", 0.2, 0.1)),
        (wire.GripperCommand.MOVE, struct.pack("<2d", 0.02, np.nan)),
        (wire.GripperCommand.GRASP, bytes(8)),
    ],
)
def test_what_the_hand_cannot_do_fails(client, command, payload):
    hand = client(GRIPPER)
    hand.connect(wire.GRIPPER_VERSION)
    hand.request(command, 4, payload)
    assert hand.answer() == (command, 4, struct.pack("<H", wire.GripperStatus.FAIL))
