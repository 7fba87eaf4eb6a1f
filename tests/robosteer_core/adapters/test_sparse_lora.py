"""The compact layer equals PEFT's own on the files it writes, and touches the chosen heads alone."""

import copy

import numpy as np
import pytest
import torch
from adapted import ALPHA, HEADS, RANK, record, trained, velocity
from peft import PeftModel

from robosteer_core.adapters.slices import head_slices
from robosteer_core.adapters.sparse_lora import adapter_layers, add_adapter, merge
from robosteer_core.adapters.store import apply_adapter, save_adapter
from robosteer_core.errors import UserError
from robosteer_core.vla.checkpoint import load_policy
from robosteer_core.vla.sites import Head


def test_a_new_adapter_changes_nothing(base):
    before = velocity(base)
    add_adapter(base.model, head_slices(base.sites, HEADS), RANK, ALPHA)
    assert torch.equal(velocity(base), before)


def test_only_the_chosen_heads_have_parameters(base):
    trained(base)
    count = sum(p.numel() for p in base.model.parameters() if p.requires_grad)
    # Per layer and n heads of width 16: A_q 4 x 128, B_q 16n x 4, A_o 4 x 16n, B_o 128 x 4.
    assert count == sum(RANK * (128 + 16 * n) * 2 for n in (2, 1))


@pytest.mark.parametrize("heads, kv, extra", [
    (HEADS, "own", {}), (HEADS, "any", {}), (tuple(Head("vlm", 1, h) for h in range(8)), "own", {}), (HEADS, "none", {"feed_forward": True}),
    (HEADS, "none", {"action_modules": True}), (HEADS, "none", {"feed_forward": True, "action_modules": True}),
    ((Head("expert", 2, 4),), "none", {"feed_forward": True}),
])  # fmt: skip
def test_plain_peft_reads_the_saved_adapter_and_gives_the_same_actions(base, tmp_path, heads, kv, extra):
    plain = copy.deepcopy(base)
    before = velocity(base)
    steered = trained(base, heads, kv, **extra)
    save_adapter(steered, tmp_path / "adapter", record(plain, heads, kv, **extra))
    ours = velocity(steered)
    PeftModel.from_pretrained(plain.model, tmp_path / "adapter")
    assert not adapter_layers(plain.model), "PEFT must use its own layers here"
    assert (velocity(plain) - ours).abs().max() <= 1e-6
    assert (ours - before).abs().max() > 1e-3


def test_a_saved_adapter_loads_and_acts_the_same(base, tmp_path):
    fresh = copy.deepcopy(base)
    steered = trained(base)
    save_adapter(steered, tmp_path / "adapter", record(fresh))
    assert apply_adapter(fresh, tmp_path / "adapter").heads == HEADS
    assert torch.equal(velocity(fresh), velocity(steered))


def test_merging_changes_only_the_chosen_rows_and_columns(base, tmp_path):
    original = {name: value.clone() for name, value in base.model.state_dict().items()}
    steered = trained(base)
    wanted = velocity(steered)
    merge(steered.model)
    assert (velocity(steered) - wanted).abs().max() < 1e-5
    sites = steered.sites
    allowed = {}
    for head in HEADS:
        site = sites.site(head)
        for path, dim in ((site.q_proj, 0), (site.o_proj, 1)):
            allowed.setdefault(f"{path}.weight", torch.zeros_like(original[f"{path}.weight"], dtype=torch.bool)).index_fill_(
                dim, torch.tensor(site.rows(head.head)), True
            )
    merged = steered.model.state_dict()
    assert merged.keys() == original.keys()
    for name, value in merged.items():
        changed = value != original[name]
        assert changed.any() == (name in allowed), name
        assert not (changed & ~allowed[name]).any() if name in allowed else True, name


def test_outputs_of_other_heads_in_the_first_adapted_layer_stay_as_they_were(base):
    site = base.sites.part("vlm")[0]
    kept = []
    base.model.get_submodule(site.o_proj).register_forward_pre_hook(lambda _, x: kept.append(x[0].detach().clone()))
    velocity(base)
    velocity(trained(base))
    before, after = (x.unflatten(-1, (site.heads, site.head_dim)) for x in kept)
    changed = [(before[:, :, h] - after[:, :, h]).abs().max().item() for h in range(site.heads)]
    assert [h for h, change in enumerate(changed) if change > 0] == [1, 6]


