"""Other ways of choosing heads that the paper compares with the regression of each head by itself.

All of them end with the same number of heads, scored by the same leave-one-episode-out regression of the concatenation,
so that their `cv_mse` stand beside each other. Sources: Robotic Steering's reviews and its earlier code as read in
reference/robotic_steering.md, section 6; where those are silent, the choice made here is said below.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal, get_args

import numpy as np
import torch

from robosteer_core.errors import UserError
from robosteer_core.heads.reinforce import ITERATIONS, MASKS, mask_preferences
from robosteer_core.heads.score import Pool, nearest_of
from robosteer_core.heads.selection import HeadSelection, best_set, mean_error, pool_of, ranked, rounded, select_showing

#: `knn` is `select`; `causal` needs the policy and so gets its merit from `mediation`.
Method = Literal["knn", "greedy", "layers", "causal", "reinforce", "variance", "random"]
METHODS: tuple[Method, ...] = get_args(Method)

Place = tuple[int, int]


def select_by(
    method: str,
    activations: np.ndarray,
    actions: np.ndarray,
    episodes: np.ndarray,
    *,
    ks: Sequence[int] = (10, 20, 30, 40),
    n_heads: int = 20,
    frames: np.ndarray | None = None,
    eligible: np.ndarray | None = None,
    merit: np.ndarray | None = None,
    seed: int = 0,
    progress: Callable[..., object] | None = None,
    searched: Callable[[], object] = lambda: None,
) -> HeadSelection:
    """`select` by another method; arguments and errors as there. `.scores` are always the heads' own errors.

    `progress(layer, head)` is called for each head scored by itself, and then `searched()` for each set that the method tries,
    `search_length` times.

    `greedy`: for each k, heads are added one by one, each time the one that lowers the error of the concatenation most
    (the release's `best_add`). `layers`: a layer's heads together are one unit; as many whole layers as have at most
    `n_heads` heads, at least one. `variance`: the heads whose outputs vary most over the frames (the sum of the
    variances of their dimensions). `random`: drawn from `seed`. `reinforce`: see `reinforce`. `causal`: the heads of the
    highest `merit` (L, H), which `mediation.action_error_rise` measures. The last four rank once for all k.
    """
    if method not in METHODS:
        raise UserError(f"expected a method of {', '.join(METHODS)}; found {method!r}")
    if method == "causal" and merit is None:
        raise UserError("the method causal needs `merit` (layers, heads), the rise of the action error without each head")
    options = dict(ks=ks, n_heads=n_heads, frames=frames, eligible=eligible)
    own = select_showing(progress, activations, actions, episodes, **options)
    if method == "knn":
        return own
    activations, actions = np.asarray(activations), np.asarray(actions)
    pool = pool_of(np.asarray(episodes), frames)
    eligible = np.ones(activations.shape[1:3], bool) if eligible is None else np.asarray(eligible, bool)
    if method == "greedy":
        sets = [added_one_by_one(activations, actions, pool, k, n_heads, eligible, searched) for k in ks]
    elif method == "layers":
        sets = _whole_layers(activations, actions, episodes, options, eligible, searched)
    else:
        if method == "variance":
            merit = activations.var(axis=0, dtype=np.float64).sum(-1)
        elif method == "random":
            merit = np.random.default_rng(seed).random(eligible.shape)
        elif method == "reinforce":
            merit = mask_preferences(activations, actions, pool, ks, n_heads, eligible, seed, tried=searched)
        sets = [ranked(-merit, eligible)[:n_heads]] * len(ks)
    heads, k, per_dimension = best_set(activations, actions, pool, ks, sets)
    return replace(
        own, heads=heads, k=k, cv_mse=float(per_dimension.mean()), dimension_mse=per_dimension, method=method,
        merit=None if method in ("greedy", "layers") else merit,
    )  # fmt: skip


def search_length(method: Method, count: int, n_heads: int, eligible: np.ndarray) -> int:
    """How many sets of heads a method tries, for so many ks."""
    if method == "greedy":
        return count * sum(int(eligible.sum()) - added for added in range(n_heads))
    return {"layers": len(eligible), "reinforce": ITERATIONS * MASKS}.get(method, 0)


def added_one_by_one(
    activations: np.ndarray, actions: np.ndarray, pool: Pool, k: int, n_heads: int, eligible: np.ndarray,
    tried: Callable[[], object] = lambda: None,
) -> list[Place]:  # fmt: skip
    """Heads in the order in which they were added; ties go to the lower (layer, head). `tried()` is called for each set.

    The dot products of a concatenation are the sums of its heads' dot products, so only one head's are made anew.
    """
    target = torch.from_numpy(np.ascontiguousarray(actions, np.float64))
    count, chosen = len(activations), []
    dots, squares = torch.zeros(count, count, dtype=torch.float64), torch.zeros(count, dtype=torch.float64)

    def feature(place: Place) -> torch.Tensor:
        return torch.from_numpy(activations[:, *place].astype(np.float64))

    def error(place: Place) -> float:
        own = feature(place)
        scale = (squares + own.square().sum(1)).clamp_min(np.finfo(np.float64).tiny).rsqrt()

        def cosines(rows: slice, out: torch.Tensor) -> None:
            torch.addmm(dots[rows], own[rows], own.T, out=out).mul_(scale[rows, None]).mul_(scale)

        tried()
        return float(mean_error(nearest_of(count, cosines, pool, k).squared_errors(target, [k])).mean())

    left = [tuple(place) for place in np.argwhere(eligible).tolist()]
    for _ in range(n_heads):
        best = min(left, key=lambda place: (rounded(error(place)), place))
        left.remove(best)
        chosen.append(best)
        own = feature(best)
        dots += own @ own.T
        squares += own.square().sum(1)
    return chosen


def _whole_layers(
    activations: np.ndarray, actions: np.ndarray, episodes: np.ndarray, options: dict, eligible: np.ndarray, tried: Callable[[], object]
) -> list[list[Place]]:
    count, layers, heads, width = activations.shape
    units = activations.reshape(count, layers, 1, heads * width)
    allowed = eligible.all(1, keepdims=True)
    if not allowed.any():
        raise UserError("no layer has all its heads eligible; choose single heads")
    number = min(max(1, options["n_heads"] // heads), int(allowed.sum()))
    found = select_showing(lambda *_: tried(), units, actions, episodes, **options | {"n_heads": number, "eligible": allowed})
    sets = [ranked(scores, allowed)[:number] for scores in found.scores]
    return [[(layer, head) for layer, _ in of_k for head in range(heads)] for of_k in sets]
