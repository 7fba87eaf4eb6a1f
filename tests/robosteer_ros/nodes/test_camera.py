"""The camera node: every frame of the driver to readers on this machine, images to who listens, its place, its troubles."""

import os
import re
import signal
import subprocess
import sys
import threading
from io import BytesIO

import numpy as np
import pytest
from drawn_camera import FORMAT, HEIGHT, WIDTH, Lab, tick
from PIL import Image

from robosteer_core.camera_calibration import CalibratedLens, write_calibration
from robosteer_core.errors import UserError
from robosteer_core.rig import load_rig
from robosteer_core.runtime.frame import CameraError
from robosteer_ros import ros
from robosteer_ros.graph.camera_feed import SLOTS
from robosteer_ros.graph.camera_link import CameraLink
from robosteer_ros.graph.image_topics import camera_info, in_millimetres
from robosteer_ros.graph.messages import Stamps, values_of
from robosteer_ros.nodes.camera import CameraNode
from robosteer_ros.ros import (
    DurabilityPolicy,
    MultiThreadedExecutor,
    QoSProfile,
    TransitionCallbackReturn,
    diagnostic_msgs,
    qos_profile_sensor_data,
    sensor_msgs,
    std_msgs,
    tf2_msgs,
)

LEVEL = diagnostic_msgs.msg.DiagnosticStatus


@pytest.fixture(scope="module")
def rig_file(new_rig):
    cameras = [camera.model_dump(mode="json") | {"width": WIDTH, "height": HEIGHT} for camera in load_rig("lab").cameras]
    return new_rig(name=f"node{os.getpid()}", cameras=cameras)


@pytest.fixture
def lab(rig):
    lab = Lab(rig, rig.cameras[0])
    yield lab
    lab.writer.close()


class Graph:
    """A camera node, and another node that listens to it."""

    def __init__(self, rig_file, *words):
        ros.init(args=["test", "--ros-args", "-p", f"rig:={rig_file}", "-r", "camera:__node:=front_camera", *words])
        self.node, self.viewer = CameraNode(), ros.create_node("viewer")
        self.executor = MultiThreadedExecutor(num_threads=2)
        for node in (self.node, self.viewer):
            self.executor.add_node(node)
        self.spinning = threading.Thread(target=self.executor.spin, daemon=True)
        self.spinning.start()

    def hear(self, kind, topic, profile=qos_profile_sensor_data):
        """A function that waits for the topic's next message that passes."""
        news, heard = threading.Condition(), []

        def take(message):
            with news:
                heard.append(message)
                news.notify()

        self.viewer.create_subscription(kind, topic, take, profile)

        def wait(passes=lambda message: True, timeout_s=20):
            found = []

            def look():
                while heard and not found:
                    message = heard.pop(0)
                    found.extend([message] if passes(message) else [])
                return found

            with news:
                assert news.wait_for(look, timeout_s), f"nothing of the kind on {topic}"
            return found[0]

        return wait

    def end(self):
        self.node.close()
        self.executor.shutdown()
        self.spinning.join()
        for node in (self.node, self.viewer):
            node.destroy_node()
        ros.try_shutdown()


@pytest.fixture
def graph(rig_file, lab):
    """`graph(words...)`: the camera node of `front` with these ROS arguments."""
    made = []

    def make(*words):
        made.append(Graph(rig_file, *words))
        return made[-1]

    yield make
    for one in made:
        one.end()


@pytest.fixture
def front(graph, lab, rig):
    """The running node, a link to it, and the first frame drawn and read."""
    lab.draw(1)
    graph = graph()
    assert graph.node.start()
    with CameraLink(rig.cameras[0], rig, graph.viewer) as link:
        assert link.next().number == 1
        yield graph, link


def test_a_reader_gets_every_frame_as_the_camera_gave_it(front, lab):
    _, link = front
    for k in range(2, 30):
        lab.draw(k)
        frame = link.next()
        colour, depth = lab.sent[k]
        assert (frame.camera, frame.stamp_ns, frame.number, frame.depth_unit_m) == ("front", tick(k), k, 0.001)
        assert frame.intrinsics == FORMAT.intrinsics
        np.testing.assert_array_equal(frame.colour, colour)
        np.testing.assert_array_equal(frame.depth, depth)
    assert (link.statistics.frames, link.statistics.missed) == (29, 0)


def test_a_reader_that_is_behind_finds_all_in_order_or_is_told_how_many_it_lost(front, lab, rig):
    graph, link = front
    with CameraLink(rig.cameras[0], rig, graph.viewer) as slow:
        for k in range(2, SLOTS):
            lab.draw(k)
            link.next()
        assert [slow.next().number for _ in range(1, SLOTS)] == list(range(1, SLOTS)) and slow.statistics.missed == 0
        for k in range(SLOTS, 3 * SLOTS):
            lab.draw(k)
            link.next()
        assert slow.next().number == 2 * SLOTS + 1 and slow.statistics.missed == SLOTS + 1
    assert link.statistics.missed == 0, "a slow reader costs the others nothing"


