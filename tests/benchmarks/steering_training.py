"""What the experiments train: recipes, the demonstrations they are trained on, and the adapters that come of them."""

from __future__ import annotations

import re
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from robosteer_core.episodes.layout import write_json
from robosteer_core.episodes.reader import Dataset
from robosteer_core.finetune.config import FinetuneConfig
from robosteer_core.finetune.heads_option import parse_heads
from robosteer_core.finetune.train import finetune
from robosteer_core.heads.capture import frame_noise
from robosteer_core.heads.demonstrations import Demonstrations, load_demonstrations
from robosteer_core.heads.task_heads import find_task_heads, save_task_heads
from robosteer_core.rig import Rig
from robosteer_core.vla.checkpoint import load_policy
from robosteer_core.vla.policy import FlowPolicy
from robosteer_sim.direct_demonstrations import record_directly

#: Seeds of what is trained on, and of the demonstrations on which the predicted action is compared.
DEMONSTRATION_SEED, HELD_OUT_SEED, HELD_OUT = 500_000, 550_000, 5
ERROR_FRAMES = 256
#: With a single demonstration the pool of neighbours is what lies 30 frames away, which is little.
KS, KS_OF_ONE = (10, 20, 30, 40), (1, 2, 3)


def slug(text: str) -> str:
    return re.sub("[^a-z0-9]+", "-", text.lower()).strip("-")


@dataclass(frozen=True)
class Recipe:
    """One finetuning: `heads` is all, selected or random:SEED, `count` how many of them, `scored` and `trained` as in
    `robosteer heads select`."""

    name: str
    task: str
    heads: str
    demonstrations: int
    steps: int
    count: int
    feed_forward: bool = False
    scored: str = "expert:first_action"
    trained: str = "vlm"

    @property
    def key(self) -> str:
        """What it is called among all recipes of its task."""
        words = [slug(self.heads), *([] if self.heads == "all" else [f"{self.count}h"]), f"{self.demonstrations}d", f"{self.steps}s"]
        words += ["ffn"] * self.feed_forward + [slug(self.scored)] * (self.scored != Recipe.scored) + [self.trained] * (self.trained != Recipe.trained)
        return "_".join(words)

    def named_by_key(self) -> Recipe:
        return replace(self, name=self.key)

    def folder(self, out: Path) -> Path:
        return out / "adapters" / slug(self.task) / self.key

    def record(self, out: Path) -> Path:
        """Where it is written down once the adapter is there: what was trained, how long it took, the error of the action."""
        return self.folder(out).with_suffix(".json")


def demonstrations(rig: Rig, out: Path, task: str, count: int, seed: int = DEMONSTRATION_SEED) -> Path:
    """The dataset of so many demonstrations, recorded unless it is there; the first ones are the same for every count."""
    folder = out / "demonstrations" / f"{slug(task)}_{count}_from_{seed}"
    if not folder.exists():
        record_directly(rig, task, count, seed, folder, lambda outcome: None)
    return folder


def prepare(rig: Rig, checkpoint: Path, out: Path, recipe: Recipe) -> None:
    """Select, train and measure, unless that has been done."""
    if recipe.record(out).exists():
        return
    torch.set_num_threads(1)
    folder, policy = recipe.folder(out), load_policy(checkpoint)
    dataset = Dataset(demonstrations(rig, out, recipe.task, recipe.demonstrations))
    held_out = load_demonstrations(Dataset(demonstrations(rig, out, recipe.task, HELD_OUT, HELD_OUT_SEED)), policy)
    error_before, began, scored = action_error(policy, held_out), time.perf_counter(), None
    if recipe.heads == "selected":
        found = find_task_heads(
            policy, dataset, n_heads=recipe.count, scored=recipe.scored, trained_part=recipe.trained, resamples=0,
            ks=KS if recipe.demonstrations > 1 else KS_OF_ONE,
        )  # fmt: skip
        save_task_heads(found, folder.with_suffix(".heads.json"))
        heads, scored = found.heads, found.scored_part
    else:
        heads, _ = parse_heads(recipe.heads, policy, recipe.count)
    select_s = time.perf_counter() - began
    config = FinetuneConfig(steps=recipe.steps, feed_forward=recipe.feed_forward)
    summary = finetune(policy, load_demonstrations(dataset, policy), heads, folder, config, dataset=str(dataset.folder), scored_part=scored)
    write_json(
        asdict(recipe)
        | {"key": recipe.key}
        | {key: summary[key] for key in ("heads", "trainable_parameters", "full_lora_parameters", "finetune_s", "loss_before", "loss_after")}
        | {"select_s": round(select_s, 2), "action_error_before": error_before, "action_error": action_error(policy, held_out)},
        recipe.record(out),
    )


@torch.inference_mode()
def action_error(policy: FlowPolicy, demonstrations: Demonstrations) -> float:
    """Mean squared error of the chunk's first action, in the policy's normalised units, as sampled in frames spread evenly
    over demonstrations, with the same noise for every policy."""
    rows = np.unique(np.linspace(0, len(demonstrations) - 1, min(ERROR_FRAMES, len(demonstrations))).astype(int))
    errors = []
    for part in np.array_split(rows, -(-len(rows) // 64)):
        inputs, noise = demonstrations.inputs(policy, part), frame_noise(policy, demonstrations, part, 0)
        target = policy.normalised_actions(demonstrations.action[part, None])[:, 0]
        errors.append((policy.sample(policy.prefix(inputs), inputs.state, noise)[:, 0] - target).square().mean(1))
    return float(torch.cat(errors).mean())
