"""The address book names the modules that really hold a head, and refuses heads that are not there."""

import pytest
import torch

from robosteer_core.errors import UserError
from robosteer_core.vla.sites import Head

PARTS = ("vision", "vlm", "expert")


def test_every_site_names_projections_of_the_size_it_states(small_policy):
    sites = small_policy.sites
    for part in PARTS:
        for site in sites.part(part):
            heads, pairs = site.heads * site.head_dim, site.key_value_heads * site.head_dim
            assert small_policy.model.get_submodule(site.q_proj).out_features == heads
            assert small_policy.model.get_submodule(site.k_proj).out_features == pairs
            assert small_policy.model.get_submodule(site.v_proj).out_features == pairs
            assert small_policy.model.get_submodule(site.o_proj).in_features == heads


def test_all_attention_layers_of_the_model_have_a_site(small_policy):
    sites = small_policy.sites
    listed = {path for part in PARTS for site in sites.part(part) for path in (site.q_proj, site.k_proj, site.v_proj, site.o_proj)}
    there = {name for name, _ in small_policy.model.named_modules() if ".self_attn." in name and name.endswith("_proj")}
    assert listed == there


def test_all_feed_forward_layers_of_the_model_have_a_site_of_the_size_it_states(small_policy):
    sites, listed = small_policy.sites, set()
    for part in PARTS:
        for site in sites.feed_forward(part):
            listed |= {path for path in (site.gate, site.up, site.down) if path}
            assert small_policy.model.get_submodule(site.up).out_features == site.neurons
            assert small_policy.model.get_submodule(site.down).in_features == site.neurons
    assert listed == {name for name, module in small_policy.model.named_modules() if ".mlp." in name and hasattr(module, "weight")}


@pytest.mark.parametrize("part", PARTS)
def test_eligible_heads_are_those_whose_queries_get_a_gradient_from_the_action(small_policy, part):
    sites = small_policy.sites
    batch = small_policy.inputs(
        {name: torch.randint(0, 255, (1, 48, 48, 3), dtype=torch.uint8).numpy() for name in small_policy.config.cameras},
        torch.zeros(1, 7).numpy(), ["push the red cube"],
    )  # fmt: skip
    noisy = torch.randn(1, small_policy.chunk_size, small_policy.action_dim)
    small_policy.velocity(small_policy.prefix(batch), batch.state, noisy, torch.tensor([0.5])).sum().backward()
    for site, eligible in zip(sites.part(part), sites.eligible(part)):
        gradient = small_policy.model.get_submodule(site.q_proj).weight.grad
        for head in range(site.heads):
            reaches = gradient is not None and bool(gradient[list(site.rows(head))].abs().sum() > 0)
            assert reaches == eligible[head]
    for site, eligible in zip(sites.feed_forward(part), sites.eligible_feed_forward(part)):
        gradient = small_policy.model.get_submodule(site.up).weight.grad
        assert (gradient is not None and bool(gradient.abs().sum() > 0)) == eligible


def test_query_heads_share_the_key_value_head_of_their_group(small_policy):
    sites = small_policy.sites
    assert {sites.part("vlm")[0].group(head) for head in range(8)} == {0}
    assert [sites.part("vision")[0].group(head) for head in range(4)] == [0, 1, 2, 3]


@pytest.mark.parametrize("head", [Head("vlm", 3, 0), Head("vlm", 0, 8), Head("vlm", -1, 0), Head("expert", 0, 9)])
def test_a_head_outside_the_model_is_refused_with_the_range(small_policy, head):
    with pytest.raises(UserError, match="layers 0 to 2 with heads 0 to 7"):
        small_policy.sites.site(head)


def test_an_unknown_part_is_refused_naming_the_known_ones(small_policy):
    with pytest.raises(UserError, match="vision, vlm, expert.*'decoder'"):
        small_policy.sites.site(Head("decoder", 0, 0))
