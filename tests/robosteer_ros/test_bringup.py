"""Which processes a rig's graph has, and what is refused before anything starts."""

import pytest

from robosteer_core.cli import main
from robosteer_core.errors import UserError, settings
from robosteer_core.rig import load_rig
from robosteer_ros import ros
from robosteer_ros.bringup import GraphSettings, processes_of
from robosteer_ros.up import bring_up


def processes_with(tmp_path, content, **settings):
    """The processes where parameters are given, of which `content` is the file."""
    file = tmp_path / "parameters.yaml"
    file.write_text(content)
    return processes_of(load_rig("lab"), GraphSettings(params_file=str(file), **settings))


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


@pytest.mark.parametrize("content, words", [
    ("policy:\n  ros__parameters: {seed: 1\n  seconds: 3.0}\n", r"parameters.yaml, line 3, column 10: expected ',' or '}'"),
    ("policy: {seed: 1}", "expected `ros__parameters`, .* or the name of a node below policy/seed, found 1"),
    ("arm: {ros__parameters: [rig]}", r"below arm/ros__parameters, found \['rig'\]"), ("", "nothing in it is meant for a node"),
])  # fmt: skip
def test_parameters_that_nodes_could_not_read_are_refused_with_the_place(tmp_path, content, words):
    with pytest.raises(UserError, match=words):
        processes_with(tmp_path, content)


@pytest.mark.parametrize("content, words", [
    ("policy: {ros__parameters: {seed: 1, excuted: 5}}",
     "/policy has no parameter 'excuted'; did you mean 'executed'.*one of adapter, autostart, device, executed, instruction, "),
    ("front_camera: {ros__parameters: {jpeg: {quality: 95}}}",
     "/front_camera has no parameter 'jpeg.quality'; did you mean 'jpeg_quality'"),
    ("gripper: {ros__parameters: {full_speed: true}}", "/gripper has no parameter 'full_speed'; expected one of autostart, rig, "),
    ("/**: {ros__parameters: {jpeg_qualty: 95}}", r"/\*\* has no parameter 'jpeg_qualty'; did you mean 'jpeg_quality'"),
    ("/**/arm: {ros__parameters: {jpeg_quality: 95}}", r"/\*\*/arm has no parameter 'jpeg_quality'"),
    ("supervisor: {ros__parameters: {process: true}}", "/supervisor has no parameter 'process'; did you mean 'processes'"),
    ("polcy: {ros__parameters: {seed: 1}}", "nothing in it is meant for a node of this graph; expected some of /supervisor, /arm, "),
    ("cell: {policy: {ros__parameters: {seed: 1}}}", "nothing in it is meant for a node of this graph"),
])  # fmt: skip
def test_a_misspelt_parameter_is_refused_with_its_node_and_the_nearest_name(tmp_path, content, words):
    with pytest.raises(UserError, match=words):
        processes_with(tmp_path, content)


def test_parameters_for_all_for_every_node_of_ros_and_for_other_peoples_nodes_are_taken(tmp_path):
    content = (
        "/**: {ros__parameters: {use_sim_time: false, jpeg_quality: 95, qos_overrides: {/clock: {subscription: {depth: 5}}}}}\n"
        "/cell:\n  policy: {ros__parameters: {seed: 1, start_type_description_service: false}}\n"
        "  lidar: {ros__parameters: {rate_hz: 10}}\nlidar: {ros__parameters: {rate_hz: 10}}\n"
    )
    processes_with(tmp_path, content, namespace="cell")


@pytest.mark.parametrize("given, words", [
    ({"policy": "/nosuch"}, "no policy '/nosuch'; expected a checkpoint folder, ws://host:port, or one of: .*scripted"),
    ({"policy": "ws://there:1", "adapter": "runs/steered"}, "an adapter goes into a checkpoint folder"),
    ({"policy": "/tmp", "adapter": "/nosuch"}, "no adapter in /nosuch"),
    ({"policy": "/tmp", "device": "moon"}, "the policy cannot run on 'moon' here: Expected one of cpu, cuda"),
    ({"policy": "/tmp", "device": "cuda:99"}, "the policy cannot run on 'cuda:99' here: expected a GPU of this machine, found "),
])  # fmt: skip
def test_a_policy_that_is_not_there_is_refused_before_anything_starts(rig_file, tmp_path, given, words):
    ros.init(args=["test"])
    try:
        with pytest.raises(UserError, match=words), bring_up(GraphSettings(rig=str(rig_file), logs=tmp_path / "logs", **given), print):
            pass
    finally:
        ros.try_shutdown()
    assert not (tmp_path / "logs").exists()


def test_a_check_refuses_what_up_would_and_starts_nothing(rig_file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["up", str(rig_file), "--check", "--policy", "scripted"]) == 0
    assert main(["up", str(rig_file), "--check", "--policy", "/nosuch"]) == 2
    assert "robosteer: no policy '/nosuch'" in capsys.readouterr().err
    assert not list(tmp_path.glob("runs*"))
