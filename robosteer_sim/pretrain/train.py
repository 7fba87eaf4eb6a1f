"""Training of the small base policy on collected shards."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn

from robosteer_core.errors import UserError
from robosteer_core.vla.policy import FlowPolicy, Inputs, Prefix
from robosteer_sim.placement import PLACEMENT_HIGH_M, PLACEMENT_LOW_M
from robosteer_sim.pretrain import INSTRUCTIONS, OBJECTS, TOUCHED
from robosteer_sim.tasks import WORDINGS, paraphrases, parse

BATCH = 32
DRAWS = 3
#: After so many layers of the backbone the place of what is named is read.
PLACE_LAYERS = 3
PEAK_RATE, WARM_UP = 1.5e-3, 200
#: Share of the steps in which the rate goes down.
COOL_DOWN = 0.3
PLACE_WEIGHT = 1.0
NEAR_M, NEAR_WEIGHT = 0.04, 0.25
PLACEMENT_CENTRE_M, SPREAD_M = (PLACEMENT_LOW_M + PLACEMENT_HIGH_M) / 2, 0.09
SAVE_EVERY = 200
_KINDS = np.array([kind for kind, _ in OBJECTS])
_HAS_GOAL = np.array([parse(instruction).goal is not None for instruction in INSTRUCTIONS])


class Shards:
    """All frames of all shards in memory, with the chunk of actions that follows each."""

    def __init__(self, paths: list[Path], cameras: tuple[str, ...]) -> None:
        shards = [np.load(path) for path in paths]
        read = lambda key: np.concatenate([shard[key] for shard in shards])  # noqa: E731
        self.images = {name: read(f"image_{name}") for name in cameras}
        self.state, self.action, self.episode = read("state"), read("action"), read("episode")
        self.instruction, self.objects, self.places = read("instruction"), read("objects"), read("places")
        # Most ticks of a touch are spent close to its target, where nothing is left to be found.
        far = np.linalg.norm(self.state[:, :2] - self.places[:, 0, :2], axis=1) > NEAR_M
        weight = np.where(far | (self.instruction >= len(TOUCHED)), 1.0, NEAR_WEIGHT)
        ends = np.flatnonzero(np.append(np.diff(self.episode) != 0, True))
        self._last = ends[np.searchsorted(ends, np.arange(len(self)))]
        self._upto = np.cumsum(weight) / weight.sum()

    def __len__(self) -> int:
        return len(self.state)

    def draw(self, count: int, random: np.random.Generator) -> np.ndarray:
        """Rows (count,) to train on."""
        return np.searchsorted(self._upto, random.random(count))

    def chunks(self, rows: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Actions (rows, length, A) that follow each row, the last one held beyond its episode's end, and which of them
        (rows, length) lie in the episode."""
        index = rows[:, None] + np.arange(length)
        last = self._last[rows][:, None]
        return self.action[np.minimum(index, last)], index <= last


