"""The lab as a Gymnasium environment."""

import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from robosteer_core.errors import UserError
from robosteer_sim.operator import Operator
from robosteer_sim.tasks import sample_scene

NAME = "robosteer_sim.environment:robosteer/Lab-v0"
TASK = "press the red button"


@pytest.fixture
def make():
    opened = []

    def open_one(**arguments):
        opened.append(gymnasium.make(NAME, **{"images": False, **arguments}))
        return opened[-1]

    yield open_one
    for environment in opened:
        environment.close()


def play(environment, seed, ticks=180, **options):
    """The scripted operator's episode: rewards, how it ended, and the path of the end effector."""
    observation, info = environment.reset(seed=seed, options=options or None)
    operator, rewards, path = Operator(observation["instruction"], seed, 0.002), [], []
    for _ in range(ticks):
        observation, reward, terminated, truncated, info = environment.step(operator.act(info).astype(np.float32))
        rewards.append(reward)
        path.append(observation["state"])
        if terminated or truncated:
            break
    return rewards, (terminated, truncated), info, np.array(path)


def test_gymnasiums_own_check_passes(make):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*Box observation space.*")  # bounds are wide on purpose
        warnings.filterwarnings("ignore", message=".*we recommend using a symmetric and normalized.*")  # metres and radians
        check_env(make(images=True, render_mode="rgb_array").unwrapped)


def test_reward_comes_once_at_success_which_ends_the_episode(make):
    rewards, ended, info, _ = play(make(task=TASK), seed=3)
    assert sum(rewards) == rewards[-1] == 1.0 and ended == (True, False)
    assert info["success"] and info["refused"] is None


def test_a_seed_is_a_scene_as_everywhere_and_gives_the_same_episode_again(make):
    environment = make(task=TASK)
    first = play(environment, seed=5)
    _, info = environment.reset(seed=5)
    assert (info["task"], info["seed"], info["variation"]) == (TASK, 5, "none")
    for item in sample_scene(TASK, 5).items:
        assert np.allclose(info["objects"][item.name][:2], item.position)
    again = play(environment, seed=5)
    assert np.array_equal(first[3], again[3])


def test_a_reset_names_another_task_and_variation(make):
    _, info = make(task=TASK).reset(seed=1, options={"task": "touch the blue cube", "variation": "lighting+start", "scene": 8})
    assert (info["task"], info["variation"], info["seed"]) == ("touch the blue cube", "lighting+start", 8)


def test_doing_nothing_runs_out_of_time(make):
    environment = make(task=TASK)
    environment.reset(seed=0)
    for tick in range(1, 1000):
        _, reward, terminated, truncated, _ = environment.step(np.zeros(7, np.float32))
        if terminated or truncated:
            break
    assert (tick, reward, terminated, truncated) == (180, 0.0, False, True)


def test_images_are_those_of_the_rigs_cameras(make):
    environment = make(images=True, render_mode="rgb_array")
    observation, _ = environment.reset(seed=2)
    assert {name: image.shape for name, image in observation["images"].items()} == {"front": (480, 640, 3), "wrist": (480, 640, 3)}
    assert np.array_equal(environment.render(), observation["images"]["front"]) and observation["images"]["wrist"].std() > 5


def test_a_chunk_is_executed_tick_by_tick(make):
    environment = make(task=TASK, chunk=4, executed=3)
    environment.reset(seed=0)
    start = environment.unwrapped._arm.now_ns()
    actions = np.tile(np.float32([0.005, 0, 0, 0, 0, 0, 0]), (4, 1))
    environment.step(actions)
    assert environment.unwrapped._arm.now_ns() - start == 200_000_000


def test_an_action_that_is_not_finite_is_refused_and_ends_the_episode(make):
    environment = make(task=TASK).unwrapped
    environment.reset(seed=0)
    _, reward, terminated, _, info = environment.step(np.full(7, np.nan, np.float32))
    assert terminated and reward == 0.0 and "non_finite" in info["refused"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": "sing"}, "unknown task 'sing'"),
        ({"variation": "fog"}, "unknown variation 'fog'"),
        ({"rig": "nowhere"}, "no rig file"),
        ({"chunk": 0}, "at least one action"),
        ({"chunk": 2, "executed": 3}, "at least one action"),
    ],
)
def test_what_is_unknown_is_refused_when_it_is_made(arguments, message):
    with pytest.raises(UserError, match=message):
        gymnasium.make(NAME, **arguments)


def test_wrong_shapes_and_options_are_refused(make):
    environment = make().unwrapped
    with pytest.raises(UserError, match="reset the environment"):
        environment.step(np.zeros(7))
    with pytest.raises(UserError, match="found colour"):
        environment.reset(options={"colour": 1})
    environment.reset(seed=0)
    with pytest.raises(UserError, match=r"expected an action of shape \(7,\), found \(3,\)"):
        environment.step(np.zeros(3))


def test_processes_of_their_own_give_what_one_process_gives(make):
    vector = gymnasium.make_vec(
        NAME, num_envs=2, vectorization_mode="async", images=False, task=TASK,
        vector_kwargs={"context": "spawn", "shared_memory": False},
    )  # fmt: skip
    try:
        observations, _ = vector.reset(seed=[3, 4])
        assert list(observations["instruction"]) == [TASK, TASK]
        step = np.tile(np.float32([0.01, 0, -0.01, 0, 0, 0, 0]), (2, 1))
        states = vector.step(step)[0]["state"]
    finally:
        vector.close()
    environment = make(task=TASK)
    for number, seed in enumerate((3, 4)):
        environment.reset(seed=seed)
        assert np.array_equal(environment.step(step[0])[0]["state"], states[number])
