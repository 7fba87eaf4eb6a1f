"""The loop of a running policy, on a clock that is only a number."""

from types import SimpleNamespace

import numpy as np
import pytest

from robosteer_core.rig import load_rig
from robosteer_core.runtime.observation import ArmState, Observation
from robosteer_core.runtime.pose import Pose
from robosteer_core.runtime.runner import EXECUTED, PolicyRunner, last_tick, tick_ns

MS = 1_000_000
START = Pose(np.array([0.5, 0.0, 0.3]), np.array([1.0, 0.0, 0.0, 0.0]))
ACTIONS = np.tile([0.01, 0, 0, 0, 0, 0, 1.0], (8, 1))


class Clock:
    def __init__(self):
        self.time_ns = 0

    def now_ns(self):
        return self.time_ns

    def sleep_until_ns(self, stamp_ns):
        self.time_ns = max(self.time_ns, stamp_ns)
        return self.time_ns


class Arm:
    """Notes when it heard what."""

    def __init__(self, clock):
        self.clock, self.chunks, self.kept = clock, [], []

    def state(self):
        return ArmState(self.clock.time_ns, START, START, np.zeros(7), np.zeros(6), 0.0, "tracking")

    def send(self, chunk):
        self.chunks.append((self.clock.time_ns, chunk))

    def keep(self):
        self.kept.append(self.clock.time_ns)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def arm(clock):
    return Arm(clock)


@pytest.fixture
def runner(clock, arm):
    """A function that makes a runner on the lab's rig or, without a lab, on one of a real arm."""

    def make(act=lambda observation: ACTIONS, lab=True):
        rig = load_rig("lab")
        rig = rig if lab else rig.model_copy(update={"lab": None})
        observe = lambda stamp_ns, instruction: Observation(stamp_ns, {}, arm.state(), instruction)  # noqa: E731
        return PolicyRunner(rig, clock, arm, observe, act)

    return make


def run(runner, seconds=1.0, finished=lambda: False):
    return runner.run("press the red button", seconds, finished, lambda observation: None)


def test_every_third_tick_decides_and_the_others_say_that_the_loop_lives(runner, arm):
    statistics = run(runner())
    assert statistics.ticks == 15 and len(arm.chunks) == 5 and len(arm.kept) == 10
    assert EXECUTED == 3 and statistics.late_ticks == 0
    # The watchdog never waits longer than from one tick to the next, plus what inference is charged.
    heard = sorted([time for time, _ in arm.chunks] + arm.kept)
    assert max(np.diff(heard)) <= (67 + 40) * MS


def test_actions_start_one_tick_after_what_they_answer_to_and_integrate_on_the_command(runner, arm):
    run(runner())
    sent, chunk = arm.chunks[1]
    assert sent == 240 * MS, "40 ms of robot time are charged after the tick at 200 ms"
    assert chunk.stamps_ns[0] == 267 * MS
    np.testing.assert_allclose(chunk.positions[:, 0], 0.5 + 0.01 * np.arange(1, 9))
    np.testing.assert_allclose(chunk.quaternions, np.tile(START.quaternion, (8, 1)))


def test_on_a_real_arm_time_is_what_the_clock_says(runner, arm):
    run(runner(lab=False))
    assert [time for time, _ in arm.chunks] == [0, 200 * MS, 400 * MS, 600 * MS, 800 * MS]


def test_a_slow_policy_misses_ticks_but_neither_falls_behind_nor_runs_longer(runner, clock, arm):
    def slow(observation):
        clock.time_ns += 300 * MS
        return ACTIONS

    statistics = run(runner(slow, lab=False), seconds=3.0)
    assert statistics.late_ticks > 0 and statistics.ticks + statistics.late_ticks <= 45
    assert clock.time_ns <= 3300 * MS
    # Each chunk answers to a tick that is no older than the inference, so that there is something left of it to play.
    assert all(chunk.stamps_ns[-1] > time for time, chunk in arm.chunks)


def test_the_last_tick_is_found_on_the_grid():
    for now_ns in range(0, 500 * MS, 7 * MS):
        tick = last_tick(0, now_ns, 15.0)
        assert tick_ns(0, tick, 15.0) <= now_ns < tick_ns(0, tick + 1, 15.0)


def test_it_ends_at_the_tick_at_which_the_task_is_over(runner, arm):
    statistics = run(runner(), finished=lambda: len(arm.chunks) == 2)
    assert statistics.ticks == 5 and len(arm.chunks) == 2


def test_statistics_tell_the_age_of_the_frame_at_the_command_and_the_skew_of_the_stamps(runner, clock, arm):
    make = runner()

    def observe(stamp_ns, instruction):
        frames = {name: SimpleNamespace(stamp_ns=stamp_ns - age_ms * MS) for name, age_ms in (("front", 12), ("wrist", 30))}
        return Observation(stamp_ns, frames, arm.state(), instruction)

    make._observe = observe
    statistics = run(make)
    assert statistics.skew_ms == [30.0] * 15, "from the older frame to the state, which is of now"
    assert statistics.frame_age_ms == [70.0] * 5, "30 ms at the tick, 40 ms of inference are charged"
    assert statistics.lateness_ms == [0.0] * 15
    told = statistics.summary()
    assert (told["rate_hz"], told["frame_age_ms_median"], told["late_ticks_percent"]) == (pytest.approx(15, abs=0.02), 70.0, 0.0)


def test_a_hold_stands_where_the_command_is_and_keeps_the_gripper(runner, clock, arm):
    make = runner(lambda observation: ACTIONS * [1, 1, 1, 1, 1, 1, 0.25])
    run(make, seconds=0.4)
    make.hold()
    sent, chunk = arm.chunks[-1]
    assert sent == 334 * MS
    np.testing.assert_array_equal(chunk.positions, np.tile(START.position, (len(chunk), 1)))
    assert set(chunk.gripper) == {0.25} and chunk.stamps_ns[0] > sent
    assert clock.time_ns == sent + 2 * 66_666_666, "it stays until the arm stands"


def test_nothing_is_held_where_nothing_was_commanded(runner, arm):
    runner().hold()
    assert not arm.chunks and not arm.kept
