"""A dataset's frames as a policy takes them: cameras mapped, images at its size, state and actions in its statistics."""

from __future__ import annotations

from dataclasses import dataclass
from math import isclose
from typing import Any, Literal, Sequence

import numpy as np
from rich.progress import Progress

from robosteer_core.episodes.reader import Arrays, Dataset
from robosteer_core.errors import UserError
from robosteer_core.vla.config import PolicyConfig, new_statistics
from robosteer_core.vla.images import store
from robosteer_core.vla.policy import FlowPolicy, Inputs, Policy


@dataclass(frozen=True)
class Demonstrations:
    """N frames, episode by episode in increasing order.

    `rows` (N,) are their numbers in the dataset; `images` by the policy's camera, each (N, size, size, 3) uint8;
    `state` (N, S) and `action` (N, A) in the robot's units, `episode` (N,), `frame` (N,) the index within the episode.
    """

    rows: np.ndarray
    images: dict[str, np.ndarray]
    state: np.ndarray
    action: np.ndarray
    episode: np.ndarray
    frame: np.ndarray
    instruction: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def inputs(self, policy: Policy, index: slice | np.ndarray) -> Inputs:
        """The policy's inputs for some of the frames."""
        chosen = np.arange(len(self))[index]
        images = {name: frames[chosen] for name, frames in self.images.items()}
        return policy.inputs(images, self.state[chosen], [self.instruction[i] for i in chosen])


def camera_map(wanted: Sequence[str], found: Sequence[str]) -> dict[str, str]:
    """Which of a dataset's cameras stands for each of a policy's: the one of the same name, else in order.

    Cameras of the policy that get none are absent, and masked. Raises UserError where the dataset has no camera.
    """
    if not found:
        raise UserError(f"expected a dataset with a camera; the policy sees by {', '.join(wanted)}; found none")
    named = {name: name for name in wanted if name in found}
    return named or dict(zip(wanted, found))


@dataclass(frozen=True)
class Fit:
    """How a policy takes a dataset: its `config` there; `cameras`, which of the dataset's stands for each of the policy's, and
    those that get none, which are `masked`; `statistics`, whose those of the action are, the policy's own or the dataset's."""

    config: PolicyConfig
    cameras: dict[str, str]
    masked: tuple[str, ...]
    statistics: Literal["policy", "dataset"]

    def __str__(self) -> str:
        """In words, for whoever started it."""
        seen = [name if name == source else f"{name} is the dataset's {source}" for name, source in self.cameras.items()]
        return f"cameras: {', '.join(seen + [f'{name} is masked' for name in self.masked])}; actions in the {self.statistics}'s statistics"


def fitted(policy: Policy, dataset: Dataset, *, anew: bool = False) -> Fit:
    """How the policy should take this dataset.

    Statistics are the policy's own where the dataset names the same dimensions; else the dataset's, of the policy's kind, since
    another robot's numbers mean something else, or it is asked for `anew`. Where its actions have other names the policy
    takes these, and the dataset's rate. A policy that names nothing (see `PolicyConfig.unnamed`) takes names, rate and cameras
    from the dataset, and as many dimensions as the model has room for. Raises UserError naming both shapes where a width
    does not fit, both rates where actions of the same names are steps of another length, and frames that are not finite.
    """
    config = policy.config
    _require_widths(policy, dataset)
    arrays = finite_arrays(dataset)
    cameras = camera_map(config.cameras, dataset.cameras)
    masked = tuple(name for name in config.cameras if name not in cameras)
    update: dict[str, Any] = {"cameras": tuple(cameras.values())} if config.unnamed else {}
    if dataset.action_names != config.action_names:
        update |= {"action_names": dataset.action_names, "action_hz": float(dataset.fps)}
    elif not isclose(dataset.fps, config.action_hz, rel_tol=0.01):
        raise UserError(
            f"{dataset.folder} has {dataset.fps:g} frames a second, and the policy acts {config.action_hz:g} times a second: a step from one "
            f"frame to the next would be one of another length; record demonstrations at {config.action_hz:g} frames a second"
        )
    if anew or "action_names" in update:
        update["action"] = new_statistics(config.action, arrays.action)
    if config.state_names and (anew or dataset.state_names != config.state_names):
        update |= {"state_names": dataset.state_names, "state": new_statistics(config.state, arrays.state)}
    return Fit(config.model_copy(update=update), cameras, masked, "dataset" if "action" in update else "policy")


def finite_arrays(dataset: Dataset) -> Arrays:
    """The dataset's frames. Raises UserError where there are none, and for states and actions that are not finite."""
    arrays = dataset.arrays()
    if not len(arrays):
        raise UserError(f"the dataset {dataset.folder} has no frames; record demonstrations first")
    for name, values in (("observation.state", arrays.state), ("action", arrays.action)):
        wrong = np.flatnonzero(~np.isfinite(values).all(1))
        if len(wrong):
            raise UserError(
                f"{dataset.folder}: {name} holds values that are not finite in {len(wrong)} frames, the first in episode "
                f"{arrays.episode[wrong[0]]}, frame {arrays.frame[wrong[0]]}; leave these episodes out"
            )
    return arrays


def _require_widths(policy: Policy, dataset: Dataset) -> None:
    """Exactly as many dimensions as the policy names; one that names none and pads them takes fewer, too."""
    config = policy.config
    if not (config.unnamed and isinstance(policy, FlowPolicy)):
        dataset.require(state_dim=len(config.state_names) or None, action_dim=len(config.action_names))
        return
    for what, names, most in (("action", dataset.action_names, policy.action_dim), ("observation.state", dataset.state_names, policy.state_dim)):
        if len(names) > most:
            raise UserError(f"{dataset.folder}: {what} has {len(names)} dimensions; the policy has room for {most}; use a policy with more")


def fit(policy: Policy, dataset: Dataset, *, anew: bool = False) -> Fit:
    """Let the policy take the dataset as `fitted` says."""
    found = fitted(policy, dataset, anew=anew)
    policy.config = found.config
    return found


def load_demonstrations(
    dataset: Dataset, policy: Policy, rows: np.ndarray | None = None, progress: Progress | None = None, *, arrays: Arrays | None = None
) -> Demonstrations:
    """Read frames `rows` (increasing; default all) and bring their images to the policy's size.

    `arrays` are the dataset's where they are known already.
    """
    arrays = dataset.arrays() if arrays is None else arrays
    rows = np.arange(len(arrays)) if rows is None else rows
    cameras, size = camera_map(policy.config.cameras, dataset.cameras), policy.config.image_size
    images = {name: np.empty((len(rows), size, size, 3), np.uint8) for name in cameras}
    task = progress and progress.add_task("reading images", total=len(cameras) * len(dataset.episodes))
    for name, source in cameras.items():
        place = 0
        for episode in dataset.episodes:
            wanted = set((rows[(rows >= episode.first_frame) & (rows < episode.first_frame + episode.length)] - episode.first_frame).tolist())
            first, stop = min(wanted, default=0), max(wanted, default=-1) + 1
            for frame, image in enumerate(dataset.images(episode.index, source, first, stop), first):
                if frame in wanted:
                    images[name][place] = store(image, size, policy.image_rule)
                    place += 1
            if progress:
                progress.advance(task)
    return Demonstrations(
        rows, images, arrays.state[rows], arrays.action[rows], arrays.episode[rows], arrays.frame[rows],
        tuple(arrays.task[row] for row in rows),
    )  # fmt: skip
