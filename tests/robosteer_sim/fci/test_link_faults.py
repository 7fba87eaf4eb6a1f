"""Faults of the robot and its link as its client sees them: franky unmodified, and for single packets a client by bytes."""

import builtins
import socket
import struct
import time

import numpy as np
import pytest
from franky import CommandException, ControlException, JointMotion, NetworkException, ReferenceType

from robosteer_sim.fci import wire
from robosteer_sim.fci.versions import V10
from robosteer_sim.fci.wire import RobotError

TASK = "press the red button"
AWAY = np.array([0.2] * 3 + [-0.1] * 4)


@pytest.fixture
def robot(lab, link):
    """A new connection for each test, at the start of a scene without faults."""
    link.clear()
    wait_until(lambda: not link.status()["moving"])
    link.reset(TASK, 0)
    robot = lab.robot()
    robot.relative_dynamics_factor = 0.05
    return robot


def wait_until(done, timeout_s=20.0):
    deadline = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


def motion(heard=None):
    """A slow motion of the joints by AWAY [rad]; `heard` gets (time [ms], success rate) of each state that it sees."""
    motion = JointMotion(AWAY.tolist(), ReferenceType.Relative)
    if heard is not None:
        motion.register_callback(lambda state, *_: heard.append((state.time.to_msec(), state.control_command_success_rate)))
    return motion


def begin(robot, link, heard=None):
    """In the middle of a motion."""
    robot.move(motion(heard), asynchronous=True)
    before = link.status()["steps"]
    wait_until(lambda: link.status()["moving"] and link.status()["steps"] > before + 500)


def moves_again(robot):
    assert robot.recover_from_errors()
    start = np.array(robot.state.q)
    robot.relative_dynamics_factor = 0.1
    robot.move(JointMotion([0.05] * 7, ReferenceType.Relative))
    np.testing.assert_allclose(robot.state.q, start + 0.05, atol=2e-3)


@pytest.mark.parametrize("what", ["states", "commands"])
def test_lost_packets_are_cycles_without_a_command_and_the_success_rate_tells(robot, link, what):
    heard, before = [], link.status()
    start = np.array(robot.state.q)
    begin(robot, link, heard)
    link.fault("drop", **{what: 10})
    assert robot.join_motion(30)
    after = link.status()
    assert after["missed_cycles"] - before["missed_cycles"] == 10 and after["faults"] == []
    times, rates = np.array(heard).T
    # Who loses commands still sees every state; who loses ten states sees a step of eleven cycles.
    assert sorted(np.diff(times))[-1] == (11 if what == "states" else 1)
    assert min(rates) == pytest.approx(0.9) and rates[-1] == 1.0
    np.testing.assert_allclose(robot.state.q, start + AWAY, atol=2e-3)


@pytest.mark.parametrize(("kind", "what"), [("drop", "states"), ("drop", "commands"), ("delay", "cycles")])
def test_20_cycles_without_a_command_are_a_communication_constraints_violation(robot, link, kind, what):
    before = link.status()["missed_cycles"]
    begin(robot, link)
    link.fault(kind, **{what: 25})
    with pytest.raises(ControlException, match="communication_constraints_violation"):
        robot.join_motion(30)
    assert link.status()["missed_cycles"] - before == 20
    assert link.faults() == [], "what is left of it does not hit the next motion"
    moves_again(robot)


def test_delayed_states_come_late_and_none_is_missing(lab, link):
    with ByteClient(lab.host) as client:
        client.begin_torques()
        client.cycles(50)
        link.fault("delay", cycles=8)
        ids = client.cycles(80)
        rate = client.state["control_command_success_rate"]
        client.stop()
    # A client that is slow to answer hears a state once more, which is no new one.
    assert np.all(np.diff(np.unique(ids)) == 1) and ids == sorted(ids)
    # Eight answers came too late: they are answers to states that the robot had left behind.
    assert 0.9 < rate < 0.95


def test_doubled_states_arrive_twice_and_do_no_harm(lab, link):
    with ByteClient(lab.host) as client:
        client.begin_torques()
        client.cycles(20)
        link.fault("duplicate", states=5)
        ids = client.cycles(60)
        client.stop()
    again = np.flatnonzero(np.diff(ids) == 0)
    assert any(set(range(first, first + 10, 2)) <= set(again) for first in again), "five in a row, each twice"
    assert np.all(np.diff(np.unique(ids)) == 1)


def test_doubled_packets_change_nothing_for_libfranka(robot, link):
    heard, before = [], link.status()
    begin(robot, link, heard)
    link.fault("duplicate", states=100, commands=100)
    assert robot.join_motion(30)
    after = link.status()
    assert (after["missed_cycles"], after["lost_cycles"]) == (before["missed_cycles"], before["lost_cycles"])
    assert set(np.diff([stamp for stamp, _ in heard])) == {1} and after["faults"] == []


def test_a_frozen_robot_is_a_network_time_out_after_a_second(lab, robot, link):
    begin(robot, link)
    link.fault("freeze")
    began = time.monotonic()
    with pytest.raises(NetworkException, match="UDP receive: Timeout"):
        robot.join_motion(30)
    assert 0.8 < time.monotonic() - began < 3.0
    assert link.status()["robot_mode"] == "reflex", "the robot itself has noticed that its client is gone"
    assert link.clear() == []
    del robot
    moves_again(lab.robot())


