"""A dataset's frames as a policy takes them: cameras mapped, images at its size, state and actions in its statistics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

import numpy as np
from rich.progress import Progress

from robosteer_core.episodes.reader import Arrays, Dataset
from robosteer_core.errors import UserError
from robosteer_core.vla.config import Statistics, new_statistics
from robosteer_core.vla.images import store
from robosteer_core.vla.policy import Inputs, Policy


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


def fitted(policy: Policy, dataset: Dataset, *, anew: bool = False) -> dict[str, Statistics]:
    """Statistics under which the policy should take this dataset, `state` and `action`.

    The policy's own where the dataset names the same dimensions; else the dataset's, since another robot's numbers mean
    something else, or it is asked for `anew`. Raises UserError naming both shapes where a width differs.
    """
    config = policy.config
    dataset.require(state_dim=len(config.state_names) or None, action_dim=len(config.action_names))
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
    same_state = not config.state_names or config.state_names == dataset.state_names and not anew
    same_action = dataset.action_names == config.action_names and not anew
    return {
        "state": config.state if same_state else new_statistics(config.state, arrays.state),
        "action": config.action if same_action else new_statistics(config.action, arrays.action),
    }


def fit(policy: Policy, dataset: Dataset, *, anew: bool = False) -> None:
    """Give the policy the statistics that `fitted` finds."""
    policy.config = policy.config.model_copy(update=fitted(policy, dataset, anew=anew))


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
