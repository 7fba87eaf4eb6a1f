"""Set-points through the arm's node, its driver and the FCI to the simulated arm, in lockstep."""

import numpy as np
import pytest

from robosteer_core.runtime.chunk import ActionChunk
from robosteer_core.runtime.json_lines import Refused
from robosteer_core.runtime.runner import tick_ns

MS = 1_000_000
DOWN, RIGHT = (0, 0, -0.01, 0, 0, 0), (0, 0.004, 0, 0, 0, 0.01)


@pytest.fixture(scope="module")
def rig_file(new_arm_rig):
    """An arm that may be pushed onto the table at speed."""
    return new_arm_rig(
        arm={"collision_force_n": 500.0, "collision_torque_nm": 250.0}, limits={"max_force_n": 500.0, "max_moment_nm": 250.0}
    )


def ticks(clock, count, hz=15):
    """The policy's next `count` ticks."""
    start_ns = clock.now_ns()
    for tick in range(1, count + 1):
        yield clock.sleep_until_ns(tick_ns(start_ns, tick, hz))


def modes_since(arm, start_ns):
    return [(entry["stamp_ns"], entry["mode"]) for entry in arm.status()["modes"] if entry["stamp_ns"] >= start_ns]


def test_the_arm_follows_and_two_runs_are_identical(arm, tracking, chunk):
    def run():
        rows = []
        with tracking() as clock:
            for number, now_ns in enumerate(ticks(clock, 24)):
                state = arm.state()
                assert state.mode == "tracking" and abs(state.stamp_ns - now_ns) <= 1, "of now, whatever the set-points' grid"
                arm.send(chunk(state, clock, RIGHT, gripper=float(number > 6)))
                rows.append([*state.measured.position, *state.measured.quaternion, *state.commanded.position,
                             *state.joint_positions, *state.force, state.gripper])  # fmt: skip
        return np.array(rows)

    first, second = run(), run()
    np.testing.assert_array_equal(first, second)
    moved, lag = first[-1, :3] - first[0, :3], first[:, 7:10] - first[:, :3]
    np.testing.assert_allclose(first[-1, 7:10] - first[0, 7:10], [0, 23 * 0.004, 0], atol=1e-9)
    np.testing.assert_allclose(moved, [0, 23 * 0.004, 0], atol=0.012)
    assert np.linalg.norm(lag, axis=1).max() < 0.02
    assert first[0, -1] < 0.05 and first[-1, -1] > 0.9
    status = arm.status()
    assert status["late_ticks"] == 0 and status["interventions"] == {}


def test_an_acknowledged_chunk_is_in_force_at_the_next_set_point(arm, tracking, chunk):
    with tracking() as clock:
        clock.sleep_until_ns(clock.now_ns() + 100 * MS)
        before = arm.state()
        arm.send(chunk(before, clock, DOWN))
        clock.sleep_until_ns(clock.now_ns() + 11 * MS)
        after = arm.state()
    assert after.commanded.position[2] < before.commanded.position[2] - 0.001


def test_without_set_points_it_holds_after_200_ms_and_stops_after_1_s(arm, tracking, chunk):
    with tracking() as clock:
        start_ns = clock.now_ns()
        arm.send(chunk(arm.state(), clock, DOWN, count=30))
        clock.sleep_until_ns(start_ns + 300 * MS)
        held = arm.state()
        clock.sleep_until_ns(start_ns + 900 * MS)
        still = arm.state()
        clock.sleep_until_ns(start_ns + 1100 * MS)
        last_chunk_ns = arm.status()["last_chunk_ns"]
        with pytest.raises(Refused, match="stopped .no set-point for 1000 ms.: start it first"):
            arm.send(chunk(arm.state(), clock, DOWN))
    assert held.mode == "holding"
    np.testing.assert_array_equal(held.commanded.position, still.commanded.position)
    np.testing.assert_allclose(held.measured.position, still.measured.position, atol=0.004)
    (_, *changes) = [(stamp_ns - last_chunk_ns, mode) for stamp_ns, mode in modes_since(arm, start_ns)]
    assert changes == [(200 * MS, "holding"), (1000 * MS, "stopped")]
    assert arm.state().mode == "stopped"


