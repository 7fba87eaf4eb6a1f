"""The log for TensorBoard says what `log.jsonl` says, also of a run that was killed; without its package nothing is begun."""

import json
import struct
import sys

import pytest
from runs import HEADS, SHORT, Dies, Killed
from tensorboardX.proto.event_pb2 import Event

from robosteer_core.cli import main
from robosteer_core.finetune.events import Events
from robosteer_core.finetune.train import finetune
from robosteer_core.vla.checkpoint import load_policy

CONFIG = SHORT.model_copy(update={"steps": 12, "held_out": 1, "validate_every": 2, "save_every": 4})


def scalars(folder):
    """All scalars in a folder's event files, as (step, tag, value): records of length, checksum, event, checksum."""
    found = []
    for file in folder.iterdir():
        content, place = file.read_bytes(), 0
        while place < len(content):
            (length,) = struct.unpack_from("<Q", content, place)
            event = Event.FromString(content[place + 12 : place + 12 + length])
            found += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
            place += 12 + length + 4
    return sorted(found)


def test_events_hold_the_log_once_however_often_the_run_is_killed(base, demonstrations, tmp_path):
    def train(progress=None):
        finetune(load_policy(base), demonstrations, HEADS, tmp_path / "out", CONFIG, dataset="here", events=Events, progress=progress)

    for updates in (3, 6):  # before the first saved state, and between two later ones
        with pytest.raises(Killed):
            train(Dies(updates))
    train()
    log = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    expected = sorted((entry["step"], name, value) for entry in log for name, value in entry.items() if name != "step")
    found = scalars(tmp_path / "out" / "tensorboard")
    assert [place[:2] for place in found] == [place[:2] for place in expected] and {tag for _, tag, _ in found} == {"loss", "held_out_loss", "rate"}
    assert [value for *_, value in found] == pytest.approx([value for *_, value in expected], rel=1e-6)


def test_the_command_names_the_extra_that_brings_it(base, tmp_path, monkeypatch, capsys):
    """Before a dataset is opened: there is none here."""
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    monkeypatch.delitem(sys.modules, "robosteer_core.finetune.events", raising=False)
    options = ["--policy", str(base), "--dataset", str(tmp_path / "none"), "--heads", "all", "--out", str(tmp_path / "out")]
    assert main(["finetune", *options, "--tensorboard"]) == 2
    assert "pip install -e '.[tensorboard]'" in capsys.readouterr().err
    assert main(["finetune", *options]) == 2
    assert "expected a dataset folder" in capsys.readouterr().err
