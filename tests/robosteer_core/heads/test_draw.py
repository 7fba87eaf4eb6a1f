"""The head map shows every head's error and frames the chosen ones."""

import numpy as np
from PIL import Image

from robosteer_core.heads.draw import draw, score_by_rank

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


def test_heads_that_were_not_scored_are_framed_on_an_empty_map(tmp_path):
    eligible = np.ones((3, 8), bool)
    draw(None, [(0, 2)], tmp_path / "map.png", title="", subtitle="vlm", unit="", eligible=eligible)
    assert len(framed(tmp_path / "map.png"))


def selection(heads, chosen, stable):
    rows = [
        {"layer": i // 8, "head": i % 8, "mse": 0.5 + i / heads, "selected": i < chosen, "eligible": i < heads - 2}
        | ({"frequency": 1 - i / heads, "mse_95": [0.4 + i / heads, 0.7 + i / heads]} if stable else {})
        for i in range(heads)
    ]
    found = {"resamples": 50, "jaccard_mean": 0.8, "jaccard_95": [0.6, 1.0]} if stable else None
    return {"ranking": rows, "stability": found, "raw_actions": False, "cv_mse": 0.45, "chance_mse": 1.1, "scored_part": "expert", "k": 10}


def test_the_cut_lies_behind_the_chosen_heads(tmp_path):
    for chosen in (2, 12):
        score_by_rank(selection(24, chosen, stable=True), tmp_path / f"{chosen}.png", "task")
    assert framed(tmp_path / "2.png").max() < framed(tmp_path / "12.png").min()


def test_the_picture_of_scores_does_without_a_bootstrap_and_with_144_heads(tmp_path):
    score_by_rank(selection(144, 20, stable=False), tmp_path / "rank.png")
    assert Image.open(tmp_path / "rank.png").size[0] > 600
