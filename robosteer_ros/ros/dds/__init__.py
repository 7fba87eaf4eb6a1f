"""ROS 2 without ROS: the names and the behaviour of rclpy on Cyclone DDS and rosbags, from PyPI alone."""

from __future__ import annotations

from collections.abc import Sequence

from robosteer_ros.ros.dds import signals
from robosteer_ros.ros.dds.context import Context, get_default_context
from robosteer_ros.ros.dds.executors import Executor, SingleThreadedExecutor
from robosteer_ros.ros.dds.node import Node
from robosteer_ros.ros.dds.task import Future

_executor: Executor | None = None


def init(
    *, args: Sequence[str] | None = None, context: Context | None = None, domain_id: int | None = None,
    signal_handler_options: signals.SignalHandlerOptions | None = None,
) -> None:  # fmt: skip
    """Join the graph. The default context ends at SIGINT and SIGTERM."""
    default = context is None or context is get_default_context()
    (context or get_default_context()).init(args, domain_id=domain_id)
    if signal_handler_options is None:
        signal_handler_options = signals.SignalHandlerOptions.ALL if default else signals.SignalHandlerOptions.NO
    if signal_handler_options:
        signals.install_signal_handlers(signal_handler_options)


def ok(*, context: Context | None = None) -> bool:
    return (context or get_default_context()).ok()


def shutdown(*, context: Context | None = None, uninstall_handlers: bool | None = None) -> None:
    """Leave the graph. RuntimeError if it has not been joined, or has been left already."""
    _end(context, uninstall_handlers, (context or get_default_context()).shutdown)


def try_shutdown(*, context: Context | None = None, uninstall_handlers: bool | None = None) -> None:
    """Leave the graph if it has been joined."""
    _end(context, uninstall_handlers, (context or get_default_context()).try_shutdown)


def _end(context: Context | None, uninstall: bool | None, leave) -> None:
    global _executor
    default = context is None or context is get_default_context()
    if default and _executor is not None:
        _executor.shutdown()
        _executor = None
    leave()
    if uninstall or (uninstall is None and default):
        signals.uninstall_signal_handlers()


def create_node(node_name: str, **options) -> Node:
    return Node(node_name, **options)


def get_global_executor() -> Executor:
    global _executor
    if _executor is None or not _executor.context.ok():
        _executor = SingleThreadedExecutor()
    return _executor


def spin_once(node: Node, *, executor: Executor | None = None, timeout_sec: float | None = None) -> None:
    executor = executor or get_global_executor()
    try:
        executor.add_node(node)
        executor.spin_once(timeout_sec=timeout_sec)
    finally:
        executor.remove_node(node)


def spin(node: Node, executor: Executor | None = None) -> None:
    """Call back until the context is shut down."""
    executor = executor or get_global_executor()
    try:
        executor.add_node(node)
        while executor.context.ok():
            executor.spin_once()
    finally:
        executor.remove_node(node)


def spin_until_future_complete(
    node: Node, future: Future, executor: Executor | None = None, timeout_sec: float | None = None
) -> None:
    executor = executor or get_global_executor()
    added = executor.add_node(node)
    try:
        executor.spin_until_future_complete(future, timeout_sec)
    finally:
        if added:
            executor.remove_node(node)
