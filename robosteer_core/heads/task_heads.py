"""The heads that matter for a dataset's task: capture, scale, select, and the record of it that is kept."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Sequence

import numpy as np
from rich.progress import Progress

from robosteer_core.episodes import statistics
from robosteer_core.episodes.keyframes import keyframes_of
from robosteer_core.episodes.layout import put, temporary_of
from robosteer_core.episodes.reader import Dataset
from robosteer_core.errors import UserError
from robosteer_core.heads.capture import SCORED_PART, capture
from robosteer_core.heads.demonstrations import camera_map, fit, load_demonstrations
from robosteer_core.heads.selection import HeadSelection, select
from robosteer_core.vla.checkpoint import fingerprint
from robosteer_core.vla.policy import FlowPolicy
from robosteer_core.vla.sites import Head, Sites

#: The release scores the expert's heads and trains the backbone's heads of the same index.
TRAINED_PART = "vlm"
#: Heads chosen by default, and in a model with fewer than 60 eligible ones.
DEFAULT_HEADS, DEFAULT_HEADS_SMALL, SMALL_MODEL = 20, 8, 60


@dataclass(frozen=True)
class TaskHeads:
    """`heads` as trained, best first. `selection` is that of the scored part; `eligible` (layers, heads).

    `names` are the action dimensions that were compared, `constant` those dropped because they do not vary.
    """

    heads: list[Head]
    scored_part: str
    selection: HeadSelection
    eligible: np.ndarray
    names: tuple[str, ...]
    constant: tuple[str, ...]
    raw_actions: bool
    record: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """One object: what was asked, `heads` as [part, layer, head] as trained, and every head's score."""
        selection = self.selection
        return self.record | {
            "scored_part": self.scored_part,
            "trained_part": self.heads[0].part,
            "n_heads": len(self.heads),
            "heads": [list(head) for head in self.heads],
            "k": selection.k,
            "cv_mse": selection.cv_mse,
            "dimension_mse": dict(zip(self.names, selection.dimension_mse.tolist())),
            "constant_dimensions": list(self.constant),
            "raw_actions": self.raw_actions,
            "ks": list(selection.ks),
            "ranking": self.ranking(),
        }

    def ranking(self) -> list[dict[str, Any]]:
        """Every head of the scored part, lowest error first."""
        index, rows = self.selection.ks.index(self.selection.k), []
        chosen = set(self.selection.heads)
        for layer, head in np.argwhere(np.ones_like(self.eligible)).tolist():
            split = self.selection.dimension_scores[index, layer, head]
            rows.append({
                "layer": layer, "head": head, "mse": float(self.selection.scores[index, layer, head]),
                "dimension_mse": dict(zip(self.names, split.tolist())),
                "selected": (layer, head) in chosen, "eligible": bool(self.eligible[layer, head]),
            })  # fmt: skip
        return sorted(rows, key=lambda row: (row["mse"], row["layer"], row["head"]))


def default_count(sites: Sites, part: str = TRAINED_PART) -> int:
    """How many heads are chosen where nobody says: 20, or 8 in a model with fewer than 60 eligible heads."""
    eligible = int(sites.eligible(part).sum())
    return min(DEFAULT_HEADS if eligible >= SMALL_MODEL else DEFAULT_HEADS_SMALL, eligible)


def find_task_heads(
    policy: FlowPolicy,
    dataset: Dataset,
    *,
    n_heads: int | None = None,
    raw_actions: bool = False,
    keyframes: str = "all",
    ks: Sequence[int] = (10, 20, 30, 40),
    seed: int = 0,
    progress: Progress | None = None,
) -> TaskHeads:
    """Score the action expert's heads on a dataset and name the backbone's heads to train.

    Actions are divided by their standard deviation over the dataset and constant dimensions dropped; `raw_actions`
    takes them as they are, as the release does. `keyframes` is the rule of frames scored (all, droid, libero). The policy
    takes on the dataset's statistics where the dataset names other dimensions than the policy (see `fitted`).
    """
    fit(policy, dataset)
    sites = policy.sites
    if sites.shape(SCORED_PART) != sites.shape(TRAINED_PART):
        raise UserError(
            f"scored and trained heads share an index; {SCORED_PART} has (layers, heads) {sites.shape(SCORED_PART)}, "
            f"{TRAINED_PART} {sites.shape(TRAINED_PART)}"
        )
    arrays = dataset.arrays()
    rows = keyframes_of(arrays, keyframes, dataset.fps)
    scale = statistics.scale(arrays.action, dataset.action_names)
    if not scale.varies.any():
        raise UserError(f"{dataset.folder}: no action dimension varies, so no head can be told from another")
    demonstrations = load_demonstrations(dataset, policy, rows, progress)
    activations = capture(policy, demonstrations, seed=seed, progress=progress)
    actions = demonstrations.action if raw_actions else scale.apply(demonstrations.action)
    names = dataset.action_names if raw_actions else tuple(np.array(dataset.action_names)[scale.varies].tolist())
    eligible = sites.eligible(TRAINED_PART)
    task = progress and progress.add_task("scoring heads", total=eligible.size)
    found = select(
        activations, actions, demonstrations.episode, ks=ks, n_heads=n_heads or default_count(sites),
        frames=demonstrations.frame, eligible=eligible, progress=progress and (lambda *_: progress.advance(task)),
    )  # fmt: skip
    cameras = camera_map(policy.config.cameras, dataset.cameras)
    source = policy.source
    record = {
        "policy": source and str(source),
        "policy_sha256": fingerprint(source) if source else None,
        "dataset": str(dataset.folder),
        "instructions": sorted(set(demonstrations.instruction)),
        "episodes": len(np.unique(demonstrations.episode)),
        "frames": len(demonstrations),
        "keyframes": keyframes,
        "cameras": cameras,
        "masked_cameras": [name for name in policy.config.cameras if name not in cameras],
        "seed": seed,
    }
    heads = [Head(TRAINED_PART, *place) for place in found.heads]
    return TaskHeads(heads, SCORED_PART, found, eligible, tuple(names), () if raw_actions else scale.constant, raw_actions, record)


def save_task_heads(found: TaskHeads, path: Path) -> None:
    """Write the record as JSON, whole or not at all."""
    temporary = temporary_of(path)
    temporary.write_text(json.dumps(found.to_json(), indent=2) + "\n")
    put(temporary, path)


def read_heads(path: Path) -> tuple[list[Head], dict[str, Any]]:
    """Heads as trained and the whole record. Raises UserError where the file is no selection."""
    if not path.is_file():
        raise UserError(f"expected a selection at {path}; it is not there; make one with `robosteer heads select --out {path}`")
    try:
        content = json.loads(path.read_text())
        heads = [Head(str(part), int(layer), int(head)) for part, layer, head in content["heads"]]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no selection of heads ({error!r}); make one with `robosteer heads select --out`") from error
    if not heads:
        raise UserError(f"{path} selects no head; make a selection with `robosteer heads select --out`")
    return heads, content
