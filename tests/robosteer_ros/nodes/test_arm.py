"""The arm's node: one commander at a time, commands of every kind, services, and what it tells. How the arm follows is tested
with both robots, in `hardware/arm`."""

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from robosteer_core.errors import UserError
from robosteer_core.evaluation.failure import REFUSALS
from robosteer_core.rig import load_rig
from robosteer_core.runtime.chunk import integrate_deltas
from robosteer_core.runtime.clock import rig_clock
from robosteer_core.runtime.json_lines import Refused
from robosteer_core.runtime.lab_link import LabLink
from robosteer_ros.graph import arm_messages as wire
from robosteer_ros.graph import qos
from robosteer_ros.graph.arm_link import GraphArm
from robosteer_ros.graph.messages import Stamps, pose_message, values_of
from robosteer_ros.ros import (
    Parameter,
    create_node,
    diagnostic_msgs,
    geometry_msgs,
    rcl_interfaces,
    rosgraph_msgs,
    std_msgs,
    std_srvs,
    tf2_msgs,
)

Array = diagnostic_msgs.msg.DiagnosticArray
MS = 1_000_000
RIGHT = (0, 0.008, 0, 0, 0, 0.02)


def test_one_source_commands_and_the_others_look_on(arm, graph_arms, tracking, chunk):
    other = graph_arms("teleop")
    with tracking() as clock:
        with pytest.raises(Refused, match=r"another process commands the arm \(policy\)"):
            other.send(chunk(other.state(), clock, RIGHT))
        with pytest.raises(Refused, match="moving"):
            other.start()
        assert other.state().mode == "tracking"
    with pytest.raises(Refused, match="start it first"):
        arm.keep()


def test_a_stop_by_anybody_brings_the_arm_to_rest_and_stays_until_a_recovery(arm, graph_arms, rig, lab):
    lab.reset("press the red button", 0)
    arm.start()
    graph_arms("user").stop()
    assert arm.status()["motion"] is None
    for move in (arm.start, arm.home):
        with pytest.raises(Refused, match="stopped and stays so until it is recovered"):
            move()
    arm.recover()
    arm.home()
    arm.rest()
    np.testing.assert_allclose(arm.state().joint_positions, rig.arm.home_joint_positions_rad, atol=0.01)


@pytest.fixture
def tell(caller):
    """`tell(topic, message)` publishes on a topic of the arm's and returns the first answer: level and words."""
    publishers, answers, news = {}, [], threading.Condition()

    def hear(message):
        with news:
            answers.append(message)
            news.notify()

    heard = caller.create_subscription(diagnostic_msgs.msg.DiagnosticArray, wire.ANSWERS, hear, qos.STATES)

    def tell(topic, message):
        if topic not in publishers:
            publishers[topic] = caller.create_publisher(type(message), topic, qos.STATES)
            wait_until(lambda: publishers[topic].get_subscription_count() and heard.get_publisher_count())
        answers.clear()
        publishers[topic].publish(message)
        with news:
            assert news.wait_for(lambda: any(answer.header == message.header for answer in answers), 30)
        return next((answer.status[0].level, answer.status[0].message) for answer in answers if answer.header == message.header)

    yield tell
    for publisher in publishers.values():
        caller.destroy_publisher(publisher)
    caller.destroy_subscription(heard)


def wait_until(condition, timeout_s=30):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "did not come about"
        time.sleep(0.01)


OK = (b"\x00", "")


def test_a_twist_carries_the_arm_for_200_ms_and_no_longer(arm, tracking, tell, rig):
    stamps = Stamps(rig)
    with tracking() as clock:
        start = arm.state().commanded.position
        for _ in range(6):
            twist = geometry_msgs.msg.TwistStamped(header=wire.header(rig, stamps, clock.now_ns()))
            twist.twist.linear.y = 0.05
            assert tell("arm/policy/twist", twist) == OK
            clock.sleep_until_ns(clock.now_ns() + 100 * MS)
        moving = arm.state()
        clock.sleep_until_ns(clock.now_ns() + 150 * MS)
        held = arm.state()
        clock.sleep_until_ns(clock.now_ns() + 200 * MS)
        still = arm.state()
    np.testing.assert_allclose(moving.commanded.position - start, [0, 0.03, 0], atol=0.001)
    np.testing.assert_allclose(held.commanded.position - moving.commanded.position, [0, 0.005, 0], atol=0.001)
    assert (moving.mode, held.mode) == ("tracking", "holding") and abs(moving.gripper - still.gripper) < 1e-3
    np.testing.assert_allclose(still.commanded.position, held.commanded.position, atol=1e-9)


