"""The heads that matter for a dataset's task: capture, scale, select, and the record of it that is kept."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from rich.progress import Progress

from robosteer_core.episodes import statistics
from robosteer_core.episodes.keyframes import keyframes_of
from robosteer_core.episodes.reader import Dataset
from robosteer_core.errors import UserError, settings
from robosteer_core.files import write_text
from robosteer_core.heads.alternatives import Method, search_length, select_by
from robosteer_core.heads.archive import Captured
from robosteer_core.heads.capture import DEFAULT_READ, capture, default_read, require_step
from robosteer_core.heads.demonstrations import finite_arrays, fit, load_demonstrations
from robosteer_core.heads.mediation import action_error_rise, require_mediable
from robosteer_core.heads.progress import stage
from robosteer_core.heads.score import chance_error
from robosteer_core.heads.selection import HeadSelection, pool_of, require_heads, require_neighbours
from robosteer_core.heads.stability import LEAST_DEMONSTRATIONS, RESAMPLES, Stability, stability
from robosteer_core.heads.tap import Read
from robosteer_core.vla.checkpoint import fingerprint
from robosteer_core.vla.policy import Policy
from robosteer_core.vla.sites import Head, Sites

#: The release scores the expert's heads and trains the backbone's heads of the same index.
TRAINED_PART = "vlm"
#: Heads chosen by default, and in a model with fewer than 60 eligible ones.
DEFAULT_HEADS, DEFAULT_HEADS_SMALL, SMALL_MODEL = 20, 8, 60


class SelectConfig(BaseModel):
    """How heads are chosen. The default is the release's but for the scaled actions (`raw_actions` takes them as they are)."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    n_heads: int | None = Field(default=None, ge=1, description="default: 20, 8 in a model with fewer than 60")
    ks: tuple[int, ...] = Field(default=(10, 20, 30, 40), description="numbers of neighbours tried")
    raw_actions: bool = False
    scored: str = Field(default=DEFAULT_READ.name, description="heads that are ranked, as Read.parse takes it")
    trained_part: str = Field(default=TRAINED_PART, description="part of which the heads of the same index are trained")
    method: Method = "knn"
    resamples: int = Field(default=RESAMPLES, ge=0, description="of the demonstrations, for the stability; 0 leaves it out")
    seed: int = Field(default=0, ge=0, description="of noise, resamples and methods that draw")

    @property
    def read(self) -> Read:
        """Raises UserError where heads cannot be read like that."""
        read = Read.parse(self.scored)
        if read.neurons:
            raise UserError(f"heads are ranked, not neurons; expected PART or PART:TOKEN; found {self.scored!r}")
        return read


@dataclass(frozen=True)
class TaskHeads:
    """`heads` as trained, best first. `selection` is that of the scored part; `eligible` (layers, heads).

    `names` are the action dimensions that were compared, `constant` those dropped because they do not vary; `chance` is the
    error of a head that says nothing; `stability` None where it was not asked for or there are too few demonstrations.
    """

    heads: list[Head]
    scored_part: str
    selection: HeadSelection
    eligible: np.ndarray
    names: tuple[str, ...]
    constant: tuple[str, ...]
    raw_actions: bool
    record: dict[str, Any]
    chance: float
    stability: Stability | None = None

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
            "method": selection.method,
            "chance_mse": self.chance,
            "stability": self.stability and self.stability.to_json(),
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
            if self.selection.merit is not None and self.eligible[layer, head]:
                rows[-1]["merit"] = float(self.selection.merit[layer, head])
            if self.stability is not None and self.eligible[layer, head]:
                rows[-1] |= {
                    "frequency": round(float(self.stability.frequency[layer, head]), 6),
                    "mse_95": self.stability.band[:, layer, head].tolist(),
                }
        return sorted(rows, key=lambda row: (row["mse"], row["layer"], row["head"]))


def default_count(sites: Sites, part: str = TRAINED_PART) -> int:
    """How many heads are chosen where nobody says: 20, or 8 in a model with fewer than 60 eligible heads."""
    return _count(int(sites.eligible(part).sum()))


def _count(eligible: int) -> int:
    return min(DEFAULT_HEADS if eligible >= SMALL_MODEL else DEFAULT_HEADS_SMALL, eligible)


