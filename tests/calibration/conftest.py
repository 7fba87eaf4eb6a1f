"""Files of pose pairs."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # known_mounting


@pytest.fixture
def write_pairs(tmp_path):
    def write(robot, target):
        path = tmp_path / "pairs.json"
        path.write_text(json.dumps([[r.tolist(), t.tolist()] for r, t in zip(np.asarray(robot), np.asarray(target))]))
        return path

    return write
