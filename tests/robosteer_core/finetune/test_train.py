"""Training moves the chosen heads alone, sees each frame's own episode, and ends the same however often it is killed."""

import json
import resource
from pathlib import Path

import pytest
import torch
from runs import HEADS, SHORT, Dies, Killed, losses, train, weights

from robosteer_core.adapters.slices import head_slices
from robosteer_core.adapters.sparse_lora import adapter_layers, add_adapter
from robosteer_core.adapters.store import apply_adapter
from robosteer_core.errors import UserError
from robosteer_core.finetune.batches import Batches, WholePrefix
from robosteer_core.finetune.config import FinetuneConfig
from robosteer_core.finetune.frozen import FrozenPrefix
from robosteer_core.finetune.loop import state_bytes
from robosteer_core.finetune.train import finetune
from robosteer_core.heads.demonstrations import Demonstrations
from robosteer_core.vla.checkpoint import load_policy
from robosteer_core.vla.config import Normalisation
from robosteer_core.vla.sites import Head


def test_training_lowers_the_loss_and_reports_what_it_trained(base, demonstrations, tmp_path):
    config = SHORT.model_copy(update={"steps": 30, "learning_rate": 1e-2})
    policy, summary = train(base, demonstrations, tmp_path / "out", config)
    assert summary["loss_after"] < 0.9 * summary["loss_before"]
    counted = sum(p.numel() for layer in adapter_layers(policy.model).values() for p in layer.parameters() if p.requires_grad)
    assert summary["trainable_parameters"] == counted == sum(4 * (128 + 16) * 2 for _ in range(2))
    # All heads that reach the action: layers 0 and 1, q and o whole.
    assert summary["full_lora_parameters"] == 4 * (128 + 128) * 2 * 2
    assert json.loads((tmp_path / "out" / "training.json").read_text()) == summary
    assert [json.loads(line)["step"] for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()] == [10, 20, 30]


def test_the_written_adapter_is_what_was_trained(base, demonstrations, tmp_path):
    trained, _ = train(base, demonstrations, tmp_path / "out")
    loaded = load_policy(base)
    assert apply_adapter(loaded, tmp_path / "out").scored_part == "expert"
    for (path, one), (_, two) in zip(adapter_layers(trained.model).items(), adapter_layers(loaded.model).items(), strict=True):
        assert torch.equal(one.get_delta_weight("default"), two.get_delta_weight("default")), path
        assert one.get_delta_weight("default").abs().sum() > 0, path


def test_a_killed_run_goes_on_to_the_same_adapter(base, demonstrations, tmp_path):
    train(base, demonstrations, tmp_path / "whole")
    with pytest.raises(Killed):
        train(base, demonstrations, tmp_path / "killed", progress=Dies(3))
    assert not (tmp_path / "killed" / "heads.json").exists()
    train(base, demonstrations, tmp_path / "killed")
    whole, killed = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert whole.keys() == killed.keys() and all(torch.equal(whole[key], killed[key]) for key in whole)
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")


def test_a_run_that_is_interrupted_tells_from_which_step_it_goes_on(base, demonstrations, tmp_path):
    for done, step in ((1, 0), (3, 2)):
        with pytest.raises(KeyboardInterrupt):
            train(base, demonstrations, tmp_path / "out", progress=(bar := Dies(done, by=KeyboardInterrupt)))
        assert f"stopped; the same command goes on from step {step} of 6" in bar.console.file.getvalue()


