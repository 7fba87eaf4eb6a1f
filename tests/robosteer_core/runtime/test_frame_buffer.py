"""The frame buffer: the wire between the lab's cameras and the camera driver."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from robosteer_core.errors import UserError
from robosteer_core.rig import load_rig
from robosteer_core.runtime.frame import Intrinsics
from robosteer_core.runtime.frame_buffer import FOLDER, SLOTS, BufferFormat, FrameReader, FrameWriter, segment_name

FORMAT = BufferFormat(Intrinsics(64, 48, 61.5, 61.5, 31.5, 23.5), 0.001, 30)

#: Writes frames whose every pixel is the low byte of their number, as fast as it can, until it is killed.
WRITER = """
import sys
import numpy as np
from robosteer_core.runtime.frame import Intrinsics
from robosteer_core.runtime.frame_buffer import BufferFormat, FrameWriter
writer = FrameWriter(sys.argv[1], BufferFormat(Intrinsics(64, 48, 61.5, 61.5, 31.5, 23.5), 0.001, 30))
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[2])):
    colour = np.full((48, 64, 3), number % 251, np.uint8)
    writer.write(number * 1_000_000, number, colour, np.full((48, 64), number % 65521, np.uint16))
sys.stdin.readline()
writer.close()
"""


@pytest.fixture
def name():
    name = f"robosteer-test-{os.getpid()}"
    yield name
    (FOLDER / name).unlink(missing_ok=True)


def start_writer(name, frames):
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, name, str(frames)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    return process


def go(process):
    process.stdin.write("\n")
    process.stdin.flush()


def test_a_frame_arrives_with_its_bytes_stamp_number_and_format(name):
    rng = np.random.default_rng(0)
    colour = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
    depth = rng.integers(0, 65536, (48, 64), dtype=np.uint16)
    stamp_ns = 2**53 + 1
    with FrameWriter(name, FORMAT) as writer:
        reader = FrameReader(name)
        assert reader.written == 0 and reader.read(0) is None
        writer.write(stamp_ns, 41, colour, depth)
        assert reader.wait(0, 5.0) == 1
        frame = reader.read(0)
        assert (frame.stamp_ns, frame.depth_stamp_ns, frame.number) == (stamp_ns, stamp_ns, 41)
        np.testing.assert_array_equal(frame.colour, colour)
        np.testing.assert_array_equal(frame.depth, depth)
        assert reader.format == FORMAT
        writer.write(stamp_ns + 7, 42, colour, depth, stamp_ns - 5)
        assert (reader.read(1).stamp_ns, reader.read(1).depth_stamp_ns) == (stamp_ns + 7, stamp_ns - 5)
        reader.close()


def test_no_frame_is_torn_while_another_process_writes_as_fast_as_it_can(name):
    process = start_writer(name, 3000)
    reader = FrameReader(name)
    go(process)
    seen, read, overtaken = 0, [], 0
    while seen < 3000:
        written = reader.wait(seen, 10.0)
        assert written > seen
        frame = reader.read(written - 1)
        seen = written
        if frame is None:
            overtaken += 1
            continue
        assert (frame.colour == frame.number % 251).all()
        assert (frame.depth == frame.number % 65521).all()
        assert frame.stamp_ns == frame.number * 1_000_000
        read.append(frame.number)
    assert read == sorted(set(read)) and read[-1] == 2999
    assert len(read) > 10
    go(process)
    assert process.wait(10) == 0
    reader.close()


def test_the_last_frames_stay_readable_and_older_ones_are_known_to_be_gone(name):
    with FrameWriter(name, FORMAT) as writer:
        reader = FrameReader(name)
        for number in range(10):
            writer.write(number, number, np.zeros((48, 64, 3), np.uint8), np.zeros((48, 64), np.uint16))
        assert reader.oldest() == 10 - SLOTS + 1
        assert [reader.read(index).number for index in range(reader.oldest(), 10)] == [7, 8, 9]
        assert reader.read(2) is None
        reader.close()


def test_a_clean_stop_leaves_no_segment_and_the_reader_knows_it(name):
    process = start_writer(name, 1)
    reader = FrameReader(name)
    assert reader.alive()
    go(process)
    go(process)
    assert process.wait(10) == 0
    assert not reader.alive()
    assert not (FOLDER / name).exists()
    reader.close()


def test_a_segment_left_by_a_killed_writer_is_replaced(name):
    process = start_writer(name, 1)
    old = FrameReader(name)
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    assert (FOLDER / name).exists()
    assert not old.alive() and not old.replaced()
    with FrameWriter(name, FORMAT):
        new = FrameReader(name)
        assert new.alive() and old.replaced() and not new.replaced()
        new.close()
    old.close()
    assert not (FOLDER / name).exists()


def test_a_segment_left_by_a_killed_writer_is_removed_by_the_writer_of_another(name):
    processes = [start_writer(f"{name}-{which}", 1) for which in ("killed", "living")]
    processes[0].kill()
    processes[0].wait(10)
    with FrameWriter(name, FORMAT):
        assert not (FOLDER / f"{name}-killed").exists() and (FOLDER / f"{name}-living").exists()
    go(processes[1])
    go(processes[1])
    assert processes[1].wait(10) == 0


def test_a_second_writer_of_the_same_camera_is_refused(name):
    process = start_writer(name, 1)
    with pytest.raises(UserError, match="being written by another process"):
        FrameWriter(name, FORMAT)
    reader = FrameReader(name)
    assert reader.alive() and not reader.replaced(), "the first writer's segment must survive"
    reader.close()
    go(process)
    go(process)
    assert process.wait(10) == 0


def test_a_reader_that_ends_leaves_the_segment_alone(name):
    script = f"from robosteer_core.runtime.frame_buffer import FrameReader; FrameReader({name!r})"
    with FrameWriter(name, FORMAT):
        subprocess.run([sys.executable, "-c", script], check=True)
        assert (FOLDER / name).exists()


def test_reading_where_nothing_is_written_says_what_to_start(name):
    with pytest.raises(UserError, match="robosteer sim cameras"):
        FrameReader(name)


def test_a_file_of_another_layout_is_refused(name):
    (FOLDER / name).write_bytes(bytes(4096))
    with pytest.raises(UserError, match="another layout"):
        FrameReader(name)


def test_labs_on_different_ports_and_rigs_of_different_names_do_not_share_segments():
    rig = load_rig("lab")
    other_port = rig.model_copy(update={"lab": rig.lab.model_copy(update={"control": "127.0.0.1:2340"})})
    other_name = rig.model_copy(update={"name": "second lab"})
    names = {segment_name(r, camera) for r in (rig, other_port, other_name) for camera in rig.cameras}
    assert len(names) == 6
    assert all("/" not in name and " " not in name for name in names)


def test_a_real_camera_has_no_segment():
    rig = load_rig("lab")
    real = rig.cameras[0].model_copy(update={"serial": "829212071824"})
    with pytest.raises(UserError, match="829212071824"):
        segment_name(rig, real)