def find_task_heads(
    policy: Policy,
    dataset: Dataset,
    *,
    keyframes: str = "all",
    step: int | None = None,
    new_statistics: bool = False,
    others: Dataset | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> TaskHeads:
    """Score one part's heads on a dataset and name the heads to train; `options` are those of `SelectConfig`.

    Actions are divided by their standard deviation over the dataset and constant dimensions dropped, unless `raw_actions`.
    `keyframes` is the rule of frames scored (all, droid, libero), `step` the denoising step (see `read_batch`). The method
    `causal` takes a head's mean over `others`, demonstrations of other tasks, or without them over the dataset itself. The
    policy takes on the dataset's statistics where the dataset names other dimensions than the policy, or with `new_statistics` (see
    `fitted`); the heads are finetuned under the same.
    """
    config = settings(SelectConfig, **{"scored": default_read(policy.sites.parts).name} | options)
    taken = fit(policy, dataset, anew=new_statistics)
    if progress:
        progress.console.print(str(taken))
    sites, read = policy.sites, config.read
    eligible = _eligible({part: sites.shape(part) for part in sites.parts}, read.part, config.trained_part, sites.eligible)
    arrays = dataset.arrays()
    rows = keyframes_of(arrays, keyframes, dataset.fps)
    scale = statistics.scale(arrays.action, dataset.action_names)
    if not scale.varies.any():
        raise UserError(f"{dataset.folder}: no action dimension varies, so no head can be told from another")
    # Before images are read and the policy is run, which may take long.
    require_step(policy, step)
    require_neighbours(pool_of(arrays.episode[rows], arrays.frame[rows]), config.ks)
    require_heads(config.n_heads or _count(int(eligible.sum())), eligible)
    if config.method == "causal":
        require_mediable(policy, read)
    of_others = None if others is None else finite_arrays(others)
    demonstrations = load_demonstrations(dataset, policy, rows, progress, arrays=arrays)
    activations = capture(policy, demonstrations, read, step=step, seed=config.seed, progress=progress)
    merit = None
    if config.method == "causal":
        elsewhere = demonstrations if others is None else load_demonstrations(others, policy, progress=progress, arrays=of_others)
        mean = (activations if others is None else capture(policy, elsewhere, read, step=step, seed=config.seed, progress=progress)).mean(0)
        task = progress and progress.add_task("replacing heads", total=int(eligible.sum()))
        merit = action_error_rise(
            policy, demonstrations, read, mean, eligible, seed=config.seed, progress=progress and (lambda: progress.advance(task))
        )  # fmt: skip
    source = policy.source
    with stage(progress, "hashing the policy's weights"):
        sha256 = fingerprint(source) if source else None
    record = {
        "policy": source and str(source),
        "policy_sha256": sha256,
        "dataset": str(dataset.folder),
        "instructions": sorted(set(demonstrations.instruction)),
        "keyframes": keyframes,
        "cameras": taken.cameras,
        "masked_cameras": list(taken.masked),
        "step": step,
        "new_statistics": new_statistics,
    }
    if config.method == "causal":
        record["replaced_by_the_mean_of"] = str((others or dataset).folder)
    frames = Scored(activations, demonstrations.action, demonstrations.episode, demonstrations.frame, scale, dataset.action_names)
    return choose(frames, eligible, config, record, merit=merit, progress=progress)


def captured_task_heads(captured: Captured, *, progress: Progress | None = None, **options: Any) -> TaskHeads:
    """As `find_task_heads`, from a capture on disk, and to the same result; `seed` defaults to the capture's."""
    about = captured.record
    config = settings(SelectConfig, **{"seed": about.seed, "scored": default_read(about.shapes).name} | options)
    if config.method == "causal":
        raise UserError("the method causal runs the policy; give --dataset and --policy instead of --capture")
    if config.seed != about.seed:
        raise UserError(f"{captured.folder} was captured with the seed {about.seed}; found {config.seed}; capture again, or leave the seed out")
    eligible = _eligible(about.shapes, config.read.part, config.trained_part, captured.eligible)
    activations = captured.read(config.read.name)
    frames = Scored(
        activations, *(captured.frames[key] for key in ("action", "episode", "frame")), captured.scale, about.action_names
    )  # fmt: skip
    keys = ("policy", "policy_sha256", "dataset", "instructions", "keyframes", "cameras", "masked_cameras", "step", "new_statistics")
    return choose(frames, eligible, config, {key: value for key, value in about.model_dump(mode="json").items() if key in keys}, progress=progress)


def _eligible(shapes: dict[str, tuple[int, int]], scored: str, trained: str, eligible) -> np.ndarray:
    for part in (scored, trained):
        if part not in shapes:
            raise UserError(f"expected a part of the policy out of {', '.join(shapes)}; found {part!r}")
    if tuple(shapes[scored]) != tuple(shapes[trained]):
        raise UserError(
            f"scored and trained heads share an index; {scored} has (layers, heads) {tuple(shapes[scored])}, "
            f"{trained} {tuple(shapes[trained])}; score and train the same part"
        )
    return eligible(trained)


@dataclass(frozen=True)
class Scored:
    """What heads are chosen from: `activations` (N, L, H, d) of the scored part and what was done in these frames, `action`
    (N, A) in the robot's units with its `names`, `episode` and `frame` (N,), and the `scale` of the whole dataset's actions."""

    activations: np.ndarray
    action: np.ndarray
    episode: np.ndarray
    frame: np.ndarray
    scale: statistics.Scale
    names: tuple[str, ...]


def choose(
    frames: Scored,
    eligible: np.ndarray,
    config: SelectConfig,
    record: dict[str, Any],
    *,
    merit: np.ndarray | None = None,
    progress: Progress | None = None,
) -> TaskHeads:
    """Select, and measure how stable the selection is; `record` says where the frames are from."""
    actions = frames.action if config.raw_actions else frames.scale.apply(frames.action)
    names = frames.names if config.raw_actions else tuple(np.array(frames.names)[frames.scale.varies].tolist())
    task = progress and progress.add_task("scoring heads", total=eligible.size)
    n_heads = config.n_heads or _count(int(eligible.sum()))
    length = search_length(config.method, len(config.ks), n_heads, eligible)
    search = progress and length and progress.add_task(f"searching, {config.method}", total=length)
    shown = {} if progress is None else {"progress": lambda *_: progress.advance(task), "searched": lambda: progress.advance(search)}
    found = select_by(
        config.method, frames.activations, actions, frames.episode, ks=config.ks, n_heads=n_heads, frames=frames.frame,
        eligible=eligible, merit=merit, seed=config.seed, **shown,
    )  # fmt: skip
    stable = None
    # Other methods than the regression of single heads would have to be run again on every resample.
    if config.resamples and found.method == "knn" and len(np.unique(frames.episode)) >= LEAST_DEMONSTRATIONS:
        again = progress and progress.add_task("resampling demonstrations", total=int(eligible.sum()))
        stable = stability(
            frames.activations, actions, frames.episode, found, eligible=eligible, resamples=config.resamples, seed=config.seed,
            progress=progress and (lambda: progress.advance(again)),
        )  # fmt: skip
    record = record | {"episodes": len(np.unique(frames.episode)), "frames": len(frames.episode), "seed": config.seed, "token": config.read.token}
    heads = [Head(config.trained_part, *place) for place in found.heads]
    constant = () if config.raw_actions else frames.scale.constant
    chance = chance_error(actions, pool_of(frames.episode, frames.frame), found.k)
    return TaskHeads(heads, config.read.part, found, eligible, tuple(names), constant, config.raw_actions, record, chance, stable)


def save_task_heads(found: TaskHeads, path: Path) -> None:
    """Write the record as JSON, whole or not at all."""
    write_text(path, json.dumps(found.to_json(), indent=2) + "\n")


def read_heads(path: Path) -> tuple[list[Head], dict[str, Any]]:
    """Heads as trained and the whole record. Raises UserError where the file is no selection."""
    if not path.is_file():
        raise UserError(f"expected a selection at {path}; it is not there; make one with `robosteer heads select --out {path}`")
    try:
        content = json.loads(path.read_text())
        heads = [Head(part, layer, head) for part, layer, head in content["heads"]]
        if not all(isinstance(head.part, str) and type(head.layer) is type(head.head) is int for head in heads):
            raise TypeError("heads are [part, layer, head], a word and two whole numbers")
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no selection of heads ({error!r}); make one with `robosteer heads select --out`") from error
    if not heads:
        raise UserError(f"{path} selects no head; make a selection with `robosteer heads select --out`")
    if len(set(heads)) < len(heads) or len({head.part for head in heads}) > 1:
        raise UserError(f"{path}: expected different heads of one part; found {', '.join(str(tuple(head)) for head in heads)}; leave some out")
    return heads, content


def recorded_scores(record: dict[str, Any]) -> tuple[tuple[float, ...], ...] | None:
    """(layers, heads) the errors of a selection's record, None where it holds none."""
    places = {(row["layer"], row["head"]): float(row["mse"]) for row in record.get("ranking", [])}
    if not places:
        return None
    layers, heads = (1 + max(place[axis] for place in places) for axis in (0, 1))
    return tuple(tuple(places.get((layer, head), float("nan")) for head in range(heads)) for layer in range(layers))