def test_a_state_that_the_disk_refuses_leaves_the_one_before_from_which_the_run_goes_on(base, demonstrations, tmp_path):
    train(base, demonstrations, tmp_path / "whole")
    with pytest.raises(Killed):
        train(base, demonstrations, tmp_path / "out", progress=Dies(3))
    state = (tmp_path / "out" / "training.pt").read_bytes()
    # Parameters and two moments, and what is around them.
    assert 0.9 * len(state) < state_bytes(2304, SHORT) + 6000 < 1.1 * len(state)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))  # at which the system breaks files off, as on a full disk
    try:
        with pytest.raises(UserError, match="training.pt cannot be written: File too large; .* make room"):
            train(base, demonstrations, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (tmp_path / "out" / "training.pt").read_bytes() == state and not list((tmp_path / "out").glob("*.tmp"))
    train(base, demonstrations, tmp_path / "out")
    assert all(torch.equal(value, weights(tmp_path / "out")[key]) for key, value in weights(tmp_path / "whole").items())


def test_a_finished_run_is_not_repeated(base, demonstrations, tmp_path):
    _, first = train(base, demonstrations, tmp_path / "out")
    _, second = train(base, demonstrations, tmp_path / "out", progress=Dies(0))
    assert second == json.loads(json.dumps(first))


def test_a_run_of_before_which_did_not_tell_its_statistics_is_known(base, demonstrations, tmp_path):
    _, first = train(base, demonstrations, tmp_path / "out")
    path = tmp_path / "out" / "settings.json"
    settings = json.loads(path.read_text())
    del settings["statistics_sha256"]
    path.write_text(json.dumps(settings))
    assert train(base, demonstrations, tmp_path / "out", progress=Dies(0))[1] == json.loads(json.dumps(first))


def test_a_run_killed_before_its_last_state_is_removed_leaves_none(base, demonstrations, tmp_path):
    train(base, demonstrations, tmp_path / "out")
    (tmp_path / "out" / "training.pt").write_bytes(b"of a run killed here")
    train(base, demonstrations, tmp_path / "out", progress=Dies(0))
    assert not (tmp_path / "out" / "training.pt").exists()


def test_a_run_killed_as_it_writes_its_last_state_keeps_the_whole_log(base, demonstrations, tmp_path, monkeypatch):
    train(base, demonstrations, tmp_path / "whole")
    save = torch.save

    def dies(state, file):
        save(state, file)
        if state["step"] == SHORT.steps:
            raise Killed

    monkeypatch.setattr(torch, "save", dies)
    with pytest.raises(Killed):
        train(base, demonstrations, tmp_path / "out")
    monkeypatch.undo()
    train(base, demonstrations, tmp_path / "out")
    assert losses(tmp_path / "out") == losses(tmp_path / "whole") != []


def test_a_run_killed_before_its_settings_are_whole_begins_again(base, demonstrations, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "settings.json.tmp").write_text('{"base')
    assert train(base, demonstrations, tmp_path / "out")[1]["steps"] == SHORT.steps


@pytest.mark.parametrize("name, words", [
    ("settings.json", "remove the folder"), ("training.json", "remove the folder"), ("training.pt", "remove it, and the run begins anew"),
])  # fmt: skip
def test_a_file_of_a_run_that_is_cut_short_is_refused_by_name(base, demonstrations, tmp_path, name, words):
    if name == "training.json":
        train(base, demonstrations, tmp_path / "out")
    else:
        with pytest.raises(Killed):
            train(base, demonstrations, tmp_path / "out", progress=Dies(3))
    path = tmp_path / "out" / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=f"{name} cannot be read .* {words}"):
        train(base, demonstrations, tmp_path / "out")


def test_the_seed_alone_decides(base, demonstrations, tmp_path):
    for name, seed in (("one", 1), ("again", 1), ("two", 2)):
        train(base, demonstrations, tmp_path / name, SHORT.model_copy(update={"seed": seed, "steps": 2}))
    one, again, two = (weights(tmp_path / name) for name in ("one", "again", "two"))
    assert all(torch.equal(one[key], again[key]) for key in one)
    assert any(not torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize("first", range(4))
def test_the_cached_prefix_gives_the_loss_and_gradients_of_the_whole_one(small_policy, demonstrations, first):
    """Oracle: the policy's own prefix, nothing cached. In layer 3 and above there is nothing left to run."""
    heads = [Head("vlm", first, 1)] if first < 2 else [Head("expert", 1, 1)]
    torch.manual_seed(0)
    add_adapter(small_policy.model, head_slices(small_policy.sites, heads, "none"), 4, 4.0)
    for layer in adapter_layers(small_policy.model).values():
        torch.nn.init.normal_(layer.lora_B["default"].weight)
    batches, rows = Batches(small_policy, demonstrations, SHORT), torch.tensor([3, 0, 14, 9])

    found = []
    for source in (WholePrefix(small_policy, demonstrations), FrozenPrefix(small_policy, demonstrations, first), FrozenPrefix(small_policy, demonstrations, first, limit_bytes=0)):
        small_policy.zero_grad()
        loss = batches.loss(source, rows, 7)
        loss.backward()
        gradients = [p.grad.clone() for p in small_policy.model.parameters() if p.requires_grad]
        assert all(gradient.abs().sum() > 0 for gradient in gradients)
        found.append((loss.detach(), gradients))
    for loss, gradients in found[1:]:
        assert torch.allclose(loss, found[0][0], atol=1e-5)
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(gradients, found[0][1]))


