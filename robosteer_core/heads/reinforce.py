"""Heads by a search over masks with REINFORCE (Williams 1992), the baseline of Robotic Steering that MTV introduced.

Numbers as in the authors' earlier code: 120 iterations, 6 masks each, learning rate 0.08, entropy bonus 0.01, half of the
episodes each time. Not stated there and chosen here: a mask holds each head with a probability of its own, which starts
at `n_heads` of all; the reward is the lowest of the errors over the ks, negative, standardised within an iteration.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from robosteer_core.heads.score import Pool, squared_errors
from robosteer_core.heads.selection import mean_error

ITERATIONS, MASKS, LEARNING_RATE, ENTROPY = 120, 6, 0.08, 0.01


def mask_preferences(
    activations: np.ndarray,
    actions: np.ndarray,
    pool: Pool,
    ks: Sequence[int],
    n_heads: int,
    eligible: np.ndarray,
    seed: int,
    *,
    iterations: int = ITERATIONS,
    tried: Callable[[], object] = lambda: None,
) -> np.ndarray:
    """(L, H) log-odds with which the search keeps each head, -inf for those that may not be chosen. `tried()` is called for each
    mask."""
    random, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    places = np.argwhere(eligible)
    share = min(n_heads / len(places), 0.9)
    logits = torch.full((len(places),), float(np.log(share / (1 - share))), dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([logits], lr=LEARNING_RATE)
    for _ in range(iterations):
        rows, part = _half(pool, random)
        masks = torch.bernoulli(logits.detach().sigmoid().expand(MASKS, -1), generator=generator)
        rewards = torch.empty(MASKS, dtype=torch.float64)
        for index, mask in enumerate(masks):
            rewards[index] = -_error(activations, actions, part, ks, rows, places[mask.numpy() > 0])
            tried()
        advantage = (rewards - rewards.mean()) / rewards.std().clamp_min(1e-12)
        kept = torch.distributions.Bernoulli(logits=logits)
        loss = -(advantage[:, None] * kept.log_prob(masks)).sum(1).mean() - ENTROPY * kept.entropy().sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    preferences = np.full(eligible.shape, -np.inf)
    preferences[eligible] = logits.detach().numpy()
    return preferences


def _half(pool: Pool, random: np.random.Generator) -> tuple[np.ndarray, Pool]:
    """Rows of half of the episodes, at least two of them where there are, and their pool."""
    count = int(pool.episodes.max()) + 1
    chosen = random.choice(count, min(count, max(2, count // 2)), replace=False)
    rows = np.flatnonzero(np.isin(pool.episodes.numpy(), chosen))
    return rows, Pool(pool.episodes[rows], None if pool.frames is None else pool.frames[rows])


def _error(activations: np.ndarray, actions: np.ndarray, pool: Pool, ks: Sequence[int], rows: np.ndarray, places: np.ndarray) -> float:
    """Of the concatenation of some heads; without any, that of features that say nothing."""
    together = np.zeros((len(rows), 1)) if not len(places) else activations[rows][:, places[:, 0], places[:, 1]].reshape(len(rows), -1)
    return float(mean_error(squared_errors(together, actions[rows], pool, ks)).mean(1).min())
