"""Does the recorder keep up: three cameras of 640x480 at 30 Hz, played from recordings of the SDK, every frame into the raw log and
one of each camera per tick of 30 Hz into the dataset.

    python tests/benchmarks/recorder_cameras.py [seconds] [folder]

The lab's cameras are drawn first, and the SDK records what they gave (colour and depth, a .db3 file for each). Then nothing is
drawn any more: a node for each camera plays its file in real time through the driver that a USB camera has, with the lab's
robot at wall time behind the arm's node (at rest: what is measured is the recorder), and this process is the operator. As root it asks for real-time
priority (SCHED_RR) for all of these, so that they have the two cores to themselves as far as that goes; the load is printed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import yaml
from rich.console import Console
from rich.progress import track
from rich.table import Table

from robosteer_core.rig import Camera, load_rig
from robosteer_core.runtime.frame_buffer import FrameWriter, segment_name

FPS, CAMERAS, DRAWN = 30, ("front", "wrist", "side"), 30
ROOT = Path(__file__).resolve().parents[2]


def record_cameras(rig, folder: Path, frames: int) -> None:
    """A file of the SDK for each camera. The third sees what the first does, later."""
    from robosteer_ros.hardware import lab_camera, realsense
    from robosteer_sim.studio import Studio

    class Recorded(lab_camera.LabCamera):
        def pipeline(self, config):
            config.enable_record_to_file(str(folder / f"{self._name.rpartition('-')[2]}.db3"))
            return super().pipeline(config)

    realsense.LabCamera = Recorded
    with ExitStack() as stack:
        studio = stack.enter_context(Studio(rig))
        studio.build("press the red button", 0, "none")
        qpos, pictures = studio.data.qpos.copy(), []
        for step in track(range(DRAWN), "drawing"):
            studio.pose(qpos + np.r_[0.01 * step, np.zeros(len(qpos) - 1)])
            pictures.append([studio.draw(camera, step + 1) for camera in rig.cameras[:2]])
        form = studio.format(rig.cameras[0])
        writers = {camera.name: stack.enter_context(FrameWriter(segment_name(rig, camera), form)) for camera in rig.cameras}
        for camera in rig.cameras:
            stack.enter_context(realsense.RealSense(camera, rig))
        began = time.monotonic()
        for number in track(range(frames), "the SDK records"):
            time.sleep(max(0.0, began + number / FPS - time.monotonic()))
            for place, writer in enumerate(writers.values()):
                colour, depth = pictures[(number + 7 * place) % DRAWN][place % 2]
                writer.write(number * 1_000_000_000 // FPS // 1000 * 1000, number, colour, depth)
        time.sleep(1.0)


def play(rig_file: str, name: str, file: str) -> None:
    """The node of one camera, whose driver plays a file in real time, over and over: the process of that camera."""
    from robosteer_ros.hardware import realsense
    from robosteer_ros.hardware.realsense_sdk import rs
    from robosteer_ros.nodes import camera

    class Played(realsense.SerialCamera):
        def __init__(self, serial, context=None):
            super().__init__(serial, context)
            self._offset_ns = None

        def pipeline(self, config):
            rs.config.enable_device_from_file(config, file, False)
            return rs.pipeline()

        def stamp_ns(self, frame, arrival_ns):
            """When it was captured in the recording, moved to now by the shortest delay seen."""
            captured_ns = round(frame.get_timestamp() * 1e6)
            delay_ns = arrival_ns - captured_ns
            self._offset_ns = delay_ns if self._offset_ns is None else min(self._offset_ns, delay_ns)
            return captured_ns + self._offset_ns

    realsense.SerialCamera = Played
    sys.argv = [name, "--ros-args", "-p", f"rig:={rig_file}", "-p", "autostart:=true", "-r", f"__node:={name}_camera"]
    camera.main()


@contextmanager
def child(*words: str, **options):
    process = subprocess.Popen([sys.executable, *words], env={**os.environ, "PYTHONPATH": str(ROOT)}, **options)
    try:
        yield process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()


def cpu_s(process: subprocess.Popen) -> float:
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def operate(rig, seconds: float, dataset: Path, recorder: subprocess.Popen) -> dict:
    """One episode: a command at every tick, as the node `teleop` would say it."""
    from robosteer_ros import ros
    from robosteer_ros.graph.messages import Stamps
    from robosteer_ros.ros import MultiThreadedExecutor, QoSProfile, sensor_msgs, std_srvs
    from robosteer_ros.steering import Steering

    ros.init(args=["operator"])
    node, stamps = ros.create_node("operator"), Stamps(rig)
    executor = MultiThreadedExecutor(num_threads=2)
    executor.add_node(node)
    threading.Thread(target=executor.spin, daemon=True).start()
    command = node.create_publisher(sensor_msgs.msg.Joy, "teleop/command", QoSProfile(depth=100))

    def ask(name: str) -> str:
        client = node.create_client(std_srvs.srv.Trigger, f"recorder/{name}")
        assert client.wait_for_service(120), "the recorder does not come up"
        answer = client.call(std_srvs.srv.Trigger.Request(), 120)
        assert answer.success, answer.message
        return answer.message

    ask("start")
    before, late = cpu_s(recorder), 0
    ticks, began = int(seconds * FPS), time.monotonic()
    for tick in range(ticks):
        time.sleep(max(0.0, began + tick / FPS - time.monotonic()))
        late += time.monotonic() - began - tick / FPS > 0.5 / FPS
        now_ns = time.monotonic_ns()
        command.publish(Steering(now_ns, np.zeros(7, np.float32), now_ns, deadman=True, driven=True).message(stamps))
    took, busy = time.monotonic() - began, cpu_s(recorder) - before
    ask("keep")
    executor.shutdown()
    return {"ticks": ticks, "late": late, "cores": busy / took}


def judge(rig, dataset: Path, told: dict) -> Table:
    from mcap.reader import make_reader

    from robosteer_core.episodes.check import check
    from robosteer_core.episodes.reader import Dataset

    # On a busy machine the arm at rest tells the same state to two ticks of 30 Hz; every row and image is whole.
    problems = [problem for problem in check(dataset).problems if "stamp_ns.state" not in problem]
    assert not problems, problems
    data = Dataset(dataset)
    table = Table("camera", "images in the log", "missing in between", "ticks in the dataset", "same image twice", "oldest image at a tick")
    with (dataset / "raw" / "episode_000000" / "episode_000000.mcap").open("rb") as file:
        stamps: dict[str, list[int]] = {}
        for _, channel, message in make_reader(file).iter_messages():
            if channel.topic.endswith("compressed"):
                seconds, nanoseconds = np.frombuffer(message.data[4:12], "<u4")
                stamps.setdefault(channel.topic.split("/")[1], []).append(int(seconds) * 1_000_000_000 + int(nanoseconds))
    for camera in rig.cameras:
        apart = np.round(np.diff(np.sort(stamps[camera.name])) * FPS / 1e9).astype(int)
        missing = int((apart - 1).clip(0).sum())
        used = data.column(f"stamp_ns.{camera.name}")
        age_ms = (data.column("stamp_ns.command") - used).max() / 1e6
        table.add_row(camera.name, str(len(stamps[camera.name])), str(missing), f"{len(data)} of {told['ticks']}", str(int((np.diff(used) == 0).sum())),
                      f"{age_ms:.0f} ms")  # fmt: skip
    return table


def main(seconds: float, folder: Path) -> None:
    console = Console()
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    lab = load_rig("lab")
    shown = [Camera(name=name, serial=f"lab:{name}", mount="fixed") for name in CAMERAS]
    drawn = lab.model_copy(update={"name": f"benchmark{os.getpid()}", "cameras": tuple(shown)})
    record_cameras(drawn, folder, int((seconds + 45) * FPS))
    content = lab.model_dump(mode="json")
    host = f"127.{os.getpid() // 250 % 250 + 1}.{os.getpid() % 250 + 1}.7"
    content["arm"]["address"] = host
    content["cameras"] = [Camera(name=name, serial=f"played:{name}", mount="fixed").model_dump() for name in CAMERAS]
    content["rates"]["policy_hz"], content["lab"] = float(FPS), None
    content["name"] = drawn.name
    real = folder / "rig.yaml"
    real.write_text(yaml.safe_dump(content))
    served = folder / "lab.yaml"
    served.write_text(yaml.safe_dump({**lab.model_dump(mode="json"), "arm": content["arm"], "lab": {"control": "127.0.0.1:0"}}))
    rig, dataset = load_rig(real), folder / "dataset"
    ros = ["--ros-args", "-p", f"rig:={real}", "-p", "autostart:=true"]
    with ExitStack() as stack:
        stack.enter_context(child("-m", "robosteer_core.cli", "sim", "serve", "--rig", str(served), "--host", host, "--pace", "real"))
        time.sleep(5.0)
        stack.enter_context(child("-m", "robosteer_ros.nodes.arm", *ros))
        for name in CAMERAS:
            stack.enter_context(child(__file__, "--play", str(real), name, str(folder / f"{name}.db3")))
        time.sleep(10.0)
        task = ["-p", "task:=press the red button", "-p", f"dataset:={dataset}"]
        recorder = stack.enter_context(child("-m", "robosteer_ros.nodes.recorder", *ros, *task))
        told = operate(rig, seconds, dataset, recorder)
    console.print(f"{seconds:g} s, load {os.getloadavg()[0]:.0f} on {os.cpu_count()} cores: the recorder took {told['cores']:.2f} cores, "
                  f"{told['late']} of {told['ticks']} commands of the operator were late")  # fmt: skip
    console.print(judge(rig, dataset, told))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--play"]:
        play(*sys.argv[2:])
    else:
        with TemporaryDirectory() as scratch:
            main(float(sys.argv[1]) if len(sys.argv) > 1 else 20.0, Path(sys.argv[2] if len(sys.argv) > 2 else scratch))
