"""Episodes of the scripted operator for pretraining, made in several processes, kept as shards.

The executed command carries noise, the recorded one does not (DART, arXiv 1703.09327): the policy sees the states that
its own errors lead to, with the right way back.

One row is one tick: an image per camera, `state` (7,), `action` (7,), `instruction` as index of INSTRUCTIONS, `objects` (7,) as
indices of OBJECTS, -1 where there are fewer, and their `places` (7, 3) in metres, base frame; the first object is the target of
the episode's instruction, the second its goal where it has one. In half of the scenes distractors stand about.
"""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import numpy as np
from rich.progress import track

from robosteer_core.rig import Rig
from robosteer_sim.pretrain import INSTRUCTIONS, OBJECTS, ROUND
from robosteer_sim.variations import DISTRACTORS

EPISODES_PER_SHARD = 24
MAX_TICKS = 150
MOST_OBJECTS = 3 + DISTRACTORS[1]
#: Ticks recorded after success: the last chunks are whole, and the hand is seen to come back from a touch.
TAIL_TICKS = 8
#: Rendered at this size and averaged down; the live cameras' 640 x 480 gives the same picture at the policy's size.
RENDER_WIDTH, RENDER_HEIGHT = 320, 240
NOISES_M = (0.0, 0.004, 0.008)
NOISE_MEMORY = 0.7
#: This close to what the hand is after there is no noise: it would knock it over, and a wrong example would be learnt.
QUIET_M = 0.06


def collect(rig: Rig, folder: Path, episodes: int, image_size: int, seed: int, processes: int) -> list[Path]:
    """Make the shards that are not there yet; returns all of them, in order. Killed and called again it goes on."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"shard_{number:04d}.npz" for number in range(-(-episodes // EPISODES_PER_SHARD))]
    todo = [(number, path) for number, path in enumerate(paths) if not path.exists()]
    # Fresh processes: an OpenGL context does not survive a fork.
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        jobs = [pool.submit(_shard, rig, path, number, episodes, image_size, seed) for number, path in todo]
        for job in track(as_completed(jobs), description="collecting episodes", total=len(jobs)):
            job.result()
    return paths


def _shard(rig: Rig, path: Path, number: int, episodes: int, image_size: int, seed: int) -> None:
    from robosteer_sim.world import World

    world = World(rig)
    camera_names = [camera.name for camera in rig.cameras]
    rows: list[dict] = []
    first = number * EPISODES_PER_SHARD
    for episode in range(first, min(first + EPISODES_PER_SHARD, episodes)):
        rows += _episode(world, rig, camera_names, ROUND[episode % len(ROUND)], seed + episode, image_size)
    part = path.with_suffix(f".{os.getpid()}.part")
    with open(part, "wb") as file:
        np.savez(file, **{key: np.stack([row[key] for row in rows]) for key in rows[0]})
    part.rename(path)


_renderer = None


def _episode(world, rig, camera_names, instruction: int, seed, image_size) -> list[dict]:
    """Rows of one episode of INSTRUCTIONS[instruction]."""
    from robosteer_core.runtime.json_lines import Refused
    from robosteer_core.vla.images import resize
    from robosteer_sim.operator import Operator
    from robosteer_sim.render import Renderer
    from robosteer_sim.rollout import Rollout

    global _renderer  # one OpenGL context per process
    random = np.random.default_rng([seed, 5])
    sigma, noise = random.choice(NOISES_M), np.zeros(3)
    world.reset(INSTRUCTIONS[instruction], seed, "distractors" if random.random() < 0.5 else "none")
    if _renderer is None:
        _renderer = Renderer(world.model, RENDER_WIDTH, RENDER_HEIGHT)
    else:
        _renderer.load(world.model)
    rollout, operator = Rollout(world, rig), Operator(INSTRUCTIONS[instruction])
    rows, tail = [], TAIL_TICKS
    items = world.scene.items
    objects = np.full(MOST_OBJECTS, -1)
    objects[: len(items)] = [OBJECTS.index((item.kind, item.colour)) for item in items]
    for _ in range(MAX_TICKS):
        truth = world.truth()
        action = operator.act(truth)
        images = {f"image_{name}": resize(_renderer.render(world.data, name, depth=False)[0], image_size) for name in camera_names}
        places = np.zeros((MOST_OBJECTS, 3), np.float32)
        places[: len(items)] = [truth["objects"][item.name][:3] for item in items]
        rows.append({
            **images, "state": rollout.state(), "action": action.astype(np.float32), "instruction": np.int64(instruction),
            "objects": objects, "places": places, "episode": np.int64(seed),
        })  # fmt: skip
        tail -= world.success()
        if tail < 0 or truth["failure"]:
            break
        noise = NOISE_MEMORY * noise + np.sqrt(1 - NOISE_MEMORY**2) * random.normal(0, sigma, 3)
        held = places[0, 2] - rows[0]["places"][0, 2] > 0.02
        after = places[1] if held else places[0]
        near = np.linalg.norm(rollout.measured().position - after) < QUIET_M + 0.04 * held
        try:
            rollout.apply(action + np.pad(np.zeros(3) if near else noise, (0, 4)))
        except Refused:
            break  # the noise has led into a reflex: what was seen until then is as good as any
    return rows
