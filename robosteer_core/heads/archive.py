"""A capture on disk: blocks of frames, each a file that is there whole or not at all.

`capture.json` says what was captured of what, `frames.safetensors` which frames these are and what was done in them, and
`block-00000.safetensors`, ... hold the activations of so many frames each, one tensor for each read. A process makes
the blocks that are missing; of n processes number i makes every n-th. Noise belongs to the frame and a block is a
batch, so that however often it is killed and however it is shared out, the bytes are the same.
"""

from __future__ import annotations

import fcntl
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError
from rich.progress import Progress
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file

from robosteer_core.episodes import layout, statistics
from robosteer_core.episodes.keyframes import keyframes_of
from robosteer_core.episodes.reader import Dataset
from robosteer_core.errors import UserError
from robosteer_core.files import written
from robosteer_core.heads.capture import frame_noise, read_batch, require_step
from robosteer_core.heads.demonstrations import fit, load_demonstrations
from robosteer_core.heads.progress import stage
from robosteer_core.heads.tap import Read
from robosteer_core.vla.checkpoint import fingerprint
from robosteer_core.vla.policy import Policy

RECORD, FRAMES, LOCK = "capture.json", "frames.safetensors", ".lock"
BLOCK = 64


class CaptureRecord(BaseModel):
    """`capture.json`. `reads` are named as `Read.parse` takes them; `shapes` (layers, heads) and `reaching` (layers,)
    say of each part which heads there are and which layers reach the action; `step` None is the last one; `new_statistics` where
    the dataset's were taken though it names the policy's dimensions."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    policy: str
    policy_sha256: str
    dataset: str
    instructions: tuple[str, ...]
    cameras: dict[str, str]
    masked_cameras: tuple[str, ...]
    keyframes: str
    action_names: tuple[str, ...]
    reads: tuple[str, ...]
    step: int | None
    seed: int
    frames: int
    block: int
    shapes: dict[str, tuple[int, int]]
    reaching: dict[str, tuple[bool, ...]]
    new_statistics: bool = False

    @property
    def blocks(self) -> int:
        return -(-self.frames // self.block)


class Captured:
    """A capture's folder, read-only; `record` says what it holds. Raises UserError where it is none."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        path = self.folder / RECORD
        if not path.is_file():
            raise UserError(f"no capture in {folder}: expected a folder with {RECORD}; make one with `robosteer heads capture --out {folder}`")
        try:
            self.record = CaptureRecord.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise UserError(f"{path} does not describe a capture: {error}") from error

    @property
    def missing(self) -> list[int]:
        """Numbers of the blocks that nobody has made yet."""
        return [block for block in range(self.record.blocks) if not self.block(block).exists()]

    def block(self, number: int) -> Path:
        return self.folder / f"block-{number:05d}.safetensors"

    @cached_property
    def frames(self) -> dict[str, np.ndarray]:
        """`row`, `episode`, `frame` (N,), `action` (N, A) of the captured frames, and `scale_std`, `scale_varies` (A,), by which
        the actions of the whole dataset vary."""
        with _opened(self.folder / FRAMES) as file:
            return {key: file.get_tensor(key) for key in file.keys()}

    @property
    def scale(self) -> statistics.Scale:
        std, varies = self.frames["scale_std"], self.frames["scale_varies"].astype(bool)
        return statistics.Scale(std, varies, tuple(name for name, moves in zip(self.record.action_names, varies) if not moves))

    def eligible(self, part: str) -> np.ndarray:
        """(layers, heads) bool, as `Sites.eligible`. Raises UserError for a part that the policy lacks."""
        if part not in self.record.shapes:
            raise UserError(f"expected a part of the policy out of {', '.join(self.record.shapes)}; found {part!r}")
        return np.repeat(np.array(self.record.reaching[part])[:, None], self.record.shapes[part][1], axis=1)

    def read(self, name: str, layer: int | None = None) -> np.ndarray:
        """What a read found in every frame, (N, layers, ...) float32, or of one layer alone (N, ...).

        Raises UserError where it was not captured, or not yet in every frame.
        """
        if name not in self.record.reads:
            raise UserError(f"{self.folder} holds {', '.join(self.record.reads)}; found a wish for {name!r}; capture it into another folder: "
                            f"`robosteer heads capture --read {name} --out ...`")  # fmt: skip
        missing = self.missing
        if missing:
            raise UserError(
                f"{self.folder} is not finished: {len(missing)} of {self.record.blocks} blocks are missing, the first is {missing[0]}; "
                "run `robosteer heads capture` again with the same options, for every shard"
            )
        whole: np.ndarray | None = None
        for number in range(self.record.blocks):
            with _opened(self.block(number)) as file:
                part = file.get_slice(name)
                values = part[:] if layer is None else part[:, layer]
            if whole is None:
                whole = np.empty((self.record.frames, *values.shape[1:]), values.dtype)
            whole[number * self.record.block :][: len(values)] = values
        return whole


