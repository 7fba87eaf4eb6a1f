"""Demonstrations recorded in one process: datasets like those of the recorder, whole or not there."""

import numpy as np
import pytest

from robosteer_core.episodes.reader import Dataset
from robosteer_core.errors import UserError
from robosteer_core.rig import load_rig
from robosteer_sim.direct_demonstrations import record_directly

TASK = "press the red button"


def test_a_dataset_holds_what_the_operator_saw_and_did(tmp_path):
    counted = []
    done = record_directly(load_rig("lab"), TASK, 2, 500_000, tmp_path / "set", lambda outcome: counted.append(outcome.kept))
    dataset = Dataset(tmp_path / "set")
    arrays = dataset.arrays()
    assert (done.kept, done.discarded, counted, len(dataset.episodes)) == (2, 0, [1, 2], 2) and set(arrays.task) == {TASK}
    first = arrays.episode == 0
    # What is commanded is what moves the hand: the steps add up to the way it went.
    way = arrays.state[first][-1, :3] - arrays.state[first][0, :3]
    assert np.linalg.norm(arrays.action[first][:, :3].sum(0) - way) < 0.05 < np.linalg.norm(way)
    assert dataset.image(0, "front").shape == (480, 640, 3) and np.std(dataset.image(0, "wrist")) > 5
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_the_same_seed_gives_the_same_demonstrations(tmp_path):
    for name in ("one", "other"):
        record_directly(load_rig("lab"), TASK, 1, 500_003, tmp_path / name, lambda outcome: None)
    one, other = (Dataset(tmp_path / name).arrays() for name in ("one", "other"))
    assert np.array_equal(one.state, other.state) and np.array_equal(one.action, other.action)


def test_what_is_there_and_what_is_unknown_is_refused_and_nothing_is_left(tmp_path):
    (tmp_path / "there").mkdir()
    with pytest.raises(UserError, match="expected no folder at .*there yet"):
        record_directly(load_rig("lab"), TASK, 1, 0, tmp_path / "there", lambda outcome: None)
    with pytest.raises(UserError, match="unknown task 'fry the egg'"):
        record_directly(load_rig("lab"), "fry the egg", 1, 0, tmp_path / "new", lambda outcome: None)
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
