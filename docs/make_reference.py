"""Writes docs/reference.md: starts every node in a simulated lab of its own, and reads from the graph what each one has.

    python docs/make_reference.py
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

from robosteer_core.files import write_text
from robosteer_core.rig import load_rig
from robosteer_core.runtime.lab_processes import private_rig
from robosteer_ros import ros
from robosteer_ros.bringup import GraphSettings
from robosteer_ros.graph.participant import spinning
from robosteer_ros.ros import Node, rcl_interfaces
from robosteer_ros.up import bring_up

REFERENCE = Path(__file__).with_name("reference.md")
POLICY = "scripted"
QUIET_S, PATIENCE_S = 2.0, 60.0
#: What every node has; said once, at the top.
EVERYWHERE = (
    "rosout", "parameter_events", "clock", "transition_event", "get_type_description",
    "change_state", "get_state", "get_available_states", "get_available_transitions", "get_transition_graph",
    "describe_parameters", "get_parameters", "get_parameter_types", "list_parameters", "set_parameters", "set_parameters_atomically",
)  # fmt: skip
NODES = ("front_camera", "arm", "gripper", "teleop", "recorder", "policy", "supervisor")
ABSOLUTE = ("/diagnostics", "/tf", "/tf_static")
#: Parameters whose value here is this script's.
GIVEN = ("rig", "policy", "logs")
_TYPES = {0: "any", 1: "bool", 2: "int", 3: "float", 4: "string", 9: "strings"}


def main() -> None:
    number = os.environ.setdefault("ROS_DOMAIN_ID", "83")
    print(f"starting every node in domain {number}", file=sys.stderr)
    ros.init(args=["--ros-args", "--log-level", "warn"], signal_handler_options=ros.SignalHandlerOptions.NO)
    try:
        with tempfile.TemporaryDirectory() as folder:
            _, path = private_rig(load_rig("lab"), Path(folder))
            write_text(REFERENCE, reference(path, Path(folder)))
    finally:
        ros.try_shutdown()
    print(REFERENCE, file=sys.stderr)


def reference(rig: Path, folder: Path) -> str:
    """The page, from the graph of a rig of the lab. The context of ROS must be there; `folder` is for what processes print."""
    settings = GraphSettings(rig=str(rig), policy=POLICY, logs=folder / "logs")
    with bring_up(settings, lambda line: print(line, file=sys.stderr)) as graph:
        graph.wait()
        reader = ros.create_node("_reference", start_parameter_services=False)
        with spinning(reader):
            await_quiet(reader)
            parts = [HEAD, *(section(reader, name) for name in NODES)]
    return "\n\n".join(parts) + "\n"


HEAD = """# Reference: topics, services and parameters

Made by `docs/make_reference.py` from the running nodes; do not edit. Names are relative to the graph's namespace, but for those
that begin with `/`. Every node but the supervisor is a lifecycle node with its services (`change_state`, `get_state`), and has the
parameter services of ROS 2, `/rosout` and `/parameter_events`. For each camera of the rig there is a node `<camera>_camera`; here it is
`front`. With other sources of commands (parameter `sources` of the arm) `arm/<source>/...` are others."""


def await_quiet(reader: Node) -> None:
    """Until the graph has not changed for `QUIET_S`."""
    known, since = None, time.monotonic()
    while time.monotonic() - since < QUIET_S:
        found = [look(name, "/") for name in NODES for look in _looks(reader)] if set(NODES) <= set(reader.get_node_names()) else None
        if found is None or found != known:
            known, since = found, time.monotonic()
        time.sleep(0.1)


def _looks(reader: Node) -> tuple:
    return (
        reader.get_publisher_names_and_types_by_node, reader.get_subscriber_names_and_types_by_node,
        reader.get_service_names_and_types_by_node,
    )  # fmt: skip


def section(reader: Node, name: str) -> str:
    lines = [f"## {name}"]
    for title, look in zip(("Publishes", "Subscribes to", "Services"), _looks(reader)):
        named = [(topic, ", ".join(types)) for topic, types in sorted(look(name, "/")) if topic.rpartition("/")[2] not in EVERYWHERE]
        rows = [(topic if topic in ABSOLUTE else topic.removeprefix("/"), types) for topic, types in named]
        lines += table((title, "type"), [(f"`{topic}`", f"`{types}`") for topic, types in rows])
    lines += table(("Parameter", "type", "default", "meaning"), parameters(reader, name))
    return "\n".join(lines)


def parameters(reader: Node, name: str) -> list[tuple[str, ...]]:
    kinds = rcl_interfaces.srv
    names = sorted(call(reader, kinds.ListParameters, f"{name}/list_parameters", kinds.ListParameters.Request()).result.names)
    names = [each for each in names if each not in ("use_sim_time", "start_type_description_service") and not each.startswith("qos_")]
    told = call(reader, kinds.DescribeParameters, f"{name}/describe_parameters", kinds.DescribeParameters.Request(names=names)).descriptors
    values = call(reader, kinds.GetParameters, f"{name}/get_parameters", kinds.GetParameters.Request(names=names)).values
    rows = []
    for each, value in zip(told, values):
        default = "" if each.name in GIVEN else f"`{ros.parameter_value_to_python(value)!r}`"
        meaning = each.description + ("" if each.read_only else "; may be set while the node runs")
        rows.append((f"`{each.name}`", _TYPES.get(each.type, str(each.type)), default, meaning.replace("<", "&lt;")))
    return rows


def call(reader: Node, kind: type, service: str, request):
    client = reader.create_client(kind, service)
    if not client.wait_for_service(PATIENCE_S):
        raise SystemExit(f"nobody serves {service}")
    answer = client.call(request, PATIENCE_S)
    reader.destroy_client(client)
    return answer


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    if not rows:
        return []
    shown = [[cell.replace("|", "\\|") for cell in row] for row in (head, tuple("---" for _ in head), *rows)]
    return ["", *(f"| {' | '.join(row)} |" for row in shown)]


if __name__ == "__main__":
    main()
