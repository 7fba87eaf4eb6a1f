"""10,000 random and adversarial commands over the graph, through the real controller to the lab's robot: whatever comes, what
reaches the arm is inside the limits."""

import threading
from collections import Counter

import numpy as np
import pytest

from robosteer_core.runtime.clock import rig_clock
from robosteer_core.runtime.json_lines import Refused
from robosteer_core.runtime.lab_link import LabLink
from robosteer_ros import ros
from robosteer_ros.graph import arm_messages as wire
from robosteer_ros.graph.arm_link import GraphArm
from robosteer_ros.graph.messages import Stamps, base_frame, hand_frame, pose_message
from robosteer_ros.hardware.arm.franky_driver import FrankyDriver
from robosteer_ros.nodes import arm as arm_module
from robosteer_ros.ros import (
    MultiThreadedExecutor,
    QoSProfile,
    builtin_interfaces,
    create_node,
    diagnostic_msgs,
    geometry_msgs,
    trajectory_msgs,
)

COMMANDS, PER_TICK = 10_000, 20
MS = 1_000_000
EVERY = QoSProfile(depth=1000)
BAD = (np.nan, np.inf, -np.inf, 1e308, -1e9, 5.0, 0.0)
Stamped = {"pose": geometry_msgs.msg.PoseStamped, "twist": geometry_msgs.msg.TwistStamped}


class WatchedDriver(FrankyDriver):
    """The real one; notes what goes to the arm: pose (7,), twist (6,), and where the hand was measured (3,)."""

    def begin_tracking(self, pose):
        self.sessions.append([])
        super().begin_tracking(pose)

    def track(self, pose, twist):
        row = np.concatenate([pose.position, pose.quaternion, twist, self.measured])
        self.sessions[-1].append(row)
        super().track(pose, twist)

    def read(self):
        reading = super().read()
        self.measured = reading.end_effector.position
        return reading


