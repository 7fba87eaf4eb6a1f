"""The graph of a rig: `ros2 launch robosteer bringup.launch.py rig:=lab|panda|fr3`. Launch starts the processes, and again when
one dies; the supervisor configures and activates their nodes in order, and its end ends the launch. A simulated lab comes first, where
it does not run already.

The launch runs on the Python of ROS, which has neither torch nor pydantic: rigs are read here as plain YAML. What is given is checked
by `robosteer up --check`, before anything starts.
"""

import os
import socket
import subprocess
import tempfile
from pathlib import Path

import yaml
from ament_index_python.packages import get_package_prefix, get_package_share_directory
from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    GroupAction,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
)
from launch.event_handlers import OnProcessIO
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

RANGE = "ROS_AUTOMATIC_DISCOVERY_RANGE"
SHARE = Path(get_package_share_directory("robosteer")) / "launch"
NODES = ["cameras", "arm", "teleop", "recorder", "policy"]
ARGUMENTS = {
    "rig": ("lab", "the rig: lab, panda, fr3, another name in share/robosteer/launch, or a YAML file"),
    "robot_ip": ("", "address of the robot instead of the rig's"),
    "namespace": ("", "namespace of all nodes"),
    "policy": ("", "checkpoint folder of the policy; without one its node is left out"),
    "adapter": ("", "adapter folder of the policy"),
    "device": ("cpu", "where a policy from a checkpoint folder runs: cpu, cuda, cuda:1"),
    "params_file": ("", "parameters of the nodes, a YAML file"),
    "log_level": ("info", "least severity that is logged: debug, info, warn, error, fatal"),
}


def rig_file(rig: str, robot_ip: str) -> Path:
    """The rig's file; with another address of the robot, a copy that has it."""
    path = Path(rig) if Path(rig).suffix else SHARE / f"{rig}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in SHARE.glob("*.yaml")))
        raise RuntimeError(f"no rig file {path}; give a YAML file or one of the known rigs: {known}")
    path = path.resolve()
    if robot_ip:
        content = yaml.safe_load(path.read_text())
        content["arm"]["address"] = robot_ip
        path = Path(tempfile.mkdtemp(prefix="robosteer_")) / path.name
        path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def require(rig: Path, given: dict[str, str]) -> None:
    """RuntimeError, which ends the launch, in the words of `robosteer up`, where that would not start what is given."""
    options = ("namespace", "policy", "adapter", "device", "params_file", "log_level")
    words = [f"--{name.replace('_', '-')}={given[name]}" for name in options if given[name]]
    command = [f"{get_package_prefix('robosteer')}/lib/robosteer/robosteer", "up", str(rig), "--check", *words]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())


def lab_runs(control: str) -> bool:
    host, port = control.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), timeout=1.0).close()
    except OSError:
        return False
    return True


def include(file: str, **arguments: str) -> GroupAction:
    """A launch file of the package; its arguments are its own."""
    source = PythonLaunchDescriptionSource(str(SHARE / f"{file}.launch.py"))
    return GroupAction([IncludeLaunchDescription(source, launch_arguments=arguments.items())])


def graph(context):
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    rig = rig_file(given["rig"], given["robot_ip"])
    require(rig, given)
    content = yaml.safe_load(rig.read_text())
    policy = {name: given[name] for name in ("policy", "adapter", "device")}
    common = {name: given[name] for name in ("namespace", "params_file", "log_level")} | policy | {"rig": str(rig)}
    nodes = []
    for kind in content.get("nodes", NODES):
        if kind == "cameras":
            nodes += [include("node", node="camera", name=f"{camera['name']}_camera", **common) for camera in content["cameras"]]
        elif kind != "policy" or given["policy"]:
            nodes.append(include("node", node=kind, **common))
    supervisor = include("node", node="supervisor", processes="false", **common)
    # The rig says how far its graph is heard, unless the environment does.
    heard = "SUBNET" if content.get("network") == "subnet" else "LOCALHOST"
    nodes = ([] if RANGE in os.environ else [SetEnvironmentVariable(RANGE, heard)]) + nodes
    if not content.get("lab") or lab_runs(content["lab"]["control"]):
        return [*nodes, supervisor]

    def when_it_draws(event):
        return [supervisor] if event.process_name.startswith("lab_cameras") and b"drawing the cameras" in event.text else None

    return [include("lab", rig=str(rig)), *nodes, RegisterEventHandler(OnProcessIO(on_stdout=when_it_draws))]


def generate_launch_description():
    arguments = [DeclareLaunchArgument(name, default_value=default, description=told) for name, (default, told) in ARGUMENTS.items()]
    return LaunchDescription([*arguments, OpaqueFunction(function=graph)])
