"""Faults that the lab puts on: what the arm's node reports of them, within which time, and how it goes on."""

import re
import time

import pytest

from robosteer_core.runtime.json_lines import Refused

TICK_NS = 66_666_667


@pytest.fixture(autouse=True)
def sound(lab, arm):
    """No fault outlives its test."""
    yield
    lab.clear()
    recover(arm)


@pytest.fixture
def steps(arm, chunk):
    """A function that sends one small movement per tick: `steps(clock, count, gripper)`; what the arm refuses is raised."""

    def send(clock, count, gripper=0.0, delta=(0.0, 0.0, 0.003, 0.0, 0.0, 0.0)):
        for _ in range(count):
            arm.send(chunk(arm.state(), clock, delta, gripper=gripper))
            clock.sleep_until_ns(clock.now_ns() + TICK_NS)

    return send


@pytest.fixture
def goes_on(arm, tracking, steps, hand_until):
    """A function that recovers the arm and sees it move and its hand open."""

    def check():
        recover(arm)
        assert arm.status()["mode"] == "idle" and arm.status()["last_error"] is None
        with tracking() as clock:
            before = arm.state().measured.position[2]
            steps(clock, 15, gripper=1.0)
            assert arm.state().measured.position[2] > before + 0.03
            hand_until(clock, 1.0, lambda hand: hand["width_m"] > 0.07 and hand["error"] is None)

    return check


@pytest.fixture
def hand_until(arm, steps):
    """A function that commands the hand until its status is as wanted: `hand_until(clock, gripper, lambda hand: ...)`."""

    def send(clock, gripper, wanted, most=60):
        for _ in range(most):
            if wanted(arm.status()["gripper"]):
                return
            steps(clock, 1, gripper, delta=(0.0,) * 6)
        raise AssertionError(f"after {most} ticks: {arm.status()['gripper']}")

    return send


def recover(arm):
    if arm.status()["mode"] == "fault":
        arm.recover()


def wait_for(condition, timeout_s=10.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.005)


@pytest.mark.parametrize(
    ("kind", "parameters", "words"),
    [
        ("reflex", {"error": "cartesian_reflex"}, "^cartesian_reflex: "),
        ("reflex", {"error": "power_limit_violation"}, "^power_limit_violation: "),
        ("drop", {"states": 25}, "^communication_constraints_violation: "),
        ("drop", {"commands": 25}, "^communication_constraints_violation: "),
        ("delay", {"cycles": 25}, "^communication_constraints_violation: "),
        ("freeze", {}, "no new state of the robot for 200 ms: its network connection or the robot is down"),
        ("disconnect", {}, "no new state of the robot for 200 ms: its network connection or the robot is down"),
    ],
)
def test_a_fault_in_mid_motion_is_named_in_time_and_after_recovery_the_arm_moves(
    arm, lab, tracking, steps, goes_on, kind, parameters, words
):
    """In time: libfranka may take a second of wall time to tell, in which the lab gets on by many."""
    with tracking() as clock:
        steps(clock, 5)
        at_ns = clock.now_ns()
        lab.fault(kind, **parameters)
        with pytest.raises(Refused, match="the arm is fault"):
            steps(clock, 20)
        lab.clear()
    status = arm.status()
    assert status["mode"] == "fault" and re.search(words, status["last_error"])
    assert status["modes"][-1]["stamp_ns"] - at_ns <= 500e6
    with pytest.raises(Refused, match="recover it before it may start"):
        arm.start()
    goes_on()


@pytest.mark.parametrize("lost", [{"states": 10}, {"commands": 10}])
def test_a_few_lost_packets_are_no_fault_and_show_in_the_success_rate(arm, lab, tracking, steps, lost):
    with tracking() as clock:
        steps(clock, 5)
        assert arm.status()["success_rate"] == 1.0
        lab.fault("drop", **lost)
        steps(clock, 1)
        assert 0.85 <= arm.status()["success_rate"] <= 0.95 and arm.status()["mode"] == "tracking"
        steps(clock, 2)
        assert arm.status()["success_rate"] == 1.0


def test_states_keep_the_time_of_the_rig_when_the_robots_clock_jumps(arm, lab, tracking, steps):
    with tracking() as clock:
        steps(clock, 3)
        lab.fault("clock_jump", milliseconds=60_000)
        for _ in range(40):
            clock.sleep_until_ns(clock.now_ns() + 3_000_000)
            assert abs(arm.state().stamp_ns - clock.now_ns()) < 15e6
        steps(clock, 3)
        assert arm.status()["mode"] == "tracking"