def test_a_fresh_chunk_ends_a_hold_and_an_assertion_of_an_old_one_does_not(arm, tracking, chunk):
    with tracking() as clock:
        start_ns = clock.now_ns()
        arm.send(chunk(arm.state(), clock, DOWN))
        clock.sleep_until_ns(start_ns + 250 * MS)
        arm.keep()
        clock.sleep_until_ns(start_ns + 300 * MS)
        assert arm.state().mode == "holding"
        arm.send(chunk(arm.state(), clock, DOWN))
        clock.sleep_until_ns(start_ns + 350 * MS)
        assert arm.state().mode == "tracking"


def test_a_living_sender_may_let_a_long_chunk_play(arm, tracking, chunk):
    with tracking() as clock:
        start = arm.state()
        arm.send(chunk(start, clock, DOWN, count=9))
        for _ in ticks(clock, 10):
            arm.keep()
        end = arm.state()
    assert end.mode == "tracking"
    assert end.commanded.position[2] - start.commanded.position[2] == pytest.approx(-0.09, abs=1e-6)


def test_limits_come_last_and_are_counted(arm, tracking, chunk, rig):
    before = arm.status()["interventions"]
    heights, stamps = [], []
    with tracking() as clock:
        for now_ns in ticks(clock, 24):
            state = arm.state()
            arm.send(chunk(state, clock, (0, 0, -0.03, 0, 0, 0)))
            heights.append(state.commanded.position[2])
            stamps.append(now_ns / 1e9)
        force = arm.state().force
    speeds = np.abs(np.diff(heights) / np.diff(stamps))
    # A tick of the policy covers six or seven set-points; each obeys the limit.
    assert speeds.max() <= rig.limits.max_speed_m_per_s * 70 / 66
    assert min(heights) >= rig.limits.workspace.low_m[2]
    counted = {name: count - before.get(name, 0) for name, count in arm.status()["interventions"].items()}
    assert counted["speed"] > 0 and counted["workspace"] > 0
    # Pressed against the table the spring is bounded: at most the stiffness times the largest lead.
    assert np.linalg.norm(force) < 1.3 * rig.arm.translational_stiffness_n_per_m * rig.limits.max_distance_m


def test_a_jump_is_refused_at_the_tick_and_the_arm_stays(arm, tracking, chunk):
    refused = arm.status()["interventions"].get("step", 0)
    with tracking() as clock:
        start = arm.state()
        arm.send(chunk(start, clock, (0, 0.2, 0, 0, 0, 0)))
        clock.sleep_until_ns(clock.now_ns() + 100 * MS)
        np.testing.assert_array_equal(arm.state().commanded.position, start.commanded.position)
    assert arm.status()["interventions"]["step"] == refused + 1


def test_nothing_but_numbers_reaches_the_arm(arm, tracking, chunk):
    with tracking() as clock:
        good = chunk(arm.state(), clock, DOWN)
        for bad in (np.nan, np.inf):
            with pytest.raises(Refused, match="non_finite"):
                arm.send(ActionChunk(good.stamps_ns, good.positions * bad, good.quaternions, good.gripper))


def test_set_points_go_on_while_the_gripper_blocks(arm, tracking, chunk):
    before = arm.status()
    widths, busy = [], 0
    with tracking() as clock:
        start_ns = clock.now_ns()
        for _ in ticks(clock, 20):
            state = arm.state()
            arm.send(chunk(state, clock, gripper=1.0))
            widths.append(state.gripper)
            busy += arm.status()["gripper"]["busy"]
        robot_ms = (clock.now_ns() - start_ns) / 1e6
    after = arm.status()
    assert after["gripper"]["commands"] == before["gripper"]["commands"] + 1 and after["gripper"]["error"] is None
    # The command blocked for most of that time, and the width was seen to change meanwhile.
    assert busy >= 8 and len({round(width, 3) for width in widths if 0.05 < width < 0.95}) >= 5
    assert after["setpoints"] - before["setpoints"] >= robot_ms / 10 - 1
    assert after["late_ticks"] == before["late_ticks"]


def test_home_is_a_slow_way_that_can_be_stopped(arm, rig):
    arm.home()
    with pytest.raises(Refused, match="moving"):
        arm.start()
    arm.release()
    arm.rest()
    assert arm.state().mode == "idle"
    arm.home()
    arm.rest()
    np.testing.assert_allclose(arm.state().joint_positions, rig.arm.home_joint_positions_rad, atol=0.01)
