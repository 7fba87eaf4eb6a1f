"""Looks at the ROS graph, printing as `ros2` does, for machines without it. Light: ROS is imported when a command runs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from robosteer_core.errors import UserError

topic = typer.Typer(help="Look at topics: list, echo, hz.", no_args_is_help=True)
node = typer.Typer(help="Look at nodes: list.", no_args_is_help=True)
service = typer.Typer(help="Call a service.", no_args_is_help=True)
param = typer.Typer(help="Get and set parameters of nodes.", no_args_is_help=True)

QUIET_S, MOST_S = 0.5, 5.0
"""The graph counts as known when nothing new was found for the first time, at the latest after the second [s]."""

SpinTime = Annotated[float, typer.Option("--spin-time", help="seconds without anything new after which the graph is known")]


def await_graph(node, quiet_s: float = QUIET_S) -> None:
    """Return when `node` has found nothing new for this long: peers are found one by one, later on a loaded machine."""
    began = changed = time.monotonic()
    known = None
    while time.monotonic() < min(changed + quiet_s, began + MOST_S):
        found = node.get_node_names_and_namespaces(), node.get_topic_names_and_types()
        if found != known:
            known, changed = found, time.monotonic()
        time.sleep(0.02)


@contextmanager
def _joined(spin_time: float = QUIET_S) -> Iterator:
    """A node that others do not list, once it knows the graph; KeyboardInterrupt ends the command quietly."""
    import os

    from robosteer_ros import ros

    ros.init(args=["--ros-args", "--log-level", "warn"])
    watcher = ros.create_node(f"_robosteer_{os.getpid()}", start_parameter_services=False)
    try:
        await_graph(watcher, spin_time)
        yield watcher
    except (KeyboardInterrupt, ros.ExternalShutdownException):
        pass
    finally:
        watcher.destroy_node()
        ros.try_shutdown()


def _is_hidden(name: str) -> bool:
    return any(part.startswith("_") for part in name.split("/"))


def _full(name: str) -> str:
    return name if name.startswith("/") else f"/{name}"


@topic.command("list")
def topic_list(
    show_types: Annotated[bool, typer.Option("-t", "--show-types", help="the types as well")] = False,
    spin_time: SpinTime = QUIET_S,
) -> None:
    """Topics with a publisher or a subscription."""
    with _joined(spin_time) as watcher:
        for name, types in watcher.get_topic_names_and_types():
            if not _is_hidden(name):
                typer.echo(f"{name} [{', '.join(types)}]" if show_types else name)


def _type_of(watcher, name: str, given: str | None) -> type:
    """The class of a topic's messages. Raises UserError where nobody has the topic."""
    from robosteer_ros.ros import interface

    types = [given] if given else dict(watcher.get_topic_names_and_types()).get(name, [])
    if not types:
        raise UserError(f"topic {name} is neither published nor subscribed to; see `robosteer topic list`, or give its type")
    if len(types) > 1:
        raise UserError(f"topic {name} has more than one type ({', '.join(types)}); give one after its name")
    return interface(types[0])


@topic.command("echo")
def topic_echo(
    name: Annotated[str, typer.Argument(help="name of the topic")],
    message_type: Annotated[str | None, typer.Argument(help="its type, such as std_msgs/msg/String")] = None,
    once: Annotated[bool, typer.Option(help="print one message and stop")] = False,
) -> None:
    """Print the messages of a topic, in YAML."""
    with _joined() as watcher:
        from robosteer_ros import ros
        from robosteer_ros.ros.text import to_yaml

        name, done = _full(name), ros.Future()

        def show(message) -> None:
            if not done.done():
                typer.echo(f"{to_yaml(message)}---")
                if once:
                    done.set_result(None)

        watcher.create_subscription(_type_of(watcher, name, message_type), name, show, _matching(watcher, name))
        ros.spin_until_future_complete(watcher, done)


def _matching(watcher, name: str):
    """Quality of service that all publishers of a topic can be heard with."""
    from robosteer_ros.ros import DurabilityPolicy, QoSProfile, ReliabilityPolicy

    offered = [info.qos_profile for info in watcher.get_publishers_info_by_topic(name)]
    reliable = all(profile.reliability == ReliabilityPolicy.RELIABLE for profile in offered)
    kept = bool(offered) and all(profile.durability == DurabilityPolicy.TRANSIENT_LOCAL for profile in offered)
    return QoSProfile(
        depth=10,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if kept else DurabilityPolicy.VOLATILE,
    )


@topic.command("hz")
def topic_hz(
    name: Annotated[str, typer.Argument(help="name of the topic")],
    window: Annotated[int, typer.Option("--window", "-w", min=2, help="messages to average over")] = 10000,
) -> None:
    """Print the rate at which a topic's messages arrive, every second."""
    with _joined() as watcher:
        from collections import deque

        from robosteer_ros import ros

        name, spans, last_ns = _full(name), deque(maxlen=window), [0]

        def arrived(message) -> None:
            now_ns = time.monotonic_ns()
            if last_ns[0]:
                spans.append((now_ns - last_ns[0]) / 1e9)
            last_ns[0] = now_ns

        watcher.create_subscription(_type_of(watcher, name, None), name, arrived, ros.qos_profile_sensor_data, raw=True)
        printed_ns = time.monotonic_ns()
        while ros.ok():
            ros.spin_once(watcher, timeout_sec=0.1)
            if spans and last_ns[0] >= printed_ns + 1_000_000_000:
                mean = sum(spans) / len(spans)
                deviation = (sum((span - mean) ** 2 for span in spans) / len(spans)) ** 0.5
                typer.echo(f"average rate: {1 / mean:.3f}")
                typer.echo(f"\tmin: {min(spans):.3f}s max: {max(spans):.3f}s std dev: {deviation:.5f}s window: {len(spans)}")
                printed_ns = last_ns[0]