class Hostile:
    """Makes commands: some sound ones, which lead to the walls at any speed, and everything that can be wrong with one."""

    def __init__(self, rig, seed):
        self.rig, self.stamps, self.random = rig, Stamps(rig), np.random.default_rng(seed)
        self.made, self.headers = Counter(), 0
        self.heading = np.zeros(3)

    def header(self, stamp_ns, spoilt):
        frame = self.random.choice(["", "world", "fr3_link8"]) if spoilt == "frame" else base_frame(self.rig)
        late_ms = {"stale": -10_000, "future": 3_600_000, "old": -150}.get(spoilt, 0)
        # No two headers alike, so that each command has its answer.
        self.headers += 1
        message = wire.header(self.rig, self.stamps, max(0, int(stamp_ns) + late_ms * MS) + self.headers)
        message.frame_id = str(frame)
        if spoilt == "no stamp":
            message.stamp = builtin_interfaces.msg.Time(nanosec=self.headers)
        return message

    def value(self, spoilt, good):
        return float(self.random.choice(BAD)) if spoilt == "value" and self.random.random() < 0.4 else float(good)

    def pose(self, state, spoilt, scale):
        delta = np.append(scale * self.random.normal(self.heading, 1.0), self.random.normal(0, 2 * scale, 3))
        message = pose_message(state.commanded.moved(delta))
        for part in (message.position, message.orientation):
            for axis in "xyzw"[: 3 if part is message.position else 4]:
                setattr(part, axis, self.value(spoilt, getattr(part, axis)))
        if spoilt == "quaternion":
            message.orientation = geometry_msgs.msg.Quaternion(x=0.0, y=0.0, z=0.0, w=float(self.random.choice([0.0, 1e-9, 3.0])))
        return message

    def messages(self, state, now_ns):
        """(topic, message) of one command of any kind."""
        kind = self.random.choice(["chunk", "chunk", "pose", "twist", "keep"])
        spoilt = self.random.choice(["", "", "", "value", "frame", "stale", "future", "old", "no stamp", "quaternion", "length", "order"])
        self.made[f"{kind} {spoilt}".strip()] += 1
        scale = 10.0 ** self.random.uniform(-3.5, 0)
        if kind == "twist":
            message = geometry_msgs.msg.TwistStamped(header=self.header(now_ns, spoilt))
            for part in (message.twist.linear, message.twist.angular):
                for axis in "xyz":
                    setattr(part, axis, self.value(spoilt, self.random.normal(0, 3 * scale)))
            return [(kind, message)]
        if kind == "pose":
            return [(kind, geometry_msgs.msg.PoseStamped(header=self.header(now_ns, spoilt), pose=self.pose(state, spoilt, scale)))]
        if kind == "keep":
            return [("chunk", trajectory_msgs.msg.MultiDOFJointTrajectory(header=self.header(now_ns, spoilt)))]
        return self.chunk(state, now_ns, spoilt, scale)

    def chunk(self, state, now_ns, spoilt, scale):
        long = spoilt == "length" and self.random.random() < 0.05
        count = int(self.random.integers(600, 3000) if long else self.random.integers(1, 9))
        head = self.header(now_ns + 20 * MS, spoilt)
        poses = trajectory_msgs.msg.MultiDOFJointTrajectory(header=head, joint_names=[hand_frame(self.rig)])
        widths = trajectory_msgs.msg.JointTrajectory(header=head, joint_names=["gripper_width"])
        for number in range(count):
            at = self.pose(state, spoilt, scale)
            place = geometry_msgs.msg.Vector3(x=at.position.x, y=at.position.y, z=at.position.z)
            since_ns = number * 66 * MS * (-1 if spoilt == "order" else 1)
            seconds, nanoseconds = divmod(since_ns, 1_000_000_000)
            time = builtin_interfaces.msg.Duration(sec=int(seconds), nanosec=int(nanoseconds))
            transform = geometry_msgs.msg.Transform(translation=place, rotation=at.orientation)
            poses.points.append(trajectory_msgs.msg.MultiDOFJointTrajectoryPoint(transforms=[transform], time_from_start=time))
            width = self.value(spoilt, self.random.uniform(0, 0.08))
            widths.points.append(trajectory_msgs.msg.JointTrajectoryPoint(positions=[width], time_from_start=time))
        if spoilt == "length":
            widths.points.append(widths.points[0])
        return [("chunk", poses), ("gripper_chunk", widths)]


@pytest.fixture
def graph(rig_file, rig, start_lab, monkeypatch):
    """The arm's node in this process, with a driver that is watched; gives (driver, arm as a source, node of the test)."""
    drivers = []

    def open_arm(arm, limits):
        WatchedDriver.sessions = []
        drivers.append(WatchedDriver(arm, limits))
        return drivers[-1]

    monkeypatch.setattr(arm_module, "open_arm", open_arm)
    with start_lab(rig_file):
        ros.init(args=["test", "--ros-args", "-p", f"rig:={rig_file}"])
        node, caller, executor = arm_module.ArmNode(), create_node("caller"), MultiThreadedExecutor(num_threads=4)
        for each in (node, caller):
            executor.add_node(each)
        spinning = threading.Thread(target=executor.spin)
        spinning.start()
        try:
            assert node.start()
            yield drivers[0], GraphArm(caller, rig, "policy", patience_s=90), caller
        finally:
            node.close()
            executor.shutdown()
            spinning.join()
            for each in (caller, node):
                each.destroy_node()
            ros.try_shutdown()


