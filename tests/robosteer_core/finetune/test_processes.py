"""Two processes, as torchrun starts them, end as one does, whether each holds all weights or they share them out."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from adapted import velocity
from peft import PeftModel
from runs import HEADS, SHORT, losses, train, weights

from robosteer_core.adapters.sparse_lora import adapter_layers
from robosteer_core.adapters.store import apply_adapter
from robosteer_core.errors import UserError
from robosteer_core.finetune.processes import Processes, own_device
from robosteer_core.vla.checkpoint import load_policy

CONFIG = SHORT.model_copy(update={"learning_rate": 1e-3})
#: Each of the two passes two frames a step, one after the other; one process passes four at once.
PARTS = CONFIG.model_copy(update={"accumulate": 2})
HELD_OUT = {"held_out": 1, "validate_every": 3}


def in_two_processes(folder, demonstrations, runs, *options):
    """Each run is (name, heads, config, after how many updates it dies or None)."""
    (folder / "runs.pickle").write_bytes(pickle.dumps((demonstrations, runs)))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1", "--nproc_per_node", "2"]
    command = [*torchrun, str(Path(__file__).with_name("worker.py")), str(folder), *options]
    with subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True) as started:
        try:
            _, said = started.communicate(timeout=600)
        finally:
            started.terminate()  # which ends its workers too
    assert started.returncode == 0, said


def summary(out):
    return json.loads((out / "training.json").read_text())


def held(folder):
    return [json.loads((folder / f"held{rank}.json").read_text()) for rank in range(2)]


def test_two_processes_have_the_losses_of_one_with_twice_the_batch(base, demonstrations, tmp_path):
    train(base, demonstrations, tmp_path / "one", CONFIG)
    in_two_processes(tmp_path, demonstrations, [("two", HEADS, PARTS, None)])
    assert summary(tmp_path / "two")["processes"] == 2 and not summary(tmp_path / "two")["sharded"]
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)
    assert held(tmp_path) == [sum(p.numel() for p in load_policy(base).parameters())] * 2


def test_two_processes_that_share_the_weights_out_end_as_one(base, demonstrations, tmp_path):
    """Adapters with all that saves memory and with held-out episodes, whole models, and runs that are killed and go on."""
    extra = PARTS.model_copy(update={"checkpointing": True, "action_modules": True} | HELD_OUT)
    full = CONFIG.model_copy(update={"full": True, "learning_rate": 1e-4})
    runs = [
        ("two", HEADS, PARTS, None), ("killed", HEADS, PARTS, 3), ("killed", HEADS, PARTS, None), ("left", HEADS, CONFIG, 3), ("extra", HEADS, extra, None),
        ("full", [], full, 3), ("full", [], full, None), ("none", [], CONFIG, None),
    ]  # fmt: skip
    in_two_processes(tmp_path, demonstrations, runs, "sharded")
    for name, heads, config in (("two", HEADS, CONFIG), ("extra", HEADS, CONFIG.model_copy(update={"action_modules": True} | HELD_OUT)), ("full", [], full)):
        _, one = train(base, demonstrations, tmp_path / f"one {name}", config, heads=heads)
        two = summary(tmp_path / name)
        assert two["sharded"] and losses(tmp_path / name) == pytest.approx(losses(tmp_path / f"one {name}"), rel=1e-4)
        for key in ("loss_before", "loss_after", "trainable_parameters", "steps"):
            assert two[key] == pytest.approx(one[key], rel=1e-4), (name, key)
    assert summary(tmp_path / "extra")["best"]["step"] == json.loads((tmp_path / "one extra" / "training.json").read_text())["best"]["step"]
    assert all(torch.equal(value, weights(tmp_path / "killed")[key]) for key, value in weights(tmp_path / "two").items())
    assert summary(tmp_path / "none")["loss_before"] == summary(tmp_path / "none")["loss_after"]
    after, one = load_policy(tmp_path / "full" / "policy"), load_policy(tmp_path / "one full" / "policy")
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(after.parameters(), one.parameters(), strict=True))
    assert not (tmp_path / "left" / "heads.json").exists()
    train(base, demonstrations, tmp_path / "left", CONFIG)  # by one process, to the end
    assert losses(tmp_path / "left") == pytest.approx(losses(tmp_path / "one two"), rel=1e-4)
    assert max(held(tmp_path)) < 0.55 * sum(p.numel() for p in load_policy(base).parameters())

    ours, plain, before = load_policy(base), load_policy(base), velocity(load_policy(base))
    apply_adapter(ours, tmp_path / "extra")
    PeftModel.from_pretrained(plain.model, tmp_path / "extra")
    assert not adapter_layers(plain.model), "PEFT must use its own layers here"
    assert (velocity(plain) - velocity(ours)).abs().max() <= 1e-6 and (velocity(ours) - before).abs().max() > 1e-3


def test_processes_beyond_the_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert own_device() == torch.device("cuda", 1)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(UserError, match="a GPU for each process; found process 2 .* and 2 GPUs"):
        own_device()


def test_one_process_has_nobody_to_share_the_weights_out_to():
    with pytest.raises(UserError, match="several processes to share the weights out to; found one; .*torchrun"):
        Processes(sharded=True)
