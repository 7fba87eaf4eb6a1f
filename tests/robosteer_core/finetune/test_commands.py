"""`robosteer finetune` from a dataset and a selection to an adapter; what `--heads` may say."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from robosteer_core.adapters.card import WORSE
from robosteer_core.adapters.store import apply_adapter
from robosteer_core.cli import main
from robosteer_core.episodes.reader import Dataset
from robosteer_core.errors import UserError
from robosteer_core.finetune import config as finetune_config
from robosteer_core.finetune import memory
from robosteer_core.finetune.heads_option import parse_heads
from robosteer_core.vla.checkpoint import fingerprint, load_policy
from robosteer_core.vla.sites import Head

BRIDGE = Path(__file__).resolve().parents[4] / "shared" / "data" / "bridge_sample"
needs_bridge = pytest.mark.skipif(not BRIDGE.is_dir(), reason="needs ../shared/data/bridge_sample")


def command(tmp_path, **options):
    defaults = {"policy": tmp_path / "base", "dataset": BRIDGE, "heads": "random:3", "out": tmp_path / "out", "steps": 2, "batch_size": 4}
    return ["finetune", *(str(part) for key, value in (defaults | options).items() for part in (f"--{key.replace('_', '-')}", value))]


def with_column(tmp_path, column, change):
    """A copy of the dataset without its videos, a column's values (frames, width) as `change(table, values)` gives them."""
    shutil.copytree(BRIDGE, tmp_path / "data", ignore=shutil.ignore_patterns("videos"))
    [file] = (tmp_path / "data" / "data").rglob("*.parquet")
    table = pq.read_table(file)
    values = change(table, np.array(table[column].to_pylist(), np.float32)).astype(np.float32)
    place = table.schema.get_field_index(column)
    pq.write_table(table.set_column(place, table.schema.field(place), pa.array(list(values), table.schema.field(place).type)), file)
    return tmp_path / "data"


@needs_bridge
def test_real_episodes_make_an_adapter_that_carries_their_statistics(small_policy, tmp_path, capsys):
    small_policy.save(tmp_path / "base")
    (tmp_path / "heads.json").write_text(json.dumps({"heads": [["vlm", 0, 3], ["vlm", 1, 1]], "scored_part": "expert"}))
    assert main(command(tmp_path, heads=tmp_path / "heads.json", json="-")) == 0
    said = capsys.readouterr()
    for stage in ("loading the policy", "hashing the policy's weights", "estimating the memory", "measuring the loss before", "measuring the loss after"):
        assert f"{stage}\n" in said.err
    summary = json.loads(said.out)
    assert summary["heads"] == [["vlm", 0, 3], ["vlm", 1, 1]] and (summary["frames"], summary["episodes"]) == (250, 25)
    policy = load_policy(tmp_path / "base")
    record = apply_adapter(policy, tmp_path / "out")
    assert record.scored_part == "expert" and "put carrot on plate" in record.instructions
    assert policy.config.action == record.action != small_policy.config.action


@needs_bridge
def test_full_finetuning_leaves_a_policy_with_the_datasets_statistics_where_they_are_asked_for(small_policy, tmp_path, capsys):
    small_policy.save(tmp_path / "base")
    names = Dataset(BRIDGE).action_names
    own = small_policy.config.model_copy(update={"action_names": names, "action_hz": 5})
    own.save(tmp_path / "base")  # the same dimensions, so that without the option its own statistics stand
    for option, name in (("--new-statistics", "new"), (None, "own")):
        line = command(tmp_path, heads="full", lr=1e-4, out=tmp_path / name, held_out=5, batch_size=2, steps=1)
        assert main([*line, *([option] if option else [])]) == 0
        said = capsys.readouterr()
        assert "every weight" in said.out and "memory: about" in " ".join(said.err.split())
        assert (load_policy(tmp_path / name / "policy").config.action == own.action) == (option is None)
        assert len(json.loads((tmp_path / name / "training.json").read_text())["held_out_episodes"]) == 5


@needs_bridge
def test_a_run_that_does_not_fit_names_the_settings_that_do_and_goes_on(small_policy, tmp_path, capsys, monkeypatch):
    small_policy.save(tmp_path / "base")
    monkeypatch.setattr(memory, "GPU", 12 * 2**20)
    monkeypatch.setattr(finetune_config, "LARGE", 1e5)
    assert main(command(tmp_path, batch_size=32, heads="layers:0", steps=1)) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "fits: memory: about" in said and "--accumulate" in said and "--lr 0.005 is meant for a small model" in said


@needs_bridge
@pytest.mark.parametrize("options, words", [
    ({"policy": "{tmp}/absent"}, "no policy in"), ({"dataset": "{tmp}"}, "meta/info.json is missing"),
    ({"heads": "{tmp}/absent.json"}, "expected a selection at"), ({"heads": "random:x"}, "random:SEED"), ({"lr": "-1"}, "learning_rate"),
    ({"kv": "all"}, "kv"), ({"heads": "layers:9"}, "layers:N,N"), ({"precision": "float8"}, "precision"), ({"held_out": "25"}, "hold out fewer"),
    ({"accumulate": "9"}, "split into 9 parts"), ({"seed": str(2**32)}, "seed"), ({"heads": "all", "n_heads": "3"}, "--n-heads is for --heads random:SEED; found --heads all"),
    ({"heads": "full", "kv": "any"}, "--heads full trains every weight"),
    ({"out": "/proc/robosteer/out"}, "the folder /proc/robosteer/out cannot be written"),
])  # fmt: skip
def test_bad_input_is_one_message_and_leaves_nothing_behind(small_policy, tmp_path, capsys, options, words):
    small_policy.save(tmp_path / "base")
    assert main(command(tmp_path, **{key: value.format(tmp=tmp_path) for key, value in options.items()})) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@needs_bridge
