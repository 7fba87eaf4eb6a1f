"""What each step of a run sees, and the loss of it."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Protocol

import numpy as np
import torch

from robosteer_core.errors import UserError
from robosteer_core.finetune.config import FinetuneConfig
from robosteer_core.heads.demonstrations import Demonstrations
from robosteer_core.vla.policy import FlowPolicy, Policy, Prefix

_MEASURED_FRAMES = 256
_WHOLE = slice(None)


class PrefixSource(Protocol):
    def prefix(self, rows: torch.Tensor) -> Prefix: ...


class WholePrefix:
    """Nothing is kept: images and words run through everything, with gradients wherever something is trained."""

    bytes = 0

    def __init__(self, policy: FlowPolicy, demonstrations: Demonstrations) -> None:
        self._policy, self._demonstrations = policy, demonstrations

    def prefix(self, rows: torch.Tensor) -> Prefix:
        return self._policy.prefix(self._demonstrations.inputs(self._policy, rows.numpy()))


class Batches:
    """What each step sees; a function of the seed and the step alone, so that a resumed run sees the same."""

    def __init__(self, policy: Policy, demonstrations: Demonstrations, config: FinetuneConfig) -> None:
        self._policy, self._config, self._demonstrations = policy, config, demonstrations
        self._state = policy.normalised_state(demonstrations.state)
        index = np.arange(len(demonstrations))[:, None] + np.arange(policy.chunk_size)
        # Beyond the episode its last action stands, as in LeRobot, and does not count. The next episode's must not
        # stand there: the actions of a chunk see each other.
        ends = np.searchsorted(demonstrations.episode, demonstrations.episode, side="right")[:, None]
        self._actions = policy.normalised_actions(demonstrations.action[np.minimum(index, ends - 1)])
        self._valid = torch.from_numpy(index < ends)
        episodes = np.unique(demonstrations.episode)
        if config.held_out >= len(episodes):
            raise UserError(f"{config.held_out} episodes are to be held out; the dataset has {len(episodes)}; hold out fewer")
        self.held_out = np.sort(np.random.default_rng([config.seed, 2**31]).choice(episodes, config.held_out, replace=False))
        held = np.isin(demonstrations.episode, self.held_out)
        self._train, self._held = np.flatnonzero(~held), np.flatnonzero(held)

    def rows(self, step: int) -> torch.Tensor:
        """Frames of a step: one permutation of all that are trained on after another."""
        size, rows = self._config.batch_size, []
        for position in range(step * size, (step + 1) * size):
            epoch, place = divmod(position, len(self._train))
            rows.append(self._order(epoch)[place])
        return torch.from_numpy(self._train[rows])

    def _order(self, epoch: int) -> np.ndarray:
        if getattr(self, "_known", (None,))[0] != epoch:
            self._known = epoch, np.random.default_rng([self._config.seed, epoch]).permutation(len(self._train))
        return self._known[1]

    def loss(self, source: PrefixSource | None, rows: torch.Tensor, draw: int, share: slice = _WHOLE) -> torch.Tensor:
        """Mean of the family's own loss over the actions that lie in the episode; `draw` seeds noise and time.

        `source` gives the prefixes of a policy that follows a flow. Of a `share` of the rows it is the share's part of that
        mean: the shares' losses add up to the loss, whatever noise the others get.
        """
        autocast = torch.autocast(self._policy.device.type, torch.bfloat16) if self._config.precision == "bfloat16" else nullcontext()
        with autocast:
            errors, valid = self._errors(source, rows, draw, share)
        if share == _WHOLE:
            return errors[valid[share]].mean()
        return errors[valid[share]].sum() / (int(valid.sum()) * errors.shape[-1])

    def _errors(self, source: PrefixSource | None, rows: torch.Tensor, draw: int, share: slice) -> tuple[torch.Tensor, torch.Tensor]:
        """The losses of a share's actions, one by one, and which of all rows' actions lie in their episode, frame by frame."""
        policy, draws, there = self._policy, self._config.draws, self._policy.device
        generator = torch.Generator().manual_seed(self._config.seed * 2**32 + draw)
        if not isinstance(policy, FlowPolicy):
            # Nothing is drawn, so a second draw would be the same again.
            inputs = self._demonstrations.inputs(policy, rows[share].numpy())
            return policy.losses(inputs, self._actions[rows[share]].to(there), generator), self._valid[rows].to(there)
        count = len(rows) * draws
        noise, times = policy.draw_noise(count, generator), policy.draw_time(count, generator)
        start, stop, _ = share.indices(len(rows))
        drawn = slice(start * draws, stop * draws)
        prefix = source.prefix(rows[share]).repeated(draws)
        state, actions = (of[rows[share]].repeat_interleave(draws, 0).to(there) for of in (self._state, self._actions))
        errors = policy.loss(prefix, state, actions, noise[drawn], times[drawn])
        # Every frame's draws side by side, so that a share of the frames is a share of this.
        valid = self._valid[rows].to(there)[:, None].expand(-1, draws, -1)
        return errors.unflatten(0, (-1, draws)), valid

    @torch.no_grad()
    def measure(self, source: PrefixSource | None, *, held_out: bool = False) -> float:
        """The loss over the same frames, noises and times every time: evenly spread over what is trained on, or held out."""
        self._policy.eval()
        rows = self._held if held_out else self._train
        places = torch.linspace(0, len(rows) - 1, min(_MEASURED_FRAMES, len(rows))).long()
        parts = torch.from_numpy(rows)[places].split(64)
        return float(np.average([float(self.loss(source, part, 2**31 + i)) for i, part in enumerate(parts)], weights=list(map(len, parts))))