def test_a_pose_is_reached_straight_and_bad_ones_are_refused_in_words(arm, tracking, tell, rig):
    stamps, before = Stamps(rig), Counter(arm.status()["interventions"])
    with tracking() as clock:
        goal = arm.state().commanded.moved(np.array([0.02, -0.01, 0.01, 0, 0, 0.1]))

        def pose(at=goal, age_ms=0, frame=None):
            head = wire.header(rig, stamps, clock.now_ns() - age_ms * MS)
            head.frame_id = frame or head.frame_id
            return tell("arm/policy/pose", geometry_msgs.msg.PoseStamped(header=head, pose=pose_message(at)))

        assert pose() == OK
        clock.sleep_until_ns(clock.now_ns() + 190 * MS)
        reached = arm.state().commanded
        no_rotation, no_number = replace(goal, quaternion=np.zeros(4)), replace(goal, position=goal.position * np.nan)
        refusals = [pose(age_ms=5000), pose(frame="world"), pose(no_rotation), pose(no_number)]
        assert pose(goal.moved(np.array([0.3, 0, 0, 0, 0, 0]))) == OK  # only the tick knows where the command is
        clock.sleep_until_ns(clock.now_ns() + 20 * MS)
        np.testing.assert_allclose(arm.state().commanded.position, reached.position, atol=1e-6)
    np.testing.assert_allclose(reached.delta_to(goal), 0, atol=2e-3)
    words = (
        "stale: the command is 5.000 s old, and hold_after_s is 0.2",
        "malformed: a command is given in fr3_link0, found frame 'world'",
        "malformed: quaternion 2 of 2 has length 0, expected 1", "non_finite: pose 1 of 2",
    )  # fmt: skip
    for (level, message), expected in zip(refusals, words, strict=True):
        assert level == b"\x02" and message.startswith(expected)
    counted = Counter(arm.status()["interventions"]) - before
    assert {name: counted[name] for name in REFUSALS} == {
        "stale": 1, "malformed": 2, "non_finite": 1, "step": 1, "reordered": 0, "future": 0
    }  # fmt: skip


def test_the_hand_is_commanded_while_nobody_moves_the_arm(arm, caller, lab):
    lab.reset("press the red button", 0)
    widths = []
    heard = caller.create_subscription(std_msgs.msg.Float64, wire.WIDTH, lambda message: widths.append(message.data), qos.STATES)
    publisher = caller.create_publisher(std_msgs.msg.Float64, "gripper/command", qos.STATES)
    wait_until(lambda: publisher.get_subscription_count() and widths)
    for width_m in (0.08, 0.0):
        publisher.publish(std_msgs.msg.Float64(data=width_m))
        wait_until(lambda: abs(widths[-1] - width_m) < 0.005, 60)  # noqa: B023
    caller.destroy_publisher(publisher)
    caller.destroy_subscription(heard)


def test_states_and_diagnostics_come_at_rest_too(arm, caller):
    heard, counts = [], Counter()
    others = {wire.STATUS: Array, wire.CLOCK: rosgraph_msgs.msg.Clock, wire.TRANSFORMS: tf2_msgs.msg.TFMessage}
    for topic, kind in (wire.STATE_TOPICS | others).items():
        profile = qos.CLOCK if topic == wire.CLOCK else qos.STATES
        heard.append(caller.create_subscription(kind, topic, lambda message, topic=topic: counts.update([topic]), profile))
    told = {}
    heard.append(caller.create_subscription(Array, wire.DIAGNOSTICS, lambda message: told.update({message.status[0].name: message}), 10))
    wait_until(lambda: len(counts) == 7 and min(counts.values()) >= 20 and {"arm", "gripper"} <= told.keys())
    for each in heard:
        caller.destroy_subscription(each)
    assert {"late_ticks", "setpoints", "command_age_ms"} <= values_of(told["arm"]).keys() and "width_m" in values_of(told["gripper"])


def test_a_node_that_is_killed_in_mid_motion_leaves_the_arm_at_rest_and_the_next_one_moves_nothing(
    new_rig, start_lab, start_node, caller
):  # fmt: skip
    path = new_rig()
    rig, words = load_rig(path), ("-r", "__ns:=/second")
    node = create_node("caller", namespace="/second")
    caller.executor.add_node(node)
    with start_lab(path), LabLink(rig.lab.control, "test") as lab:
        with start_node("arm", path, *words) as process:
            arm = GraphArm(node, rig, "user", patience_s=90)
            lab.reset("press the red button", 0, hold=True)
            clock = rig_clock(rig, "policy")
            arm.start()
            steps = np.tile([0, 0.006, 0, 0, 0, 0, 0], (60, 1))
            arm.send(integrate_deltas(arm.state().commanded, steps, clock.now_ns() + 66 * MS, 66 * MS))
            clock.sleep_until_ns(clock.now_ns() + 150 * MS)
            before = np.array(lab.truth()["end_effector"])
            process.kill()
            process.wait()
            clock.sleep_until_ns(clock.now_ns() + 1000 * MS)
            rested = np.array(lab.truth()["end_effector"])
            clock.close()
            with pytest.raises(UserError, match="look at the log of its node"):
                arm.state()
            arm.close()
        assert np.linalg.norm(rested - before) < 0.03, "a hand at 0.09 m/s that brakes"
        with start_node("arm", path, *words):
            arm = GraphArm(node, rig, "user", patience_s=90)
            assert arm.state().mode in ("idle", "fault")
            restarted_ns = lab.now_ns()
            wait_until(lambda: lab.now_ns() > restarted_ns + 500 * MS, 120)
            np.testing.assert_allclose(lab.truth()["end_effector"], rested, atol=1e-3)
            arm.close()
    caller.executor.remove_node(node)
    node.destroy_node()


