"""The lab as a Gymnasium environment: the same scenes, cameras, arm and verdicts as through FCI, inside one process.

    import gymnasium
    environment = gymnasium.make("robosteer_sim.environment:robosteer/Lab-v0", task="press the red button")

The part before the colon has Gymnasium import this module, which registers the environment (Gymnasium 1.4 looks for no
entry points); after an import of it the name alone will do. Several in processes of their own:

    gymnasium.make_vec(name, num_envs=8, vectorization_mode="async",
                       vector_kwargs={"context": "spawn", "shared_memory": False})

`spawn`, because an OpenGL context does not survive a fork; without shared memory, because Gymnasium 1.4 never refreshes
a text (here the instruction) that lies in it.
"""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from robosteer_core.errors import UserError
from robosteer_core.rig import Rig, load_rig
from robosteer_core.runtime.json_lines import Refused
from robosteer_core.runtime.runner import tick_ns
from robosteer_sim.catalogue import LabCatalogue
from robosteer_sim.direct_arm import START_NS, DirectArm
from robosteer_sim.direct_cameras import DirectCameras
from robosteer_sim.tasks import parse
from robosteer_sim.variations import parse_variation
from robosteer_sim.world import World

ID = "robosteer/Lab-v0"
LONGEST_INSTRUCTION = 200
#: Scenes that a reset without a seed draws from; demonstrations, trials and pretraining have seeds below.
FIRST_SEED, SEEDS = 10_000_000, 1_000_000_000


