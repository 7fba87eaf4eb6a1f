"""The simulated lab of a rig, physics and cameras, where it does not run already; ends everything when one of them ends."""

import socket
from pathlib import Path

import yaml
from ament_index_python.packages import get_package_prefix
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, LogInfo, OpaqueFunction, Shutdown
from launch.substitutions import LaunchConfiguration


def lab(context):
    rig = Path(LaunchConfiguration("rig").perform(context))
    content = yaml.safe_load(rig.read_text())
    host, port = content["lab"]["control"].rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), timeout=1.0).close()
        return [LogInfo(msg=f"the lab of {rig} runs already")]
    except OSError:
        pass
    robosteer = f"{get_package_prefix('robosteer')}/lib/robosteer/robosteer"
    commands = {"serve": ["--host", content["arm"]["address"]], "cameras": []}
    return [
        ExecuteProcess(
            cmd=[robosteer, "sim", name, "--rig", str(rig), *more], name=f"lab_{name}", output="screen", emulate_tty=True,
            on_exit=Shutdown(reason=f"the lab's process {name} has ended"),
        )
        for name, more in commands.items()
    ]  # fmt: skip


def generate_launch_description():
    return LaunchDescription([DeclareLaunchArgument("rig", description="the rig's YAML file"), OpaqueFunction(function=lab)])