def test_faster_than_0_25_m_per_s_is_a_policy_that_was_tried_alone(new_rig, start_lab, start_node, caller):
    path = new_rig(limits={"max_speed_m_per_s": 0.5})
    rig, words = load_rig(path), ("-r", "__ns:=/fast")
    node = create_node("caller", namespace="/fast")
    caller.executor.add_node(node)
    client = node.create_client(rcl_interfaces.srv.SetParameters, "arm/set_parameters")

    def metres_before_it_holds(source):
        lab.reset("press the red button", 0, hold=True)
        clock = rig_clock(rig, "policy")
        arms[source].start()
        start = arms[source].state().commanded
        arms[source].send(integrate_deltas(start, np.tile([0, 0.025, 0, 0, 0, 0, 0], (8, 1)), clock.now_ns() + 50 * MS, 50 * MS))
        clock.sleep_until_ns(clock.now_ns() + 400 * MS)
        moved = arms[source].state().commanded.position[1] - start.position[1]
        clock.close()
        arms[source].release()
        arms[source].rest()
        return moved

    with start_lab(path), LabLink(rig.lab.control, "test") as lab, start_node("arm", path, *words):
        arms = {source: GraphArm(node, rig, source, patience_s=90) for source in ("policy", "teleop")}
        slow = {source: metres_before_it_holds(source) for source in arms}
        given = Parameter("full_speed", value=True).to_parameter_msg()
        (result,) = client.call(rcl_interfaces.srv.SetParameters.Request(parameters=[given]), 60).results
        assert result.successful, result.reason
        fast = {source: metres_before_it_holds(source) for source in arms}
        for arm in arms.values():
            arm.close()
    caller.executor.remove_node(node)
    node.destroy_node()
    hold_after_s = rig.limits.hold_after_s + 1 / rig.rates.setpoint_hz
    for moved in (*slow.values(), fast["teleop"]):
        assert 0.04 < moved <= 0.25 * hold_after_s
    assert 1.3 * slow["policy"] < fast["policy"] <= 0.5 * hold_after_s


def test_the_command_line_asks_the_node(arm, rig_file, lab):
    lab.reset("press the red button", 0)
    arm.start()

    def ask(action, *more):
        words = [sys.executable, "-m", "robosteer_core.cli", "arm", action, *more]
        return subprocess.run(words, capture_output=True, text=True, timeout=120)

    assert ask("stop").returncode == 0  # whoever is in a hurry names no rig
    for more, refusal in {(): "say of which rig the arm is: --rig RIG", ("--rig", "panda_lab"): "runs already, for rig"}.items():
        refused = ask("recover", *more)
        assert refused.returncode == 2 and refusal in refused.stderr, refused.stderr
    assert json.loads(ask("status").stdout)["latched"]
    assert ask("recover", "--rig", str(rig_file)).returncode == 0
    assert not arm.status()["latched"]
    nobody = ask("status", "--rig", str(rig_file), "--namespace", "elsewhere")
    start = f"no arm node answers at /elsewhere/arm/report; start one with `robosteer up {rig_file} --only arm`"
    assert nobody.returncode == 2 and start in nobody.stderr


def test_guiding_comes_with_the_arm_at_rest_and_its_buttons_free(arm, caller, lab):
    lab.reset("press the red button", 0)
    guide = caller.create_client(std_srvs.srv.SetBool, "arm/guide")
    assert guide.wait_for_service(30)
    arm.start()
    answer = guide.call(std_srvs.srv.SetBool.Request(data=True), timeout_sec=60)
    assert answer.success and "press the two buttons" in answer.message and arm.status()["motion"] is None
    before = np.array(lab.truth()["end_effector"])
    assert lab.guide(True, (0.0, 8.0, 0.0)) == "guiding"
    wait_until(lambda: np.linalg.norm(np.array(lab.truth()["end_effector"]) - before) > 0.005)
    with pytest.raises(Refused, match="mode Guiding, not Idle"):
        arm.start()
    lab.guide(False)
    assert guide.call(std_srvs.srv.SetBool.Request(data=False), timeout_sec=60).success
    caller.destroy_client(guide)
