"""A base policy and demonstrations to finetune it on; helpers of these tests, the families' and the adapters', importable by their names."""

import sys
from pathlib import Path

import numpy as np
import pytest

from robosteer_core.heads.demonstrations import Demonstrations

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / folder) for folder in ("finetune", "vla", "adapters")]


@pytest.fixture
def base(small_policy, tmp_path):
    small_policy.save(tmp_path / "base")
    return tmp_path / "base"


@pytest.fixture
def demonstrations():
    """Three episodes of five frames whose action is constant, which can be learnt in a few steps."""
    random = np.random.default_rng(0)
    images = {name: random.integers(0, 255, (15, 48, 48, 3), dtype=np.uint8) for name in ("front", "wrist")}
    action = np.tile([1.0, -1.0, 0.5, 0, 0, 0, 1], (15, 1)).astype(np.float32)
    texts = ("press the red button",) * 8 + ("touch it",) * 7
    return Demonstrations(np.arange(15), images, random.normal(size=(15, 7)).astype(np.float32), action,
                          np.repeat(np.arange(3), 5), np.tile(np.arange(5), 3), texts)  # fmt: skip
