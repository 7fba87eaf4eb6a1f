"""Helpers of these tests, importable by their names."""

import sys
from pathlib import Path

import pytest

from robosteer_core.vla.checkpoint import load_policy

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def base(small_policy, tmp_path):
    small_policy.save(tmp_path / "base")
    return load_policy(tmp_path / "base")
