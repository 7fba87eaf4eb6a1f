"""The lab's limits beside those of franka-sim, an independent simulator of the FCI: the same motions, the same client.

    python tests/benchmarks/limits_oracle.py --oracle VENV        # VENV: a virtual environment with franka-sim 1.1.x

franka-sim pins an older numpy and MuJoCo, so it lives in an environment of its own; it listens on port 1337 of every
address, so no other lab may run meanwhile. It runs in real time: on a busy machine its cycles are lost, which it takes for
discontinuities; repeat what disagrees on a quiet one. Each motion is a function of robot time, sent by Franka's own binding
(pylibfranka) or by franky; what is compared is which error ends it, if any.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from robosteer_core.runtime.lab_link import LabLink

START = np.array([0.0, -0.785, 0.0, -2.356, 0.0, 1.571, 0.785])
#: The hand's frame, which franka-sim does not know: with it both simulators command the same point.
HAND = np.array([[0.7071068, 0.7071068, 0, 0], [-0.7071068, 0.7071068, 0, 0], [0, 0, 1, 0.1034], [0, 0, 0, 1]])
LAB, ORACLE = "127.0.0.98", "127.0.0.1"
CONTROL = f"{LAB}:1340"
CASE_TIMEOUT_S = 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--oracle", type=Path, help="virtual environment with franka-sim")
    parser.add_argument("--only", default="", help="run the motions whose name contains this")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--host", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(run_case(arguments.host, arguments.case)))
        return
    if not arguments.oracle or not (arguments.oracle / "bin" / "run-franka-sim-server").is_file():
        parser.error(f"--oracle: expected a virtual environment with franka-sim 1.1.x, found {arguments.oracle}")
    names = [name for name in CASES if arguments.only in name]
    found = {}
    for place, server, host in (("lab", lab(), LAB), ("franka-sim", oracle(arguments.oracle), ORACLE)):
        with server:
            for name in names:
                if place == "lab":
                    with LabLink(CONTROL, "benchmark") as link:
                        link.reset("press the red button", 0)  # a motion may have left the arm where it cannot recover from
                found[place, name] = outcome(host, name)
                print(f"{place:10s} {name:32s} {found[place, name]}", file=sys.stderr, flush=True)
    print(f"{'motion':32s} {'the lab':62s} franka-sim")
    for name in names:
        ours, theirs = found["lab", name], found["franka-sim", name]
        print(f"{name:32s} {ours:62s} {'the same' if ours == theirs else theirs}")
    agreeing = sum(found["lab", name] == found["franka-sim", name] for name in names)
    print(f"{agreeing} of {len(names)} motions end alike")


def outcome(host: str, name: str) -> str:
    """How a motion ends, in a process of its own: libfranka's threads and priorities end with it."""
    command = [sys.executable, __file__, "--host", host, "--case", name]
    try:
        finished = subprocess.run(command, capture_output=True, text=True, timeout=CASE_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return "did not end"
    if finished.returncode:
        return "client failed: " + (finished.stderr.strip().splitlines() or ["without a word"])[-1]
    return json.loads(finished.stdout)


# --- the two robots ---------------------------------------------------------------------------------------------------


@contextmanager
def lab() -> Iterator[None]:
    command = [sys.executable, "-m", "robosteer_core.cli", "sim", "serve", "--host", LAB, "--control", CONTROL]
    with served(command, LAB, {}):
        yield


@contextmanager
def oracle(venv: Path) -> Iterator[None]:
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "fr3.xml"
        write_arm(model)
        command = [str(venv / "bin" / "run-franka-sim-server"), "--enforce-motion-limits", "--enforce-comm-constraints", "--no-gripper"]
        with served(command, ORACLE, {"FR3_MJCF": str(model)}, before=ahead_of_others):
            yield


@contextmanager
def served(command: list[str], host: str, environment: dict[str, str], before: Callable | None = None) -> Iterator[None]:
    server = subprocess.Popen(
        command, env=os.environ | environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=before
    )
    try:
        deadline = time.monotonic() + 60
        while not listening(host):
            if server.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{command[0]} did not come up on {host}:1337")
            time.sleep(0.2)
        yield
    finally:
        server.terminate()
        server.wait()


def ahead_of_others() -> None:
    """Where it may, as root: franka-sim runs at wall time, and libfranka's own thread takes the highest priority."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(98))
    except PermissionError:
        pass


def listening(host: str) -> bool:
    """Asked without connecting: franka-sim takes whoever connects for its client."""
    with socket.socket() as probe:
        try:
            probe.bind((host, 1337))
        except OSError:
            return True
    return False


def write_arm(path: Path) -> None:
    """The arm of franky-sim's model without the hand, as franka-sim expects it."""
    assets = Path(importlib.util.find_spec("franky_sim").origin).parent / "assets"
    tree = ElementTree.parse(assets / "fr3.xml")
    root = tree.getroot()
    root.find("compiler").set("meshdir", str(assets / "meshes"))
    for body in list(root.iter("body")):
        for child in list(body):
            if child.get("name") == "hand":
                body.remove(child)
    for tag in ("tendon", "equality", "actuator", "keyframe", "contact"):
        for element in root.findall(tag):
            root.remove(element)
    tree.write(path)


# --- one motion -------------------------------------------------------------------------------------------------------


def run_case(host: str, name: str) -> str:
    interface, motion = CASES[name]
    try:
        if interface == "franky":
            through_franky(host, motion)
        else:
            through_pylibfranka(host, interface, motion)
    except Exception as error:  # the bindings raise kinds of their own, franky some that share no other base
        names = re.search(r'\["(.*?)"\]', str(error).partition("\n")[0])
        return names[1].replace('"', "") if names else f"{type(error).__name__}: {error}".partition("\n")[0][:60]
    return "done"


def through_pylibfranka(host: str, interface: str, motion: Callable) -> None:
    import pylibfranka as fci

    robot = fci.Robot(host, fci.RealtimeConfig.kIgnore)
    try:
        robot.automatic_error_recovery()
    except fci.CommandException:
        pass  # Nothing to recover from.
    if np.allclose(robot.read_once().F_T_EE, np.eye(4).ravel(), atol=1e-6):
        robot.set_EE(HAND.ravel(order="F").tolist())
    thresholds = [100.0] * 7, [100.0] * 6
    robot.set_collision_behavior(thresholds[0], thresholds[0], thresholds[1], thresholds[1])
    here = np.array(robot.read_once().q_d)
    seconds = max(2.0, 4.0 * np.abs(START - here).max())
    stream(robot, fci, "joint_position", lambda t, _: (here + blend(t / seconds) * (START - here), t >= seconds))
    stream(robot, fci, interface, motion)


def stream(robot, fci, interface: str, motion: Callable) -> None:
    """Send `motion(t, first state)` -> (command, whether it is the last one) of robot time t, every cycle."""
    mode = fci.ControllerMode.JointImpedance
    begin, command = {
        "joint_position": (lambda: robot.start_joint_position_control(mode), fci.JointPositions),
        "joint_velocity": (lambda: robot.start_joint_velocity_control(mode), fci.JointVelocities),
        "cartesian_pose": (lambda: robot.start_cartesian_pose_control(mode), fci.CartesianPose),
        "cartesian_velocity": (lambda: robot.start_cartesian_velocity_control(mode), fci.CartesianVelocities),
        "torque": (robot.start_torque_control, fci.Torques),
    }[interface]
    control, first, t = begin(), None, 0.0
    while True:
        state, duration = control.readOnce()
        first = first or state
        t += duration.to_sec()
        values, last = motion(t, first)
        sent = command(np.asarray(values, float).tolist())
        sent.motion_finished = bool(last)
        control.writeOnce(sent)
        if last:
            return


def through_franky(host: str, motion: Callable) -> None:
    import franky

    robot = franky.Robot(host, realtime_config=franky.RealtimeConfig.Ignore)
    robot.recover_from_errors()
    if np.allclose(robot.state.F_T_EE.matrix, np.eye(4), atol=1e-6):
        robot.set_ee(HAND.ravel(order="F").tolist())
    robot.set_collision_behavior([100.0] * 7, [100.0] * 6)
    robot.move(franky.JointMotion(START.tolist(), relative_dynamics_factor=0.1))
    motion(franky, robot)


# --- profiles: functions of time --------------------------------------------------------------------------------------


def blend(share: float) -> float:
    """From 0 to 1 with velocity and acceleration zero at both ends."""
    x = min(max(share, 0.0), 1.0)
    return x**3 * (10 - 15 * x + 6 * x**2)


def wave(amplitude: float, seconds: float) -> Callable[[float], float]:
    """There and back: greatest velocity 3.75 A / T, acceleration 23.1 A / T^2, jerk 480 A / T^3."""
    return lambda t: amplitude * (blend(2 * t / seconds) - blend(2 * t / seconds - 1))


def ramp(acceleration: float, limit: float, rise_s: float) -> Callable[[float], float]:
    """A velocity that grows with an acceleration that itself takes `rise_s` to come, up to `limit`; then stays."""

    def at(t: float) -> float:
        grown = acceleration * (t - rise_s / 2) if t > rise_s else acceleration * t**2 / (2 * rise_s) if rise_s else 0.0
        return min(grown, limit)

    return at


def joints(joint: int, profile: Callable[[float], float], seconds: float) -> Callable:
    """Joint positions: the start, with `profile` added at one joint (counted from 1)."""

    def motion(t, first):
        q = np.array(first.q_d)
        q[joint - 1] += profile(t)
        return q, t >= seconds

    return motion


def joint_speed(joint: int, profile: Callable[[float], float], seconds: float) -> Callable:
    return lambda t, first: (profile(t) * np.eye(7)[joint - 1], t >= seconds)


def pose(direction: tuple[float, float, float], profile: Callable[[float], float], seconds: float) -> Callable:
    """End effector poses: the first one, shifted along a direction of the base frame."""

    def motion(t, first):
        matrix = np.array(first.O_T_EE_c).reshape(4, 4).T
        matrix[:3, 3] += profile(t) * np.array(direction)
        return matrix.ravel(order="F"), t >= seconds

    return motion


def turn(profile: Callable[[float], float], seconds: float) -> Callable:
    """End effector poses: the first one, turned about its own z axis."""

    def motion(t, first):
        matrix = np.array(first.O_T_EE_c).reshape(4, 4).T
        c, s = np.cos(profile(t)), np.sin(profile(t))
        matrix[:3, :3] = matrix[:3, :3] @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
        return matrix.ravel(order="F"), t >= seconds

    return motion


def twist(axis: int, profile: Callable[[float], float], seconds: float) -> Callable:
    return lambda t, first: (profile(t) * np.eye(6)[axis], t >= seconds)


def torque(joint: int, profile: Callable[[float], float], seconds: float) -> Callable:
    return lambda t, first: (profile(t) * np.eye(7)[joint - 1], t >= seconds)


def step(at_s: float, size: float) -> Callable[[float], float]:
    return lambda t: size if t >= at_s else 0.0


def there_and_back(velocity: float, ramp_s: float, seconds: float) -> Callable[[float], float]:
    """A velocity that comes and goes smoothly."""
    return lambda t: velocity * (blend(t / ramp_s) - blend((t - seconds + ramp_s) / ramp_s))


# --- franky's motions -------------------------------------------------------------------------------------------------


def moves(*make: Callable) -> Callable:
    return lambda franky, robot: [robot.move(each(franky)) for each in make]


def shift(franky, x: float, factor: float):
    return franky.CartesianMotion(franky.Affine([x, 0, 0]), franky.ReferenceType.Relative, relative_dynamics_factor=factor)


def replaced(hz: float, factor: float) -> Callable:
    """A circle of 5 cm at 0.1 m/s, each next pose replacing the motion to the last one."""

    def motion(franky, robot):
        start = robot.current_pose.end_effector_pose
        began = robot.state.time.to_sec()
        while (t := robot.state.time.to_sec() - began) < 2.0:
            angle = 0.1 * (t + 1 / hz) / 0.05
            target = start.translation + 0.05 * np.array([np.sin(angle), 1 - np.cos(angle), 0.0])
            pose = franky.Affine(target, start.quaternion)
            robot.move(franky.CartesianMotion(pose, relative_dynamics_factor=factor), asynchronous=True)
            while robot.state.time.to_sec() - began < t + 1 / hz:
                time.sleep(0.0005)
        robot.join_motion()

    return motion


def tracked(hz: float) -> Callable:
    """The same circle, its poses handed to the impedance tracker."""

    def motion(franky, robot):
        start = robot.current_pose.end_effector_pose
        with franky.CartesianImpedanceTracker(robot, translational_stiffness=600.0, rotational_stiffness=30.0) as tracker:
            began = robot.state.time.to_sec()
            while (t := robot.state.time.to_sec() - began) < 2.0:
                angle = 0.1 * t / 0.05
                target = start.translation + 0.05 * np.array([np.sin(angle), 1 - np.cos(angle), 0.0])
                tracker.set_target(franky.Affine(target, start.quaternion))
                while robot.state.time.to_sec() - began < t + 1 / hz:
                    time.sleep(0.0005)
            robot.poll_motion()

    return motion


#: Interface and motion by name. Numbers beside the limits of the FR3: joint velocity 2.62 (5.26 at joint 5 and 7) rad/s,
#: acceleration 10 rad/s^2, jerk 5000 rad/s^3, torque rate 1000 Nm/s; end effector 3 m/s, 9 m/s^2, 4500 m/s^3 and 2.5 rad/s,
#: 17 rad/s^2, 8500 rad/s^3.
CASES: dict[str, tuple[str, Callable]] = {
    "joint position, slow": ("joint_position", joints(4, wave(0.3, 3.0), 3.0)),
    "joint position, 80 % of speed": ("joint_position", joints(1, wave(0.95, 1.7), 1.7)),
    "joint position, too fast": ("joint_position", joints(1, wave(1.55, 2.0), 2.0)),
    "joint position, step 0.01 rad": ("joint_position", joints(1, step(0.5, 0.01), 1.0)),
    "joint position, step 0.2 rad": ("joint_position", joints(1, step(0.5, 0.2), 1.0)),
    "joint position, speed at once": ("joint_position", joints(1, lambda t: 0.3 * t, 1.0)),
    "joint position, jerk 9000": ("joint_position", joints(1, lambda t: 4.5 * max(t - 0.2, 0) ** 2, 0.4)),
    "joint position, jerk 4000": ("joint_position", joints(1, lambda t: 2.0 * max(t - 0.2, 0) ** 2, 0.4)),
    "joint position, 15 rad/s^2": ("joint_position", joints(1, wave(0.62, 0.98), 0.98)),
    "joint position, past a limit": ("joint_position", joints(6, lambda t: 4.0 * blend(t / 6), 6.5)),
    "joint position, starts 0.3 rad off": ("joint_position", joints(1, lambda t: 0.3, 1.0)),
    "joint position, starts 0.02 rad off": ("joint_position", joints(1, lambda t: 0.02, 1.0)),
    "joint velocity, smooth": ("joint_velocity", joint_speed(4, there_and_back(0.5, 0.4, 1.5), 1.6)),
    "joint velocity, step 0.5 rad/s": ("joint_velocity", joint_speed(1, step(0.3, 0.5), 0.6)),
    "joint velocity, too fast": ("joint_velocity", joint_speed(1, ramp(5.0, 3.0, 0.1), 1.0)),
    "joint velocity, jerk 9000": ("joint_velocity", joint_speed(1, lambda t: 9.0 * max(t - 0.2, 0), 0.3)),
    "joint velocity, 20 rad/s^2": ("joint_velocity", joint_speed(1, ramp(20.0, 2.0, 0.05), 0.4)),
    "joint velocity, to a limit": ("joint_velocity", joint_speed(6, there_and_back(0.8, 0.5, 6.0), 6.0)),
    "pose, 10 cm smooth": ("cartesian_pose", pose((0, 0, 1), wave(0.1, 2.0), 2.0)),
    "pose, turn smooth": ("cartesian_pose", turn(wave(0.5, 2.0), 2.0)),
    "pose, step 1 cm": ("cartesian_pose", pose((0, 0, 1), step(0.3, 0.01), 0.6)),
    "pose, step 10 cm": ("cartesian_pose", pose((0, 0, 1), step(0.3, 0.10), 0.6)),
    "pose, speed at once": ("cartesian_pose", pose((0, 0, 1), lambda t: 0.05 * t, 0.5)),
    "pose, turns too fast": ("cartesian_pose", turn(wave(1.07, 1.3), 1.3)),
    "pose, 15 m/s^2": ("cartesian_pose", pose((0, 0, 1), wave(0.15, 0.48), 0.48)),
    "pose, jerk 8000": ("cartesian_pose", pose((0, 0, 1), lambda t: 4.0 * max(t - 0.2, 0) ** 2, 0.4)),
    "pose, starts 10 cm off": ("cartesian_pose", pose((0, 0, 1), lambda t: 0.10, 0.5)),
    "pose, starts 1 cm off": ("cartesian_pose", pose((0, 0, 1), lambda t: 0.01, 0.5)),
    "pose, out of reach": ("cartesian_pose", pose((1, 0, 0), lambda t: 0.8 * blend(t / 6), 6.5)),
    "twist, smooth": ("cartesian_velocity", twist(2, there_and_back(0.1, 0.4, 1.5), 1.6)),
    "twist, turn smooth": ("cartesian_velocity", twist(5, there_and_back(0.5, 0.4, 1.5), 1.6)),
    "twist, step 0.1 m/s": ("cartesian_velocity", twist(2, step(0.3, 0.1), 0.6)),
    "twist, turns too fast": ("cartesian_velocity", twist(5, ramp(8.0, 3.0, 0.1), 0.6)),
    "twist, jerk 8000": ("cartesian_velocity", twist(2, lambda t: 8.0 * max(t - 0.2, 0), 0.25)),
    "twist, 15 m/s^2": ("cartesian_velocity", twist(2, ramp(15.0, 0.8, 0.02), 0.2)),
    "torque, none": ("torque", torque(1, lambda t: 0.0, 1.0)),
    "torque, 1 Nm wave": ("torque", torque(7, lambda t: np.sin(2 * np.pi * t), 1.0)),
    "torque, step 5 Nm": ("torque", torque(4, step(0.3, 5.0), 0.6)),
    "torque, grows 2000 Nm/s": ("torque", torque(4, lambda t: 2000 * max(t - 0.3, 0), 0.31)),
    "torque, until too fast": ("torque", torque(7, lambda t: min(8.0, 40 * t), 2.0)),
    "franky, 10 cm at 0.3": ("franky", moves(lambda f: shift(f, 0.1, 0.3), lambda f: shift(f, -0.1, 0.3))),
    "franky, 10 cm at 1.0": ("franky", moves(lambda f: shift(f, 0.1, 1.0), lambda f: shift(f, -0.1, 1.0))),
    "franky, joints at 0.5": ("franky", moves(lambda f: f.JointMotion((START + 0.3).tolist(), relative_dynamics_factor=0.5))),
    "franky, poses replaced 10 Hz": ("franky", replaced(10, 0.3)),
    "franky, poses replaced 50 Hz": ("franky", replaced(50, 0.3)),
    "franky, tracker 10 Hz": ("franky", tracked(10)),
    "franky, tracker 50 Hz": ("franky", tracked(50)),
}  # fmt: skip

if __name__ == "__main__":
    main()
