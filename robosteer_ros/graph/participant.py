"""Taking part in the graph without being one of its nodes' classes: a node that is spun beside other work, and what it asks."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from robosteer_core.errors import UserError
from robosteer_core.runtime.json_lines import Refused
from robosteer_ros.ros import Executor, Node, SingleThreadedExecutor, std_srvs

#: How often who waits for an answer looks whether there is still somebody to give it.
_LOOK_PERIOD_S = 0.5


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
    """The response of a service whose client's node is spun by another thread. Raises UserError where none comes in time, or its
    node ends meanwhile."""
    answered, deadline = threading.Event(), time.monotonic() + timeout_s
    future = client.call_async(request)
    future.add_done_callback(lambda _: answered.set())
    while not answered.wait(min(_LOOK_PERIOD_S, max(0.0, deadline - time.monotonic()))):
        gone = not client.service_is_ready()
        if gone or time.monotonic() >= deadline:
            client.remove_pending_request(future)
            failed = "went away without an answer" if gone else f"did not answer within {timeout_s:.0f} s"
            raise UserError(f"{client.service_name} {failed}; look at the log of its node")
    return future.result()


def trigger(client, timeout_s: float) -> str:
    """What a Trigger says. Raises Refused, in its words, where it says no, and UserError as `call`."""
    response = call(client, std_srvs.srv.Trigger.Request(), timeout_s)
    if not response.success:
        raise Refused(response.message)
    return response.message
