"""`robosteer run` as its user types it: alone, and beside a graph that runs."""

import fcntl
import json
import os
import pty
import signal
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from mcap.reader import make_reader

import robosteer_sim
from robosteer_core.rig import load_rig
from robosteer_core.runtime.lab_link import LabLink

BASE = str(Path(robosteer_sim.__file__).parent / "pretrain" / "base")
TASK = "touch the red button"
ROBOSTEER = [sys.executable, "-m", "robosteer_core.cli"]


@pytest.fixture(scope="module")
def rig_file(new_rig):
    cameras = [camera.model_dump() | {"width": 160, "height": 120} for camera in load_rig("lab").cameras]
    return new_rig(cameras=cameras)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("run")


@pytest.fixture
def run(rig_file, folder):
    """A function that begins `robosteer run` with these words; its output is what `communicate` gives."""
    running = []

    def begin(*words, terminal=None, take=None):
        command = [*ROBOSTEER, "run", "--rig", str(rig_file), "--logs", str(folder / "logs"), *words]
        on_terminal = dict.fromkeys(("stdin", "stdout", "stderr"), terminal) | {"start_new_session": True, "preexec_fn": take}
        process = subprocess.Popen(command, **on_terminal if terminal else {"stderr": subprocess.PIPE}, text=True, cwd=folder)
        running.append(process)
        return process

    yield begin
    for process in running:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def graph(rig_file, folder):
    """Cameras, arm and the policy's node by `robosteer up`."""
    words = ["up", str(rig_file), "--only", "cameras,arm,policy", "--policy", "scripted", "--logs", str(folder / "up")]
    process = subprocess.Popen([*ROBOSTEER, *words], stdout=subprocess.PIPE, text=True, cwd=folder)
    said = []
    for line in process.stdout:
        said.append(line)
        if line.startswith("up after"):
            break
    else:
        pytest.fail("".join(said))
    yield process
    process.terminate()
    process.communicate(timeout=60)


def ended(process, timeout_s=120):
    said = process.communicate(timeout=timeout_s)[1]
    return process.returncode, said


def until(process, words):
    said = []
    for line in process.stderr:
        said.append(line)
        if words in line:
            return
    pytest.fail(f"it ended with exit code {process.wait(10)} before it said {words!r}:\n{''.join(said)}")


#: What a run is found by afterwards: what the arm was told, what it did, what the policy saw and was asked for. A camera is
#: here twice, as front and as wrist.
LOGGED = {
    "arm": ("joint_states", "arm/pose", "arm/commanded_pose", "arm/wrench", "arm/status", "arm/answers", "/tf"),
    "gripper": ("gripper/width",),
    "policy": ("arm/policy/chunk", "arm/policy/gripper_chunk", "policy/status", "policy/instruction_in_use"),
    "front_camera": ("front/color/image_raw/compressed", "front/color/camera_info"),
    "wrist_camera": ("wrist/color/image_raw/compressed", "wrist/color/camera_info"),
    "supervisor": ("/diagnostics",),
}


def require_log(folder):
    """By MCAP's own reader: the log of a run that did its task has what the arm did, and says whose it was."""
    summary = json.loads((folder / "summary.json").read_text())
    with (folder / f"{folder.name}.mcap").open("rb") as file:
        reader = make_reader(file)
        found = reader.get_summary()
        counts = {found.channels[number].topic: count for number, count in found.statistics.channel_message_counts.items()}
        times = {topic: [message.log_time for *_, message in reader.iter_messages(topic)] for topic in ("/joint_states", "/arm/policy/chunk")}
    assert {topic: said["messages"] for topic, said in summary["topics"].items()} == counts and min(counts.values()) > 0
    for node, topics in LOGGED.items():
        for topic in topics:
            assert f"/{node}" in summary["topics"][f"/{topic.lstrip('/')}"]["nodes"], (node, topic)
    assert len(counts) >= 15 and len({node for said in summary["topics"].values() for node in said["nodes"]}) >= 6
    assert (summary["outcome"], summary["success"], summary["error"], summary["log_is_whole"]) == ("stopped", True, "", True)
    assert (summary["instruction"], summary["policy"], summary["loop"]["missed_ticks"]) == (TASK, "scripted", 0)
    # Between the policy's first command and its last, at robot time, the states of all set-points.
    first, last = times["/arm/policy/chunk"][0], times["/arm/policy/chunk"][-1]
    assert sum(first <= time <= last for time in times["/joint_states"]) >= 0.99 * 100 * (last - first) / 1e9
    assert last - first > 0.8e9 * summary["loop"]["ticks"] / 15
    assert counts["/front/color/image_raw/compressed"] > 0.9 * 30 * summary["loop"]["ticks"] / 15


def test_from_nothing_to_a_task_that_is_done_and_nothing_is_left(run, rig_file, folder):
    code, said = ended(run("--policy", "scripted", "--task", TASK))
    assert code == 0 and "the task is done" in said, said
    assert "age of the frame at the command" in said and "skew of the stamps" in said
    (log,) = (folder / "runs" / "policy").iterdir()
    assert f"log of the run: runs/policy/{log.name}" in said
    require_log(log)
    left = subprocess.run(["pgrep", "-f", str(rig_file)], capture_output=True, text=True).stdout.split()
    assert not left