def test_a_robot_that_is_frozen_for_a_moment_has_missed_its_commands(robot, link):
    begin(robot, link)
    link.fault("freeze", seconds=0.03)
    with pytest.raises(ControlException, match="communication_constraints_violation"):
        robot.join_motion(30)
    assert link.faults() == []
    moves_again(robot)


def test_a_frozen_robot_does_not_answer_a_new_client_before_it_thaws(lab, link):
    link.fault("freeze")
    with ByteClient(lab.host, connect=False) as client:
        client.say_connect()
        client.tcp.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.tcp.recv(1)
        link.clear("freeze")
        client.tcp.settimeout(10)
        assert client.answer() == (wire.Command.CONNECT, 7, struct.pack("<BH", 0, V10.number))
        assert client.udp.recv(4096)


def test_every_error_of_the_robot_can_be_chosen_and_arrives_under_its_name(robot, link):
    for error in RobotError:
        link.fault("reflex", error=error.name.lower())
        wait_until(lambda: robot.state.robot_mode.name == "Reflex")
        errors = robot.state.current_errors
        assert [name for name in dir(errors) if getattr(errors, name) is True] == [error.name.lower()]
        with pytest.raises(CommandException, match="Reflex"):
            robot.move(motion())
        assert robot.recover_from_errors()


def test_a_chosen_reflex_ends_the_running_motion_with_its_name(robot, link):
    begin(robot, link)
    link.fault("reflex", error="cartesian_reflex")
    with pytest.raises(ControlException, match='"cartesian_reflex"'):
        robot.join_motion(30)
    moves_again(robot)


def test_the_user_stop_ends_the_motion_and_holds_the_arm_until_it_is_released(robot, link):
    begin(robot, link)
    link.fault("user_stop")
    with pytest.raises(ControlException, match="(?i)user.?stop"):
        robot.join_motion(30)
    assert robot.state.robot_mode.name == "UserStopped" and link.faults() == [{"kind": "user_stop", "pressed": True}]
    with pytest.raises(CommandException, match="(?i)user.?stop"):
        robot.move(motion())
    link.fault("user_stop", pressed=False)
    assert link.faults() == []
    wait_until(lambda: robot.state.robot_mode.name == "Idle")
    moves_again(robot)


def test_a_closed_connection_is_a_network_error_and_the_next_client_is_welcome(lab, robot, link):
    begin(robot, link)
    link.fault("disconnect")
    with pytest.raises(NetworkException):
        robot.join_motion(30)
    with pytest.raises(builtins.Exception):
        robot.move(motion())
    assert not link.status()["moving"]
    moves_again(lab.robot())


def test_the_robots_clock_jumps_forward_and_lab_time_does_not(robot, link):
    before, lab_before = robot.state.time.to_msec(), link.now_ns()
    link.fault("clock_jump", milliseconds=3_000_000)
    wait_until(lambda: robot.state.time.to_msec() > before + 2_999_999)
    assert link.now_ns() - lab_before < 60e9
    moves_again(robot)


def test_a_motion_jumps_with_the_robots_clock_and_is_stopped(robot, link):
    """The client takes the step for lost states, and commands where it should be by then."""
    heard = []
    begin(robot, link, heard)
    link.fault("clock_jump", milliseconds=500)
    with pytest.raises(ControlException, match="joint_motion_generator"):
        robot.join_motion(30)
    assert max(np.diff([stamp for stamp, _ in heard])) == 501
    moves_again(robot)


class ByteClient:
    """A client without libfranka, which sees every packet; it commands torques of zero."""

    def __init__(self, host, connect=True):
        self.tcp = socket.create_connection((host, wire.ROBOT_PORT), timeout=10)
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", 0))
        self.udp.settimeout(10)
        self.state = None
        if connect:
            self.say_connect()
            assert self.answer()[2][0] == 0

    def say_connect(self):
        self._request(wire.Command.CONNECT, 7, struct.pack("<HH", V10.number, self.udp.getsockname()[1]))

    def begin_torques(self):
        self._request(wire.Command.MOVE, 8, wire.MOVE_REQUEST.pack(2, 4, *[0.0] * 6, False, *[0.0] * 7))
        assert self.answer()[2][0] == wire.MoveStatus.MOTION_STARTED

    def cycles(self, count):
        """Answer the states of `count` packets of the motion; returns their ids in the order of arrival."""
        ids, command = [], np.zeros((), wire.CONTROL)
        while len(ids) < count:
            packet, peer = self.udp.recvfrom(4096)
            self.state = np.frombuffer(packet, wire.STATE)[0]
            if self.state["robot_mode"] == wire.Mode.MOVE:
                ids.append(int(self.state["message_id"]))
                command["message_id"] = ids[-1]
                self.udp.sendto(command.tobytes(), peer)
        return ids

    def stop(self):
        self._request(wire.Command.STOP_MOVE, 9)
        assert {self.answer()[0], self.answer()[0]} == {wire.Command.STOP_MOVE, wire.Command.MOVE}

    def answer(self):
        """(command, id, body)."""
        command, command_id, size = wire.ROBOT_HEADER.unpack(self._read(wire.ROBOT_HEADER.size))
        return command, command_id, self._read(size - wire.ROBOT_HEADER.size)

    def _request(self, command, command_id, payload=b""):
        self.tcp.sendall(wire.ROBOT_HEADER.pack(command, command_id, wire.ROBOT_HEADER.size + len(payload)) + payload)

    def _read(self, size):
        data = b""
        while len(data) < size:
            data += self.tcp.recv(size - len(data))
        return data

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.tcp.close()
        self.udp.close()
