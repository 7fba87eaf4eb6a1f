"""Asking for faults: what is refused, what is listed, what ends them. What clients see of them is tested where they are."""

import subprocess
import sys

import pytest
import yaml

from robosteer_core.errors import UserError
from robosteer_core.rig import load_rig
from robosteer_core.runtime.json_lines import Refused
from robosteer_sim.camera_faults import FaultyCamera
from robosteer_sim.faults import KINDS, parse_fault

CAMERAS = ("front", "wrist")


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({"kind": "drp"}, "no fault 'drp'; it knows drop, delay, .*camera_disconnect"),
        ({}, "no fault None; it knows drop"),
        ({"kind": ["drop"]}, "knows no fault"),
        ({"kind": "drop"}, "give `states`, `commands` or both"),
        ({"kind": "drop", "packets": 3}, "no parameter 'packets'; it takes states, commands"),
        ({"kind": "disconnect", "seconds": 3}, "no parameter 'seconds'; it takes none"),
        ({"kind": "delay"}, "it needs 'cycles'"),
        ({"kind": "delay", "cycles": 0}, "cycles: .*greater than or equal to 1 .found 0"),
        ({"kind": "drop", "states": True}, "states: .*integer"),
        ({"kind": "drop", "states": "3"}, "states: .*integer"),
        ({"kind": "freeze", "seconds": -1.0}, "seconds: .*greater than 0"),
        ({"kind": "freeze", "seconds": float("nan")}, "seconds: .*finite"),
        ({"kind": "reflex", "error": "joint_pain"}, "error: the robot has no such error; it has joint_position_limits"),
        ({"kind": "camera_stop", "camera": "back"}, "no lab camera 'back'; there is: front, wrist"),
        ({"kind": "camera_skew", "camera": "front"}, "give `depth_ms`, `clock_ms` or both"),
    ],
)
def test_what_is_unknown_or_impossible_is_refused_by_name_with_what_is_known(message, words):
    with pytest.raises(UserError, match=words):
        parse_fault(message, CAMERAS)


def test_every_kind_says_what_happens_and_what_its_parameters_mean():
    for model in KINDS.values():
        assert model.__doc__
        assert all(field.description for name, field in model.model_fields.items() if name != "kind"), model


def test_the_control_socket_refuses_by_name_and_nothing_has_happened(link):
    for kind, parameters, words in (
        ("unplug", {}, "knows no fault 'unplug'"),
        ("disconnect", {}, "no client is connected to the robot"),
        ("gripper_disconnect", {}, "no client is connected to the gripper"),
        ("gripper_lost_object", {}, "holds nothing"),
        ("camera_stop", {"camera": "back"}, "no lab camera 'back'"),
    ):
        with pytest.raises(Refused, match=words):
            link.fault(kind, **parameters)
    with pytest.raises(Refused, match="knows no fault 'all'"):
        link.clear("all")
    assert link.faults() == []


def test_faults_are_listed_until_they_are_cleared_or_the_scene_is_reset(link):
    link.fault("gripper_stuck")
    link.fault("camera_stop", camera="front")
    link.fault("drop", states=3, commands=2)
    every = link.fault("camera_stop", camera="wrist")
    assert every == link.faults() == link.status()["faults"]
    assert every == [
        {"kind": "drop", "states": 3, "commands": 2},
        {"kind": "gripper_stuck"},
        {"kind": "camera_stop", "camera": "front"},
        {"kind": "camera_stop", "camera": "wrist"},
    ]
    assert [fault["kind"] for fault in link.clear("camera_stop")] == ["drop", "gripper_stuck"]
    assert link.clear("drop") == [{"kind": "gripper_stuck"}]
    assert link.clear() == []
    link.fault("freeze")
    link.fault("delay", cycles=3)
    link.reset("press the red button", 0)
    assert link.faults() == []


def test_a_fault_with_a_time_ends_by_itself_in_lab_time(link, lab):
    clock = lab.join()
    now_ns = clock.now_ns()
    link.fault("camera_repeat", camera="front", seconds=0.2)
    assert link.faults() == [{"kind": "camera_repeat", "camera": "front", "seconds": 0.2, "left_s": 0.2}]
    clock.sleep_until_ns(now_ns + 150_000_000)
    assert link.faults()[0]["left_s"] == pytest.approx(0.05)
    clock.sleep_until_ns(now_ns + 200_000_000)
    assert link.faults() == []
    clock.close()


def test_faults_can_be_asked_for_on_the_command_line(lab, link, tmp_path):
    rig = load_rig("lab").model_dump(mode="json") | {"lab": {"control": lab.control_address}}
    (tmp_path / "rig.yaml").write_text(yaml.safe_dump(rig))

    def fault(*words):
        command = [sys.executable, "-m", "robosteer_core.cli", "sim", "fault", *words, "--rig", str(tmp_path / "rig.yaml")]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    done = fault("camera_skew", "camera=front", "depth_ms=40")
    assert done.returncode == 0 and "camera_skew camera=front depth_ms=40" in done.stdout
    assert link.faults()[0]["depth_ms"] == 40
    known = fault().stdout
    assert all(f"{kind}: " in known for kind in KINDS) and "camera_skew camera=front" in known
    assert fault("--clear").stdout.endswith(": none\n") and link.faults() == []
    for words, reason in (
        (["gripper_stuk"], "knows no fault 'gripper_stuk'; it knows drop"),
        (["camera_stop", "front"], "written name=value; found 'front'"),
        (["--clear", "camera_stop", "camera=front"], "without parameters"),
    ):
        done = fault(*words)
        assert done.returncode == 2 and reason in done.stderr and "Traceback" not in done.stderr


def test_a_clock_jump_is_listed_until_it_comes_and_can_be_cleared(link):
    link.reset("press the red button", 0, hold=True)
    link.fault("clock_jump", milliseconds=700)
    assert link.fault("drop", states=1) == [
        {"kind": "drop", "states": 1}, {"kind": "clock_jump", "milliseconds": 700},
    ]  # fmt: skip
    assert link.clear("drop") == [{"kind": "clock_jump", "milliseconds": 700}]
    assert link.clear("clock_jump") == []
    link.reset("press the red button", 0)


def test_a_camera_that_is_to_fall_back_by_another_number_does_so():
    camera, images = FaultyCamera(), lambda: (None, None)

    def number(frame, *frames):
        camera.suffer([{"kind": "camera_jump_back", "camera": "front", "frames": each} for each in frames])
        return camera.take(0, frame, images).number

    assert [number(100), number(101, 20), number(102, 20), number(103, 50), number(104)] == [100, 81, 82, 53, 104]
