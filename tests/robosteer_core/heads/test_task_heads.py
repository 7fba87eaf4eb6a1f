"""Heads are found in datasets that robosteer did not record, with actions scaled unless the raw rule is asked for."""

import json
from pathlib import Path

import numpy as np
import pytest

from robosteer_core.cli import main
from robosteer_core.episodes.reader import Dataset
from robosteer_core.errors import UserError
from robosteer_core.heads.demonstrations import camera_map, fitted, load_demonstrations
from robosteer_core.heads.task_heads import default_count, find_task_heads, read_heads
from robosteer_core.vla.sites import Sites, layers

BRIDGE = Path(__file__).resolve().parents[4] / "shared" / "data" / "bridge_sample"
needs_bridge = pytest.mark.skipif(not BRIDGE.is_dir(), reason="needs ../shared/data/bridge_sample")


@needs_bridge
def test_a_dataset_of_another_robot_brings_its_camera_and_its_statistics(small_policy):
    dataset = Dataset(BRIDGE)
    found = load_demonstrations(dataset, small_policy)
    assert list(found.images) == ["front"] and found.images["front"].shape == (250, 48, 48, 3)
    assert len(np.unique(found.episode)) == 25 and len(set(found.instruction)) == 4
    fit = fitted(small_policy, dataset)
    assert np.allclose(fit.config.state.mean, found.state.mean(0), atol=1e-5)
    assert fit.config.action != small_policy.config.action
    assert (fit.config.action_names, fit.config.action_hz, fit.cameras, fit.masked) == (dataset.action_names, 5, {"front": "image_0"}, ("wrist",))


@needs_bridge
def test_scaled_actions_weigh_alike_where_raw_ones_are_a_gripper_detector(small_policy):
    dataset = Dataset(BRIDGE)
    scaled = find_task_heads(small_policy, dataset)
    raw = find_task_heads(small_policy, dataset, raw_actions=True)
    share = {name: value / raw.selection.dimension_mse.sum() for name, value in zip(raw.names, raw.selection.dimension_mse)}
    assert share["gripper"] > 0.95
    assert scaled.selection.dimension_mse.max() < 2 * scaled.selection.dimension_mse.min()


@needs_bridge
def test_the_command_prints_one_object_with_the_ranking_on_stdout(small_policy, tmp_path, capsys):
    small_policy.save(tmp_path / "base")
    arguments = ["heads", "select", "--dataset", str(BRIDGE), "--policy", str(tmp_path / "base")]
    assert main([*arguments, "--json", "-", "--out", str(tmp_path / "heads.json")]) == 0
    said = capsys.readouterr()
    assert "loading the policy\n" in said.err and "hashing the policy's weights\n" in said.err
    found = json.loads(said.out)
    assert (found["scored_part"], found["trained_part"], found["masked_cameras"]) == ("expert", "vlm", ["wrist"])
    assert len(found["heads"]) == found["n_heads"] == 8 and all(part == "vlm" and layer < 2 for part, layer, _ in found["heads"])
    assert len(found["ranking"]) == 24 and set(found["ranking"][0]["dimension_mse"]) == {"dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper"}
    errors = [row["mse"] for row in found["ranking"]]
    assert errors == sorted(errors)
    heads, record = read_heads(tmp_path / "heads.json")
    assert [list(head) for head in heads] == found["heads"] and record == found
    assert (tmp_path / "heads.png").read_bytes().startswith(b"\x89PNG")


@needs_bridge
def test_two_runs_choose_the_same_heads(small_policy):
    first, second = (find_task_heads(small_policy, Dataset(BRIDGE), keyframes="droid").to_json() for _ in range(2))
    assert first == second and first["frames"] < 250


@needs_bridge
@pytest.mark.parametrize("arguments, words", [
    (["--dataset", "{tmp}"], "meta/info.json is missing"),
    (["--policy", "{tmp}"], "no policy in"),
    (["--keyframes", "aloha"], "keyframe rule"),
    (["--n-heads", "17"], "17 heads were asked for; the model has 16"),
    (["--step", "4"], "takes 3 denoising steps; expected a step of 0 to 3; found 4"),
    (["--method", "guess"], "method: Input should be 'knn', 'greedy', "),
    (["--method", "causal", "--scored-part", "vlm:mean"], "causal mediation replaces expert:first_action or vlm:last_prefix; found vlm:mean"),
    (["--k", "241"], "those of episode number 0 have 240 others in all; record more demonstrations"),
])  # fmt: skip
def test_bad_input_is_one_message_and_exit_code_2(small_policy, tmp_path, capsys, arguments, words):
    small_policy.save(tmp_path / "base")
    options = {"--dataset": str(BRIDGE), "--policy": str(tmp_path / "base")}
    options |= {key: value.format(tmp=tmp_path) for key, value in zip(arguments[::2], arguments[1::2])}
    command = ["heads", "select", *(part for pair in options.items() for part in pair), "--out", str(tmp_path / "heads.json")]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert words in said and "reading" not in said, "it is refused before images are read"
    assert not (tmp_path / "heads.json").exists()


@needs_bridge
def test_a_policy_of_another_action_width_is_refused_naming_both_shapes(small_policy):
    config = small_policy.config
    small_policy.config = config.model_copy(update={"action_names": (*config.action_names, "hand")})
    with pytest.raises(UserError, match=r"action of shape \(8,\); found \(7,\)"):
        find_task_heads(small_policy, Dataset(BRIDGE))


def test_cameras_of_the_same_name_come_first_and_others_in_order():
    assert camera_map(("front", "wrist"), ("wrist", "top")) == {"wrist": "wrist"}
    assert camera_map(("front", "wrist"), ("image_0",)) == {"front": "image_0"}
    with pytest.raises(UserError, match="found none"):
        camera_map(("front",), ())


def test_twenty_heads_by_default_and_eight_in_a_small_model(small_policy):
    assert default_count(small_policy.sites) == 8
    real = Sites({"vlm": layers("vlm", "layers", (18, 8, 1, 256), 16384, last_reaching=16)})
    assert default_count(real) == 20


@pytest.mark.parametrize("content, words", [
    ("{}", "no selection"), ("[1", "no selection"), ('{"heads": []}', "selects no head"),
    ('{"heads": [["vlm", 0, 1.7]]}', "two whole numbers"), ('{"heads": [["vlm", 0, 1], ["vlm", 0, 1]]}', "different heads of one part"),
    ('{"heads": [["vlm", 0, 1], ["expert", 0, 2]]}', "different heads of one part"),
])  # fmt: skip
def test_a_file_that_is_no_selection_is_refused(tmp_path, content, words):
    (tmp_path / "heads.json").write_text(content)
    with pytest.raises(UserError, match=words):
        read_heads(tmp_path / "heads.json")


def test_a_picture_is_no_place_for_a_selection(tmp_path, capsys):
    """Its own picture would be written over it."""
    assert main(["heads", "select", "--capture", str(tmp_path), "--out", str(tmp_path / "heads.png")]) == 2
    assert "--out is a file of JSON" in capsys.readouterr().err