def test_a_robot_that_stays_silent_is_not_recovered_and_says_so(arm, lab, rig, arm_model, tracking, steps, goes_on):
    with tracking() as clock:
        steps(clock, 3)
        lab.fault("freeze")
        with pytest.raises(Refused, match="no new state"):
            steps(clock, 20)
        if arm_model == "panda":
            # libfranka 0.9 waits for the robot's word on the end of the motion, for as long as the robot is there.
            time.sleep(1.5)
            assert (arm.status()["mode"], arm.status()["motion"]) == ("fault", "track")
            lab.clear()
    if arm_model == "panda":
        goes_on()
        return
    assert arm.status()["last_error"].startswith("libfranka: UDP receive: Timeout; no new state of the robot")
    began = time.monotonic()
    with pytest.raises(Refused, match=f"no robot at {rig.arm.address}.*no answer"):
        arm.recover()
    assert time.monotonic() - began < 8.0
    lab.clear()
    goes_on()


def test_the_user_stop_is_reported_and_nothing_moves_before_it_is_released(arm, lab, tracking, steps, goes_on):
    with tracking() as clock:
        steps(clock, 3)
        lab.fault("user_stop")
        with pytest.raises(Refused, match="the arm is fault"):
            steps(clock, 20)
    status = arm.status()
    assert status["mode"] == "fault" and re.search("(?i)user.?stop", status["last_error"])
    with pytest.raises(Refused, match="mode is UserStopped|(?i:user.?stop)"):
        arm.recover()
    assert arm.status()["mode"] == "fault"
    lab.fault("user_stop", pressed=False)
    goes_on()


def test_the_user_stop_pressed_at_rest_refuses_the_start(arm, lab, goes_on):
    lab.fault("user_stop")
    wait_for(lambda: arm.status()["robot_mode"] == "UserStopped")
    with pytest.raises(Refused, match="mode UserStopped, not Idle; release it"):
        arm.start()
    lab.clear("user_stop")
    wait_for(lambda: arm.status()["robot_mode"] == "Idle")
    goes_on()


def test_a_reflex_while_nothing_moves_is_a_fault_with_its_name(arm, lab, goes_on):
    lab.fault("reflex", error="joint_velocity_violation")
    wait_for(lambda: arm.status()["mode"] == "fault")
    assert arm.status()["last_error"].startswith("joint_velocity_violation: ")
    goes_on()


def test_a_stuck_hand_is_reported_and_works_again_when_it_is_free(arm, lab, tracking, steps, hand_until):
    with tracking() as clock:
        lab.fault("gripper_stuck")
        steps(clock, 10, gripper=1.0)
        gripper = arm.status()["gripper"]
        assert "did not open: the hand reports failure at a width of 0.000 m" in gripper["error"] and not gripper["busy"]
        assert arm.status()["mode"] == "tracking", "the arm goes on"
        lab.clear()
        steps(clock, 4, gripper=0.0)
        hand_until(clock, 1.0, lambda hand: hand["width_m"] > 0.07 and hand["error"] is None)


def test_a_lost_object_is_reported(arm, lab, tracking, steps, hand_until):
    with tracking() as clock:
        hand_until(clock, 1.0, lambda hand: hand["width_m"] > 0.01)
        hand_until(clock, 0.0, lambda hand: hand["grasped"])  # as configured, any width counts
        lab.fault("gripper_lost_object")
        steps(clock, 3, gripper=0.0)
        assert arm.status()["gripper"]["error"] == "the gripper has lost what it held"
        hand_until(clock, 1.0, lambda hand: hand["width_m"] > 0.07 and hand["error"] is None)


@pytest.mark.parametrize("busy", [False, True])
def test_a_lost_hand_costs_a_second_is_reported_and_is_found_by_the_next_start(arm, lab, tracking, steps, goes_on, busy):
    with tracking() as clock:
        steps(clock, 3, gripper=1.0 if busy else 0.0)
        assert arm.status()["gripper"]["busy"] == busy
        lab.fault("gripper_disconnect")
        began = time.monotonic()
        steps(clock, 15, gripper=1.0 if busy else 0.0)
        assert time.monotonic() - began < 10.0, "each look at a lost hand would cost a second"
        assert "is lost: " in arm.status()["gripper"]["error"] and arm.status()["mode"] == "tracking"
    goes_on()
