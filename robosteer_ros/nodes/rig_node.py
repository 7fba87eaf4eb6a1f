"""What every node of a rig has: its life, its rig, its end."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from typing import ClassVar

from robosteer_core.errors import UserError
from robosteer_core.rig import Rig, load_rig
from robosteer_core.runtime.lab_processes import end_with_parent
from robosteer_ros import ros
from robosteer_ros.graph.participant import spin
from robosteer_ros.ros import (
    CallbackGroup,
    ExternalShutdownException,
    LifecycleNodeMixin,
    LifecycleState,
    MultiThreadedExecutor,
    MutuallyExclusiveCallbackGroup,
    Node,
    SignalHandlerOptions,
    TransitionCallbackReturn,
    rcl_interfaces,
)
from robosteer_ros.ros.parameter_file import require_names

KINDS = ("camera", "arm", "gripper", "teleop", "recorder", "policy")
"""The nodes of a rig: each has a module of its name here, and in it a class `<Kind>Node`."""

THREADS = 4
"""A stop must come through while another service is at work."""

END_WITH_PARENT = "--end-with-parent"
"""The process ends with the one that has started it, also where that was killed; launch files say so."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SUCCESS, _FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


@dataclass(frozen=True)
class Declared:
    """A parameter, by default one that is set at the start alone."""

    default: bool | int | float | str | list[str]
    description: str
    read_only: bool = True


def parameters_of(kind: str) -> dict[str, Declared]:
    """The parameters of a node of KINDS, without starting it."""
    return getattr(import_module(f"robosteer_ros.nodes.{kind}"), f"{kind.title()}Node").PARAMETERS


class RigNode(LifecycleNodeMixin, Node):
    """A lifecycle node of the rig that its parameter `rig` names: a YAML file, or the name of one in launch/.

    Subclasses override `configure`, `activate`, `deactivate` and `clean_up`; a UserError in one of the first two refuses the
    transition, with its words in the log. What `configure` opens goes onto the stack `resources`, and what `activate` starts
    onto `running`: each is closed by the transition back, by a refusal and at the end. With the parameter `autostart` the
    node configures and activates itself, for who runs it without a supervisor. The parameters of a node stand in `PARAMETERS`, where
    a file of them is checked against before there is a node.

    What makes parameters known and sets them answers also while a transition is at work, which may take minutes.
    """

    PARAMETERS: ClassVar[dict[str, Declared]] = {
        "rig": Declared("lab", "the rig: a YAML file, or the name of one in launch/"),
        "autostart": Declared(False, "configure and activate at the start, without a supervisor"),
    }
    _at_work: CallbackGroup | None = None

    def __init__(self, name: str, **options) -> None:
        Node.__init__(self, name, **options)  # in its group the services of the parameters, and nothing else that waits
        self._at_work = MutuallyExclusiveCallbackGroup()
        LifecycleNodeMixin.__init__(self)
        self.rig: Rig | None = None
        self.refusal = ""  # why the last transition was refused
        self.resources, self.running = ExitStack(), ExitStack()
        for each, it in self.PARAMETERS.items():
            described = rcl_interfaces.msg.ParameterDescriptor(description=it.description, read_only=it.read_only)
            self.declare_parameter(each, it.default, described)
        _hear_python(self.get_logger())

    @property
    def default_callback_group(self) -> CallbackGroup:
        return self._at_work or super().default_callback_group

    def value(self, name: str) -> bool | int | float | str | list[str]:
        return self.get_parameter(name).value

    def configure(self) -> None:
        """Open what the node works with; `rig` is there."""

    def activate(self) -> None:
        """Begin to work."""

    def deactivate(self) -> None:
        """End what `activate` began and `running` does not end."""

    def clean_up(self) -> None:
        """Forget what `configure` set and `resources` does not close."""

    def start(self) -> bool:
        """Configure and activate; False where one of them is refused."""
        return self.trigger_configure() == _SUCCESS and self.trigger_activate() == _SUCCESS

    def close(self) -> None:
        """End everything, whatever the state."""
        with self.resources:
            self.running.close()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        def configure() -> None:
            self.rig = load_rig(self.value("rig"))
            self.configure()

        return self._carry_out(configure, self.resources) or super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        # Publishers first: what is begun may have something to say at once.
        if (result := super().on_activate(state)) != _SUCCESS:
            return result
        if refused := self._carry_out(self.activate, self.running):
            super().on_deactivate(state)
            return refused
        return _SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.deactivate()
        self.running.close()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.clean_up()
        self.resources.close()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.close()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """After an error nobody expected: unconfigured, so that it can be configured again."""
        self.close()
        super().on_error(state)
        return _SUCCESS

    def _carry_out(self, work: Callable[[], None], opened: ExitStack) -> TransitionCallbackReturn | None:
        """None where `work` is done; what it opened is closed where it is not."""
        try:
            work()
            return None
        except UserError as error:
            self.refusal = str(error)
            self.get_logger().error(self.refusal)
            opened.close()
            return _FAILURE
        except BaseException:
            opened.close()
            raise


