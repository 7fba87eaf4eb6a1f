"""What goes over the graph comes back as it was."""

import numpy as np
import pytest

from robosteer_core.errors import UserError
from robosteer_core.rig import load_rig
from robosteer_core.runtime.chunk import ActionChunk
from robosteer_ros.graph.messages import Stamps, base_frame, chunk_messages, chunk_of
from robosteer_ros.ros import std_msgs


@pytest.fixture
def rig():
    return load_rig("lab")


@pytest.fixture
def chunk():
    random = np.random.default_rng(0)
    quaternions = random.normal(size=(4, 4))
    return ActionChunk(
        stamps_ns=7_123_456_789 + np.array([0, 66_000_000, 133_000_000, 1_200_000_000]),
        positions=random.normal(size=(4, 3)),
        quaternions=quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True),
        gripper=np.array([0.0, 0.25, 1.0, 0.5]),
    )


def messages(rig, chunk):
    stamps = Stamps(rig)
    header = std_msgs.msg.Header(stamp=stamps.message(chunk.stamps_ns[0]), frame_id=base_frame(rig))
    return chunk_messages(rig, chunk, header)


def test_a_chunk_comes_back_to_the_nanosecond_and_the_last_bit(rig, chunk):
    poses, widths = messages(rig, chunk)
    assert widths.header == poses.header and widths.points[2].positions[0] == rig.gripper.max_width_m
    back = chunk_of(rig, poses, widths, Stamps(rig).ns(poses.header.stamp))
    for name in ("stamps_ns", "positions", "quaternions", "gripper"):
        np.testing.assert_array_equal(getattr(back, name), getattr(chunk, name))


def test_real_stamps_are_system_time_and_come_back_within_a_millisecond(rig):
    import time

    real = Stamps(rig.model_copy(update={"lab": None}))
    stamp = real.message(time.monotonic_ns())
    assert abs(stamp.sec - time.time()) < 2
    assert abs(real.ns(stamp) - time.monotonic_ns()) < 50_000_000


def other_frame(poses, widths):
    poses.header.frame_id = "world"


def other_joint(poses, widths):
    poses.joint_names = ["fr3_link8"]


def one_width_less(poses, widths):
    widths.points.pop()


def other_times(poses, widths):
    widths.points[1].time_from_start.nanosec += 1


@pytest.mark.parametrize("spoil, words", [
    (other_frame, "given in fr3_link0, found frame 'world'"), (other_joint, "moves fr3_hand_tcp alone, found fr3_link8"),
    (one_width_less, "one gripper width per pose at the same times, found 3 for 4"), (other_times, "at the same times"),
])  # fmt: skip
def test_messages_that_are_no_chunk_are_named(rig, chunk, spoil, words):
    poses, widths = messages(rig, chunk)
    spoil(poses, widths)
    with pytest.raises(UserError, match=words):
        chunk_of(rig, poses, widths, 0)
