"""How long `robosteer up` takes from nothing until a policy moves the arm of the simulated lab, and where the time goes.

    python tests/benchmarks/bringup_time.py [policy] [runs]

Each run starts `robosteer up` on a lab of its own, calls policy/start as soon as everything is active, and ends when the arm's
commanded pose has changed. The aim is 20 s on two quiet cores. The load of the machine is told with each run. Where others work on
it, `chrt -r 1` before the command keeps them away for that time; all processes of the graph inherit it.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from robosteer_core.rig import load_rig
from robosteer_core.runtime.lab_processes import ROBOSTEER, private_rig
from robosteer_ros import ros
from robosteer_ros.graph.participant import spinning
from robosteer_ros.ros import SignalHandlerOptions, geometry_msgs, std_msgs, std_srvs

BASE = Path(__file__).resolve().parents[2] / "robosteer_sim/pretrain/base"
INSTRUCTION = "press the red button"
PATIENCE_S = 300


def main(policy: str, runs: int) -> None:
    for number in range(runs):
        with TemporaryDirectory() as folder:
            # A domain of its own, or nodes of another graph would be taken for these.
            os.environ["ROS_DOMAIN_ID"] = str(10 + (os.getpid() + number) % 90)
            print(f"run {number + 1}, load {os.getloadavg()[0]:.1f}")
            for what, seconds in measure(policy, Path(folder)):
                print(f"  {seconds:6.1f} s  {what}")


def measure(policy: str, folder: Path) -> list[tuple[str, float]]:
    """What happened, and after how many seconds."""
    _, path = private_rig(load_rig("lab"), folder)
    began, events, up = time.monotonic(), [], threading.Event()
    command = [*ROBOSTEER, "up", str(path), "--policy", policy, "--logs", str(folder / "logs")]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"}
    )

    def listen() -> None:
        for line in process.stdout:
            if "up after" in line or "up without" in line:
                up.set()
            line = re.sub(r"^\[.*?\]: ", "", line.strip())
            if not re.search(r"starting$|deactivating|ended|going down|ROS 2 by", line):
                events.append((line, time.monotonic() - began))

    listening = threading.Thread(target=listen)
    listening.start()
    try:
        if not up.wait(PATIENCE_S):
            raise SystemExit("not up: " + "; ".join(what for what, _ in events))
        ros.init(args=["--ros-args", "--log-level", "warn"], signal_handler_options=SignalHandlerOptions.NO)
        node, moved, first = ros.create_node("watcher"), threading.Event(), []

        def look(message: geometry_msgs.msg.PoseStamped) -> None:
            first.append(message.pose.position)
            if any(abs(getattr(message.pose.position, axis) - getattr(first[0], axis)) > 1e-3 for axis in "xyz"):
                moved.set()

        with spinning(node):
            node.create_subscription(geometry_msgs.msg.PoseStamped, "arm/commanded_pose", look, 100)
            instruct = node.create_publisher(std_msgs.msg.String, "policy/instruction", 1)
            while not instruct.get_subscription_count():  # the policy's node hears what is said from then on
                if time.monotonic() - began > PATIENCE_S:
                    raise SystemExit("nobody hears policy/instruction")
                time.sleep(0.005)
            instruct.publish(std_msgs.msg.String(data=INSTRUCTION))
            start = node.create_client(std_srvs.srv.Trigger, "policy/start")
            answer, done = None, threading.Event()
            while answer is None or not answer.result().success:
                if not start.wait_for_service(timeout_sec=PATIENCE_S):
                    raise SystemExit("nobody serves policy/start")
                done.clear()
                answer = start.call_async(std_srvs.srv.Trigger.Request())
                answer.add_done_callback(lambda _: done.set())
                if not done.wait(PATIENCE_S):
                    raise SystemExit("policy/start does not answer")
                events.append((f"policy/start: {answer.result().message}", time.monotonic() - began))
                if time.monotonic() - began > PATIENCE_S:
                    raise SystemExit(events[-1][0])
            if not moved.wait(PATIENCE_S):
                raise SystemExit("the arm does not move")
            events.append(("the arm moves", time.monotonic() - began))
            spent = processor_s(process.pid)
        ros.try_shutdown()
        ending = time.monotonic()
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE_S)
    finally:
        process.kill()
        listening.join()
    events.append(("to bring it down", time.monotonic() - ending))
    events.append((f"of the processor's time until the arm moved: {', '.join(f'{s:.1f} {what}' for what, s in spent)}", sum(s for _, s in spent)))
    return events


def processor_s(pid: int) -> list[tuple[str, float]]:
    """Seconds of the processor that a process and its children have had, each by the last words of its command."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            words = (stat.parent / "cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        if pid in (int(fields[1]), int(stat.parent.name)):
            name = " ".join(words[2:5] if "cli" in words[2] else [words[2], *(word for word in words if "__node" in word)])
            found.append((name.replace("robosteer_core.cli ", ""), (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")))
    return sorted(found, key=lambda each: -each[1])


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else str(BASE), int(sys.argv[2]) if len(sys.argv) > 2 else 1)
