"""The eight tasks of the lab: their wordings and scenes, what counts as done, and the operator who does them."""

import json

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from robosteer_core.rig import load_rig
from robosteer_sim.objects.drawer import DRAWER_TRAVEL_M
from robosteer_sim.operator import JOINT_MARGIN_RAD, Operator, within_joint_range
from robosteer_sim.placement import PLACEMENT_HIGH_M, PLACEMENT_LOW_M
from robosteer_sim.rollout import Rollout
from robosteer_sim.tasks import TASKS, parse, sample_scene
from robosteer_sim.world import World

MARKER, BOWL, CUP = "place the marker in the mug", "place the green cube in the red bowl", "push the red cup to the red bowl"
MUG, DRAWER, STACK = "pick up the mug", "open the drawer", "stack the red cube on the green cube"
HARD = "press the red button hard"


@pytest.fixture(scope="module")
def rig():
    return load_rig("lab")


@pytest.fixture(scope="module")
def world(rig):
    return World(rig)


# --- words and scenes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("instruction", TASKS)
def test_every_wording_names_its_task(instruction):
    others = TASKS[instruction]
    assert len(others) >= 3 and instruction not in others
    assert {parse(wording) for wording in others} == {parse(f"  {instruction.upper()} ")} == {parse(instruction)}
    assert sample_scene(others[0], 3) == sample_scene(instruction, 3)


def test_no_wording_names_two_tasks():
    wordings = [wording for instruction, others in TASKS.items() for wording in (instruction, *others)]
    assert len(set(wordings)) == len(wordings)


@pytest.mark.parametrize("instruction", TASKS)
def test_scenes_hold_the_tasks_objects_at_places_that_the_seed_draws(instruction):
    task = parse(instruction)
    scenes = [sample_scene(instruction, seed) for seed in range(60)]
    assert len(set(scenes)) == 60
    for scene in scenes:
        assert {item.name for item in scene.items} >= set(task.objects) and len(scene.items) > len(task.objects)
        position = np.array(scene.item(task.target).position)
        assert (position >= PLACEMENT_LOW_M).all() and (position <= PLACEMENT_HIGH_M).all()


def test_colour_or_kind_alone_does_not_tell_what_is_meant():
    for seed in range(20):
        items = sample_scene(BOWL, seed).items
        assert [item.kind for item in items].count("cube") == [item.kind for item in items].count("bowl") == 2
        assert [item.kind for item in sample_scene(CUP, seed).items].count("cup") == 2


# --- what counts as done ------------------------------------------------------------------------------------------------


def put(world, name, position, rotation=Rotation.identity()):
    """Put a free object somewhere, at rest."""
    joint = world.model.joint(name)
    world.data.qpos[joint.qposadr[0] :][:7] = [*position, *rotation.as_quat(scalar_first=True)]
    world.data.qvel[joint.dofadr[0] :][:6] = 0


def wait(world, seconds=1.0):
    for _ in range(int(1000 * seconds)):
        world.step(np.zeros(7))


def where(world, name):
    return np.array(world.truth()["objects"][name][:3])


STANDING = Rotation.from_euler("y", np.pi / 2)


@pytest.mark.parametrize(
    ("offset", "rotation", "done"),
    [
        ((0.0, 0.0, 0.08), STANDING, True),
        ((0.0, 0.0, 0.08), Rotation.from_euler("y", np.deg2rad(70)), True),
        ((0.10, 0.0, 0.02), Rotation.identity(), False),  # beside it
        ((0.0, 0.0, 0.096), Rotation.from_euler("z", 1.0), False),  # across the rim
    ],
)  # fmt: skip
def test_the_marker_is_in_the_mug_when_its_lower_end_is(world, offset, rotation, done):
    world.reset(MARKER, 3)
    put(world, "marker", where(world, "mug") + offset, rotation)
    wait(world)
    assert world.success() == done


def test_a_marker_in_a_mug_that_has_been_knocked_over_is_not_placed(world):
    world.reset(MARKER, 3)
    lying, place = Rotation.from_euler("x", np.pi / 2), [*where(world, "mug")[:2], 0.039]
    put(world, "mug", place, lying)
    put(world, "marker", place + lying.apply([0.0, 0.0, 0.07]), lying * STANDING)
    wait(world)
    poses = world.truth()["objects"]
    middle = Rotation.from_quat(poses["mug"][3:]).inv().apply(np.subtract(poses["marker"][:3], poses["mug"][:3]))
    assert np.hypot(*middle[:2]) < 0.035 and middle[2] < 0.085 and not world.success()


@pytest.mark.parametrize(("onto", "height", "done"), [("red_bowl", 0.035, True), ("blue_cube", 0.08, False), (None, 0.0225, False)])
def test_the_cube_is_in_the_bowl_that_is_meant(world, onto, height, done):
    world.reset(BOWL, 6)
    names = [item.name for item in world.scene.items]
    onto = next(name for name in names if name not in ("green_cube", "red_bowl") and "cube" in name) if onto == "blue_cube" else onto
    place = where(world, onto)[:2] if onto else where(world, "red_bowl")[:2] + [0.09, 0.0]
    put(world, "green_cube", [*place, height])
    wait(world)
    assert world.success() == done


def test_the_other_bowl_is_the_wrong_one(world):
    world.reset(BOWL, 6)
    other = next(item.name for item in world.scene.items if item.kind == "bowl" and item.colour != "red")
    put(world, "green_cube", [*where(world, other)[:2], 0.035])
    wait(world)
    assert not world.success()


