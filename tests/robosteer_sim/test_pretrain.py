"""Pretraining at its smallest size: one episode, four steps."""

import json

import numpy as np
import pytest
import torch

from robosteer_core.errors import UserError
from robosteer_core.rig import load_rig
from robosteer_core.vla.config import Normalisation, PolicyConfig
from robosteer_core.vla.small import IMAGE_SIZE, INSTRUCTION_TOKENS, new_policy
from robosteer_sim.pretrain import INSTRUCTIONS, OBJECTS, ROUND, collect, train
from robosteer_sim.pretrain.run import _claim, pretrain
from robosteer_sim.tasks import TASKS, paraphrases, parse


@pytest.fixture(scope="module")
def shard(tmp_path_factory):
    """One episode on disk: the fifth of a round."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collect, "EPISODES_PER_SHARD", 1)
        path = tmp_path_factory.mktemp("shards") / "shard_0000.npz"
        collect._shard(load_rig("lab"), path, 4, 5, IMAGE_SIZE, 1_000_000)
    return path


@pytest.fixture(scope="module")
def shards(shard):
    return train.Shards([shard], ("front", "wrist"))


def policy(shards):
    rig = load_rig("lab")
    return new_policy(
        PolicyConfig(
            family="pi0", cameras=("front", "wrist"), image_size=IMAGE_SIZE, state_names=rig.state_names,
            action_names=rig.action_space.names, action_hz=15, instruction_tokens=INSTRUCTION_TOKENS, flow_steps=5,
            state=Normalisation.of(shards.state), action=Normalisation.of(shards.action),
        ),
        seed=0,
    )  # fmt: skip


def test_what_the_experiments_teach_is_new_and_its_objects_are_known():
    tasks = {parse(instruction) for instruction in INSTRUCTIONS}
    new = {"press the red button", *TASKS} - {"open the drawer", "stack the red cube on the green cube"}
    assert len(tasks) == 25 and {task.verb for task in tasks} == {"touch", "open", "stack"}
    assert len(new) == 7 and not tasks & {parse(task) for task in new}
    assert not any("press" in wording for instruction in INSTRUCTIONS for wording in paraphrases(instruction))
    assert {parse(task).kind for task in new} <= {kind for kind, _ in OBJECTS}


def test_every_instruction_has_its_place_in_a_round():
    assert set(ROUND) == set(range(len(INSTRUCTIONS)))


def test_an_episode_holds_images_states_and_steps_toward_its_target(shards):
    assert INSTRUCTIONS[shards.instruction[0]] == "touch the red button" and OBJECTS[shards.objects[0, 0]] == ("button", "red")
    there = shards.objects[0] >= 0
    assert there.sum() >= 3 and len(set(shards.objects[0][there])) == there.sum() and not shards.places[:, ~there].any()
    assert shards.images["front"].shape == (len(shards), IMAGE_SIZE, IMAGE_SIZE, 3)
    distances = np.linalg.norm(shards.state[:, :2] - shards.places[:, 0, :2], axis=1)
    assert distances[-1] < 0.02 < distances[0]
    assert np.abs(shards.action[:, :3]).max() < 0.02


def test_ticks_close_to_the_target_are_drawn_less_often(shards):
    rows = shards.draw(4000, np.random.default_rng(0))
    far = np.linalg.norm(shards.state[:, :2] - shards.places[:, 0, :2], axis=1) > train.NEAR_M
    expected = far.sum() / (far.sum() + train.NEAR_WEIGHT * (~far).sum())
    assert far[rows].mean() == pytest.approx(expected, abs=0.03) and far.mean() < expected


def test_a_chunk_holds_its_episodes_last_action_beyond_the_end_and_never_the_next_episodes(shard, tmp_path):
    """The actions of a chunk see each other, so what is masked in the loss is seen all the same."""
    with np.load(shard) as whole:
        rows = {key: whole[key][:12] for key in whole.files}
    rows["episode"] = np.repeat([7, 9], 6)
    np.savez(tmp_path / "two.npz", **rows)
    two = train.Shards([tmp_path / "two.npz"], ("front", "wrist"))
    actions, valid = two.chunks(np.array([0, 4, 10]), 8)
    assert valid.sum(1).tolist() == [6, 2, 2]
    assert (actions[1] == two.action[[4, 5, 5, 5, 5, 5, 5, 5]]).all() and (actions[2, 2:] == two.action[11]).all()


def test_objects_are_named_without_their_colour_only_where_that_says_which(shards):
    small, red = policy(shards), OBJECTS.index(("mug", "red"))
    wordings, random = train.Wordings(small), np.random.default_rng(0)
    colour = small.tokenizer(["red"])[0][0, 1]
    coloured = {alone: [colour in wordings.name(np.array([red]), np.array([alone]), random)[0] for _ in range(40)] for alone in (True, False)}
    assert all(coloured[False]) and 5 < sum(coloured[True]) < 35


def test_a_killed_training_goes_on_to_the_same_weights(shards, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "SAVE_EVERY", 2)
    torch.set_num_threads(1)
    whole = policy(shards)
    (tmp_path / "a").mkdir()
    train.train(whole, shards, tmp_path / "a", 4, seed=0)

    losses, calls = train._losses, iter(range(99))

    def killed(*arguments):
        if next(calls) == 3:
            raise KeyboardInterrupt
        return losses(*arguments)

    (tmp_path / "b").mkdir()
    monkeypatch.setattr(train, "_losses", killed)
    with pytest.raises(KeyboardInterrupt):
        train.train(policy(shards), shards, tmp_path / "b", 4, seed=0)
    monkeypatch.setattr(train, "_losses", losses)
    resumed = policy(shards)
    train.train(resumed, shards, tmp_path / "b", 4, seed=0)
    for (name, one), (_, other) in zip(whole.named_parameters(), resumed.named_parameters(), strict=True):
        assert torch.equal(one, other), name
    with pytest.raises(UserError, match="at step 4 of 4, its learning rate on the way down; found 8 steps; expected 4, or another --work"):
        train.train(resumed, shards, tmp_path / "b", 8, seed=0)


def test_steps_may_be_added_until_the_rate_goes_down():
    rates = {steps: [train._rate(step, steps) for step in range(steps)] for steps in (1000, 2000)}
    assert rates[1000][:700] == rates[2000][:700] and rates[1000][720] < rates[2000][720] and rates[1000][-1] < 0.03 * max(rates[1000])


def test_a_folder_of_another_pretraining_is_refused_before_anything_is_made(tmp_path):
    rig, work = load_rig("lab"), tmp_path / "work"
    work.mkdir()
    (work / "settings.json").write_text('{"episodes": 23, "seed": 0}')
    with pytest.raises(UserError, match="another episodes 23, rig None; choose another --work"):
        pretrain(rig, tmp_path / "base", work, 24, 9, 1, 0, 1, print)
    assert [path.name for path in work.iterdir()] == ["settings.json"] and not (tmp_path / "base").exists()


def test_the_folder_of_a_version_whose_rigs_had_another_key_goes_on(tmp_path):
    rig, work = load_rig("lab"), tmp_path / "work"
    work.mkdir()
    older = rig.model_dump(mode="json")
    older["arm"]["command_address"] = "127.0.0.1:1341"
    (work / "settings.json").write_text(json.dumps({"episodes": 24, "seed": 0, "rig": older}))
    _claim(work / "settings.json", {"episodes": 24, "seed": 0, "rig": rig.model_dump(mode="json")})
    older["arm"]["address"] = "127.0.0.9"
    (work / "settings.json").write_text(json.dumps({"episodes": 24, "seed": 0, "rig": older}))
    with pytest.raises(UserError, match="a pretraining with another rig"):
        _claim(work / "settings.json", {"episodes": 24, "seed": 0, "rig": rig.model_dump(mode="json")})