@node.command("list")
def node_list(
    show_hidden: Annotated[bool, typer.Option("-a", "--all", help="hidden nodes as well")] = False,
    spin_time: SpinTime = QUIET_S,
) -> None:
    """Nodes of the graph."""
    with _joined(spin_time) as watcher:
        found = sorted(f"{space.rstrip('/')}/{name}" for name, space in watcher.get_node_names_and_namespaces())
        shown = [name for name in found if show_hidden or not _is_hidden(name)]
        if len(set(shown)) < len(shown):
            typer.echo("WARNING: nodes in the graph share an exact name, which can have unintended side effects.", err=True)
        for name in shown:
            typer.echo(name)


def _call(watcher, kind: type, name: str, request, timeout_s: float):
    """The response of a service. Raises UserError where nobody serves it, or it does not answer."""
    from robosteer_ros import ros

    client = watcher.create_client(kind, name)
    if not client.wait_for_service(timeout_sec=timeout_s):
        raise UserError(f"nobody serves {name} within {timeout_s:g} s; see `robosteer node list` for who is there")
    future = client.call_async(request)
    ros.spin_until_future_complete(watcher, future, timeout_sec=timeout_s)
    if not future.done():
        raise UserError(f"{name} did not answer within {timeout_s:g} s")
    return future.result()


Timeout = Annotated[float, typer.Option(help="seconds to wait for the node, and for its answer")]


@service.command("call")
def service_call(
    name: Annotated[str, typer.Argument(help="name of the service")],
    service_type: Annotated[str, typer.Argument(help="its type, such as std_srvs/srv/Trigger")],
    values: Annotated[str, typer.Argument(help="the request in YAML, such as '{data: true}'")] = "{}",
    timeout: Timeout = 5.0,
) -> None:
    """Call a service and print its response."""
    import yaml

    from robosteer_ros.ros import interface
    from robosteer_ros.ros.text import fill

    kind = interface(service_type)
    if not hasattr(kind, "Request"):
        raise UserError(f"{service_type} is no service; expected one such as std_srvs/srv/Trigger")
    request = kind.Request()
    try:
        typed = yaml.safe_load(values)
    except yaml.YAMLError as error:
        raise UserError(f"expected a request in YAML such as '{{data: true}}', found {values!r}: {error}") from error
    fill(request, typed or {})
    with _joined(0) as watcher:
        typer.echo(f"requester: making request: {request!r}\n")
        typer.echo(f"response:\n{_call(watcher, kind, _full(name), request, timeout)!r}\n")


_LABELS = (
    "Parameter not set.", "Boolean value is:", "Integer value is:", "Double value is:", "String value is:", "Byte values are:",
    "Boolean values are:", "Integer values are:", "Double values are:", "String values are:",
)  # fmt: skip


@param.command("get")
def param_get(
    node_name: Annotated[str, typer.Argument(help="full name of the node")],
    name: Annotated[str, typer.Argument(help="name of the parameter")],
    hide_type: Annotated[bool, typer.Option("--hide-type", help="the value alone")] = False,
    timeout: Timeout = 5.0,
) -> None:
    """Print a parameter of a node."""
    from robosteer_ros.ros import parameter_value_to_python, rcl_interfaces

    kind = rcl_interfaces.srv.GetParameters
    with _joined(0) as watcher:
        answer = _call(watcher, kind, f"{_full(node_name)}/get_parameters", kind.Request(names=[name]), timeout)
        if not answer.values:
            raise UserError(f"{_full(node_name)} has no parameter {name!r}")
        (value,) = answer.values
        label = _LABELS[value.type] if value.type < len(_LABELS) else f"Unknown parameter type '{value.type}'"
        shown = parameter_value_to_python(value) if value.type else None
        typer.echo(label if shown is None else shown if hide_type else f"{label} {shown}")


@param.command("set")
def param_set(
    node_name: Annotated[str, typer.Argument(help="full name of the node")],
    name: Annotated[str, typer.Argument(help="name of the parameter")],
    value: Annotated[str, typer.Argument(help="its new value, in YAML")],
    timeout: Timeout = 5.0,
) -> None:
    """Set a parameter of a node."""
    from robosteer_ros.ros import get_parameter_value, rcl_interfaces

    kind = rcl_interfaces.srv.SetParameters
    parameter = rcl_interfaces.msg.Parameter(name=name, value=get_parameter_value(value))
    with _joined(0) as watcher:
        answer = _call(watcher, kind, f"{_full(node_name)}/set_parameters", kind.Request(parameters=[parameter]), timeout)
        (result,) = answer.results
        reason = f": {result.reason}" if result.reason else ""
        if not result.successful:
            raise UserError(f"Setting parameter failed{reason}")
        typer.echo(f"Set parameter successful{reason}")
