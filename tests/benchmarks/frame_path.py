"""What it costs to hand frames from the camera nodes to a policy on the same machine: shared memory beside image topics.

    python tests/benchmarks/frame_path.py [seconds] [rounds] [report.json]

Two cameras of 640x480 at 30 Hz (colour and depth, put where the lab's cameras put theirs, so that the SDK and its alignment are
real), 1 kHz of poses over DDS, and a reader at 15 Hz like a policy's loop: it takes all frames since its last tick, waits for one of
now of each camera, and is busy elsewhere for 20 ms. Three ways in turn, in one run:

- driver: the SDK in the reader's own process, as without a graph;
- shared memory: a node for each camera, the reader has `CameraLink`;
- topics: a node for each camera, the reader subscribes to colour and aligned depth. Where ROS 2 is sourced, that is plain rclpy.

Latency: from before the frame goes into the SDK until the reader has colour and depth as arrays. What the node adds is the
difference from `driver`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import yaml
from rich.console import Console
from rich.progress import track
from rich.table import Table

from robosteer_core.errors import UserError
from robosteer_core.rig import load_rig
from robosteer_core.runtime.frame import CameraError, Intrinsics
from robosteer_core.runtime.frame_buffer import BufferFormat, FrameWriter, segment_name

WAYS = ("driver", "shared memory", "topics")
SIZE, FPS, TICK_HZ, POSE_HZ, BUSY_S, LATE_S = (640, 480), 30, 15, 1000, 0.02, 0.01


class Feeder(threading.Thread):
    """Writes frames into the segments of the lab's cameras, stamped with the monotonic clock; `fed` has the stamps."""

    def __init__(self, rig) -> None:
        super().__init__(daemon=True)
        (width, height), self._ended = SIZE, threading.Event()
        form = BufferFormat(Intrinsics(width, height, 600.0, 600.0, width / 2 - 0.5, height / 2 - 0.5), 0.001, FPS)
        self._writers = {camera.name: FrameWriter(segment_name(rig, camera), form) for camera in rig.cameras}
        random = np.random.default_rng(0)
        self._colours = random.integers(0, 256, (4, height, width, 3), np.uint8)
        self._depths = random.integers(300, 3000, (4, height, width), np.uint16)
        self.fed = {name: [] for name in self._writers}

    def run(self) -> None:
        began, number = time.monotonic(), 0
        while not self._ended.wait(max(0.0, began + number / FPS - time.monotonic())):
            for name, writer in self._writers.items():
                # The SDK has stamps as milliseconds in a double: whole microseconds survive it.
                stamp_ns = time.monotonic_ns() // 1000 * 1000
                writer.write(stamp_ns, number, self._colours[number % 4], self._depths[number % 4])
                self.fed[name].append(stamp_ns)
            number += 1

    def end(self) -> None:
        self._ended.set()
        self.join()
        for writer in self._writers.values():
            writer.close()


class Driver:
    """A camera by the SDK in this process, or through its node: whatever has `next` and `read`."""

    def __init__(self, camera) -> None:
        self._camera, self.taken = camera, []

    def read(self, not_before_ns: int) -> float:
        """Milliseconds from the capture of the first frame of then or later, once it is there; takes all before."""
        while True:
            frame = self._camera.next()
            self.taken.append(frame.stamp_ns)
            if frame.stamp_ns >= not_before_ns:
                return (time.monotonic_ns() - frame.stamp_ns) / 1e6