def test_a_task_that_is_not_done_is_exit_code_1(graph, run):
    code, said = ended(run("--task", TASK, "--seconds", "0.5"))
    assert code == 1 and "the task was not done: its time is over" in said, said


def test_a_second_run_is_refused_and_disturbs_nothing_of_the_first(graph, run, rig, folder):
    first = run("--instruction", TASK)
    until(first, "ticks")
    with LabLink(rig.lab.control, "test") as lab:
        resets = lab.status()["generation"]
        code, said = ended(run("--task", "open the drawer", "--seed", "5", "--policy", "nowhere", "--seconds", "1"))
        assert code == 2 and "the policy runs: policy/stop ends it" in said and "log of the run" not in said, said
        assert lab.status()["generation"] == resets
    subprocess.run([*ROBOSTEER, "param", "set", "policy", "instruction", "press the red button"], check=True, capture_output=True)
    until(first, "ticks")
    first.send_signal(signal.SIGINT)
    said = ended(first)[1]
    summary = json.loads((folder / said.partition("log of the run: ")[2].split()[0] / "summary.json").read_text())
    assert (summary["error"], summary["outcome"], summary["instructions"]) == ("", "stopped", [TASK, "press the red button"])


def test_a_terminal_that_is_closed_ends_a_run_as_ctrl_c_does(graph, run, folder):
    terminal, end = pty.openpty()

    def take() -> None:
        fcntl.ioctl(end, termios.TIOCSCTTY)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever tests under `nohup` hands on that it is ignored

    process = run("--instruction", TASK, "--out", "closed", terminal=end, take=take)
    os.close(end)
    said = b""
    while b"ticks" not in said:
        said += os.read(terminal, 4096)
    os.close(terminal)
    assert process.wait(60) == 130
    (log,) = (folder / "closed").iterdir()
    summary = json.loads((log / "summary.json").read_text())
    assert (summary["outcome"], summary["error"], summary["log_is_whole"]) == ("stopped", "", True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_holds_the_arm_and_stops_it_and_leaves_the_graph_as_it_was(graph, run, rig, number):
    process = run("--instruction", TASK)
    until(process, "ticks")
    process.send_signal(number)
    code, said = ended(process)
    assert code == 130 and "the arm has held and released" in said, said
    status = subprocess.run([*ROBOSTEER, "service", "call", "arm/report", "std_srvs/srv/Trigger"], capture_output=True, text=True).stdout
    assert all(said in status for said in ('"mode": "idle"', '"motion": null', '"last_error": null')), status
    assert graph.poll() is None


def test_what_breaks_is_told_in_words(graph, run, rig):
    process = run("--instruction", TASK)
    until(process, "ticks")
    with LabLink(rig.lab.control, "test") as lab:
        lab.fault("reflex", error="cartesian_reflex")
    code, said = ended(process)
    assert code == 2 and "cartesian_reflex" in said, said
    subprocess.run([*ROBOSTEER, "service", "call", "arm/recover", "std_srvs/srv/Trigger"], check=True, capture_output=True)


def test_another_policy_takes_the_place_of_the_one_that_the_node_has_and_one_that_cannot_be_had_does_not(graph, run):
    brief = ("--instruction", TASK, "--seconds", "0.2", "--policy")
    code, said = ended(run(*brief, "nowhere"))
    assert code == 2 and "no policy 'nowhere'" in said and "log of the run" not in said, said
    code, said = ended(run(*brief, BASE, "--device", "moon"))
    assert code == 2 and "the policy cannot run on 'moon' here" in said, said
    code, said = ended(run(*brief, BASE, "--device", "cpu", "--no-log"))
    assert code == 0 and "its time is over" in said and "log of the run" not in said, said
    status = subprocess.run([*ROBOSTEER, "topic", "echo", "policy/status", "--once"], capture_output=True, text=True).stdout
    assert BASE in status


@pytest.mark.parametrize("words, refusal", [
    ((), "say what to do"), (("--instruction", " "), "say what to do"), (("--task", "juggle"), "unknown task 'juggle'"),
    (("--instruction", "wave", "--adapter", "here"), "an adapter is given without its policy"),
    (("--instruction", "wave", "--rig", "panda_lab"), "runs already, for rig"),
    (("--instruction", "wave", "--out", "/proc/runs"), "the folder /proc/runs cannot be written"),
    (("--instruction", "wave", "--policy", "scripted", "--namespace", "cell", "--logs", "/proc/logs"), "the folder /proc/logs cannot be written"),
    (("--instruction", "wave", "--namespace", "cell"), "nobody serves /cell/policy/start"),
])  # fmt: skip
def test_what_cannot_be_run_is_refused(graph, run, words, refusal):
    code, said = ended(run(*words))
    assert code == 2 and refusal in said and "starting" not in said, said
