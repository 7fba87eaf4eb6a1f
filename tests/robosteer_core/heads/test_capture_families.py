"""Every family is read where it predicts the first action; the oracle keeps all that its modules are given."""

import hub
import numpy as np
import pytest
import torch

from robosteer_core.errors import UserError
from robosteer_core.heads.capture import read_batch
from robosteer_core.heads.demonstrations import Demonstrations
from robosteer_core.heads.mediation import action_error_rise
from robosteer_core.heads.tap import Read
from robosteer_core.vla.checkpoint import load_policy

#: Token of the first action in the expert's suffix: pi0's has the state before it.
FIRST_ACTION = {"pi0": 1, "pi05": 0, "smolvla": 0}


@pytest.fixture(params=hub.FAMILIES)
def policy(request, tmp_path):
    hub.FAMILIES[request.param](tmp_path / "base")
    return load_policy(tmp_path / "base")


def batch_of(policy):
    random = np.random.default_rng(0)
    images = {name: random.integers(0, 255, (2, 32, 32, 3), dtype=np.uint8) for name in policy.config.cameras}
    return policy.inputs(images, random.normal(size=(2, hub.STATE)), ["lift it", "put the cube down"])


def kept_by(policy, read, run):
    """What enters each module behind a read, first pass and last pass, whole."""
    first, last, handles = {}, {}, []
    for path in read.paths(policy.sites):

        def hook(_, arguments, path=path):
            first.setdefault(path, arguments[0].clone())
            last[path] = arguments[0].clone()

        handles.append(policy.model.get_submodule(path).register_forward_pre_hook(hook))
    run()
    for handle in handles:
        handle.remove()
    return [first[path] for path in read.paths(policy.sites)], [last[path] for path in read.paths(policy.sites)]


@torch.no_grad()
def test_heads_and_neurons_are_those_of_the_token_that_tells_the_first_action(policy):
    batch, noise = batch_of(policy), torch.randn(2, policy.chunk_size, policy.action_dim, generator=torch.Generator().manual_seed(0))
    flow = policy.family in FIRST_ACTION
    lengths = policy.embed(batch)[1].sum(1)
    for text in ("vlm", "vlm.ffn", *(("expert", "expert.ffn") if flow else ())):
        read = Read.parse(text)
        found = read_batch(policy, batch, noise, [read])[read.name]
        assert found.shape == (2, *read.shape(policy.sites))

        def run():
            if not flow:
                return policy.predict(batch, torch.Generator().manual_seed(0))
            prefix = policy.prefix(batch)
            policy.velocity(prefix, batch.state, policy.sample(prefix, batch.state, noise), torch.zeros(2))

        first, last = kept_by(policy, read, run)
        for layer in range(found.shape[1]):
            for frame in range(2):
                if read.part == "expert":
                    wanted = last[layer][frame, FIRST_ACTION[policy.family]]
                elif policy.family == "smolvla":
                    wanted = first[layer][frame, -1]  # the state comes last, behind the words' padding
                else:
                    wanted = first[layer][frame, lengths[frame] - 1]
                assert torch.allclose(found[frame, layer].flatten(), wanted, atol=1e-5)


def test_what_a_family_does_not_have_is_refused(policy):
    batch, noise = batch_of(policy), torch.zeros(2, policy.chunk_size, policy.action_dim)
    if policy.family in FIRST_ACTION:
        return
    with pytest.raises(UserError, match="out of vision, vlm; found 'expert'"):
        read_batch(policy, batch, noise, [Read.parse("expert")])
    with pytest.raises(UserError, match="no denoising steps"):
        read_batch(policy, batch, noise, [Read.parse("vlm")], 1)
    with pytest.raises(UserError, match="differ in width|never runs"):
        read_batch(policy, batch, noise, [Read.parse("vision")])
    frames = Demonstrations(np.arange(2), {}, np.zeros((2, 7)), np.zeros((2, 7)), np.zeros(2, int), np.arange(2), ("a", "b"))
    with pytest.raises(UserError, match="follows a flow"):
        action_error_rise(policy, frames, Read.parse("vlm"), np.zeros(1), np.ones((1, 1), bool))
