"""Training of the small base policy on collected shards."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn

from robosteer_core.vla.policy import FlowPolicy, Inputs, Prefix
from robosteer_sim.pretrain import INSTRUCTIONS
from robosteer_sim.placement import PLACEMENT_HIGH_M, PLACEMENT_LOW_M
from robosteer_sim.tasks import paraphrases

BATCH = 32
DRAWS = 3
PEAK_RATE, WARM_UP = 1.5e-3, 200
PLACE_WEIGHT = 1.0
NEAR_M, NEAR_WEIGHT = 0.04, 0.25
PLACEMENT_CENTRE_M, SPREAD_M = (PLACEMENT_LOW_M + PLACEMENT_HIGH_M) / 2, 0.09
SAVE_EVERY = 500


class Shards:
    """All frames of all shards in memory, with the chunk of actions that follows each."""

    def __init__(self, paths: list[Path], cameras: tuple[str, ...]) -> None:
        shards = [np.load(path) for path in paths]
        read = lambda key: np.concatenate([shard[key] for shard in shards])  # noqa: E731
        self.images = {name: read(f"image_{name}") for name in cameras}
        self.state, self.action, self.episode = read("state"), read("action"), read("episode")
        self.objects, self.places = read("objects"), read("places")
        # Most of an episode's ticks are spent close to the target, where nothing is left to be found.
        far = np.linalg.norm(self.state[:, :2] - self.places[:, 0, :2], axis=1) > NEAR_M
        weight = np.where(far, 1.0, NEAR_WEIGHT)
        self._upto = np.cumsum(weight) / weight.sum()

    def __len__(self) -> int:
        return len(self.state)

    def draw(self, count: int, random: np.random.Generator) -> np.ndarray:
        """Rows (count,) to train on."""
        return np.searchsorted(self._upto, random.random(count))

    def chunks(self, rows: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Actions (rows, length, A) that follow each row, and which of them (rows, length) lie in its episode."""
        index = rows[:, None] + np.arange(length)
        inside = np.minimum(index, len(self) - 1)
        valid = (index < len(self)) & (self.episode[inside] == self.episode[rows][:, None])
        return self.action[inside], valid


