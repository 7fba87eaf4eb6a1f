"""`robosteer run` as its user types it: alone, and beside a graph that runs."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

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

    def begin(*words):
        command = [*ROBOSTEER, "run", "--rig", str(rig_file), "--logs", str(folder / "logs"), *words]
        running.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=folder))
        return running[-1]

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


def test_from_nothing_to_a_task_that_is_done_and_nothing_is_left(run, rig_file):
    code, said = ended(run("--policy", "scripted", "--task", TASK))
    assert code == 0 and "the task is done" in said, said
    assert "age of the frame at the command" in said and "skew of the stamps" in said
    left = subprocess.run(["pgrep", "-f", str(rig_file)], capture_output=True, text=True).stdout.split()
    assert not left


def test_a_task_that_is_not_done_is_exit_code_1(graph, run):
    code, said = ended(run("--task", TASK, "--seconds", "0.5"))
    assert code == 1 and "the task was not done: its time is over" in said, said


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
    assert code == 2 and "no policy 'nowhere'" in said, said
    code, said = ended(run(*brief, BASE))
    assert code == 0 and "its time is over" in said, said
    status = subprocess.run([*ROBOSTEER, "topic", "echo", "policy/status", "--once"], capture_output=True, text=True).stdout
    assert BASE in status


@pytest.mark.parametrize("words, refusal", [
    ((), "say what to do"), (("--task", "juggle"), "unknown task 'juggle'"),
    (("--instruction", "wave", "--adapter", "here"), "an adapter is given without its policy"),
])  # fmt: skip
def test_what_cannot_be_run_is_refused(graph, run, words, refusal):
    code, said = ended(run(*words))
    assert code == 2 and refusal in said, said