def test_reading_gives_the_newest_frame_of_the_wanted_time_or_says_that_it_did_not_come(front, lab):
    _, link = front
    late = threading.Timer(0.1, lab.draw, [2])
    late.start()
    assert link.read(tick(2)).number == 2
    late.join()
    assert link.read(tick(1)).number == 2, "the newest"
    with pytest.raises(CameraError, match=r"'front' \(lab:front\): no frame captured at .* its node runs"):
        link.read(tick(3), timeout_s=0.2)


def test_a_node_that_is_deactivated_passes_nothing_on_until_it_is_activated_again(front, lab):
    graph, link = front
    assert graph.node.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
    lab.draw(2)
    with pytest.raises(CameraError, match="its node has ended"):
        link.next(timeout_s=0.1)
    assert graph.node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    assert link.next().number == 2, "the newest"
    lab.draw(3)
    assert link.next().number == 3


def test_frames_of_one_namespace_are_not_those_of_another(front, rig):
    graph, _ = front
    other = ros.create_node("viewer", namespace="/second")
    with pytest.raises(UserError, match=r"camera 'front'.*namespace /second.*robosteer_ros\.nodes\.camera.*front_camera -r __ns:=/second"):
        CameraLink(rig.cameras[0], rig, other).start()
    other.destroy_node()


def test_images_are_the_frames_with_their_stamps_and_made_for_listeners_alone(front, lab, rig):
    graph, link = front
    made = []
    makers = graph.node._images._makers
    for publisher, make in list(makers.items()):
        makers[publisher] = lambda *frame, make=make, topic=publisher.topic_name: made.append(topic) or make(*frame)
    colour = graph.hear(sensor_msgs.msg.Image, "front/color/image_raw")
    number = 1

    def drawn(wait):
        """Draw until an image arrives: a topic begins with the frames after its listener was found."""
        nonlocal number
        for _ in range(200):
            number += 1
            lab.draw(number)
            link.next()
            try:
                return wait(timeout_s=0.1)
            except AssertionError:
                continue
        raise AssertionError("no image came")

    def k_of(message):
        return next(k for k in lab.sent if tick(k) == Stamps(rig).ns(message.header.stamp))

    image = drawn(colour)
    assert (image.encoding, image.width, image.height, image.step) == ("rgb8", WIDTH, HEIGHT, 3 * WIDTH)
    assert image.header.frame_id == "front_color_optical_frame"
    np.testing.assert_array_equal(np.asarray(image.data).reshape(HEIGHT, WIDTH, 3), lab.sent[k_of(image)][0])
    assert set(made) == {"/front/color/image_raw"}

    depth = drawn(graph.hear(sensor_msgs.msg.Image, "front/aligned_depth_to_color/image_raw"))
    assert depth.encoding == "16UC1"
    np.testing.assert_array_equal(np.asarray(depth.data).view("<u2").reshape(HEIGHT, WIDTH), lab.sent[k_of(depth)][1])
    jpeg = drawn(graph.hear(sensor_msgs.msg.CompressedImage, "front/color/image_raw/compressed"))
    assert (jpeg.format, Image.open(BytesIO(bytes(jpeg.data))).size) == ("jpeg", (WIDTH, HEIGHT))
    info = drawn(graph.hear(sensor_msgs.msg.CameraInfo, "front/color/camera_info"))
    assert (info.k[0], info.k[2], info.p[5], info.p[6]) == (150.0, 79.5, 150.0, 59.5) and k_of(info)
    assert "/front/aligned_depth_to_color/camera_info" not in made


def test_camera_info_has_the_calibrated_lens_where_it_is_of_this_size():
    lens = CalibratedLens(width=160, height=120, fx=151, fy=152, cx=80, cy=60, distortion=(0.1, 0, 0, 0, 0), sigma=(1,) * 4)
    info = camera_info(FORMAT.intrinsics, lens, std_msgs.msg.Header())
    assert (info.k[0], info.k[4], info.d[0], info.p[0]) == (151, 152, 0.1, 151)
    assert camera_info(FORMAT.intrinsics, lens.model_copy(update={"width": 320}), std_msgs.msg.Header()).k[0] == 150


def test_depth_in_other_units_is_sent_in_millimetres_and_what_does_not_fit_is_unknown():
    depth = np.array([[0, 10, 25, 60000]], np.uint16)
    assert in_millimetres(depth, 0.0001).tolist() == [[0, 1, 2, 6000]]
    assert in_millimetres(depth, 0.002).tolist() == [[0, 20, 50, 0]]


TRANSFORMS = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
REPORTS = QoSProfile(depth=100)