class Wordings:
    """Token ids of every instruction and of its paraphrases."""

    def __init__(self, policy: FlowPolicy) -> None:
        self._own = policy.tokenizer(list(INSTRUCTIONS))
        self._others = [policy.tokenizer(paraphrases(instruction)) for instruction in INSTRUCTIONS]

    def draw(self, instructions: np.ndarray, random: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and mask (B, tokens) for indices of INSTRUCTIONS (B,): half in their own words, half in others."""
        ids, mask = (values[instructions].copy() for values in self._own)
        for row in np.flatnonzero(random.random(len(instructions)) < 0.5):
            others, masks = self._others[instructions[row]]
            choice = random.integers(len(others))
            ids[row], mask[row] = others[choice], masks[choice]
        return torch.from_numpy(ids), torch.from_numpy(mask)


class PlaceHead(nn.Module):
    """Reads the place of the object that is named from the instruction's last token, one layer before the backbone's end.

    It stands for the vision-language co-training of a real VLA: from the flow loss alone a model of this size learns
    the average motion long before it learns what the words point at. It is not part of the checkpoint.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.out = nn.Linear(width, 4)

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        last = hidden.shape[1] - mask.shape[1] + mask.sum(1) - 1
        return self.out(hidden[torch.arange(len(hidden)), last])


def train(policy: FlowPolicy, shards: Shards, work: Path, steps: int, seed: int) -> None:
    """Train in place for `steps` steps; state is kept in `work`, so that a killed run goes on where it was saved."""
    torch.manual_seed(seed)
    head = PlaceHead(policy.backbone.config.hidden_size)
    modules = nn.ModuleList([policy.model, head])
    used = [p for name, p in modules.named_parameters() if "dit.embed_tokens" not in name]
    optimiser = torch.optim.AdamW(used, lr=PEAK_RATE, betas=(0.9, 0.95), weight_decay=1e-4, fused=True)
    saved = work / "training.pt"
    done = 0
    if saved.exists():
        state = torch.load(saved, weights_only=True)
        modules.load_state_dict(state["modules"])
        optimiser.load_state_dict(state["optimiser"])
        done = state["step"]
    wordings = Wordings(policy)
    log = (work / "log.jsonl").open("a")
    columns = TextColumn("training {task.fields[loss]}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    policy.train()
    with Progress(*columns) as progress:
        bar = progress.add_task("", total=steps, completed=done, loss="")
        running: dict[str, float] = {}
        for step in range(done, steps):
            for group in optimiser.param_groups:
                group["lr"] = _rate(step, steps)
            losses = _losses(policy, head, shards, wordings, np.random.default_rng([seed, step]))
            optimiser.zero_grad()
            (losses["flow"] + PLACE_WEIGHT * losses["place"]).backward()
            nn.utils.clip_grad_norm_(used, 1.0)
            optimiser.step()
            for key, value in losses.items():
                running[key] = 0.98 * running.get(key, float(value.detach())) + 0.02 * float(value.detach())
            progress.update(bar, advance=1, loss=" ".join(f"{k} {v:.3f}" for k, v in running.items()))
            if (step + 1) % 50 == 0:
                log.write(json.dumps({"step": step + 1, **running}) + "\n")
                log.flush()
            if (step + 1) % SAVE_EVERY == 0 or step + 1 == steps:
                part = saved.with_suffix(".part")
                torch.save({"modules": modules.state_dict(), "optimiser": optimiser.state_dict(), "step": step + 1}, part)
                part.rename(saved)
    policy.eval()


def _rate(step: int, steps: int) -> float:
    warm = min(1.0, (step + 1) / WARM_UP)
    return PEAK_RATE * warm * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def _losses(policy, head, shards, wordings, random) -> dict[str, torch.Tensor]:
    rows = shards.draw(BATCH, random)
    # Cameras differ in exposure and gain.
    gain = random.uniform(0.85, 1.15, (BATCH, 1, 1, 1))
    images = {name: np.clip(pixels[rows] * gain, 0, 255).astype(np.uint8) for name, pixels in shards.images.items()}
    inputs = policy.inputs(images, shards.state[rows], ["-"] * BATCH)

    def asked(which: np.ndarray) -> tuple[Prefix, torch.Tensor]:
        """The prefix when the words name object `which` (B,) of each scene, and how far the place read from it is off."""
        ids, mask = wordings.draw(shards.objects[rows, which], random)
        prefix = policy.prefix(Inputs(inputs.pixels, ids, mask, inputs.state))
        place = shards.places[rows, which, :2]
        beside = np.clip(place - shards.state[rows, :2], -0.2, 0.2)
        wanted = torch.from_numpy(np.concatenate([(place - PLACEMENT_CENTRE_M) / SPREAD_M, beside / SPREAD_M], axis=1)).float()
        return prefix, ((head(prefix.hidden[-2], mask) - wanted) ** 2).mean()

    prefix, off_target = asked(np.zeros(BATCH, int))
    # The same pictures with other words: only what the words name tells the two apart.
    _, off_other = asked(random.integers(1, shards.objects.shape[1], BATCH))
    actions, valid = shards.chunks(rows, policy.chunk_size)
    actions = policy.normalised_actions(actions).repeat_interleave(DRAWS, 0)
    valid = torch.from_numpy(valid).repeat_interleave(DRAWS, 0)
    generator = torch.Generator().manual_seed(int(random.integers(2**62)))
    noise = torch.randn(actions.shape, generator=generator)
    time = policy.draw_time(len(actions), generator)
    errors = policy.loss(prefix.repeated(DRAWS), inputs.state.repeat_interleave(DRAWS, 0), actions, noise, time)
    return {"flow": errors[valid].mean(), "place": (off_target + off_other) / 2}