class Topics:
    """A camera by its colour and its aligned depth as image topics."""

    def __init__(self, camera, node) -> None:
        from robosteer_ros.ros import qos_profile_sensor_data, sensor_msgs

        self._news, self._halves, self.taken = threading.Condition(), {}, []
        for topic, kind in (("color", np.uint8), ("aligned_depth_to_color", np.uint16)):
            node.create_subscription(
                sensor_msgs.msg.Image, f"{camera.name}/{topic}/image_raw", self._taker(topic, kind), qos_profile_sensor_data
            )

    def _taker(self, topic, kind):
        def take(message) -> None:
            pixels = np.asarray(message.data).view(kind).reshape(message.height, message.width, -1)
            stamp_ns = message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec
            with self._news:
                halves = self._halves.setdefault(stamp_ns, {})
                halves[topic] = pixels
                if len(halves) == 2:
                    del self._halves[stamp_ns]
                    self.taken.append(stamp_ns)
                    self._news.notify()

        return take

    def read(self, not_before_ns: int) -> float:
        with self._news:
            if not self._news.wait_for(lambda: self.taken and self.taken[-1] >= not_before_ns, 5.0):
                raise CameraError("no image within 5 s")
            return (time.monotonic_ns() - next(stamp for stamp in self.taken if stamp >= not_before_ns)) / 1e6


def reader(rig_file: str, way: str, seconds: float) -> dict:
    """One phase, in a process of its own."""
    from robosteer_ros import ros
    from robosteer_ros.graph.camera_link import CameraLink
    from robosteer_ros.hardware.realsense import RealSense
    from robosteer_ros.ros import MultiThreadedExecutor, QoSProfile, geometry_msgs

    rig, poses = load_rig(rig_file), []
    ros.init(args=["reader"])
    node = ros.create_node("reader")
    node.create_subscription(
        geometry_msgs.msg.PoseStamped, "arm/pose", lambda message: poses.append(message.header.stamp), QoSProfile(depth=100)
    )
    executor = MultiThreadedExecutor(num_threads=2)
    executor.add_node(node)
    spinning = threading.Thread(target=executor.spin)
    spinning.start()
    with ExitStack() as stack:
        if way == "topics":
            cameras = [Topics(camera, node) for camera in rig.cameras]
        elif way == "driver":
            cameras = [Driver(stack.enter_context(RealSense(camera, rig))) for camera in rig.cameras]
        else:
            cameras = [Driver(stack.enter_context(patient(CameraLink(camera, rig, node)))) for camera in rig.cameras]
        for camera in cameras:
            camera.read(time.monotonic_ns())
        deadline = time.monotonic() + 30
        while not poses and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(1.0)  # what begins is not what is measured
        for camera in cameras:
            camera.read(0) if way == "topics" else camera.read(time.monotonic_ns())
        ticks, latencies, late, first = int(seconds * TICK_HZ), [], 0, len(poses)
        marks, began, tick = [len(camera.taken) for camera in cameras], time.monotonic(), 0
        while tick < ticks:
            due = began + tick / TICK_HZ
            time.sleep(max(0.0, due - time.monotonic()))
            late += time.monotonic() - due > LATE_S
            now_ns = time.monotonic_ns()
            latencies += [camera.read(now_ns) for camera in cameras]
            time.sleep(BUSY_S)
            # As the runner of a policy does: ticks that have passed are late, and over.
            following = max(tick + 1, int((time.monotonic() - began) * TICK_HZ))
            late += following - tick - 1
            tick = following
        took = time.monotonic() - began
        taken = {c.name: camera.taken[mark:] for c, camera, mark in zip(rig.cameras, cameras, marks)}
        received = len(poses) - first
    executor.shutdown()
    spinning.join()
    node.destroy_node()
    ros.try_shutdown()
    return {
        "latencies_ms": latencies, "late": late, "ticks": ticks, "taken": taken, "poses": received, "seconds": took,
        "backend": ros.BACKEND,
    }  # fmt: skip


@contextmanager
def patient(link):
    """A link that waits for its node to come up."""
    deadline = time.monotonic() + 60
    while True:
        try:
            link.start()
            break
        except UserError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
    yield link
    link.stop()


