"""A node of a rig: its transitions open and close what they should, and refuse in words."""

import logging
import signal
import subprocess
import sys
import threading

import pytest

from robosteer_core.errors import UserError
from robosteer_ros import ros
from robosteer_ros.graph.participant import call, spinning
from robosteer_ros.nodes.rig_node import RigNode
from robosteer_ros.ros import TransitionCallbackReturn, create_node, lifecycle_msgs, rcl_interfaces

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class Diary(RigNode):
    """Notes what happens; refuses what `refused` names. `meanwhile` is called in a transition."""

    def __init__(self):
        super().__init__("diary")
        self.notes, self.refused, self.meanwhile = [], "", lambda: None

    def configure(self):
        self.resources.callback(self.notes.append, "resources closed")
        self._do("configure")

    def activate(self):
        self.running.callback(self.notes.append, "running closed")
        self._do("activate")

    def _do(self, name):
        self.notes.append(f"{name} {self.rig.name}")
        self.meanwhile()
        if name == self.refused:
            raise UserError("expected a cable, found none; plug it in")


@pytest.fixture
def make():
    """`make(words...)` is a Diary with these ROS arguments."""
    nodes = []

    def make(*words):
        ros.init(args=["test", "--ros-args", *words])
        nodes.append(Diary())
        return nodes[-1]

    yield make
    for node in nodes:
        node.destroy_node()
    ros.try_shutdown()


def test_transitions_open_and_close_in_order(make):
    node = make("-p", "rig:=panda_lab")
    for trigger in (node.trigger_configure, node.trigger_activate, node.trigger_deactivate, node.trigger_cleanup):
        assert trigger() == SUCCESS
    assert node.notes == ["configure panda_lab", "activate panda_lab", "running closed", "resources closed"]


@pytest.mark.parametrize("refused, notes", [
    ("configure", ["configure lab", "resources closed"]), ("activate", ["configure lab", "activate lab", "running closed"]),
])  # fmt: skip
def test_a_refused_transition_says_why_closes_what_it_opened_and_may_be_tried_again(make, capfd, refused, notes):
    node = make()
    node.refused = refused
    assert not node.start() and node.notes == notes
    assert "expected a cable, found none; plug it in" in capfd.readouterr().err
    node.refused = ""
    assert (node.start() if refused == "configure" else node.trigger_activate() == SUCCESS) is True


def test_parameters_are_told_while_a_transition_is_at_work_and_nothing_else_of_the_node_goes_on(make):
    node, peer = make("-p", "rig:=panda_lab"), create_node("asker")
    at_work, go_on, ticked = threading.Event(), threading.Event(), threading.Event()
    node.meanwhile = lambda: at_work.set() or go_on.wait(60)
    change = peer.create_client(lifecycle_msgs.srv.ChangeState, "diary/change_state")
    get = peer.create_client(rcl_interfaces.srv.GetParameters, "diary/get_parameters")
    with spinning(node, ros.MultiThreadedExecutor(num_threads=4)), spinning(peer):
        assert change.wait_for_service(60) and get.wait_for_service(60)
        request = lifecycle_msgs.srv.ChangeState.Request()
        request.transition.id = lifecycle_msgs.msg.Transition.TRANSITION_CONFIGURE
        changed = change.call_async(request)
        assert at_work.wait(60)
        node.create_timer(0.01, ticked.set)
        (value,) = call(get, rcl_interfaces.srv.GetParameters.Request(names=["rig"]), 30).values
        assert value.string_value == "panda_lab" and not changed.done() and not ticked.is_set()
        go_on.set()
        assert ticked.wait(60) and changed.result().success


def test_an_unknown_rig_is_refused_in_words(make, capfd):
    node = make("-p", "rig:=nowhere")
    assert node.trigger_configure() == FAILURE
    assert "no rig file" in capfd.readouterr().err


def test_what_libraries_say_by_logging_is_the_nodes_own_words(make, capfd):
    make()
    library = logging.getLogger("robosteer_core.somewhere")
    for say in (library.warning, library.info, library.error):
        say("the hand is warm")
    said = [line.split()[0] for line in capfd.readouterr().err.splitlines() if "[diary]: the hand is warm" in line]
    assert said == ["[WARN]", "[INFO]", "[ERROR]"]


ALONE = """
import threading
from robosteer_ros.nodes.rig_node import RigNode, main
class Alone(RigNode):
    def __init__(self): super().__init__("alone")
    def activate(self):
        self.running.callback(self.say, "closed")
        self.say("ready")
    def say(self, word):
        called = threading.Event()
        timer = self.create_timer(0.01, called.set)
        print(word if called.wait(10) else "nothing calls back", flush=True)
        self.destroy_timer(timer)
main(Alone)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_process_ends_at_a_signal_and_closes_what_runs(number):
    """Callbacks come in both transitions: a node may wait for others when it begins, and ask them when it closes."""
    words = [sys.executable, "-c", ALONE, "--ros-args", "-p", "autostart:=true"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    assert process.communicate(timeout=20)[0] == "closed\n" and process.returncode == 0


def test_a_process_whose_autostart_is_refused_ends_with_exit_code_2():
    words = [sys.executable, "-c", ALONE, "--ros-args", "-p", "autostart:=true", "-p", "rig:=nowhere"]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2 and "no rig file" in ended.stderr and ended.stdout == ""


@pytest.mark.parametrize("content, words", [
    ("/cell/teleop: {ros__parameters: {devise: keyboard}}", "/cell/teleop has no parameter 'devise'; did you mean 'device'"),
    ("/**: {ros__parameters: {jpeg_quality: 95, devise: keyboard}}", "/** has no parameter 'devise'; did you mean 'device'"),
])  # fmt: skip
def test_a_process_whose_file_misspells_a_parameter_ends_with_exit_code_2(tmp_path, content, words):
    (tmp_path / "parameters.yaml").write_text(content)
    ros_words = ["--ros-args", "-r", "__ns:=/cell", "--params-file", str(tmp_path / "parameters.yaml")]
    ended = subprocess.run([sys.executable, "-m", "robosteer_ros.nodes.teleop", *ros_words], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2 and words in ended.stderr and "jpeg_quality'" not in ended.stderr


def test_nodes_start_without_what_is_slow_to_import_and_the_arms_go_on_without_what_may_be_missing_or_hang():
    """Of 0.5 s that a node imports scipy's rotations alone would be another 0.2 to 0.4. A robot PC may lack the training libraries."""
    slow = "scipy torch transformers peft mujoco matplotlib typer rich robosteer_core.heads robosteer_sim"
    nodes = [f"robosteer_ros.nodes.{name}" for name in ("arm", "camera", "policy", "recorder", "teleop")]
    drivers = [f"robosteer_ros.hardware.arm.{name}_driver" for name in ("franky", "panda_py")]
    program = f"import sys, {', '.join(nodes + drivers)}; print(sys.modules.keys() & set('{slow}'.split()))"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.stdout == "set()\n", ended.stdout + ended.stderr


def test_who_commands_the_arm_over_the_graph_needs_no_binding_of_the_robot():
    program = "import sys, robosteer_ros.graph.arm_link; print(sys.modules.keys() & {'franky', 'panda_py'})"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.stdout == "set()\n", ended.stdout + ended.stderr
