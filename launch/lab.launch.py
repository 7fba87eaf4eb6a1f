"""The simulated lab of a rig: physics, then its cameras; ends everything when one of them ends."""

from pathlib import Path

import yaml
from ament_index_python.packages import get_package_prefix
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, OpaqueFunction, RegisterEventHandler, Shutdown
from launch.event_handlers import OnProcessIO
from launch.substitutions import LaunchConfiguration


def lab(context):
    rig = LaunchConfiguration("rig").perform(context)
    address = yaml.safe_load(Path(rig).read_text())["arm"]["address"]
    serve, cameras = _process("serve", rig, "--host", address), _process("cameras", rig)
    ready = OnProcessIO(target_action=serve, on_stdout=lambda event: [cameras] if b"accepting FCI" in event.text else None)
    return [RegisterEventHandler(ready), serve]


def _process(name, rig, *more):
    return ExecuteProcess(
        # Ends also where the launch is killed, and can end nothing any more.
        cmd=["setpriv", "--pdeathsig", "TERM", f"{get_package_prefix('robosteer')}/lib/robosteer/robosteer", "sim", name, "--rig", rig, *more],
        name=f"lab_{name}",
        output="screen",
        emulate_tty=True,
        on_exit=Shutdown(reason=f"the lab's process {name} has ended"),
    )


def generate_launch_description():
    return LaunchDescription([DeclareLaunchArgument("rig", description="the rig's YAML file"), OpaqueFunction(function=lab)])
