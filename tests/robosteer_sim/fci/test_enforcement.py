"""Every limit, broken on purpose by a client that answers from Python: named as the robot names it, recovered from, and over.

pylibfranka hands each command on as it is; franky plans within limits. A process of its own per client: both bring a libfranka.
"""

import json
import subprocess
import sys

import pytest

TASK = "press the red button"

CLIENT = """
import json, sys
import numpy as np
import pylibfranka as fci

def blend(share):
    x = min(max(share, 0.0), 1.0)
    return x**3 * (10 - 15 * x + 6 * x**2)

def ramp(acceleration, jerk, cycles):
    speed = np.cumsum(np.minimum(acceleration, jerk * 0.001 * np.arange(1, cycles + 1))) * 0.001
    return np.concatenate([np.zeros(5), speed])

def joint(number, values):
    return [value * np.eye(7)[number - 1] for value in values]

def moved(state, direction, distance, turned=0.0):
    pose = np.array(state.O_T_EE_c).reshape(4, 4).T
    pose[:3, 3] += distance * np.array(direction, float)
    c, s = np.cos(turned), np.sin(turned)
    pose[:3, :3] = pose[:3, :3] @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    return pose.ravel(order="F")

def positions(number, speeds, offset=0.0):
    return lambda state, cycle: (np.array(state.q_d) + (offset + 0.001 * speeds[: cycle + 1].sum()) * np.eye(7)[number - 1])

def poses(direction, speeds, offset=0.0):
    return lambda state, cycle: moved(state, direction, offset + 0.001 * speeds[: cycle + 1].sum())

def turns(speeds):
    return lambda state, cycle: moved(state, (0, 0, 0), 0.0, 0.001 * speeds[: cycle + 1].sum())

def listed(values):
    return lambda state, cycle: values[min(cycle, len(values) - 1)]

still, step = np.zeros(1000), np.concatenate([np.zeros(20), np.full(20, 0.2), np.zeros(960)])
# 2.5 rad within a cycle.
jump, Z = np.concatenate([np.zeros(20), [2500.0], np.zeros(979)]), (0, 0, 1)
CASES = {
    "joint_position_motion_generator_start_pose_invalid": ("joint_position", positions(1, still, 0.2)),
    "joint_motion_generator_position_limits_violation": ("joint_position", positions(7, jump)),
    "joint_motion_generator_velocity_limits_violation": ("joint_position", positions(7, ramp(9.5, 4000, 900))),
    "joint_motion_generator_velocity_discontinuity at the end": ("joint_position", positions(7, ramp(2.0, 3000, 300)), 200),
    "joint_motion_generator_acceleration_discontinuity at the end": ("joint_velocity", listed(joint(7, ramp(2.0, 3000, 300))), 200),
    "cartesian_motion_generator_velocity_discontinuity at the end": ("cartesian_pose", poses(Z, ramp(0.5, 500, 300)), 200),
    "joint_motion_generator_velocity_discontinuity": ("joint_position", positions(7, step)),
    "joint_motion_generator_acceleration_discontinuity": ("joint_position", positions(7, ramp(9.0, 6500, 60))),
    "joint_motion_generator_acceleration_discontinuity of velocities": ("joint_velocity", listed(joint(7, step))),
    "joint_motion_generator_velocity_limits_violation of velocities": ("joint_velocity", listed(joint(7, ramp(9.5, 4000, 900)))),
    "cartesian_position_motion_generator_start_pose_invalid": ("cartesian_pose", poses(Z, still, 0.1)),
    "cartesian_motion_generator_velocity_limits_violation": ("cartesian_pose", turns(ramp(8.0, 2000, 500))),
    "cartesian_motion_generator_velocity_discontinuity": ("cartesian_pose", poses(Z, step)),
    "cartesian_motion_generator_acceleration_discontinuity": ("cartesian_pose", poses(Z, ramp(8.0, 5000, 60))),
    "cartesian_motion_generator_acceleration_discontinuity of velocities":
        ("cartesian_velocity", listed([value * np.eye(6)[2] for value in step])),
    "cartesian_motion_generator_joint_velocity_discontinuity": ("cartesian_pose", poses(Z, ramp(6.0, 1000, 60))),
    "cartesian_motion_generator_joint_acceleration_discontinuity": ("cartesian_pose", poses(Z, ramp(3.0, 3000, 60))),
    "cartesian_motion_generator_joint_velocity_limits_violation": ("cartesian_pose", poses((-1, 0, 0), ramp(1.0, 300, 900))),
    "controller_torque_discontinuity": ("torque", listed(joint(7, np.concatenate([np.zeros(20), np.full(20, 3.0)])))),
    "tau_J_range_violation": ("torque", lambda state, cycle: np.array([0, 0, 0, 0, 0, 0, 0.5 * cycle])),
    "joint_velocity_violation": ("torque", lambda state, cycle: np.array([0, 0, 0, 0, 0, 0, min(0.05 * cycle, 8.0)])),
    "": ("joint_position", lambda state, cycle: np.array(state.q_d) + 0.1 * blend(cycle / 500)),
    " of velocities": ("joint_velocity", lambda state, cycle: 0.1 * (blend(cycle / 200) - blend(cycle / 200 - 1)) * np.ones(7)),
    " of torques": ("torque", lambda state, cycle: np.zeros(7)),
    " of poses": ("cartesian_pose", lambda state, cycle: moved(state, Z, 0.05 * blend(cycle / 500))),
    " of twists": ("cartesian_velocity", lambda state, cycle: 0.05 * (blend(cycle / 200) - blend(cycle / 200 - 1)) * np.eye(6)[2]),
}

def run(robot, interface, motion, cycles=20000):
    mode = fci.ControllerMode.JointImpedance
    begin, command = {
        "joint_position": (lambda: robot.start_joint_position_control(mode), fci.JointPositions),
        "joint_velocity": (lambda: robot.start_joint_velocity_control(mode), fci.JointVelocities),
        "cartesian_pose": (lambda: robot.start_cartesian_pose_control(mode), fci.CartesianPose),
        "cartesian_velocity": (lambda: robot.start_cartesian_velocity_control(mode), fci.CartesianVelocities),
        "torque": (robot.start_torque_control, fci.Torques),
    }[interface]
    control, first = begin(), None
    for cycle in range(cycles):
        state, _ = control.readOnce()
        first = first or state
        sent = command(np.asarray(motion(first, cycle), float).tolist())
        sent.motion_finished = cycle == cycles - 1
        control.writeOnce(sent)

robot = fci.Robot(sys.argv[1], fci.RealtimeConfig.kIgnore)
robot.set_collision_behavior([100.0] * 7, [100.0] * 7, [100.0] * 6, [100.0] * 6)
for line in sys.stdin:
    name = json.loads(line)
    conforming = not name or name.startswith(" ")
    try:
        run(robot, *CASES[name], *((600,) if conforming else ()))
        found = ""
    except Exception as error:
        found = str(error)
    mode = robot.read_once().robot_mode.name
    # At rest for as long as an arm that has run into the end of a joint's range takes to turn back and forth.
    calm = 0
    while calm < 100:
        calm = calm + 1 if np.abs(robot.read_once().dq).max() < 0.01 else 0
    moved_by = []
    if not conforming:
        try:
            robot.automatic_error_recovery()
            after = np.array(robot.read_once().q_d)
            run(robot, "joint_position", lambda state, cycle: np.array(state.q_d) - 0.05 * blend(cycle / 300), 400)
            moved_by = (np.array(robot.read_once().q_d) - after).tolist()
        except Exception as error:
            moved_by = str(error)
    print(json.dumps({"error": found, "mode": mode, "moved_by": moved_by}), flush=True)
"""