def test_where_a_calibrated_camera_sits_reaches_who_comes_late(graph, lab, tmp_path, calibration):
    front = calibration("front", mount="fixed", x=0.4)
    write_calibration(front, tmp_path / "front.yaml")
    lab.draw(1)
    graph = graph("-p", f"calibrations:={tmp_path}")
    assert graph.node.start()
    (found,) = graph.hear(tf2_msgs.msg.TFMessage, "/tf_static", TRANSFORMS)().transforms
    assert (found.header.frame_id, found.child_frame_id) == ("fr3_link0", "front_color_optical_frame")
    there, turned = found.transform.translation, found.transform.rotation
    assert (there.x, there.y, there.z) == front.transform.translation_m
    assert (turned.x, turned.y, turned.z, turned.w) == front.transform.rotation_xyzw


def test_a_calibration_of_another_camera_is_refused_and_the_frames_go_on(graph, lab, rig, tmp_path, calibration):
    write_calibration(calibration("front", "1234", "fixed"), tmp_path / "front.yaml")
    lab.draw(1)
    graph = graph("-p", f"calibrations:={tmp_path}")
    report = graph.hear(diagnostic_msgs.msg.DiagnosticArray, "/diagnostics", REPORTS)
    assert graph.node.start()
    (status,) = report().status
    assert status.level == LEVEL.WARN and "serial '1234', and this one has 'lab:front'" in status.message
    with CameraLink(rig.cameras[0], rig, graph.viewer) as link:
        assert link.read(tick(1)).number == 1


def test_a_camera_that_falls_silent_is_reported_and_taken_again_when_it_is_back(graph, lab, rig):
    lab.draw(1)
    graph = graph("-p", "silent_after_s:=1.5")
    report = graph.hear(diagnostic_msgs.msg.DiagnosticArray, "/diagnostics", REPORTS)
    assert graph.node.start()
    with CameraLink(rig.cameras[0], rig, graph.viewer) as link:
        assert link.next().number == 1
        said = report(lambda message: message.status[0].level == LEVEL.STALE)
        assert "no frame that is new came" in said.status[0].message and values_of(said)["interruptions"] == "1"
        with pytest.raises(CameraError, match="its node says: camera 'front' .*: no frame that is new came"):
            link.next(timeout_s=0.1)
        lab.writer.close()
        said = report(lambda message: message.status[0].level == LEVEL.ERROR)
        assert "no frames of a lab camera" in said.status[0].message
        back = Lab(rig, rig.cameras[0])
        back.draw(9)
        frame = link.next()
        assert (frame.number, frame.stamp_ns) == (9, tick(9))
        report(lambda message: message.status[0].level == LEVEL.OK)
        back.writer.close()


def test_a_camera_that_is_not_there_at_first_does_not_stop_the_node(graph, lab, rig):
    lab.writer.close()
    graph = graph()
    assert graph.node.start()
    with pytest.raises(UserError, match="no frames of the node of camera 'front'"):
        CameraLink(rig.cameras[0], rig, graph.viewer).start()
    come = Lab(rig, rig.cameras[0])
    come.draw(5)
    link = CameraLink(rig.cameras[0], rig, graph.viewer)
    wait_for_node(link)
    assert link.read(tick(5)).number == 5
    link.stop()
    come.writer.close()


def wait_for_node(link):
    for _ in range(200):
        try:
            return link.start()
        except UserError:
            threading.Event().wait(0.05)
    link.start()


@pytest.mark.parametrize("words, message", [
    (["-p", "camera:=rear"], "no camera 'rear' in rig .* it has: front, wrist. Give one"),
    (["-r", "camera:__node:=looker"], "no camera 'looker'"),
])  # fmt: skip
def test_a_node_that_is_of_no_camera_is_refused_in_words(rig_file, capfd, words, message):
    ros.init(args=["test", "--ros-args", "-p", f"rig:={rig_file}", *words])
    node = CameraNode()
    try:
        assert not node.start()
    finally:
        node.destroy_node()
        ros.try_shutdown()
    assert re.search(message, capfd.readouterr().err)


def start_process(rig_file):
    words = ["-p", f"rig:={rig_file}", "-p", "autostart:=true", "-r", "__node:=front_camera"]
    return subprocess.Popen([sys.executable, "-m", "robosteer_ros.nodes.camera", "--ros-args", *words])


def test_a_link_outlives_the_killed_node_and_goes_on_with_its_successor(rig_file, rig, lab):
    ros.init(args=["test"])
    viewer = ros.create_node("viewer")
    link = CameraLink(rig.cameras[0], rig, viewer)
    lab.draw(1)
    process = start_process(rig_file)
    try:
        wait_for_node(link)
        assert link.next().number == 1
        process.kill()
        process.wait()
        with pytest.raises(CameraError, match="its node has ended; start it: robosteer up"):
            link.next(timeout_s=0.1)
        process = start_process(rig_file)
        assert link.next(timeout_s=60).number == 1, "the newest at its start"
        lab.draw(2)
        assert link.next().number == 2
        second = start_process(rig_file)
        assert second.wait(60) == 2, "one node for each camera"
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert not [name for name in os.listdir("/dev/shm") if f"{rig.name}-ros" in name]
    finally:
        process.kill()
        link.stop()
        viewer.destroy_node()
        ros.try_shutdown()
