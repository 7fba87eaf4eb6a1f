"""The scripted operator does every kind of task. (20 of 20 on each task: tests/benchmarks/operator_success.py.)"""

import pytest

from robosteer_core.errors import UserError
from robosteer_core.rig import load_rig
from robosteer_sim.operator import Operator
from robosteer_sim.rollout import Rollout
from robosteer_sim.world import World


def run(world, rig, instruction, seed, disturb=None, ticks=150):
    world.reset(instruction, seed)
    rollout, operator = Rollout(world, rig), Operator(instruction, seed, tremor_m=0.002)
    for tick in range(ticks):
        if world.success():
            return tick
        action = operator.act(world.truth())
        rollout.apply(action if disturb is None else disturb(tick, action))
    return None


@pytest.fixture(scope="module")
def rig():
    return load_rig("lab")


@pytest.mark.parametrize(
    "instruction",
    ["touch the blue cube", "touch the red button", "touch the green bowl", "press the red button", "push the yellow cube",
     "pick up the red cube"],
)  # fmt: skip
def test_every_kind_of_task_succeeds(rig, instruction):
    world = World(rig)
    for seed in (100, 101, 102):
        assert run(world, rig, instruction, seed) is not None, f"seed {seed}: {world.truth()['failure']}"


def test_the_operator_recovers_when_led_astray(rig):
    def push_away(tick, action):
        if 8 <= tick < 14:
            action = action.copy()
            action[:3] = [0.012, 0.012, 0.005]
        return action

    assert run(World(rig), rig, "press the red button", 7, push_away) is not None


def test_what_is_not_in_the_scene_is_refused_in_words(rig):
    world = World(rig)
    world.reset("open the drawer", 0)
    with pytest.raises(UserError, match="cube': the scene has no red_cube and no blue_cube; ask for something with .*drawer"):
        Operator("stack the red cube on the blue cube").act(world.truth())
