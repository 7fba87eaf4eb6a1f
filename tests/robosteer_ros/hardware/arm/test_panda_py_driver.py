"""What the driver of the Panda does where there is no robot to try it on: its connections, and a stop of a robot that is gone."""

import os
import socket
import threading
from contextlib import ExitStack

import pytest

pytest.importorskip("panda_py", reason="panda-python is not installed: pip install -e '.[panda]'")

from robosteer_ros.hardware.arm import panda_py_driver  # noqa: E402
from robosteer_ros.hardware.arm.driver import ArmFault  # noqa: E402


def is_shut(end):
    end.settimeout(0.2)
    try:
        return end.recv(1) == b""
    except TimeoutError:
        return False


def test_hanging_up_shuts_the_connections_to_this_robot_alone_and_leaks_nothing(monkeypatch, tmp_path):
    with ExitStack() as open_ends:
        robot, other = (
            open_ends.enter_context(socket.create_server((f"127.{os.getpid() % 250 + 1}.7.{n}", 0))) for n in (1, 2)
        )
        address, port = robot.getsockname()
        other_server = open_ends.enter_context(socket.create_server((other.getsockname()[0], port)))
        ours = open_ends.enter_context(socket.create_connection((address, port)))
        theirs = open_ends.enter_context(socket.create_connection(other_server.getsockname()))
        seen, far = robot.accept()[0], other_server.accept()[0]
        pair = socket.socketpair()
        for end in (seen, far, *pair, open(tmp_path / "file", "w")):
            open_ends.enter_context(end)
        monkeypatch.setattr(panda_py_driver, "FCI_PORT", port)
        before = sorted(os.listdir("/proc/self/fd"))
        panda_py_driver._hang_up(address)
        assert sorted(os.listdir("/proc/self/fd")) == before
        assert is_shut(seen) and is_shut(ours)
        assert not is_shut(far) and not is_shut(theirs) and not is_shut(pair[0])


class _LostPanda:
    """Of a robot that has fallen silent in the middle of a motion: libfranka's own words."""

    let_go = False

    def get_state(self):
        raise RuntimeError("libfranka: UDP receive: Timeout")

    def is_moving(self):
        return True

    def stop_controller(self):
        self.let_go = True


def test_a_stop_of_a_robot_that_is_silent_ends_the_tracking_all_the_same(monkeypatch):
    driver = panda_py_driver.PandaPyDriver.__new__(panda_py_driver.PandaPyDriver)
    driver._lock, driver._motion, driver._failure, driver._panda = threading.Lock(), "tracking", None, _LostPanda()
    driver.begin_stop()
    for thread in threading.enumerate():
        if thread.name == "coming to rest":
            thread.join(10)
    assert not driver.moving and driver._panda.let_go
    with pytest.raises(ArmFault, match="Timeout"):
        driver.raise_fault()