def poser() -> None:
    """1 kHz of poses until it is ended."""
    from robosteer_ros import ros
    from robosteer_ros.ros import QoSProfile, geometry_msgs

    ros.init(args=["poser"])
    node = ros.create_node("poser")
    publisher = node.create_publisher(geometry_msgs.msg.PoseStamped, "arm/pose", QoSProfile(depth=100))
    began, number = time.monotonic(), 0
    while ros.ok():
        time.sleep(max(0.0, began + number / POSE_HZ - time.monotonic()))
        message = geometry_msgs.msg.PoseStamped()
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(time.monotonic_ns(), 1_000_000_000)
        publisher.publish(message)
        number += 1
    ros.try_shutdown()


@contextmanager
def child(*words: str):
    process = subprocess.Popen([sys.executable, *words], stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)


def phase(rig, rig_file: str, way: str, seconds: float) -> dict:
    feeder = Feeder(rig)
    feeder.start()
    with ExitStack() as stack:
        stack.callback(feeder.end)
        stack.enter_context(child(__file__, "poser"))
        if way != "driver":
            for camera in rig.cameras:
                arguments = ("-r", f"__node:={camera.name}_camera", "-p", f"rig:={rig_file}", "-p", "autostart:=true")
                stack.enter_context(child("-m", "robosteer_ros.nodes.camera", "--ros-args", *arguments))
        words = [sys.executable, __file__, "reader", rig_file, way, str(seconds)]
        said = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout
    found = json.loads(said.splitlines()[-1])
    found["gaps"] = 0
    for name, taken in found["taken"].items():
        between = [stamp for stamp in feeder.fed[name] if taken[0] <= stamp <= taken[-1]]
        found["gaps"] += len(set(between) - set(taken))
        found["frames"] = found.get("frames", 0) + len(between)
    return found


def main(seconds: float, rounds: int, report: str | None) -> None:
    console, phases = Console(), []
    rig = load_rig("lab").model_dump(mode="json") | {"name": f"framepath{os.getpid()}"}
    with TemporaryDirectory() as folder:
        rig_file = str(Path(folder) / "rig.yaml")
        Path(rig_file).write_text(yaml.safe_dump(rig))
        plan = [way for _ in range(rounds) for way in WAYS]
        for way in track(plan, "ways", console=Console(stderr=True)):
            phases.append({"way": way, "load": os.getloadavg()[0], **phase(load_rig(rig_file), rig_file, way, seconds)})
    load = max(found["load"] for found in phases)
    table = Table(
        "way", "p50 [ms]", "p99 [ms]", "frames lost", "late ticks", "poses [1/s]",
        title=f"two cameras {SIZE[0]}x{SIZE[1]} at {FPS} Hz, {rounds} x {seconds:g} s each, {os.cpu_count()} cores, load up to {load:.1f}",
    )  # fmt: skip
    summary = {}
    for way in WAYS:
        own = [found for found in phases if found["way"] == way]
        latencies = np.concatenate([found["latencies_ms"] for found in own])
        total = {key: sum(found[key] for found in own) for key in ("gaps", "frames", "late", "ticks", "poses", "seconds")}
        p50, p99 = np.percentile(latencies, (50, 99))
        name = f"{way} ({own[0]['backend']})" if way == "topics" else way
        summary[way] = {"p50_ms": p50, "p99_ms": p99, **total}
        table.add_row(
            name, f"{p50:.2f}", f"{p99:.1f}", f"{total['gaps']} of {total['frames']}", f"{total['late']} of {total['ticks']}",
            f"{total['poses'] / total['seconds']:.0f}",
        )  # fmt: skip
    console.print(table)
    for way in WAYS[1:]:
        console.print(f"{way}: {summary[way]['p50_ms'] - summary['driver']['p50_ms']:+.2f} ms p50 beside the driver alone")
    if report:
        Path(report).write_text(json.dumps({"phases": [{**found, "taken": None} for found in phases], "summary": summary}, indent=1))


if __name__ == "__main__":
    kind, *words = sys.argv[1:] or [""]
    if kind == "reader":
        print(json.dumps(reader(words[0], words[1], float(words[2]))))
    elif kind == "poser":
        poser()
    else:
        main(float(kind or 20), int(words[0]) if words else 2, words[1] if len(words) > 1 else None)
