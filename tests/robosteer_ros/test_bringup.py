"""Which processes a rig's graph has, and what is refused before anything starts."""

import pytest

from robosteer_core.errors import UserError, settings
from robosteer_core.rig import load_rig
from robosteer_ros.bringup import GraphSettings, processes_of


def test_the_policys_node_is_told_what_it_is_to_load_and_where():
    settings = GraphSettings(policy="runs/base", adapter="runs/steered", device="cuda:1")
    words = {process.name: process.command for process in processes_of(load_rig("lab"), settings)}
    assert {"policy:=runs/base", "adapter:=runs/steered", "device:=cuda:1"} < set(words.pop("policy"))
    assert not any("device" in word for command in words.values() for word in command)


@pytest.mark.parametrize("given, words", [
    ({"only": "arm,legs"}, "there are no nodes legs; expected some of cameras, arm, teleop, recorder, policy"),
    ({"only": "arm", "policy": "scripted"}, "a policy is given, and its node is not among those to start: arm"),
    ({"adapter": "runs/steered"}, "an adapter is given without its policy"),
    ({"params_file": "nowhere.yaml"}, "no file of parameters nowhere.yaml"),
    ({"log_level": "loud"}, "found 'loud'"),
])  # fmt: skip
def test_what_cannot_be_started_is_refused_in_words(given, words):
    with pytest.raises(UserError, match=words):
        processes_of(load_rig("lab"), GraphSettings(**given))


def test_a_namespace_that_ros_does_not_take_is_refused():
    assert settings(GraphSettings, namespace="/cell/left").namespace == "/cell/left"
    with pytest.raises(UserError, match="namespace: .*'bad name'"):
        settings(GraphSettings, namespace="bad name")
