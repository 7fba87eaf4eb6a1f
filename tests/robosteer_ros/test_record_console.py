"""What the console of `robosteer record` makes of what a recorder tells: here the test tells it."""

import io

import pytest
from rich.console import Console as Terminal

from robosteer_core.errors import UserError
from robosteer_ros import record_console
from robosteer_ros.graph.messages import Stamps
from robosteer_ros.graph.participant import spinning
from robosteer_ros.graph.qos import EVERY_LATCHED
from robosteer_ros.hardware.teleop.keys import Keys
from robosteer_ros.record_console import Console
from robosteer_ros.ros import create_node, diagnostic_msgs
from robosteer_ros.steering import RecordingStatus

READY = RecordingStatus("ready", kept=1, wanted=5, task="press", dataset="runs/press", owner="/console")
RECORDING = RecordingStatus("recording", kept=1, wanted=5, task="press", dataset="runs/press", owner="/console")
OF_ANOTHER = RecordingStatus("finished", kept=3, owner="/console_before")


@pytest.fixture
def watch(caller, rig):
    """A function that tells a console these statuses and gives what its watch came to; `check(publisher, said)` as the watch's."""
    node = create_node("console")

    def watch(*statuses, check=lambda publisher, said: None, enter=lambda stage: None):
        publisher, said = caller.create_publisher(diagnostic_msgs.msg.DiagnosticArray, "recorder/status", EVERY_LATCHED), []
        for status in statuses:
            publisher.publish(status.message(Stamps(rig)))
        try:
            return Console(node, rig).watch(said.append, Keys(False), lambda: check(publisher, said), enter)
        finally:
            caller.destroy_publisher(publisher)

    with spinning(node):
        yield watch


def test_what_was_told_of_other_sessions_before_is_no_news(watch):
    finished = RecordingStatus("finished", kept=5, owner="/console")
    assert watch(OF_ANOTHER, RecordingStatus("idle"), READY, finished) == finished


def test_how_long_an_episode_is_recorded_is_shown_where_one_looks_on(watch):
    shown, piped = io.StringIO(), io.StringIO()
    with record_console._elapsed(Terminal(file=shown, force_terminal=True, color_system=None)) as enter:
        watch(READY, RECORDING, RecordingStatus("finished", kept=1, owner="/console"), enter=enter)
    assert "recording 0:00:0" in shown.getvalue() and "ready" not in shown.getvalue() and "finished" not in shown.getvalue()
    with record_console._elapsed(Terminal(file=piped)) as enter:
        enter("recording")
    assert not piped.getvalue()


@pytest.mark.parametrize("last, why", [(RecordingStatus("idle"), "was started anew"), (OF_ANOTHER, "records for /console_before")])
def test_a_session_that_is_lost_is_told_with_what_there_is_of_it_and_how_to_go_on(watch, last, why):
    kept = "1 episodes were kept and are whole in runs/press, the one that ran is not among them; the same command with --episodes 4 goes on"
    with pytest.raises(UserError, match=f"the session is lost: the recorder {why}.*{kept}"):
        watch(READY, RECORDING, last)


def test_a_recorder_that_has_gone_is_noticed(watch, caller):
    def go(publisher, said):
        if said:
            caller.destroy_publisher(publisher)

    with pytest.raises(UserError, match="the session is lost: the recorder has gone"):
        watch(READY, check=go)


def test_a_recorder_that_never_tells_of_the_session_is_not_waited_for(watch, monkeypatch):
    monkeypatch.setattr(record_console, "HEARD_WITHIN_S", 1.0)
    with pytest.raises(UserError, match="told nothing of this session for 1 s"):
        watch(OF_ANOTHER)
