"""Checkpoints of other families, from the helpers of their own tests, importable by their names."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "vla"))
