"""A checkpoint as the hub has it, which names neither dimensions nor rate, is fitted to a rig's demonstrations and acts on that rig."""

import json

import hub
import numpy as np
import pytest

from robosteer_core.adapters.store import read_record
from robosteer_core.cli import main
from robosteer_core.episodes.reader import Dataset
from robosteer_core.episodes.writer import DatasetWriter
from robosteer_core.errors import UserError
from robosteer_core.evaluation.trial_policy import CheckpointPolicy
from robosteer_core.evaluation.trials import Trial
from robosteer_core.heads.demonstrations import fitted
from robosteer_core.rig import load_rig
from robosteer_core.runtime.frame import Frame
from robosteer_core.runtime.observation import ArmState, Observation
from robosteer_core.runtime.pose import Pose
from robosteer_core.vla.checkpoint import load_policy

TASK = "go"
#: As the hub's bases declare them: as wide as the model, a third camera, statistics of another robot or none.
WIDE = {
    "input_features": {f"observation.images.{name}": {"type": "VISUAL", "shape": [3, 224, 224]} for name in (*hub.CAMERAS, "right_wrist_0_rgb")}
    | {"observation.state": {"type": "STATE", "shape": [hub.PADDED]}},
    "output_features": {"action": {"type": "ACTION", "shape": [hub.PADDED]}},
}  # fmt: skip
BASES = {
    "pi0 of lerobot": lambda path: wide(path, "pi0", hub.pi_tensors(False)),
    "pi05 of lerobot": lambda path: wide(path, "pi05", hub.pi_tensors(True)),
    "pi05 of openpi, several robots": lambda path: hub.openpi(path, pi05=True, robots=("droid", "trossen")),
    "smolvla": lambda path: hub.smolvla(path, **WIDE),
    "openvla, several datasets": lambda path: hub.openvla(path, datasets=("bridge_orig", "fractal")),
}


def wide(path, family, tensors):
    hub.lerobot(path, family, tensors, said=WIDE)
    for name in ("policy_preprocessor.json", "policy_postprocessor.json"):
        (path / name).unlink()  # no statistics, as in a base
    hub.characters(path / "tokenizer.json", "<pad>", "<eos>", "<bos>", "<unk>")


@pytest.fixture(scope="module")
def rig():
    rig = load_rig("lab")
    return rig.model_copy(update={"cameras": tuple(camera.model_copy(update={"width": 64, "height": 48}) for camera in rig.cameras)})


@pytest.fixture(scope="module")
def demonstrations(tmp_path_factory, rig):
    """Six episodes of nine frames, recorded on the rig at 15 frames a second."""
    folder, random = tmp_path_factory.mktemp("recorded") / "demos", np.random.default_rng(0)
    with DatasetWriter(folder, rig) as writer:
        for _ in range(6):
            writer.begin(TASK)
            for frame in range(9):
                stamp = 1_000_000_000 + frame * 66_666_667
                images = {name: random.integers(0, 255, (48, 64, 3), dtype=np.uint8) for name in ("front", "wrist")}
                writer.add(state=random.normal(size=7).astype(np.float32), action=(3 * random.normal(size=7) + 1).astype(np.float32), images=images,
                           stamps_ns=dict.fromkeys(("front", "wrist", "state", "command", "steering"), stamp))  # fmt: skip
            writer.keep()
    return folder


@pytest.fixture(params=BASES)
def base(request, tmp_path):
    BASES[request.param](tmp_path / "base")
    return tmp_path / "base"


def seen():
    random, pose = np.random.default_rng(1), Pose.from_vector(np.zeros(6))
    frames = {
        name: Frame(name, 0, 0, random.integers(0, 255, (48, 64, 3), dtype=np.uint8), np.zeros((48, 64), np.uint16), 0.001, None)
        for name in ("front", "wrist")
    }  # fmt: skip
    return Observation(0, frames, ArmState(0, pose, pose, np.zeros(7), np.zeros(3), 0.5), TASK)


def acts(folder, adapter, rig):
    """What the policy that `robosteer eval` takes does on the rig."""
    policy = CheckpointPolicy(folder, adapter, rig)
    return policy.begin(Trial(policy="hub", task=TASK, seed=0), dict)(seen())


