"""Taking part in the graph without being one of its nodes' classes: a node that is spun beside other work, and what it asks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from robosteer_core.errors import UserError
from robosteer_core.runtime.json_lines import Refused
from robosteer_ros.ros import Executor, Node, SingleThreadedExecutor, std_srvs


@contextmanager
def spinning(node: Node, executor: Executor | None = None) -> Iterator[None]:
    """The node's callbacks are called, in a thread of their own or by `executor`; at the end it is off the graph."""
    executor = executor or SingleThreadedExecutor()
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin, name=f"spinning {node.get_name()}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        executor.shutdown()
        thread.join()
        node.destroy_node()


def call(client, request, timeout_s: float):
    """The response of a service whose client's node is spun by another thread. Raises UserError where none comes in time."""
    response = client.call(request, timeout_s)
    if response is None:
        raise UserError(f"{client.service_name} did not answer within {timeout_s:.0f} s; look at the log of its node")
    return response


def trigger(client, timeout_s: float) -> str:
    """What a Trigger says. Raises Refused, in its words, where it says no, and UserError as `call`."""
    response = call(client, std_srvs.srv.Trigger.Request(), timeout_s)
    if not response.success:
        raise Refused(response.message)
    return response.message
