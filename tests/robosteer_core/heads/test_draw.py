"""The head map shows every head's error and frames the chosen ones."""

import numpy as np
from PIL import Image

from robosteer_core.heads.draw import draw

CRIMSON = (220, 20, 60)


def framed(path):
    """Columns of the picture in which the chosen heads' colour appears."""
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    return np.flatnonzero((np.abs(pixels - CRIMSON).max(-1) < 12).any(0))


def test_the_frame_sits_on_the_chosen_head(tmp_path):
    scores, eligible = np.random.default_rng(0).uniform(0.5, 1, (3, 8)), np.ones((3, 8), bool)
    options = dict(title="task", subtitle="expert, vlm", unit="error", eligible=eligible)
    draw(scores, [(1, 0)], tmp_path / "left.png", **options)
    draw(scores, [(1, 7)], tmp_path / "right.png", **options)
    draw(scores, [], tmp_path / "none.png", **options)
    assert len(framed(tmp_path / "none.png")) == 0
    assert framed(tmp_path / "left.png").max() < framed(tmp_path / "right.png").min()


def test_a_real_model_of_18_layers_fits(tmp_path):
    scores, eligible = np.random.default_rng(0).uniform(0.5, 1, (18, 8)), np.ones((18, 8), bool)
    eligible[17] = False
    draw(scores, [(9, 7), (9, 4)], tmp_path / "map.png", title="task", subtitle="expert, vlm", unit="error", eligible=eligible)
    width, height = Image.open(tmp_path / "map.png").size
    assert height > width > 600
