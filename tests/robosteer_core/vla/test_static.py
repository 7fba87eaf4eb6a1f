"""A denoising step is one graph with the same shapes every time, so that it can be compiled or recorded."""

import hub
import numpy as np
import pytest
import torch
import torch._dynamo.utils

from robosteer_core.vla.checkpoint import load_policy


@pytest.fixture
def graphs():
    """How many graphs have been traced since."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield lambda: torch._dynamo.utils.counters["stats"]["unique_graphs"]
    torch._dynamo.reset()


@pytest.mark.parametrize("make", [hub.openpi, lambda folder: hub.openpi(folder, pi05=True), hub.smolvla], ids=["pi0", "pi05", "smolvla"])
@torch.inference_mode()
def test_a_step_is_traced_once_and_whole(tmp_path, make, graphs):
    make(tmp_path / "base")
    policy = load_policy(tmp_path / "base")
    images = {name: np.zeros((1, 12, 16, 3), np.uint8) for name in policy.config.cameras}
    step = torch.compile(policy.step, fullgraph=True, dynamic=False, backend="eager")
    for instruction in ("go", "go on"):
        inputs = policy.inputs(images, np.ones((1, hub.STATE)), [instruction])
        prefix, noisy = policy.prefix(inputs), torch.randn(1, hub.CHUNK, hub.PADDED)
        frame = policy.frame(prefix)
        for time in (1.0, 0.5):
            features = policy.time_features(torch.tensor([time]))
            assert torch.equal(step(prefix, frame, inputs.state, noisy, features), policy.step(prefix, frame, inputs.state, noisy, features))
    assert graphs() == 1