def main(make: Callable[[], RigNode], *others: Callable[[], RigNode]) -> None:
    """A process with these nodes, until SIGINT, SIGTERM or the context's end. Exit code 2 where an autostart or a file of parameters
    is refused, 1 where a node says that it could not end in order.

    Callbacks run in threads of their own from the beginning to the end: what a transition waits for arrives, and a node that
    closes may still ask others. So signals are ours, not the context's: what they end is closed before it.
    """
    ros.init(signal_handler_options=SignalHandlerOptions.NO)
    for number in _SIGNALS:
        signal.signal(number, _interrupt)
    if END_WITH_PARENT in sys.argv:
        end_with_parent()
    nodes: list[RigNode] = []
    executor = MultiThreadedExecutor(num_threads=THREADS)
    ended, trouble = threading.Event(), []

    def serve() -> None:
        try:
            spin(executor)
        except ExternalShutdownException:
            pass
        except BaseException as error:
            trouble.append(error)
        finally:
            ended.set()

    spinning = threading.Thread(target=serve, name="ros", daemon=True)
    code = 0
    try:
        for make_one in (make, *others):
            nodes.append(make_one())
            executor.add_node(nodes[-1])
        spinning.start()
        if _has_read(nodes) and all(node.start() for node in nodes if node.value("autostart")):
            ended.wait()
        else:
            code = 2
    except KeyboardInterrupt:
        pass
    finally:
        _ignore_signals()
        for node in reversed(nodes):
            try:
                node.close()
            except UserError as error:
                node.get_logger().error(str(error))
                code = 1
        executor.shutdown()
        if spinning.ident is not None:
            spinning.join()
        for node in nodes:
            node.destroy_node()
        ros.try_shutdown()
    if trouble:
        raise trouble[0]
    sys.exit(code)


def _has_read(nodes: list[RigNode]) -> bool:
    """False where a file of this process has a parameter for one of `nodes` that it does not have, which the log tells."""
    names = {node.get_fully_qualified_name(): node.PARAMETERS for node in nodes}
    try:
        for option, file in pairwise(sys.argv):
            if option == "--params-file":
                require_names(file, names, lambda: {name for kind in KINDS for name in parameters_of(kind)})
        return True
    except UserError as error:
        nodes[0].get_logger().error(str(error))
        return False


def _interrupt(*_: object) -> None:
    _ignore_signals()
    raise KeyboardInterrupt


def _ignore_signals() -> None:
    """Who asks twice (a terminal asks the whole group, a supervisor each node) must not break the closing off."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _hear_python(logger) -> None:
    """What drivers and core say by `logging` goes where the node's own words go: console and /rosout."""
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    for handler in [handler for handler in root.handlers if isinstance(handler, _ToRos)]:
        root.removeHandler(handler)
    root.addHandler(_ToRos(logger))


class _ToRos(logging.Handler):
    """One per process: where several nodes share it, the last one speaks for what belongs to none."""

    def __init__(self, logger) -> None:
        super().__init__()
        self._log = logger

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._say(record.levelno, self.format(record))
        except Exception:  # as every handler of logging: who says something is not to fail because nobody can write it down
            self.handleError(record)

    def _say(self, level: int, words: str) -> None:
        # ROS has these five levels. rclpy knows a call by its line, which must not change its level: one line for each.
        if level >= logging.CRITICAL:
            self._log.fatal(words)
        elif level >= logging.ERROR:
            self._log.error(words)
        elif level >= logging.WARNING:
            self._log.warning(words)
        elif level >= logging.INFO:
            self._log.info(words)
        else:
            self._log.debug(words)
