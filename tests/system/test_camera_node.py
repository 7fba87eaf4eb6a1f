"""Camera nodes in the lab: lab server, camera process, shared memory, SDK, node, shared memory, reader; and from a calibration
to the graph."""

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from robosteer_core.camera_calibration import read_calibration
from robosteer_core.cli import main
from robosteer_core.rig import load_rig
from robosteer_core.runtime.frame import CameraError
from robosteer_core.runtime.lab_link import LabLink
from robosteer_ros import ros
from robosteer_ros.graph.camera_link import CameraLink
from robosteer_ros.ros import DurabilityPolicy, QoSProfile, diagnostic_msgs, tf2_msgs

sys.path.insert(0, str(Path(__file__).parent.parent / "calibration"))  # lab_board

MS = 1_000_000
LEVEL = diagnostic_msgs.msg.DiagnosticStatus


@contextmanager
def camera_node(name, rig_file, **parameters):
    words = [word for key, value in parameters.items() for word in ("-p", f"{key}:={value}")]
    words += ["-r", f"__node:={name}_camera", "-p", f"rig:={rig_file}", "-p", "autostart:=true"]
    process = subprocess.Popen([sys.executable, "-m", "robosteer_ros.nodes.camera", "--ros-args", *words])
    try:
        yield process
    finally:
        process.terminate()
        assert process.wait(20) == 0


@pytest.fixture
def viewer():
    ros.init(args=["test"])
    node = ros.create_node("viewer")
    yield node
    node.destroy_node()
    ros.try_shutdown()


def first(node, kind, topic, profile, passes=lambda message: True, timeout_s=60):
    """The first message of a topic that passes."""
    found = ros.Future()
    subscription = node.create_subscription(
        kind, topic, lambda message: passes(message) and not found.done() and found.set_result(message), profile
    )
    ros.spin_until_future_complete(node, found, timeout_sec=timeout_s)
    node.destroy_subscription(subscription)
    assert found.done(), f"nothing of the kind on {topic}"
    return found.result()


@pytest.fixture(scope="module")
def rig_file(new_rig):
    cameras = [camera.model_dump(mode="json") | {"width": 160, "height": 120} for camera in load_rig("lab").cameras]
    return new_rig(name=f"cameranodes{os.getpid()}", cameras=cameras)


def test_a_reader_that_holds_time_sees_its_own_instant_through_every_fault_of_the_other_camera(rig_file, rig, start_lab, start, viewer):
    def reported(level):
        return first(
            viewer, diagnostic_msgs.msg.DiagnosticArray, "/diagnostics", QoSProfile(depth=100),
            lambda message: message.status[0].name == "/front_camera" and message.status[0].level == level,
        ).status[0].message  # fmt: skip

    def advance():
        nonlocal now_ns
        now_ns = policy.wait(now_ns + 100 * MS).now_ns
        frame = wrist.read(now_ns)
        assert frame.stamp_ns == now_ns, "a fault of the front camera is not one of the wrist's"
        return frame

    with start_lab(rig_file), start("sim", "cameras", "--rig", str(rig_file), line="drawing"):
        with camera_node("front", rig_file), camera_node("wrist", rig_file):
            for name in ("/front_camera", "/wrist_camera"):
                first(
                    viewer, diagnostic_msgs.msg.DiagnosticArray, "/diagnostics", QoSProfile(depth=100),
                    lambda message: message.status[0].name == name and message.status[0].level == LEVEL.OK,
                )  # fmt: skip
            with (
                CameraLink(rig.cameras[0], rig, viewer) as front, CameraLink(rig.cameras[1], rig, viewer) as wrist,
                LabLink(rig.lab.control, "policy", 2) as policy,
            ):  # fmt: skip
                now_ns = policy.reset("press the red button", 0)["now_ns"]
                for _ in range(10):
                    advance()
                    assert front.read(now_ns).stamp_ns == now_ns
                policy.fault("camera_stop", camera="front")
                advance()
                assert "'front' (lab:front): no frame that is new came" in reported(LEVEL.STALE)
                with pytest.raises(CameraError, match="its node says: camera 'front'"):
                    front.read(now_ns, timeout_s=0.1)
                policy.clear()
                advance()
                assert front.read(now_ns).stamp_ns == now_ns
                policy.fault("camera_disconnect", camera="front")
                advance()
                assert "no frames of a lab camera" in reported(LEVEL.ERROR)
                policy.clear()
                advance()
                assert front.read(now_ns, timeout_s=20).stamp_ns == now_ns
                reported(LEVEL.OK)


def test_what_hand_eye_writes_is_the_static_transform_of_the_graph(tmp_path, viewer):
    from lab_board import record

    truth = record(tmp_path / "views", "hand", 14, (640, 480))
    out = tmp_path / "calibrations"
    assert main(["calibrate", "hand-eye", str(tmp_path / "views"), "--out", str(out)]) == 0
    written = read_calibration(out / "wrist.yaml").transform
    with camera_node("wrist", "lab", calibrations=out):
        latched = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        (found,) = first(viewer, tf2_msgs.msg.TFMessage, "/tf_static", latched).transforms
    assert (found.header.frame_id, found.child_frame_id) == ("fr3_hand_tcp", "wrist_color_optical_frame")
    there, turned = found.transform.translation, found.transform.rotation
    assert (there.x, there.y, there.z) == written.translation_m and (turned.x, turned.y, turned.z, turned.w) == written.rotation_xyzw
    np.testing.assert_allclose((there.x, there.y, there.z), truth.camera[:3, 3], atol=1.5e-3)