def test_a_chunk_ends_with_its_episode(small_policy, demonstrations):
    """The last frames' chunks reach into the next episode; what is done there must not count."""
    frozen, rows = FrozenPrefix(small_policy, demonstrations, 3), torch.tensor([4, 3, 9, 14])
    before = Batches(small_policy, demonstrations, SHORT).loss(frozen, rows, 1)
    other = demonstrations.action.copy()
    other[demonstrations.frame < 3] += 5
    changed = Demonstrations(**{**vars(demonstrations), "action": other})
    assert torch.equal(Batches(small_policy, changed, SHORT).loss(frozen, rows, 1), before)
    other[4] += 1
    assert not torch.equal(Batches(small_policy, changed, SHORT).loss(frozen, rows, 1), before)


def test_every_frame_is_seen_once_before_any_is_seen_again(small_policy, demonstrations):
    batches = Batches(small_policy, demonstrations, SHORT)
    seen = torch.cat([batches.rows(step) for step in range(15)])
    assert all(sorted(epoch.tolist()) == list(range(15)) for epoch in seen.split(15))
    assert not torch.equal(seen[:15], seen[15:30])


def test_the_rate_warms_up_and_falls_to_a_tenth():
    config = FinetuneConfig(steps=600, learning_rate=1.0)
    assert config.rate(0) < 0.05 and config.rate(60) > 0.95
    assert config.rate(599) == pytest.approx(0.1, abs=1e-3)


def test_without_heads_the_base_is_measured_and_left_alone(base, demonstrations, tmp_path):
    policy, summary = train(base, demonstrations, tmp_path / "none", heads=[])
    assert summary["trainable_parameters"] == 0 and summary["loss_before"] == summary["loss_after"]
    assert not apply_adapter(load_policy(base), tmp_path / "none").heads


@pytest.mark.parametrize("head, words", [
    (Head("vlm", 2, 0), "do not reach the action"), (Head("vision", 0, 0), "image encoder is frozen"),
    (Head("vlm", 4, 0), r"no head \('vlm', 4, 0\)"),
])  # fmt: skip
def test_heads_that_cannot_be_trained_are_refused_before_anything_is_written(base, demonstrations, tmp_path, head, words):
    with pytest.raises(UserError, match=words):
        train(base, demonstrations, tmp_path / "out", heads=[head])
    assert not (tmp_path / "out").exists()


def test_a_folder_of_another_run_is_refused_naming_the_difference(base, demonstrations, tmp_path):
    train(base, demonstrations, tmp_path / "out", SHORT.model_copy(update={"steps": 2}))
    with pytest.raises(UserError, match=r"differs in learning_rate \(0.005 there, 0.001 here\); choose"):
        train(base, demonstrations, tmp_path / "out", SHORT.model_copy(update={"steps": 2, "learning_rate": 1e-3}))
    with pytest.raises(UserError, match="differs in heads"):
        train(base, demonstrations, tmp_path / "out", SHORT.model_copy(update={"steps": 2}), heads=HEADS[:1])
    policy = load_policy(base)
    policy.config = policy.config.model_copy(update={"action": Normalisation(mean=(0.0,) * 7, std=(2.0,) * 7)})
    with pytest.raises(UserError, match="differs in statistics_sha256"):
        finetune(policy, demonstrations, HEADS, tmp_path / "out", SHORT.model_copy(update={"steps": 2}), dataset="demonstrations")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="found something else"):
        train(base, demonstrations, tmp_path / "other")
    assert [path.name for path in Path(tmp_path / "other").iterdir()] == ["notes.txt"]


def test_feed_forward_layers_and_action_modules_are_trained_where_they_are_asked_for(base, demonstrations, tmp_path):
    config = SHORT.model_copy(update={"feed_forward": True, "action_modules": True, "learning_rate": 1e-2})
    trained, summary = train(base, demonstrations, tmp_path / "out", config)
    found = weights(tmp_path / "out")
    for part in ("mlp.down_proj.lora_B", "q_proj.lora_B", "action_in_proj.", "action_time_mlp_out.", "state_proj."):
        assert any(part in key for key in found), part
    assert not any("layers.2." in key for key in found), "the last layer's feed-forward does not reach the action"
    assert summary["first_layer_run"] == 0
    assert summary["trainable_parameters"] == sum(p.numel() for p in trained.model.parameters() if p.requires_grad)
    with pytest.raises(Killed):
        train(base, demonstrations, tmp_path / "killed", config, progress=Dies(3))
    train(base, demonstrations, tmp_path / "killed", config)
    assert all(torch.equal(value, weights(tmp_path / "killed")[key]) for key, value in found.items())
    loaded = load_policy(base)
    apply_adapter(loaded, tmp_path / "out")
    assert not torch.equal(loaded.model.action_out_proj.weight, load_policy(base).model.action_out_proj.weight)
