"""Taking part in the graph without being one of its nodes' classes: a node that is spun beside other work, and what it asks."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from robosteer_core.errors import UserError
from robosteer_core.rig import load_rig
from robosteer_core.runtime.json_lines import Refused
from robosteer_ros.ros import Executor, InvalidHandle, Node, SingleThreadedExecutor, parameter_value_to_python, rcl_interfaces, std_srvs

#: How often who waits for an answer looks whether there is still somebody to give it.
_LOOK_PERIOD_S = 0.5
#: Wall seconds in which a node tells its parameters.
ANSWER_TIMEOUT_S = 30.0


@contextmanager
def spinning(node: Node, executor: Executor | None = None) -> Iterator[None]:
    """The node's callbacks are called, in a thread of their own or by `executor`; at the end it is off the graph."""
    executor = executor or SingleThreadedExecutor()
    executor.add_node(node)
    thread = threading.Thread(target=spin, args=(executor,), name=f"spinning {node.get_name()}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        executor.shutdown()
        thread.join()
        node.destroy_node()


def spin(executor: Executor) -> None:
    """As `executor.spin`, and past what another thread destroys meanwhile."""
    while True:
        try:
            executor.spin()
            return
        except InvalidHandle:
            # An endpoint was destroyed just as another thread was about to wait for it, which rclpy's executor (Jazzy) lets out, or
            # as a callback was about to use it.
            pass


def is_there(node: Node, other: str, patience_s: float = 0.0) -> bool:
    """Whether a node of this full name is on the graph; one that is new to `node` may be found a moment later."""
    deadline_s = time.monotonic() + patience_s
    while other not in (f"{place.rstrip('/')}/{name}" for name, place in node.get_node_names_and_namespaces()):
        if time.monotonic() >= deadline_s:
            return False
        time.sleep(0.02)
    return True


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


def parameters(node: Node, of: str, *names: str) -> list[object]:
    """Values of the parameters `names` of the node `of`; another thread spins `node`. Raises UserError where it does not answer."""
    client = node.create_client(rcl_interfaces.srv.GetParameters, f"{of}/get_parameters")
    try:
        if not client.wait_for_service(ANSWER_TIMEOUT_S):
            raise UserError(f"nobody serves {client.service_name}: the node {of} is not there")
        values = call(client, rcl_interfaces.srv.GetParameters.Request(names=list(names)), ANSWER_TIMEOUT_S).values
    finally:
        node.destroy_client(client)
    return [parameter_value_to_python(value) for value in values]


def require_rig(node: Node, rig: str, *others: str) -> None:
    """Raises UserError where one of the nodes `others` is of another rig than `rig`, a name or a file as the command line takes it."""
    for name in others:
        (found,) = parameters(node, name, "rig")
        if found != rig and not _are_one(str(found), rig):
            raise UserError(f"the node {name} runs already, for rig {found!r} and not for {rig!r}: end its graph, or give another --namespace")


def _are_one(rig: str, other: str) -> bool:
    """Two names of one rig: a file may be named in many ways, and each node reads it where it was started."""
    try:
        return load_rig(rig) == load_rig(other)
    except UserError:
        return False
