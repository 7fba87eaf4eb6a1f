"""A capture on disk is the same however it was shared out and however often it was killed, and says what is missing."""

import json
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from robosteer_core.cli import main
from robosteer_core.episodes.reader import Dataset
from robosteer_core.errors import UserError
from robosteer_core.heads.archive import Captured, capture_dataset
from robosteer_core.heads.tap import Read
from robosteer_core.heads.task_heads import captured_task_heads, find_task_heads
from robosteer_core.vla.checkpoint import load_policy

BRIDGE = Path(__file__).resolve().parents[4] / "shared" / "data" / "bridge_sample"
pytestmark = pytest.mark.skipif(not BRIDGE.is_dir(), reason="needs ../shared/data/bridge_sample")

READS = tuple(map(Read.parse, ("expert", "vlm", "vlm.ffn:mean")))


@pytest.fixture
def policy(small_policy, tmp_path):
    small_policy.save(tmp_path / "base")
    return load_policy(tmp_path / "base")


def blocks(folder):
    return {path.name: path.read_bytes() for path in folder.glob("block-*.safetensors")}


class Killed(Exception):
    pass


class Dies:
    """A progress bar that ends the run after a number of blocks."""

    console = Console(file=StringIO())

    def __init__(self, blocks):
        self.left = blocks

    def add_task(self, *_, **__):
        return 1

    def update(self, *_, **__):
        pass

    def advance(self, *_):
        self.left -= 1
        if self.left == 0:
            raise Killed


def test_shards_and_killed_runs_write_the_bytes_of_one_run(policy, tmp_path):
    options = dict(keyframes="droid", block=16, seed=3)
    whole = capture_dataset(policy, Dataset(BRIDGE), tmp_path / "whole", READS, **options)
    for shard in ((1, 2), (0, 2)):
        with pytest.raises(Killed):
            capture_dataset(policy, Dataset(BRIDGE), tmp_path / "parts", READS, **options, shard=shard, progress=Dies(2))
        (tmp_path / "parts" / "block-00099.safetensors.tmp").write_bytes(b"half of a block")
    with pytest.raises(UserError, match=f"{whole.record.blocks - 4} of {whole.record.blocks} blocks are missing.*every shard"):
        Captured(tmp_path / "parts").read("expert:first_action")
    for shard in ((1, 2), (0, 2)):
        capture_dataset(policy, Dataset(BRIDGE), tmp_path / "parts", READS, **options, shard=shard)
    assert blocks(tmp_path / "parts") == blocks(tmp_path / "whole") and whole.record.blocks > 5
    # Nothing is made twice.
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "whole").iterdir() if path.name != ".lock"}
    capture_dataset(policy, Dataset(BRIDGE), tmp_path / "whole", READS, **options)
    assert before == {path: path.stat().st_mtime_ns for path in before}
    ffn = whole.read("vlm.ffn:mean")
    assert ffn.shape == (whole.record.frames, 3, 256) and np.array_equal(whole.read("vlm.ffn:mean", layer=1), ffn[:, 1])


def test_selecting_from_a_capture_equals_selecting_from_the_dataset(policy, tmp_path):
    direct = find_task_heads(policy, Dataset(BRIDGE), keyframes="droid", seed=3).to_json()
    captured = capture_dataset(policy, Dataset(BRIDGE), tmp_path / "capture", READS, keyframes="droid", seed=3)
    assert captured_task_heads(Captured(captured.folder)).to_json() == direct
    backbone = captured_task_heads(captured, scored="vlm", resamples=0)
    assert backbone.scored_part == "vlm" and backbone.to_json()["token"] == "last_prefix" and backbone.stability is None
    with pytest.raises(UserError, match="holds expert:first_action, vlm:last_prefix.*'vlm:mean'; capture it into another folder: .*capture --read vlm:mean --out"):
        captured_task_heads(captured, scored="vlm:mean")
    with pytest.raises(UserError, match="captured with the seed 3; found 4"):
        captured_task_heads(captured, seed=4)


def test_the_commands_from_frames_to_pictures(policy, tmp_path, capsys):
    folder, selection = tmp_path / "capture", tmp_path / "heads.json"
    command = ["heads", "capture", "--dataset", str(BRIDGE), "--policy", str(policy.source), "--out", str(folder), "--keyframes", "droid"]
    assert main([*command, "--shard", "1/2"]) == 0
    assert "blocks are left to other shards" in capsys.readouterr().out
    assert main(["heads", "select", "--capture", str(folder)]) == 2
    assert "is not finished" in capsys.readouterr().err
    assert main(command) == 0
    assert main(["heads", "select", "--capture", str(folder), "--method", "greedy", "--k", "5", "--n-heads", "3", "--out", str(selection)]) == 0
    printed = capsys.readouterr().out
    assert "selected by greedy" in printed and "k = 5" in printed
    record = json.loads(selection.read_text())
    assert (record["method"], record["n_heads"], record["stability"]) == ("greedy", 3, None)
    assert main(["heads", "plot", str(selection), "--out", str(tmp_path / "map.png"), "--title", "carrot"]) == 0
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in ("heads.png", "heads_rank.png", "map.png", "map_rank.png"))


@pytest.mark.parametrize("options, words", [
    (["--shard", "2/2"], "i of 0 to n - 1; found 2/2"), (["--shard", "half"], "i/n such as 0/2"), (["--read", "decoder"], "found 'decoder'"),
    (["--step", "4"], "takes 3 denoising steps"), (["--device", "abacus"], "cannot run on 'abacus'"), (["--keyframes", "aloha"], "keyframe rule"),
])  # fmt: skip
def test_bad_options_leave_nothing_behind(policy, tmp_path, capsys, options, words):
    command = ["heads", "capture", "--dataset", str(BRIDGE), "--policy", str(policy.source), "--out", str(tmp_path / "capture"), *options]
    assert main(command) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "capture").exists()


def test_a_folder_of_something_else_and_a_damaged_block_are_refused(policy, tmp_path):
    captured = capture_dataset(policy, Dataset(BRIDGE), tmp_path / "capture", READS[:1], keyframes="droid")
    with pytest.raises(UserError, match="differs in reads; choose another --out"):
        capture_dataset(policy, Dataset(BRIDGE), tmp_path / "capture", READS[:2], keyframes="droid")
    with pytest.raises(UserError, match="differs in keyframes, frames"):
        capture_dataset(policy, Dataset(BRIDGE), tmp_path / "capture", READS[:1])
    captured.block(0).write_bytes(captured.block(0).read_bytes()[:-100])
    with pytest.raises(UserError, match="block-00000.safetensors cannot be read.*remove it"):
        captured.read("expert:first_action")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="found something else"):
        capture_dataset(policy, Dataset(BRIDGE), tmp_path / "other", READS[:1])
    with pytest.raises(UserError, match="no capture in"):
        Captured(tmp_path / "other")
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("arguments, words", [
    ([], "expected --dataset and --policy, or --capture"), (["--capture", "x", "--policy", "y"], "--policy was settled"),
    (["--capture", "x", "--others", "y"], "--others is for the method causal"), (["--capture", "{tmp}"], "no capture in"),
])  # fmt: skip
def test_select_is_told_one_source(tmp_path, capsys, arguments, words):
    assert main(["heads", "select", *(argument.format(tmp=tmp_path) for argument in arguments)]) == 2
    assert words in capsys.readouterr().err