def capture_dataset(
    policy: Policy,
    dataset: Dataset,
    folder: Path | str,
    reads: tuple[Read, ...],
    *,
    keyframes: str = "all",
    step: int | None = None,
    seed: int = 0,
    new_statistics: bool = False,
    block: int = BLOCK,
    shard: tuple[int, int] = (0, 1),
    progress: Progress | None = None,
) -> Captured:
    """Capture `reads` of a dataset's frames into `folder`, block by block; goes on where an earlier run was ended.

    `shard` (i, n) makes the blocks i, i + n, ... alone; `new_statistics` as in `fitted`. One block's images and activations are held at a time. Raises
    UserError, before anything is written, where `folder` holds another capture or something else.
    """
    index, count = shard
    if not 0 <= index < count:
        raise UserError(f"expected a shard i/n with i of 0 to n - 1; found {index}/{count}")
    taken = fit(policy, dataset, anew=new_statistics)
    if progress:
        progress.console.print(str(taken))
    for read in reads:
        read.paths(policy.sites)
    require_step(policy, step)
    if policy.source is None:
        raise UserError("this policy was not loaded from a checkpoint; save it and load it, so that the capture can name it")
    arrays = dataset.arrays()
    rows, scale = keyframes_of(arrays, keyframes, dataset.fps), statistics.scale(arrays.action, dataset.action_names)
    sites = policy.sites
    with stage(progress, "hashing the policy's weights"):
        sha256 = fingerprint(policy.source)
    record = CaptureRecord(
        policy=str(policy.source), policy_sha256=sha256, dataset=str(dataset.folder),
        instructions=tuple(sorted({arrays.task[row] for row in rows})), cameras=taken.cameras,
        masked_cameras=taken.masked, keyframes=keyframes,
        action_names=dataset.action_names, reads=tuple(read.name for read in reads), step=step, seed=seed, frames=len(rows),
        block=block, shapes={part: sites.shape(part) for part in sites.parts},
        reaching={part: tuple(sites.eligible(part)[:, 0].tolist()) for part in sites.parts}, new_statistics=new_statistics,
    )  # fmt: skip
    frames = {
        "row": rows, "episode": arrays.episode[rows], "frame": arrays.frame[rows], "action": arrays.action[rows],
        "scale_std": scale.std, "scale_varies": scale.varies.astype(np.uint8),
    }  # fmt: skip
    captured = _prepared(Path(folder), record, frames)
    mine = [number for number in range(index, record.blocks, count)]
    left = [number for number in mine if not captured.block(number).exists()]
    task = progress and progress.add_task("reading heads", total=len(mine), completed=len(mine) - len(left))
    for number in left:
        of_block = rows[number * block : (number + 1) * block]
        demonstrations = load_demonstrations(dataset, policy, of_block, arrays=arrays)
        noise = frame_noise(policy, demonstrations, slice(None), seed)
        found = read_batch(policy, demonstrations.inputs(policy, slice(None)), noise, reads, step)
        with written(captured.block(number)) as temporary:
            save_file(found, temporary)
        if progress:
            progress.advance(task)
    return captured


def _prepared(folder: Path, record: CaptureRecord, frames: dict[str, np.ndarray]) -> Captured:
    """The folder with its two descriptions, made or found equal."""
    ours = {LOCK, RECORD, FRAMES, RECORD + ".tmp", FRAMES + ".tmp"}
    if folder.exists() and not (folder / RECORD).exists() and (not folder.is_dir() or any(path.name not in ours for path in folder.iterdir())):
        raise UserError(f"expected a new folder, or one of an earlier capture, at {folder}; found something else; choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # shards that start together
        if not (folder / RECORD).exists():
            with written(folder / FRAMES) as temporary:
                save_arrays({key: np.ascontiguousarray(values) for key, values in frames.items()}, temporary)
            layout.write_json(record.model_dump(mode="json"), folder / RECORD)
    captured = Captured(folder)
    there, wanted = captured.record.model_dump(), record.model_dump()
    differing = [key for key in wanted if there[key] != wanted[key]]
    if not differing and any(not np.array_equal(captured.frames[key], values) for key, values in frames.items()):
        differing = ["the dataset's frames"]
    if differing:
        raise UserError(f"{folder} holds a capture that differs in {', '.join(differing)}; choose another --out or remove it")
    return captured


def _opened(path: Path) -> Any:
    try:
        return safe_open(path, framework="numpy")
    except FileNotFoundError:
        raise UserError(f"the capture lacks {path}; run `robosteer heads capture` again with the same options") from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} cannot be read ({error}); remove it and run `robosteer heads capture` again") from error
