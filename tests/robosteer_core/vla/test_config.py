"""Statistics of dimensions that hardly vary, and descriptions of a policy that cannot be used."""

import json

import numpy as np
import pytest

from robosteer_core.errors import UserError
from robosteer_core.vla.checkpoint import load_policy
from robosteer_core.vla.config import Normalisation, Quantiles


def test_a_dimension_that_does_not_vary_has_its_own_value_as_mean_however_many_frames_there_are():
    values = np.tile(np.array([0.1, 123.4, 0.0], np.float32), (100_000, 1))
    found = Normalisation.of(values)
    assert found.std == (1.0, 1.0, 1.0) and np.array_equal(np.array(found.mean, np.float32), values[0])


def test_what_seldom_leaves_one_value_stays_within_its_bounds():
    values = np.zeros((1000, 3), np.float32)
    values[:5, 1], values[:, 2] = 0.1, np.linspace(0, 1, 1000)
    found = Quantiles.of(values)
    assert found.high[1] == np.float32(0.1) and 0 < found.low[2] < found.high[2] < 1
    normalised = found.normalise(values)
    assert (normalised[:, 0] == -1).all() and set(normalised[:, 1]) == {-1, 1}
    assert np.allclose(found.denormalise(normalised), values, atol=1e-6)


@pytest.mark.parametrize("change, words", [
    ({"flow_steps": 0}, "flow_steps"), ({"instruction_tokens": 1}, "instruction_tokens"), ({"action": {"mean": [0.0] * 7, "std": [1.0] * 6}}, "the 7 action dimensions; found 6 and 7"),
    (b"\xff\xfe\x00", "does not describe a policy"),
])  # fmt: skip
def test_a_description_that_cannot_be_used_is_refused(small_policy, tmp_path, change, words):
    small_policy.save(tmp_path / "base")
    path = tmp_path / "base" / "policy.json"
    path.write_bytes(change if isinstance(change, bytes) else json.dumps(json.loads(path.read_text()) | change).encode())
    with pytest.raises(UserError, match=words):
        load_policy(tmp_path / "base")
