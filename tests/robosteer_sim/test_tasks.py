"""The grammar of tasks and the scenes drawn for them."""

import numpy as np
import pytest

from robosteer_core.errors import UserError
from robosteer_sim.placement import PLACEMENT_HIGH_M, PLACEMENT_LOW_M
from robosteer_sim.tasks import SEPARATION_M, STACKS, TASKS, paraphrases, parse, sample_scene


def test_an_instruction_names_verb_colour_and_object():
    task = parse("Press the red button")
    assert (task.verb, task.colour, task.kind) == ("press", "red", "button")
    assert task.instruction == "press the red button"


@pytest.mark.parametrize("text", ["fry the egg", "press the red cube", "press the pink button", ""])
def test_an_unknown_task_is_refused_with_the_grammar(text):
    with pytest.raises(UserError, match="press the <colour> button"):
        parse(text)


def test_cubes_of_any_two_colours_are_stacked_and_one_pair_is_a_task_of_the_lab():
    assert len(set(STACKS)) == 12 and set(STACKS) & set(TASKS) == {"stack the red cube on the green cube"}
    assert parse("put the blue cube on the red cube").instruction == "stack the blue cube on the red cube"
    assert all(parse(other).instruction == text for text in STACKS for other in paraphrases(text))
    scene = sample_scene("stack the blue cube on the yellow cube", 3)
    assert [item.name for item in scene.items[:2]] == ["blue_cube", "yellow_cube"] and scene.items[2].kind == "cube"


def test_the_same_seed_gives_the_same_scene_and_another_seed_another():
    assert sample_scene("push the blue cube", 4) == sample_scene("push the blue cube", 4)
    assert sample_scene("push the blue cube", 4) != sample_scene("push the blue cube", 5)


def test_neither_colour_nor_kind_alone_tells_the_target():
    for seed in range(30):
        scene = sample_scene("touch the green button", seed)
        assert sum(item.kind == "button" for item in scene.items) == 2
        assert len({item.name for item in scene.items}) == len(scene.items)


def test_objects_lie_apart_and_inside_the_30_by_30_cm_of_the_table():
    positions = np.array([[item.position for item in sample_scene("press the red button", seed).items] for seed in range(100)])
    assert np.all(positions >= PLACEMENT_LOW_M) and np.all(positions <= PLACEMENT_HIGH_M)
    assert np.allclose(PLACEMENT_HIGH_M - PLACEMENT_LOW_M, 0.30)
    for scene in positions:
        distances = np.linalg.norm(scene[:, None] - scene[None], axis=-1)[np.triu_indices(len(scene), 1)]
        assert distances.min() >= SEPARATION_M
    # Anywhere: the target of a hundred scenes comes close to every side.
    targets = positions[:, 0]
    assert np.all(targets.min(0) < PLACEMENT_LOW_M + 0.03) and np.all(targets.max(0) > PLACEMENT_HIGH_M - 0.03)