def test_training_moves_nothing_outside_of_the_slices(base):
    """The oracle is the whole model: after a step of AdamW only adapter factors differ."""
    add_adapter(base.model, head_slices(base.sites, HEADS), RANK, ALPHA)
    frozen = {n: p.clone() for n, p in base.model.named_parameters() if not p.requires_grad}
    parameters = [p for p in base.model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=0.1)
    random = np.random.default_rng(0)
    batch = base.inputs({"front": random.integers(0, 255, (2, 48, 48, 3), dtype=np.uint8)}, np.zeros((2, 7)), ["touch it"] * 2)
    noisy = torch.ones(2, base.chunk_size, 7)
    for _ in range(2):
        base.velocity(base.prefix(batch), batch.state, noisy, torch.ones(2)).square().sum().backward()
        optimiser.step()
    assert all(torch.equal(p, frozen[n]) for n, p in base.model.named_parameters() if n in frozen)
    assert all(layer.lora_B["default"].weight.abs().sum() > 0 for layer in adapter_layers(base.model).values())


def test_key_value_rules_follow_the_group(base):
    sites = base.sites
    key = sites.part("vlm")[1].k_proj
    whole = [Head("vlm", 1, h) for h in range(8)]
    assert key not in head_slices(sites, whole[:7], "own")
    assert head_slices(sites, whole, "own")[key].indices == tuple(range(16))
    assert key in head_slices(sites, whole[:1], "any") and key not in head_slices(sites, whole, "none")
    vision = head_slices(sites, [Head("vision", 0, 2)], "own")
    assert vision[sites.part("vision")[0].v_proj].indices == tuple(range(48, 72))


def test_an_adapter_for_another_base_is_refused_naming_both(base, small_policy, tmp_path):
    save_adapter(trained(copy.deepcopy(base)), tmp_path / "adapter", record(base))
    with torch.no_grad():
        small_policy.model.action_out_proj.bias += 1
    small_policy.save(tmp_path / "other")
    with pytest.raises(UserError, match="made for the base .*base.*the policy is .*other"):
        apply_adapter(load_policy(tmp_path / "other"), tmp_path / "adapter")


@pytest.mark.parametrize("damage, words", [
    ("truncate", "adapter_model.safetensors cannot be read"), ("remove adapter_model.safetensors", "lacks .*adapter_model"),
    ("remove heads.json", "no adapter in"), ("heads", "does not fit"), ("outside", r"no head \('vlm', 9, 0\)"),
    ("another", "changes other heads of .*q_proj than heads.json names"), ("binary", "does not describe an adapter"),
])  # fmt: skip
def test_a_damaged_adapter_is_refused_and_the_policy_stays_as_it_was(base, tmp_path, damage, words):
    folder = tmp_path / "adapter"
    save_adapter(trained(copy.deepcopy(base)), folder, record(base))
    if damage == "truncate":
        (folder / "adapter_model.safetensors").write_bytes((folder / "adapter_model.safetensors").read_bytes()[:-500])
    elif damage in ("heads", "outside", "another"):
        heads = folder / "heads.json"
        layer = {"heads": 0, "outside": 9, "another": 1}[damage]
        changed = record(base).model_copy(update={"heads": (*HEADS[:2], Head("vlm", layer, 0))})
        heads.write_text(changed.model_dump_json())
    elif damage == "binary":
        (folder / "heads.json").write_bytes(b"\xff\xfe")
    else:
        (folder / damage.split()[1]).unlink()
    before = velocity(base)
    with pytest.raises(UserError, match=words):
        apply_adapter(base, folder)
    assert not adapter_layers(base.model) and torch.equal(velocity(base), before)


def test_a_second_adapter_of_the_same_name_is_refused_because_it_would_mix_with_the_first(base, tmp_path):
    for name, head in (("one", HEADS[0]), ("two", HEADS[2])):
        save_adapter(trained(copy.deepcopy(base), (head,)), tmp_path / name, record(base, (head,)))
    apply_adapter(base, tmp_path / "one")
    before = velocity(base)
    with pytest.raises(UserError, match="carries an adapter 'default' already"):
        apply_adapter(base, tmp_path / "two")
    assert torch.equal(velocity(base), before)