@pytest.mark.parametrize(("distance", "rotation", "done"), [(0.11, None, True), (0.16, None, False), (0.11, STANDING, False)])
def test_the_cup_is_pushed_when_it_stands_beside_the_bowl(world, distance, rotation, done):
    world.reset(CUP, 2)
    place = where(world, "red_bowl")[:2] + [-distance, 0.0]
    put(world, "red_cup", [*place, 0.0 if rotation is None else 0.04], rotation or Rotation.identity())
    wait(world, 0.4)
    assert world.success() == done


@pytest.mark.parametrize(("lower", "upper", "done"), [("green_cube", "red_cube", True), ("red_cube", "green_cube", False), ("other", "red_cube", False)])
def test_the_red_cube_is_stacked_on_the_green_one_alone(world, lower, upper, done):
    world.reset(STACK, 4)
    lower = next(item.name for item in world.scene.items if item.colour not in ("red", "green")) if lower == "other" else lower
    put(world, upper, where(world, lower) + [0, 0, 0.0455])
    wait(world)
    assert world.success() == done


@pytest.mark.parametrize(("share", "done"), [(0.5, False), (0.8, True)])
def test_the_drawer_is_open_at_seventy_percent_of_its_way(world, share, done):
    world.reset(DRAWER, 1)
    world.data.qpos[world.model.joint("drawer").qposadr[0]] = share * DRAWER_TRAVEL_M
    wait(world, 0.05)
    assert world.success() == done


def test_a_button_that_is_merely_down_has_not_been_pressed_hard(world):
    for task, done in (("press the red button", True), (HARD, False)):
        world.reset(task, 0)
        for _ in range(400):
            world.data.qfrc_applied[world.model.joint("red_button").dofadr[0]] = 40.0
            world.step(np.zeros(7))
        assert world.success() == done


def test_another_object_that_has_been_moved_is_the_wrong_one(world):
    world.reset(MUG, 0)
    cube = next(item.name for item in world.scene.items if item.kind == "cube")
    put(world, cube, where(world, cube) + [0.0, 0.06, 0.0])
    wait(world, 0.1)
    assert world.truth()["failure"] == f"wrong object: {cube}" and not world.success()


@pytest.mark.parametrize("instruction", TASKS)
def test_doing_nothing_is_neither_success_nor_failure(world, instruction):
    world.reset(instruction, 5, "all")
    wait(world, 1.0)
    truth = world.truth()
    assert not (truth["success"] or truth["failure"] or truth["reached"] or truth["dropped"])


# --- the operator -------------------------------------------------------------------------------------------------------


def run(world, rig, instruction, seed, variation="none", disturb=None, latency=0, ticks=300):
    """Seconds until success, or None; `disturb(tick, truth)` may do something to the world before each tick."""
    world.reset(instruction, seed, variation)
    rollout, operator, late = Rollout(world, rig), Operator(instruction, seed, tremor_m=0.002), [np.zeros(7)] * latency
    for tick in range(ticks):
        if world.success():
            return tick / rig.rates.policy_hz
        if disturb is not None:
            disturb(tick, world.truth())
        late.append(operator.act(world.truth()))
        rollout.apply(late.pop(0))
    return None


@pytest.mark.parametrize("instruction", TASKS)
def test_the_operator_does_every_task(world, rig, instruction):
    assert run(world, rig, instruction, 10_001) is not None, world.truth()["failure"]
    assert world.truth()["reached"] and not world.truth()["dropped"]
    json.dumps(world.truth())  # it goes over the control socket


@pytest.mark.parametrize("instruction", [MARKER, CUP, DRAWER])
def test_the_operator_does_it_in_every_variation_at_once_and_two_ticks_late(world, rig, instruction):
    assert run(world, rig, instruction, 10_002, "all", latency=2) is not None, world.truth()["failure"]


@pytest.mark.parametrize(("instruction", "name"), [(BOWL, "green_cube"), (STACK, "red_cube"), (MARKER, "marker")])
def test_what_is_knocked_out_of_the_hand_is_fetched_again(world, rig, instruction, name):
    seen = []

    def knock(tick, truth):
        if not seen and truth["objects"][name][2] > 0.08:
            seen.append(tick)
            start = world.scene.item(name).position
            put(world, name, [start[0] + 0.01, start[1] - 0.01, 0.03])
        elif seen and tick == seen[0] + 1:
            assert truth["dropped"] and truth["reached"] and not truth["success"]

    assert run(world, rig, instruction, 10_003, disturb=knock) is not None
    assert seen


def test_the_same_seed_gives_the_same_episode(world, rig):
    ends = []
    for _ in range(2):
        run(world, rig, DRAWER, 10_004, "all")
        ends.append(world.data.qpos.copy())
    np.testing.assert_array_equal(*ends)


def test_commands_that_lead_a_joint_beyond_its_range_lose_that_part_alone():
    truth = {
        "joint_positions": [0.0] * 7, "joint_range": [[-1.0] * 7, [1.0] * 7],
        "jacobian": np.eye(6, 7).tolist(),
    }  # fmt: skip
    free = np.array([0.01, 0.0, 0.0, 0.0, 0.0, 0.02])
    np.testing.assert_array_equal(within_joint_range(free, truth), free)
    truth["joint_positions"][5] = 1.0 - JOINT_MARGIN_RAD - 0.01
    np.testing.assert_allclose(within_joint_range(free, truth), [0.01, 0, 0, 0, 0, 0], atol=1e-4)
    back = -free
    np.testing.assert_array_equal(within_joint_range(back, truth), back)
