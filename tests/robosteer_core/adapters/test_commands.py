"""`robosteer adapter`: what is told of an adapter, what merging and exporting write, and what they refuse."""

import copy
import json
import re

import numpy as np
import pytest
import torch
from adapted import HEADS, record, trained, velocity
from peft import PeftModel
from safetensors.torch import load_file, save_file

from robosteer_core.adapters.export import lerobot_path
from robosteer_core.adapters.sparse_lora import merge
from robosteer_core.adapters.store import save_adapter
from robosteer_core.cli import main
from robosteer_core.errors import UserError
from robosteer_core.vla.checkpoint import load_policy


@pytest.fixture
def adapter(base, tmp_path):
    save_adapter(trained(copy.deepcopy(base), action_modules=True), tmp_path / "adapter", record(base, action_modules=True))
    return tmp_path / "adapter"


def test_info_tells_what_is_trained_and_whether_it_fits(base, adapter, capsys):
    assert main(["adapter", "info", "--adapter", str(adapter), "--policy", str(base.source)]) == 0
    told = capsys.readouterr().out
    assert "press the red button" in told and "(0,1) (0,6) (1,3)" in told and "action modules" in told
    assert re.search(f"fits +{base.source}", told)
    assert main(["adapter", "info", "--adapter", str(adapter), "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["heads"] == [list(head) for head in HEADS] and found["fits"] is None and found["action_modules"]
    assert found["files"]["adapter_model.safetensors"] == (adapter / "adapter_model.safetensors").stat().st_size


def test_merge_writes_a_checkpoint_in_which_only_what_was_trained_differs(base, tmp_path, capsys):
    steered = trained(copy.deepcopy(base))
    save_adapter(steered, tmp_path / "adapter", record(base))
    assert main(["adapter", "merge", "--adapter", str(tmp_path / "adapter"), "--out", str(tmp_path / "merged")]) == 0
    merged = load_policy(tmp_path / "merged")
    assert (velocity(merged) - velocity(steered)).abs().max() < 1e-5
    before, after = (load_file(folder / "model.safetensors") for folder in (base.source, tmp_path / "merged"))
    assert before.keys() == after.keys()
    changed = {name: (before[name] != after[name]) for name in before if not torch.equal(before[name], after[name])}
    rows = {layer: [row for head in HEADS if head.layer == layer for row in base.sites.site(head).rows(head.head)] for layer in (0, 1)}
    assert len(changed) == 4
    for name, where in changed.items():
        layer = int(re.search(r"layers\.(\d+)\.", name)[1])
        found = where.any(1) if "q_proj" in name else where.any(0)
        assert ("q_proj" in name or "o_proj" in name) and np.flatnonzero(found.numpy()).tolist() == rows[layer]


@pytest.mark.parametrize("content, words", [('{"r": ', "adapter_config.json is no JSON"), (None, "lacks adapter_config.json; copy it again")])
def test_an_adapter_whose_configuration_is_cut_short_is_not_exported(adapter, tmp_path, capsys, content, words):
    (adapter / "adapter_config.json").unlink() if content is None else (adapter / "adapter_config.json").write_text(content)
    assert main(["adapter", "export", "--adapter", str(adapter), "--out", str(tmp_path / "plain")]) == 2
    assert words in capsys.readouterr().err and not (tmp_path / "plain").exists()


def test_a_plain_export_is_two_files_that_peft_reads(base, adapter, tmp_path):
    assert main(["adapter", "export", "--adapter", str(adapter), "--out", str(tmp_path / "plain")]) == 0
    assert sorted(path.name for path in (tmp_path / "plain").iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    wanted = velocity(trained(copy.deepcopy(base), action_modules=True))
    PeftModel.from_pretrained(base.model, tmp_path / "plain")
    assert (velocity(base) - wanted).abs().max() <= 1e-6


def test_the_export_for_lerobot_fits_a_module_with_lerobots_names(base, adapter, tmp_path):
    """A stand-in for lerobot's policy: the same weights under the names of its checkpoints, loaded by plain PEFT."""
    assert main(["adapter", "export", "--adapter", str(adapter), "--layout", "lerobot", "--out", str(tmp_path / "theirs")]) == 0
    lerobot = torch.nn.Module()
    # transformers writes a pi0 under the names of lerobot's first files, in which the language model was one level deeper.
    stored = {name.replace("language_model.model.", "language_model."): value for name, value in load_file(base.source / "model.safetensors").items()}
    for name in stored:
        place, names = lerobot, ["model", *name.removeprefix("model.").split(".")]
        for part in names[:-2]:
            if part not in place._modules:
                place.add_module(part, torch.nn.Module())
            place = place.get_submodule(part)
        if names[-1] == "weight" and stored[name].ndim == 2:
            place.add_module(names[-2], torch.nn.Linear(*stored[name].shape[::-1], bias=f"{name.removesuffix('weight')}bias" in stored))
            place.get_submodule(names[-2]).weight.data.copy_(stored[name])
    before = {name: module.weight.clone() for name, module in lerobot.named_modules() if isinstance(module, torch.nn.Linear)}
    merged = PeftModel.from_pretrained(lerobot, tmp_path / "theirs").merge_and_unload()
    ours = trained(copy.deepcopy(base), action_modules=True)
    merge(ours.model)
    changed = [name for name, module in merged.named_modules() if name in before and not torch.equal(module.weight, before[name])]
    assert len(changed) == 4 + 5  # q and o in two layers; state, action in and out, time in and out
    wanted = {lerobot_path("pi0", name): module.weight for name, module in ours.model.named_modules() if isinstance(module, torch.nn.Linear)}
    assert all((merged.get_submodule(name).weight - wanted[name]).abs().max() < 1e-6 for name in changed)


def test_names_of_the_other_families():
    assert lerobot_path("pi05", "model.dit.layers.3.self_attn.q_proj") == "model.paligemma_with_expert.gemma_expert.model.layers.3.self_attn.q_proj"
    assert lerobot_path("smolvla", "vlm.text_model.layers.0.mlp.up_proj") == "model.vlm_with_expert.vlm.model.text_model.layers.0.mlp.up_proj"
    assert lerobot_path("smolvla", "action_in_proj") == "model.action_in_proj"
    with pytest.raises(UserError, match="no policy of the family openvla"):
        lerobot_path("openvla", "model.layers.0")


@pytest.mark.parametrize("command, options, words", [
    ("info", ["--adapter", "{tmp}/absent"], "no adapter in"), ("merge", ["--adapter", "{tmp}/absent", "--out", "{tmp}/new"], "no adapter in"),
    ("export", ["--adapter", "{tmp}/adapter", "--out", "{tmp}/new", "--layout", "onnx"], "peft, lerobot; found 'onnx'"),
    ("export", ["--adapter", "{tmp}/adapter", "--out", "{tmp}/base"], "there is something already"),
    ("merge", ["--adapter", "{tmp}/adapter", "--out", "{tmp}/base"], "there is something already"),
    ("merge", ["--adapter", "{tmp}/adapter", "--policy", "{tmp}/other", "--out", "{tmp}/new"], "made for the base"),
    ("export", ["--adapter", "{tmp}/adapter", "--policy", "{tmp}/other", "--out", "{tmp}/new"], "made for the base"),
    ("info", ["--adapter", "{tmp}/adapter", "--policy", "{tmp}/other"], "made for the base"),
    ("merge", ["--adapter", "{tmp}/broken", "--out", "{tmp}/new"], "not finite"),
])  # fmt: skip
def test_what_cannot_be_done_is_one_message_and_nothing_written(base, adapter, tmp_path, capsys, command, options, words):
    if "other" in str(options):
        with torch.no_grad():
            base.model.action_out_proj.bias += 1
        base.save(tmp_path / "other")
    if "broken" in str(options):
        (tmp_path / "broken").mkdir()
        for path in adapter.iterdir():
            (tmp_path / "broken" / path.name).write_bytes(path.read_bytes())
        weights = load_file(adapter / "adapter_model.safetensors")
        next(iter(weights.values())).fill_(float("nan"))
        save_file(weights, tmp_path / "broken" / "adapter_model.safetensors")
    assert main(["adapter", command, *(option.format(tmp=tmp_path) for option in options)]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "new").exists() and not list(tmp_path.glob("new*"))


def test_a_base_that_moved_is_found_where_it_is_said_to_be(base, adapter, tmp_path, capsys):
    base.source.rename(tmp_path / "moved")
    command = ["adapter", "merge", "--adapter", str(adapter), "--out", str(tmp_path / "merged")]
    assert main(command) == 2
    assert f"trained on {base.source}, which is not here" in capsys.readouterr().err
    assert main([*command, "--policy", str(tmp_path / "moved")]) == 0 and (tmp_path / "merged" / "policy.json").is_file()


def test_an_adapter_names_its_base_wherever_it_is_asked_from(base, tmp_path, monkeypatch):
    monkeypatch.chdir(base.source.parent)
    here = load_policy(base.source.name)
    save_adapter(trained(copy.deepcopy(here)), tmp_path / "adapter", record(here))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["adapter", "merge", "--adapter", str(tmp_path / "adapter"), "--out", str(tmp_path / "merged")]) == 0


def test_the_files_of_adapters_and_policies_can_be_read_by_whom_the_umask_lets(base, adapter, tmp_path):
    (tmp_path / "neighbour").touch()
    assert main(["adapter", "export", "--adapter", str(adapter), "--out", str(tmp_path / "plain")]) == 0
    assert main(["adapter", "merge", "--adapter", str(adapter), "--out", str(tmp_path / "merged")]) == 0
    found = {path.stat().st_mode for folder in (adapter, tmp_path / "plain", tmp_path / "merged") for path in folder.iterdir()}
    assert found == {(tmp_path / "neighbour").stat().st_mode}


def test_the_card_is_whole_and_says_what_was_trained_on_what(base, adapter):
    page = (adapter / "card.html").read_text()
    assert "press the red button" in page and base.source.name in page and page.count(record(base).base_sha256) == 1
    assert "vlm · layer 1 · head 3" in page and "the projections of state, time and action" in page
    assert page.count("data:image/png;base64,") == 1 and not re.search(r"(src|href)=\"(?!data:)", page)
    trainable = sum(p.numel() for p in trained(copy.deepcopy(base), action_modules=True).model.parameters() if p.requires_grad)
    assert f"{trainable:,}".replace(",", "\u00a0") in page
    assert f"robosteer run --policy {base.source} --adapter {adapter}" in page and "--layout lerobot" in page