class Wordings:
    """Token ids of every instruction and of its paraphrases, and of what names an object alone."""

    def __init__(self, policy: FlowPolicy) -> None:
        self._instructions = [policy.tokenizer([text, *paraphrases(text)]) for text in INSTRUCTIONS]
        touches = ("touch", *WORDINGS["touch"])
        self._coloured = [policy.tokenizer([" ".join(f"{touch} the {colour} {kind}".split()) for touch in touches]) for kind, colour in OBJECTS]
        self._plain = [policy.tokenizer([f"{touch} the {kind}" for touch in touches]) for kind, _ in OBJECTS]

    def ask(self, instructions: np.ndarray, random: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and mask (B, tokens) for indices of INSTRUCTIONS (B,): half in their own words, half in others."""
        return _drawn([self._instructions[index] for index in instructions], random)

    def name(self, objects: np.ndarray, alone: np.ndarray, random: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and mask (B, tokens) of texts that name indices of OBJECTS (B,), half of those that are `alone` of their kind (B,)
        without their colour."""
        plain = alone & (random.random(len(objects)) < 0.5)
        return _drawn([(self._plain if bare else self._coloured)[index] for index, bare in zip(objects, plain)], random)


def _drawn(wordings: list[tuple[np.ndarray, np.ndarray]], random: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """One wording of each, the first half of the time."""
    rows = [random.integers(1, len(ids)) if len(ids) > 1 and random.random() < 0.5 else 0 for ids, _ in wordings]
    ids, mask = (np.stack([wording[part][row] for wording, row in zip(wordings, rows)]) for part in (0, 1))
    return torch.from_numpy(ids), torch.from_numpy(mask)


class PlaceHead(nn.Module):
    """Reads the places of the object that is named, and of the goal that it is brought to, from the instruction's last token in the
    middle of the backbone: of each where it is and how far from the hand.

    It stands for the vision-language co-training of a real VLA: from the flow loss alone a model of this size learns
    the average motion long before it learns what the words point at. It is not part of the checkpoint.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.out = nn.Linear(width, 8)

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        last = hidden.shape[1] - mask.shape[1] + mask.sum(1) - 1
        return self.out(hidden[torch.arange(len(hidden)), last]).unflatten(1, (2, 4))


def train(policy: FlowPolicy, shards: Shards, work: Path, steps: int, seed: int) -> None:
    """Train in place for `steps` steps; state is kept in `work`, so that a killed run goes on where it was saved.

    Until the rate goes down, the steps before are the same whatever their number: it may be another one than in the run that goes
    on. Raises UserError where the rate has been led down to another end.
    """
    torch.manual_seed(seed)
    head = PlaceHead(policy.backbone.config.hidden_size)
    modules = nn.ModuleList([policy.model, head])
    used = [p for name, p in modules.named_parameters() if "dit.embed_tokens" not in name]
    optimiser = torch.optim.AdamW(used, lr=PEAK_RATE, betas=(0.9, 0.95), weight_decay=1e-4, fused=True)
    saved = work / "training.pt"
    done = 0
    if saved.exists():
        state = torch.load(saved, weights_only=True)
        if state["steps"] != steps and state["step"] > (1 - COOL_DOWN) * min(steps, state["steps"]):
            raise UserError(
                f"{saved} is at step {state['step']} of {state['steps']}, its learning rate on the way down; found {steps} steps; "
                f"expected {state['steps']}, or another --work"
            )
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
                torch.save({"modules": modules.state_dict(), "optimiser": optimiser.state_dict(), "step": step + 1, "steps": steps}, part)
                part.rename(saved)
    policy.eval()


def _rate(step: int, steps: int) -> float:
    """Held after the warm-up, then led down in a straight line: until that begins, steps may be added or taken away."""
    warm = min(1.0, (step + 1) / WARM_UP)
    return PEAK_RATE * warm * min(1.0, 0.02 + (1 - step / steps) / COOL_DOWN)


def _losses(policy, head, shards, wordings, random) -> dict[str, torch.Tensor]:
    rows = shards.draw(BATCH, random)
    # Cameras differ in exposure and gain.
    gain = random.uniform(0.85, 1.15, (BATCH, 1, 1, 1))
    images = {name: np.clip(pixels[rows] * gain, 0, 255).astype(np.uint8) for name, pixels in shards.images.items()}
    inputs = policy.inputs(images, shards.state[rows], ["-"] * BATCH)
    features = policy.image_features(inputs.pixels)

    def off(hidden: list[torch.Tensor], mask: torch.Tensor, named: np.ndarray, has_goal: np.ndarray) -> torch.Tensor:
        """How far the places read from the backbone are off those of the object `named` (B,) in each scene and, where there is
        one, of the goal."""
        places = np.stack([shards.places[rows, named, :2], shards.places[rows, 1, :2]], axis=1)
        beside = np.clip(places - shards.state[rows, None, :2], -0.2, 0.2)
        wanted = torch.from_numpy(np.concatenate([(places - PLACEMENT_CENTRE_M) / SPREAD_M, beside / SPREAD_M], axis=2)).float()
        errors = ((head(hidden[PLACE_LAYERS].float(), mask) - wanted) ** 2).mean(2)
        return errors[:, 0].mean() + (errors[:, 1] * torch.from_numpy(has_goal)).mean()

    instructions, objects = shards.instruction[rows], shards.objects[rows]
    # The same pictures with other words: only what the words name tells the two apart.
    other = random.integers(1, (objects >= 0).sum(1))
    named = objects[np.arange(BATCH), other]
    alone = ((_KINDS[objects] == _KINDS[named][:, None]) & (objects >= 0)).sum(1) == 1
    ids, mask = wordings.ask(instructions, random)
    other_ids, other_mask = wordings.name(named, alone, random)
    # In bfloat16 the backbone takes 0.17 s of one core instead of 0.30 s (measured); vision and expert gain nothing.
    with torch.autocast("cpu", torch.bfloat16):
        embeddings, seen = policy.embed(Inputs(inputs.pixels, ids, mask, inputs.state), features)
        hidden, pairs = policy.run_backbone(embeddings, seen, for_suffix=True)
        embeddings, others_seen = policy.embed(Inputs(inputs.pixels, other_ids, other_mask, inputs.state), features)
        others_hidden, _ = policy.run_backbone(embeddings, others_seen, stop=PLACE_LAYERS)
    prefix = Prefix([(key.float(), value.float()) for key, value in pairs], seen, [])
    off_target = off(hidden, mask, np.zeros(BATCH, int), _HAS_GOAL[instructions])
    off_other = off(others_hidden, other_mask, other, np.zeros(BATCH, bool))
    actions, valid = shards.chunks(rows, policy.chunk_size)
    actions = policy.normalised_actions(actions).repeat_interleave(DRAWS, 0)
    valid = torch.from_numpy(valid).repeat_interleave(DRAWS, 0)
    generator = torch.Generator().manual_seed(int(random.integers(2**62)))
    noise = torch.randn(actions.shape, generator=generator)
    time = policy.draw_time(len(actions), generator)
    errors = policy.loss(prefix.repeated(DRAWS), inputs.state.repeat_interleave(DRAWS, 0), actions, noise, time)
    return {"flow": errors[valid].mean(), "place": (off_target + off_other) / 2}
