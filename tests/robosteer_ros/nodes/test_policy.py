"""The policy's node in the lab: what its services begin and end, what it tells, and how it ends when something breaks."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from websockets.sync.server import serve

from robosteer_core.adapters.store import AdapterRecord, base_of, save_adapter
from robosteer_core.errors import UserError
from robosteer_core.evaluation.ndarray_packing import pack
from robosteer_core.rig import load_rig
from robosteer_core.runtime.lab_link import LabLink
from robosteer_core.vla.checkpoint import load_policy
from robosteer_ros import ros
from robosteer_ros.graph.messages import values_of
from robosteer_ros.graph.participant import is_there, parameters, spinning
from robosteer_ros.graph.policy_console import PolicyConsole
from robosteer_ros.graph.qos import LATCHED
from robosteer_ros.nodes.policy import PolicyNode
from robosteer_ros.ros import diagnostic_msgs, lifecycle_msgs, std_msgs, std_srvs

TASK = "touch the red button"
SHIPPED = Path(__file__).resolve().parents[3] / "robosteer_sim" / "pretrain" / "base"


@pytest.fixture(scope="module")
def rig_file(new_rig):
    cameras = [camera.model_dump() | {"width": 160, "height": 120} for camera in load_rig("lab").cameras]
    return new_rig(cameras=cameras)


@pytest.fixture(scope="module")
def others(rig_file, start, start_lab, start_node):
    """The lab, and the nodes of its arm and of its cameras."""
    with ExitStack() as running:
        running.enter_context(start_lab(rig_file))
        running.enter_context(start("sim", "cameras", "--rig", str(rig_file), line="cameras"))
        for name, words in (("arm", ()), ("camera", ("-r", "__node:=front_camera")), ("camera", ("-r", "__node:=wrist_camera"))):
            running.enter_context(start_node(name, rig_file, *words))
        yield


class Graph:
    """The node, and a peer that asks it and hears it."""

    def __init__(self, rig_file, **given):
        given = {"rig": str(rig_file), "policy": "scripted"} | given
        ros.init(args=["test", "--ros-args", *(word for name, value in given.items() for word in ("-p", f"{name}:={value}"))])
        self.node, self.peer = PolicyNode(), ros.create_node("peer")
        self.executor = ros.MultiThreadedExecutor(num_threads=4)
        for node in (self.node, self.peer):
            self.executor.add_node(node)
        self.news, self.status, self.in_use = threading.Condition(), {}, []
        self.peer.create_subscription(diagnostic_msgs.msg.DiagnosticArray, "policy/status", self._hear, LATCHED)
        self.peer.create_subscription(std_msgs.msg.String, "policy/instruction_in_use", self._use, LATCHED)
        self.instruct = self.peer.create_publisher(std_msgs.msg.String, "policy/instruction", 10)
        self._clients = {name: self.peer.create_client(std_srvs.srv.Trigger, f"policy/{name}") for name in ("start", "stop")}
        threading.Thread(target=self.executor.spin, daemon=True).start()

    def begin(self):
        """Configure, and activate once the other nodes are up, as the supervisor does."""
        assert self.node.trigger_configure() == ros.TransitionCallbackReturn.SUCCESS
        deadline = time.monotonic() + 180
        while self.node.trigger_activate() != ros.TransitionCallbackReturn.SUCCESS:
            assert time.monotonic() < deadline

    def _hear(self, message):
        with self.news:
            self.status = values_of(message)
            self.news.notify_all()

    def _use(self, message):
        with self.news:
            self.in_use.append(message.data)
            self.news.notify_all()

    def call(self, name):
        assert self._clients[name].wait_for_service(10)
        answer = self._clients[name].call(std_srvs.srv.Trigger.Request(), 60)
        return answer.success, answer.message

    def until(self, **wanted):
        """The first status that says so."""
        with self.news:
            assert self.news.wait_for(lambda: all(self.status.get(key) == value for key, value in wanted.items()), 60), self.status
            return dict(self.status)

    def until_in_use(self, wanted):
        with self.news:
            assert self.news.wait_for(lambda: self.in_use == wanted, 60), self.in_use

    def close(self):
        self.node.close()
        self.executor.shutdown()
        self.node.destroy_node()
        self.peer.destroy_node()
        ros.try_shutdown()


@pytest.fixture
def graph(others, rig_file):
    """`graph(policy=..., ...)`: a started node with these parameters."""
    made = []

    def make(**given):
        made.append(Graph(rig_file, **given))
        made[-1].begin()
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def lab(others, rig):
    with LabLink(rig.lab.control, "test") as link:
        yield link


def test_a_run_does_its_task_and_tells_how_it_went(graph, lab):
    peers = graph(instruction=TASK, seconds=6.0)
    lab.reset(TASK, 0, hold=True)
    assert peers.until(state="ready")["instruction"] == TASK
    assert peers.call("start") == (True, f"run 1: {TASK}")
    told = peers.until(state="ready", run="1", outcome="over")
    assert told["error"] == "" and peers.in_use == [TASK] and lab.truth()["success"]
    assert float(told["ticks"]) == 90 and float(told["rate_hz"]) == pytest.approx(15, abs=0.05)
    assert float(told["missed_ticks"]) == float(told["late_ticks_percent"]) == 0
    assert float(told["skew_ms_largest"]) < 1e-5, "frames and states of the lab are of the tick"
    assert 0 <= float(told["frame_age_ms_largest"]) <= 34


def test_stop_comes_through_and_leaves_the_arm_where_it_was_commanded_to_be(graph, lab):
    peers = graph(instruction=TASK)
    lab.reset(TASK, 0, hold=True)
    peers.call("start")
    peers.until_in_use([TASK])
    assert peers.call("start") == (False, "the policy runs already: policy/stop ends the run")
    assert peers.call("stop") == (True, "held and released")
    assert peers.until(state="ready")["outcome"] == "stopped"
    arm = peers.node._station.arm
    status, state = arm.status(), arm.state()
    assert (status["mode"], status["motion"], status["last_error"]) == ("idle", None, None)
    assert np.linalg.norm(state.measured.position - arm.state().measured.position) < 1e-4
    assert peers.call("stop") == (True, "nothing ran")


def test_another_instruction_is_taken_while_it_runs(graph, lab):
    peers = graph(instruction=TASK)
    lab.reset(TASK, 0, hold=True)
    peers.call("start")
    peers.until_in_use([TASK])
    peers.instruct.publish(std_msgs.msg.String(data="  touch the red cube "))
    peers.until_in_use([TASK, "touch the red cube"])
    peers.call("stop")
    assert peers.until(state="ready")["instruction"] == "touch the red cube"
    peers.node.set_parameters([ros.Parameter("instruction", value=TASK)])
    assert peers.call("start") == (True, f"run 2: {TASK}")


def test_who_asks_for_another_run_while_one_goes_is_refused_and_changes_nothing(graph, lab):
    peers = graph(instruction=TASK, seconds=1000.0)
    lab.reset(TASK, 0, hold=True)
    second = PolicyConsole(peers.peer)
    names = ("policy", "device", "instruction", "seconds", "executed", "seed")
    before = parameters(peers.peer, "policy", *names)
    assert peers.call("start")[0]
    peers.until_in_use([TASK])
    with pytest.raises(UserError, match="the policy runs: policy/stop ends it"):
        second.set(policy="nowhere", device="moon", instruction="open the drawer", seconds=1.0, executed=3, seed=7)
    assert parameters(peers.peer, "policy", *names) == before
    with pytest.raises(UserError, match="the policy runs"):
        second.set(seconds=1.0)
    second.set(instruction="touch the red cube")
    peers.until_in_use([TASK, "touch the red cube"])
    peers.call("stop")
    second.set(policy="scripted", instruction=TASK, seconds=0.5)


def test_of_two_who_set_what_they_run_before_either_starts_the_second_is_refused_until_the_first_has_gone(graph, lab):
    peers = graph(instruction=TASK, seconds=0.5)
    lab.reset(TASK, 0, hold=True)
    first_node, wishes = ros.create_node("first"), {"instruction": "open the drawer", "seconds": 0.4, "seed": 7}
    with spinning(first_node):
        first, second = PolicyConsole(first_node), PolicyConsole(peers.peer)
        first.set(instruction=TASK, seconds=0.5, seed=3)
        with pytest.raises(UserError, match="/first has set what it runs: wait for its end"):
            second.set(**wishes)
        assert not peers.node.set_parameters([ros.Parameter("seed", value=7)])[0].successful
        assert parameters(peers.peer, "policy", "instruction", "seconds", "seed") == [TASK, 0.5, 3]
        assert first.start() == "1"
        peers.until(run="1", outcome="over")
    deadline = time.monotonic() + 20
    while is_there(peers.node, "/first"):
        assert time.monotonic() < deadline
    second.set(**wishes)
    assert parameters(peers.peer, "policy", "instruction", "seconds", "seed", "owner") == [*wishes.values(), "/peer"]


def test_a_policy_that_cannot_be_loaded_is_not_kept_and_the_next_run_has_the_one_that_is(graph, lab):
    peers = graph(instruction=TASK, seconds=0.5)
    lab.reset(TASK, 0, hold=True)
    asked = PolicyConsole(peers.peer)
    asked.set(policy="nowhere", adapter="beside/it", device="moon")
    with pytest.raises(UserError, match="no policy 'nowhere'"):
        asked.start()
    assert parameters(peers.peer, "policy", "policy", "adapter", "device") == ["scripted", "", "cpu"]
    assert asked.start() == "1"
    assert peers.until(run="1", outcome="over")["error"] == ""


@pytest.fixture
def broken_policy(tmp_path, monkeypatch):
    """The name of an installed policy that breaks while it loads."""
    (tmp_path / "broken.py").write_text("def load(rig):\n    return 1 / 0\n")
    about = tmp_path / "broken-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[robosteer.policies]\nbroken = broken:load\n")
    monkeypatch.syspath_prepend(tmp_path)
    return "broken"


def test_a_policy_that_breaks_while_it_loads_is_a_failed_load_and_the_node_lives(graph, lab, broken_policy, capfd):
    peers = graph(instruction=TASK, seconds=0.5)
    lab.reset(TASK, 0, hold=True)
    asked = PolicyConsole(peers.peer)
    asked.set(policy=broken_policy)
    with pytest.raises(UserError, match="the policy 'broken' cannot be loaded: ZeroDivisionError: division by zero"):
        asked.start()
    assert "broken.py\", line 2, in load" in capfd.readouterr().err, "the traceback is in the log"
    assert asked.start() == "1"
    assert peers.until(run="1", outcome="over")["policy"] == "scripted"


def test_a_node_whose_policy_breaks_while_it_is_configured_waits_for_another_one(others, rig_file, broken_policy):
    peers = Graph(rig_file, policy=broken_policy)
    try:
        assert peers.node.trigger_configure() == ros.TransitionCallbackReturn.FAILURE
        assert peers.node.refusal == "the policy 'broken' cannot be loaded: ZeroDivisionError: division by zero"
        peers.node.set_parameters([ros.Parameter("policy", value="scripted")])
        assert peers.node.trigger_configure() == ros.TransitionCallbackReturn.SUCCESS
    finally:
        peers.close()


def test_the_scripted_policy_refuses_what_is_not_in_the_scene(graph, lab):
    peers = graph(instruction="touch the yellow bowl")
    lab.reset("open the drawer", 0, hold=True)
    peers.call("start")
    told = peers.until(state="ready", outcome="failed")
    assert told["error"].startswith("'touch the yellow bowl': the scene has no yellow_bowl; ask for something with ")


def test_another_adapter_is_put_into_the_base_that_is_there(graph, lab, tmp_path):
    base = load_policy(SHIPPED)
    source, sha256 = base_of(base)
    for name in ("one", "two"):  # of no heads: the base with the statistics that are in it
        save_adapter(base, tmp_path / name, AdapterRecord(
            heads=(), scored_part=None, trained_part="vlm", kv="none", rank=1, alpha=1, base=source, base_sha256=sha256, dataset=name,
            instructions=(name,), state=base.config.state, action=base.config.action,
        ))  # fmt: skip
    peers = graph(policy=str(SHIPPED), adapter=str(tmp_path / "one"), instruction=TASK, seconds=0.5)
    lab.reset(TASK, 0, hold=True)
    asked, loaded = PolicyConsole(peers.peer), peers.node._policy
    for adapter, run in ((tmp_path / "two", "1"), (tmp_path / "absent", None), ("", "2")):
        asked.set(adapter=str(adapter))
        if run is None:
            with pytest.raises(UserError, match="no adapter in"):
                asked.start()
            continue
        assert asked.start() == run
        assert peers.until(run=run, outcome="over")["adapter"] == str(adapter)
        assert peers.node._policy is loaded


@pytest.fixture
def late_policy():
    """The address of a policy that loads until the event is set: a server that does not tell its metadata yet."""
    go_on = threading.Event()

    def tell_late(connection):
        go_on.wait(60)
        connection.send(pack({"model": "test"}))
        connection.recv()

    with serve(tell_late, "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}", go_on
        go_on.set()
        server.shutdown()


def test_while_its_policy_loads_the_node_says_so_and_answers_and_who_wants_to_run_it_waits(others, rig_file, late_policy):
    address, go_on = late_policy
    peers = Graph(rig_file, policy=address)
    try:
        asked = PolicyConsole(peers.peer)
        change = peers.peer.create_client(lifecycle_msgs.srv.ChangeState, "policy/change_state")
        assert change.wait_for_service(60)
        configure = lifecycle_msgs.srv.ChangeState.Request()
        configure.transition.id = lifecycle_msgs.msg.Transition.TRANSITION_CONFIGURE
        configured = change.call_async(configure)
        peers.until(state="loading")
        assert parameters(peers.peer, "policy", "rig") == [str(rig_file)]
        waiting = threading.Thread(target=asked.await_ready)
        waiting.start()
        assert waiting.is_alive() and not configured.done()
        go_on.set()
        peers.until(state="inactive")
        assert waiting.is_alive() and peers.node.trigger_activate() == ros.TransitionCallbackReturn.SUCCESS
        waiting.join(60)
        assert not waiting.is_alive() and asked.status["state"] == "ready"
    finally:
        peers.close()


def test_a_run_that_is_stopped_while_its_policy_loads_does_not_begin(graph, lab, late_policy):
    address, go_on = late_policy
    peers = graph(instruction=TASK)
    lab.reset(TASK, 0, hold=True)
    PolicyConsole(peers.peer).set(policy=address)
    with ThreadPoolExecutor() as pool:
        started = pool.submit(peers.call, "start")
        peers.until(state="loading")
        assert peers.call("stop") == (True, "nothing ran")
        go_on.set()
        assert started.result() == (False, "the run was stopped before it began")
    assert "run" not in peers.until(state="ready", policy=address)


@pytest.mark.parametrize("kind, given, words", [
    ("reflex", {"error": "cartesian_reflex"}, "cartesian_reflex"),
    ("camera_stop", {"camera": "front", "seconds": 1000.0}, "no frame captured at"),
])  # fmt: skip
def test_what_breaks_ends_the_run_in_words_and_the_next_one_works(graph, lab, rig_file, kind, given, words):
    peers = graph(instruction=TASK, seconds=30.0)
    lab.reset(TASK, 0, hold=True)
    assert peers.call("start")[0]
    lab.fault(kind, **given)
    told = peers.until(state="ready", outcome="failed")
    assert words in told["error"]
    arm = peers.node._station.arm
    assert arm.status()["motion"] is None
    lab.clear()
    if kind == "reflex":
        success, refusal = peers.call("start")
        assert not success and f"recover it before it may start: `robosteer arm recover --rig {rig_file}`" in refusal
        arm.recover()
    lab.reset(TASK, 1, hold=True)
    peers.node.set_parameters([ros.Parameter("seconds", value=0.5)])
    assert peers.call("start")[0]
    assert peers.until(state="ready", outcome="over")["error"] == ""


def test_without_an_instruction_nothing_starts(graph):
    success, refusal = graph().call("start")
    assert not success and "publish one on policy/instruction" in refusal


def test_an_inactive_node_starts_nothing_and_a_deactivated_one_ends_its_run(graph, lab):
    peers = graph(instruction=TASK)
    lab.reset(TASK, 0, hold=True)
    peers.call("start")
    peers.node.trigger_deactivate()
    assert peers.until(state="inactive")["outcome"] == "stopped"
    assert peers.call("start") == (False, "the policy node is not active: configure and activate it")


def test_a_policy_that_cannot_be_had_is_refused_when_it_is_configured(others, rig_file, capfd):
    peers = Graph(rig_file, policy="nowhere")
    try:
        assert not peers.node.start() and "no policy 'nowhere'" in capfd.readouterr().err
    finally:
        peers.close()


def test_a_run_begins_also_where_no_scene_waits_for_it(graph, lab):
    peers = graph(instruction=TASK, seconds=0.5)
    lab.reset(TASK, 0)
    for number in "12":
        assert peers.call("start")[0]
        assert peers.until(state="ready", run=number, outcome="over")["error"] == ""