def test_training_that_diverges_is_one_message_and_makes_no_adapter(small_policy, tmp_path, capsys):
    small_policy.save(tmp_path / "base")
    assert main(command(tmp_path, lr=1e30, held_out=1, steps=6)) == 2
    said = capsys.readouterr()
    assert re.search(r"robosteer: training diverged: the loss is \w+ in step 2 of 6, the learning rate was .* lower --lr", said.err) and not said.out
    assert not {"heads.json", "training.json", "card.html"} & {path.name for path in (tmp_path / "out").iterdir()}


@needs_bridge
@pytest.mark.parametrize("others, better", [(1, True), (-10, False)])
def test_held_out_episodes_tell_whether_a_run_was_better_than_the_base(small_policy, tmp_path, capsys, others, better):
    """All that is trained on does 1; the episodes held out do the same, or what is far from it on the other side of 0."""
    small_policy.save(tmp_path / "base")
    small_policy.config.model_copy(update={"action_names": Dataset(BRIDGE).action_names, "action_hz": 5}).save(tmp_path / "base")
    held = np.random.default_rng([0, 2**31]).choice(25, 5, replace=False)
    data = with_column(tmp_path, "action", lambda table, _: np.where(np.isin(table["episode_index"], held), others, 1)[:, None].repeat(7, 1))
    (data / "videos").symlink_to(BRIDGE / "videos")
    assert main(command(tmp_path, dataset=data, held_out=5, steps=3, batch_size=16, validate_every=1)) == 0
    said, summary = capsys.readouterr(), json.loads((tmp_path / "out" / "training.json").read_text())
    before, after = summary["held_out_loss_before"], summary["held_out_loss_after"]
    assert summary["better_on_held_out"] == (after < before) == better
    assert f"on 5 held-out episodes {before:.4f} -> {after:.4f} (step {summary['best']['step']} of 3 is kept)" in said.out
    page = (tmp_path / "out" / "card.html").read_text()
    assert (WORSE in said.err) == (WORSE in page) == (not better)
    assert f"{before:.4g}\u00a0→\u00a0{after:.4g}" in page and "20 episodes, 200 frames; 5 episodes, 50 frames, were held out" in page
    assert f"3 steps; this is step {summary['best']['step']}" in page


@needs_bridge
def test_heads_that_cannot_be_trained_are_refused_before_images_are_read(small_policy, tmp_path, capsys):
    small_policy.save(tmp_path / "base")
    (tmp_path / "heads.json").write_text('{"heads": [["vlm", 2, 1]]}')
    assert main(command(tmp_path, heads=tmp_path / "heads.json")) == 2
    said = capsys.readouterr().err
    assert "do not reach the action" in said and "reading" not in said and not (tmp_path / "out").exists()


def test_random_heads_are_as_many_as_a_selection_has_and_follow_the_seed(small_policy):
    first, again, other = (parse_heads(f"random:{seed}", small_policy)[0] for seed in (1, 1, 2))
    assert first == again != other and len(set(first)) == 8
    assert all(head.part == "vlm" and head.layer < 2 for head in first)
    assert len(parse_heads("random:1", small_policy, 3)[0]) == 3
    with pytest.raises(UserError, match="17 random heads.*16 eligible"):
        parse_heads("random:1", small_policy, 17)


def test_all_means_every_head_that_reaches_the_action_and_none_means_none(small_policy):
    assert parse_heads("all", small_policy)[0] == [Head("vlm", layer, head) for layer in range(2) for head in range(8)]
    assert parse_heads("none", small_policy) == ([], None)


def test_a_selection_for_a_larger_model_is_refused(small_policy, tmp_path):
    (tmp_path / "heads.json").write_text('{"heads": [["vlm", 9, 7]]}')
    with pytest.raises(UserError, match="layers 0 to 2"):
        parse_heads(str(tmp_path / "heads.json"), small_policy)


@pytest.mark.parametrize("of_selection, sha256", [("policy", "policy_sha256"), ("base", "base_sha256")])
def test_a_selection_made_on_another_policy_is_refused_naming_both(base, tmp_path, of_selection, sha256):
    """A selection's file, and an adapter's."""
    one = load_policy(base)
    made_on = {of_selection: str(base), sha256: fingerprint(base)}
    (tmp_path / "heads.json").write_text(json.dumps({"heads": [["vlm", 0, 1]], "scored_part": "expert"} | made_on))
    assert parse_heads(str(tmp_path / "heads.json"), one) == ([Head("vlm", 0, 1)], "expert")
    with torch.no_grad():
        one.model.action_out_proj.bias += 1
    one.save(tmp_path / "other")
    words = rf"selected on the policy {base} \(weights {fingerprint(base)[:12]}\).*{tmp_path / 'other'} \(weights {fingerprint(tmp_path / 'other')[:12]}"
    with pytest.raises(UserError, match=words):
        parse_heads(str(tmp_path / "heads.json"), load_policy(tmp_path / "other"))


@needs_bridge
@pytest.mark.parametrize("command_line", [["heads", "select"], ["heads", "capture"], ["finetune", "--heads", "random:1"]])
@pytest.mark.parametrize("column", ["action", "observation.state"])
def test_a_dataset_with_nan_is_refused_naming_the_frame(small_policy, tmp_path, capsys, command_line, column):
    small_policy.save(tmp_path / "base")

    def damaged(_, values):
        values[7, 2] = np.nan
        return values

    options = ["--dataset", str(with_column(tmp_path, column, damaged)), "--policy", str(tmp_path / "base"), "--out", str(tmp_path / "out")]
    assert main([*command_line, *options]) == 2
    assert f"{column} holds values that are not finite in 1 frames, the first in episode 0, frame 7" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