def test_none_of_10000_hostile_commands_reaches_the_arm_outside_the_limits(rig, graph):
    driver, arm, caller = graph
    hostile, answers, news = Hostile(rig, 0), [], threading.Condition()

    def hear(message):
        with news:
            answers.append(message)
            news.notify()

    caller.create_subscription(diagnostic_msgs.msg.DiagnosticArray, wire.ANSWERS, hear, EVERY)
    kinds = {"chunk": trajectory_msgs.msg.MultiDOFJointTrajectory, "gripper_chunk": trajectory_msgs.msg.JointTrajectory, **Stamped}
    publishers = {
        (source, topic): caller.create_publisher(kind, f"arm/{source}/{topic}", EVERY)
        for source in ("policy", "teleop") for topic, kind in kinds.items()
    }  # fmt: skip
    with LabLink(rig.lab.control, "test") as lab:
        lab.reset("press the red button", 0, hold=True)
        clock = rig_clock(rig, "policy")
        try:
            for tick in range(COMMANDS // PER_TICK):
                if tick % 125 == 0:  # long enough to come to a wall
                    hostile.heading = hostile.random.normal(0, 4, 3)
                state = arm.state()
                if state.mode not in ("tracking", "holding"):
                    # A hand that was led into something is stopped; who commands has to begin anew, and may be refused.
                    clock.close()
                    arm.rest()
                    if state.mode == "fault":  # the robot's own, on a machine too busy to answer it within a second
                        arm.recover()
                    arm.home()
                    arm.rest()
                    clock = rig_clock(rig, "policy")
                    arm.start()
                    state = arm.state()
                taken = len(answers)
                for _ in range(PER_TICK):
                    source = "policy" if hostile.random.random() < 0.9 else "teleop"
                    for topic, message in hostile.messages(state, clock.now_ns()):
                        publishers[source, topic].publish(message)
                with news:
                    assert news.wait_for(lambda: len(answers) >= taken + PER_TICK, 60), f"{len(answers) - taken} of {PER_TICK} answered"
                clock.sleep_until_ns(clock.now_ns() + 10 * MS)
            interventions = arm.status()["interventions"]
        finally:
            clock.close()
            try:
                arm.release()
                arm.rest()
            except Refused:
                pass
    limits, rows, fastest, most = rig.limits, 0, 0.0, 0.0
    for session in driver.sessions:
        path = np.array(session)[1:]  # the first is where the arm was, twice
        position, twist, measured = path[:, :3], path[:, 7:13], path[:, 13:]
        assert np.isfinite(path).all()
        assert (position >= limits.workspace.low_m).all() and (position <= limits.workspace.high_m).all()
        step = np.linalg.norm(np.diff(position, axis=0), axis=1) * rig.rates.setpoint_hz
        change = np.diff(twist, axis=0, prepend=np.zeros((1, 6))) * rig.rates.setpoint_hz
        for values, largest in (
            (step, limits.max_speed_m_per_s), (np.linalg.norm(twist[:, :3], axis=1), limits.max_speed_m_per_s),
            (np.linalg.norm(twist[:, 3:], axis=1), limits.max_angular_speed_rad_per_s),
            (np.linalg.norm(change[:, :3], axis=1), limits.max_acceleration_m_per_s2),
            (np.linalg.norm(change[:, 3:], axis=1), limits.max_angular_acceleration_rad_per_s2),
            (np.linalg.norm(position - measured, axis=1), limits.max_distance_m + 0.005),  # it gives way to the others
        ):  # fmt: skip
            assert values.max(initial=0.0) <= largest * (1 + 1e-6)
        rows, fastest = rows + len(path), max(fastest, step.max(initial=0.0))
        most = max(most, np.linalg.norm(change[:, :3], axis=1).max(initial=0.0))
    refused = [answer.status[0] for answer in answers if answer.status[0].level != diagnostic_msgs.msg.DiagnosticStatus.OK]
    print(f"{rows} set-points in {len(driver.sessions)} sessions, fastest {fastest:.3f} m/s, {most:.1f} m/s^2; "
          f"{len(refused)} refusals, {dict(interventions)}")  # fmt: skip
    assert sum(hostile.made.values()) == COMMANDS and rows > 300
    assert all(status.message for status in refused)
    for limit in ("non_finite", "malformed", "stale", "future", "reordered", "step", "speed", "acceleration", "workspace"):
        assert interventions[limit] > 0, limit
    # It was no arm that stood still: the commands that were let through led it about.
    assert fastest > 0.5 * limits.max_speed_m_per_s and len(refused) < COMMANDS
