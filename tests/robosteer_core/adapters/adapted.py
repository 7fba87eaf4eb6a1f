"""What these tests share: an adapter as after training, its record, and the velocity that a policy predicts."""

import numpy as np
import torch

from robosteer_core.adapters.sparse_lora import adapted_modules, add_adapter
from robosteer_core.adapters.store import AdapterRecord, base_of
from robosteer_core.adapters.targets import adapter_targets
from robosteer_core.vla.sites import Head

HEADS = (Head("vlm", 0, 1), Head("vlm", 0, 6), Head("vlm", 1, 3))
RANK, ALPHA = 4, 8.0


def trained(policy, heads=HEADS, kv="own", **extra):
    """An adapter whose factors are no longer zero, as after training."""
    torch.manual_seed(1)
    add_adapter(policy.model, adapter_targets(policy, heads, kv, **extra), RANK, ALPHA)
    for module in adapted_modules(policy.model).values():
        if hasattr(module, "lora_B"):
            torch.nn.init.normal_(module.lora_B["default"].weight, std=0.2)
        else:
            with torch.no_grad():
                module.modules_to_save["default"].weight += 0.1
    policy.eval()
    return policy


def record(policy, heads=HEADS, kv="own", **extra):
    source, sha256 = base_of(policy)
    return AdapterRecord(
        heads=heads, scored_part="expert", trained_part="vlm", kv=kv, rank=RANK, alpha=ALPHA, base=source, base_sha256=sha256,
        dataset="demonstrations", instructions=("press the red button",), state=policy.config.state, action=policy.config.action, **extra,
    )  # fmt: skip


@torch.no_grad()
def velocity(policy):
    random = np.random.default_rng(0)
    images = {name: random.integers(0, 255, (2, 48, 48, 3), dtype=np.uint8) for name in policy.config.cameras}
    batch = policy.inputs(images, random.normal(size=(2, 7)), ["press the red button", "touch it"])
    noisy = torch.from_numpy(random.normal(size=(2, policy.chunk_size, 7))).float()
    return policy.velocity(policy.prefix(batch), batch.state, noisy, torch.tensor([0.3, 0.7]))