class LabEnvironment(gymnasium.Env):
    """One arm on one task; a step is one tick of the policy, 1 / `rig.rates.policy_hz` of robot time.

    Observation: `state` (7,) float32 as `ArmState.vector` (position [m], rotation vector from tool-down [rad], gripper
    opening in [0, 1]), `instruction`, and with `images` one image (height, width, 3) uint8 RGB per camera of the rig.
    Action: (7,) float32, translation [m] and rotation vector [rad] in the base frame, and gripper opening; with `chunk`
    (chunk, 7), one per tick after the rig's inference delay, as the runner of policies does it: a step is then `executed`
    ticks (default all of the chunk), and what is left of the chunk goes on while the next one is inferred.

    Reward: 1 at the step that succeeds, else 0. `terminated` at success, at a failure that cannot be mended, and when the
    robot's reflexes or limits stop the arm (`info["refused"]` says why); `truncated` when the task's time is up. `info` is
    the lab's ground truth. `reset(seed=s)` puts up scene s of the task, the same as everywhere; without a seed the scene
    is drawn. `options` may name another `task`, `variation` or `scene` (a seed of the scene alone).
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 15}

    def __init__(
        self, task: str = "press the red button", variation: str = "none", rig: str | Path | Rig = "lab", images: bool = True,
        chunk: int | None = None, executed: int | None = None, render_mode: str | None = None,
    ) -> None:  # fmt: skip
        """Raises UserError for an unknown task, variation, rig or render mode."""
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise UserError(f"the lab renders as {', '.join(self.metadata['render_modes'])} or None; found {render_mode!r}")
        if (chunk is not None and chunk < 1) or not 1 <= (executed or chunk or 1) <= (chunk or 1):
            raise UserError(f"a chunk has at least one action, of which 1 to all are executed; found {chunk} and {executed}")
        self._check(task, variation)
        self._rig = rig if isinstance(rig, Rig) else load_rig(rig)
        self._task, self._variation, self._images, self._chunk, self.render_mode = task, variation, images, chunk, render_mode
        self._world, self._cameras = World(self._rig), DirectCameras(self._rig)
        self._catalogue = LabCatalogue()
        self._arm: DirectArm | None = None
        self._executed = executed or chunk or 1
        self._delay_ns = int(self._rig.rates.inference_delay_ms * 1e6) if chunk else 0
        self.metadata = {**self.metadata, "render_fps": self._rig.rates.policy_hz}
        self.action_space = self._action_space()
        self.observation_space = self._observation_space()

    def _action_space(self) -> spaces.Box:
        limits = self._rig.limits
        high = np.array([limits.max_step_m] * 3 + [limits.max_step_rad] * 3 + [1.0], np.float32)
        low = np.append(-high[:6], np.float32(0.0))
        if self._chunk:
            low, high = np.tile(low, (self._chunk, 1)), np.tile(high, (self._chunk, 1))
        return spaces.Box(low, high, dtype=np.float32)

    def _observation_space(self) -> spaces.Dict:
        # A hand that is far off, or turned, is still an observation: only the opening is bounded by its meaning.
        bound = np.array([2.0] * 3 + [2 * np.pi] * 3, np.float32)
        found: dict[str, spaces.Space] = {
            "state": spaces.Box(np.append(-bound, np.float32(0)), np.append(bound, np.float32(1)), dtype=np.float32),
            "instruction": spaces.Text(LONGEST_INSTRUCTION, charset=string.ascii_letters + string.digits + " ,.'-"),
        }
        if self._images:
            shapes = {camera.name: (camera.height, camera.width, 3) for camera in self._rig.cameras}
            found["images"] = spaces.Dict({name: spaces.Box(0, 255, shape, np.uint8) for name, shape in shapes.items()})
        return spaces.Dict(found)

    @staticmethod
    def _check(task: str, variation: str) -> None:
        parse(task)
        parse_variation(variation)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict, dict]:
        super().reset(seed=seed)
        options = options or {}
        unknown = options.keys() - {"task", "variation", "scene"}
        if unknown:
            raise UserError(f"reset takes the options task, variation and scene; found {', '.join(sorted(unknown))}")
        task, variation = options.get("task", self._task), options.get("variation", self._variation)
        self._check(task, variation)
        scene = options.get("scene", seed)
        if scene is None:
            scene = FIRST_SEED + int(self.np_random.integers(SEEDS))
        self._world.reset(task, int(scene), variation)
        self._cameras.scene(task, int(scene), variation)
        self._instruction = task
        self._arm = DirectArm(self._world, self._rig)
        self._end_ns = tick_ns(START_NS, int(self._catalogue.seconds(task) * self._rig.rates.policy_hz), self._rig.rates.policy_hz)
        return self._observation(), self._world.truth()

    def step(self, action: np.ndarray) -> tuple[dict, float, bool, bool, dict]:
        if self._arm is None:
            raise UserError("reset the environment before its first step")
        action = np.asarray(action, dtype=float)
        if action.shape != self.action_space.shape:
            raise UserError(f"expected an action of shape {self.action_space.shape}, found {action.shape}")
        refused = None
        try:
            self._arm.apply(action, self._delay_ns, self._executed, self._over)
        except Refused as refusal:
            refused = str(refusal)
        truth = self._world.truth()
        terminated = bool(self._over() or refused)
        truncated = not terminated and self._arm.now_ns() >= self._end_ns
        return self._observation(), float(truth["success"]), terminated, truncated, {**truth, "refused": refused}

    def _over(self) -> bool:
        return self._world.success() or self._world.truth()["failure"] is not None

    def _observation(self) -> dict:
        observation = {"state": self._arm.state().vector(), "instruction": self._instruction}
        if self._images:
            observation["images"] = {name: frame.colour for name, frame in self._frames().items()}
        return observation

    def _frames(self):
        return self._cameras.frames(self._arm.now_ns(), self._world.data.qpos)

    def render(self) -> np.ndarray | None:
        """The image (height, width, 3) uint8 of the rig's first camera, in render mode rgb_array."""
        if self.render_mode is None or self._arm is None:
            return None
        return self._frames()[self._rig.cameras[0].name].colour

    def close(self) -> None:
        self._cameras.close()


gymnasium.register(ID, entry_point="robosteer_sim.environment:LabEnvironment")
