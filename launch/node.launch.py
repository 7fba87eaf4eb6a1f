"""One node of a rig as a process that comes back when it dies: `ros2 launch robosteer node.launch.py node:=arm rig:=fr3
autostart:=true`. Without autostart the node waits for the supervisor, or for `ros2 lifecycle set`. The supervisor itself does
not come back; its end ends the launch."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

COMMON = {
    "rig": ("lab", "the rig: the name of one in share/robosteer/launch, or a YAML file"),
    "namespace": ("", "namespace of all nodes"),
    "params_file": ("", "parameters of the nodes, a YAML file"),
    "log_level": ("info", "least severity that is logged: debug, info, warn, error, fatal"),
}
OWN = {
    "node": ("", "which node: camera, arm, policy, teleop, recorder, supervisor"),
    "name": ("", "its name in the graph; empty: that of the node"),
    "autostart": ("false", "configure and activate at the start, without a supervisor"),
    "policy": ("", "checkpoint folder of the policy"),
    "adapter": ("", "adapter folder of the policy"),
    "device": ("cpu", "where a policy from a checkpoint folder runs: cpu, cuda, cuda:1"),
    "processes": ("true", "false: the supervisor only manages nodes that are started elsewhere"),
}


def node(context):
    given = {name: LaunchConfiguration(name).perform(context) for name in (*COMMON, *OWN)}
    parameters = {"rig": given["rig"]}
    if given["node"] == "supervisor":
        parameters |= {"processes": given["processes"] == "true", "log_level": given["log_level"], "params_file": given["params_file"]}
    else:
        parameters["autostart"] = given["autostart"] == "true"
    if given["node"] in ("policy", "supervisor"):
        parameters |= {name: given[name] for name in ("policy", "adapter", "device")}
    return [
        Node(
            package="robosteer",
            executable=f"robosteer_{given['node']}",
            # Named only where it is asked for: the arm's process has two nodes, and a name would be given to both.
            name=given["name"] or None,
            namespace=given["namespace"],
            # Also where the launch is killed, and can end nothing any more.
            arguments=["--end-with-parent"],
            parameters=[parameters, *([given["params_file"]] if given["params_file"] else [])],
            ros_arguments=["--log-level", given["log_level"]],
            output="screen",
            emulate_tty=True,
            respawn=given["node"] != "supervisor",
            respawn_delay=1.0,
            on_exit=Shutdown(reason="the supervisor has ended") if given["node"] == "supervisor" else None,
        )
    ]


def generate_launch_description():
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=told) for name, (default, told) in (COMMON | OWN).items()
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=node)])