def test_heads_finetune_merge_and_act_as_typed(base, demonstrations, rig, tmp_path, capsys):
    kind = type(load_policy(base).config.action)
    selection, out, merged = tmp_path / "heads.json", tmp_path / "adapter", tmp_path / "merged"
    given = ["--policy", str(base), "--dataset", str(demonstrations)]
    assert main(["heads", "select", *given, "--out", str(selection), "--n-heads", "3", "--resamples", "0"]) == 0
    assert main(["finetune", *given, "--heads", str(selection), "--out", str(out), "--steps", "2", "--batch-size", "4"]) == 0
    first = load_policy(base).config.cameras[0]
    assert f"{first} is the dataset's front" in " ".join(capsys.readouterr().err.split())
    record = read_record(out)
    assert record.camera_map[first] == json.loads(selection.read_text())["cameras"][first] == "front"
    assert (record.action_names, record.action_hz, record.cameras) == (rig.action_space.names, 15, tuple(record.camera_map.values()))
    assert record.state_names == (() if load_policy(base).family.startswith("openvla") else rig.state_names)
    assert type(record.action) is kind and record.action.width == 7
    assert main(["adapter", "merge", "--adapter", str(out), "--out", str(merged)]) == 0
    adapted, plain = acts(base, out, rig), acts(merged, None, rig)
    assert adapted.shape[1] == 7 and np.allclose(adapted, plain, atol=1e-4)


def test_a_base_that_names_nothing_is_sent_to_be_fitted_which_needs_no_training(rig, demonstrations, tmp_path):
    base, out = tmp_path / "base", tmp_path / "fitted"
    BASES["pi0 of lerobot"](base)
    with pytest.raises(UserError, match="checkpoint of the hub.*robosteer finetune.*--adapter"):
        CheckpointPolicy(base, None, rig)
    assert main(["finetune", "--policy", str(base), "--dataset", str(demonstrations), "--heads", "none", "--out", str(out)]) == 0
    assert acts(base, out, rig).shape[1] == 7


@pytest.mark.parametrize("base, words", [
    ("pi0 of lerobot", "action has 9 dimensions; the policy has room for 8"), ("openvla, several datasets", r"action of shape \(7,\); found \(9,\)"),
], indirect=["base"])  # fmt: skip
def test_a_dataset_that_is_wider_than_the_model_is_refused(base, demonstrations, words):
    dataset = Dataset(demonstrations)
    dataset.features["action"] |= {"shape": [9], "names": list("abcdefghi")}
    with pytest.raises(UserError, match=words):
        fitted(load_policy(base), dataset)


def test_another_rate_is_refused_with_both_figures_and_taken_where_the_actions_are_others(small_policy, demonstrations):
    dataset = Dataset(demonstrations)
    dataset.info["fps"] = 30
    with pytest.raises(UserError, match="30 frames a second, and the policy acts 15 times a second.*record demonstrations at 15"):
        fitted(small_policy, dataset)
    dataset.features["action"]["names"] = list("abcdefg")
    assert fitted(small_policy, dataset).config.action_hz == 30


def test_heads_are_scored_and_trained_under_the_same_statistics(small_policy, demonstrations, tmp_path, capsys):
    small_policy.save(tmp_path / "base")
    given = ["--policy", str(tmp_path / "base"), "--dataset", str(demonstrations)]
    selections = {"captured": ["--capture", str(tmp_path / "capture")], "own": given, "new": [*given, "--new-statistics"]}
    assert main(["heads", "capture", *given, "--new-statistics", "--out", str(tmp_path / "capture")]) == 0
    for name, options in selections.items():
        assert main(["heads", "select", *options, "--resamples", "0", "--out", str(tmp_path / f"{name}.json")]) == 0
    found = {name: json.loads((tmp_path / f"{name}.json").read_text()) for name in selections}
    assert found["captured"]["cv_mse"] == pytest.approx(found["new"]["cv_mse"], rel=1e-6) != found["own"]["cv_mse"]
    train = ["finetune", *given, "--steps", "1", "--batch-size", "4"]
    for name, options in {"captured": [], "own": [], "other": ["--new-statistics"]}.items():
        selection = tmp_path / f"{'own' if name == 'other' else name}.json"
        assert main([*train, "--heads", str(selection), "--out", str(tmp_path / name), *options]) == 0
        said = " ".join(capsys.readouterr().err.split())
        assert ("were scored under the policy's statistics" in said) == (name == "other")
        assert (read_record(tmp_path / name).action == small_policy.config.action) == (name == "own")