VIOLATIONS = [line.split('"')[1] for line in CLIENT.splitlines() if line.startswith('    "') and line[5] not in ' "']


@pytest.fixture(scope="module")
def client(lab):
    """A function that has the client run a case and gives what came of it."""
    process = subprocess.Popen(
        [sys.executable, "-c", CLIENT, lab.host], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )

    def run(name):
        print(json.dumps(name), file=process.stdin, flush=True)
        return json.loads(process.stdout.readline())

    yield run
    process.kill()
    process.wait()


@pytest.mark.parametrize("name", VIOLATIONS)
def test_a_violated_limit_is_named_recovered_from_and_over(client, link, name):
    link.reset(TASK, 0)
    outcome = client(name)
    expected = name.partition(" ")[0]
    assert f'["{expected}"]' in outcome["error"]
    assert outcome["mode"] == "Reflex"
    assert ("Motion finished commanded, but the robot is still moving!" in outcome["error"]) == name.endswith("at the end")
    assert outcome["moved_by"] == pytest.approx([-0.05] * 7, abs=1e-3)


@pytest.mark.parametrize("interface", ["", " of velocities", " of torques", " of poses", " of twists"])
def test_a_motion_within_the_limits_runs_to_its_end(client, link, interface):
    link.reset(TASK, 0)
    assert client(interface) == {"error": "", "mode": "Idle", "moved_by": []}
