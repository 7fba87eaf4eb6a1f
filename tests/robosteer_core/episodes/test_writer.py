"""Episodes go to disk as LeRobot lays them out, one by one, and only under one contract."""

import json

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from robosteer_core.episodes.check import check
from robosteer_core.episodes.reader import Dataset
from robosteer_core.episodes.writer import DatasetWriter
from robosteer_core.errors import UserError


def test_columns_and_types_are_those_lerobot_wrote(demonstrations, bridge_sample):
    """The bridge sample was written by LeRobot 0.4.4; only names of cameras, video locations and stamps may differ."""
    ours, theirs = (pq.read_schema(folder / "meta/episodes/chunk-000/file-000.parquet") for folder in (demonstrations, bridge_sample))
    shared = [name for name in theirs.names if "images" not in name]
    assert [ours.field(name).type for name in shared] == [theirs.field(name).type for name in shared]
    extra = {name.split("/")[1] for name in set(ours.names) - set(theirs.names)}
    cameras = {"observation.images.front", "observation.images.wrist"}
    assert extra == cameras | {f"stamp_ns.{source}" for source in ("front", "wrist", "state", "command", "steering")}
    ours, theirs = (pq.read_schema(folder / "data/chunk-000/file-000.parquet") for folder in (demonstrations, bridge_sample))
    assert all(ours.field(name).type == theirs.field(name).type for name in theirs.names if "images" not in name)
    ours, theirs = (json.loads((folder / "meta/info.json").read_text()) for folder in (demonstrations, bridge_sample))
    assert list(ours) == list(theirs)
    assert all(ours["features"][key] == theirs["features"][key] for key in ("timestamp", "frame_index", "index", "task_index"))
    ours, theirs = (pq.read_schema(folder / "meta/tasks.parquet").pandas_metadata for folder in (demonstrations, bridge_sample))
    assert ours["index_columns"] == theirs["index_columns"] == ["__index_level_0__"]


def test_videos_start_at_zero_and_keep_the_frame_rate_exactly(demonstrations):
    """LeRobot refuses a frame that is 0.1 ms off; MKV's millisecond clock and B-frames would both put it off."""
    for path in sorted(demonstrations.glob("videos/*/*/*.mp4")):
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            assert (stream.codec.canonical_name, stream.pix_fmt, stream.average_rate) == ("h264", "yuv420p", 15)
            times = [frame.time for frame in container.decode(stream)]
        np.testing.assert_allclose(times, np.arange(len(times)) / 15, atol=1e-9)


def test_stats_json_describes_all_frames(demonstrations):
    dataset = Dataset(demonstrations)
    actions = dataset.arrays().action.astype(np.float64)
    stats = dataset.stats["action"]
    np.testing.assert_allclose(stats["mean"], actions.mean(0), atol=1e-12)
    np.testing.assert_allclose(stats["std"], actions.std(0), atol=1e-12)
    np.testing.assert_allclose(stats["q90"], np.quantile(actions, 0.9, axis=0), atol=1e-12)
    assert stats["count"].tolist() == [31]
    images = np.array([image for e in dataset.episodes for image in dataset.images(e.index, "front")]) / 255
    stats = dataset.stats["observation.images.front"]
    assert stats["mean"].shape == (3, 1, 1)
    np.testing.assert_allclose(stats["mean"].ravel(), images.mean((0, 1, 2)), atol=0.01)
    np.testing.assert_allclose(stats["std"].ravel(), images.std((0, 1, 2)), atol=0.01)


def test_a_second_session_goes_on_where_the_first_ended(demonstrations, rig, record):
    with DatasetWriter(demonstrations, rig) as writer:
        assert len(writer) == 3
        assert record(writer, 3, 5, "touch the blue cube") == 3
    dataset = Dataset(demonstrations)
    assert [episode.length for episode in dataset.episodes] == [12, 9, 10, 5]
    assert dataset.tasks == ("press the red button", "touch the blue cube")
    assert dataset.column("index").tolist() == list(range(36))
    assert check(demonstrations).problems == []


def test_a_discarded_episode_leaves_nothing(demonstrations, rig, frame_of):
    before = {path: path.read_bytes() for path in demonstrations.rglob("*") if path.is_file()}
    with DatasetWriter(demonstrations, rig) as writer:
        writer.begin("press the red button")
        writer.add(**frame_of(0, 0))
        writer.discard()
        writer.begin("press the red button")
        writer.add(**frame_of(0, 0))  # discarded by leaving
    assert {path: path.read_bytes() for path in demonstrations.rglob("*") if path.is_file()} == before


def test_a_frame_that_does_not_fit_is_refused_and_the_episode_goes_on(tmp_path, rig, frame_of):
    bad = {
        r"action: expected shape \(7,\); found \(8,\)": {"action": np.zeros(8, np.float32)},
        "finite": {"state": np.full(7, np.nan, np.float32)},
        r"front: expected images \(48, 64, 3\) uint8; found \(64, 48, 3\)": {
            "images": frame_of(0, 0)["images"] | {"front": np.zeros((64, 48, 3), np.uint8)}
        },
        "images: expected one each of": {"images": {"front": frame_of(0, 0)["images"]["front"]}},
        "stamps: expected one each of": {"stamps_ns": {"state": 0, "command": 0}},
    }
    with DatasetWriter(tmp_path / "demos", rig) as writer:
        writer.begin("press the red button")
        writer.add(**frame_of(0, 0))
        for message, change in bad.items():
            with pytest.raises(UserError, match=message):
                writer.add(**(frame_of(0, 1) | change))
        writer.add(**frame_of(0, 1))
        writer.keep()
    assert len(Dataset(tmp_path / "demos")) == 2
    assert check(tmp_path / "demos").problems == []


def test_images_may_be_reused_by_the_caller_at_once(tmp_path, rig, frame_of, image_of):
    """A camera's driver may hand out the same buffer every time."""
    buffers = {camera: np.zeros((48, 64, 3), np.uint8) for camera in ("front", "wrist")}
    with DatasetWriter(tmp_path / "demos", rig) as writer:
        writer.begin("press the red button")
        for frame in range(10):
            for camera, buffer in buffers.items():
                buffer[:] = image_of(0, frame, camera)
            writer.add(**(frame_of(0, frame) | {"images": buffers}))
        writer.keep()
    for frame, image in enumerate(Dataset(tmp_path / "demos").images(0, "front")):
        assert np.abs(image - image_of(0, frame, "front").astype(int)).mean() < 2.5


def test_another_contract_is_refused_and_both_are_named(demonstrations, rig):
    other_action = rig.model_copy(update={"action_space": rig.action_space.model_copy(update={"kind": "joint_velocity"})})
    with pytest.raises(UserError, match=r"action names: \['dx', .*\] in the dataset, \['dq1', .*\] in the rig"):
        DatasetWriter(demonstrations, other_action)
    with pytest.raises(UserError, match="fps: 15 in the dataset, 30 in the rig"):
        DatasetWriter(demonstrations, rig, fps=30)
    with pytest.raises(UserError, match=r"observation.images.front dtype and shape: .*48, 64, 3.* in the dataset, .*24, 32, 3"):
        DatasetWriter(demonstrations, rig, image_sizes={"front": (24, 32)})
    one_camera = rig.model_copy(update={"cameras": rig.cameras[:1]})
    with pytest.raises(UserError, match="observation.images.wrist"):
        DatasetWriter(demonstrations, one_camera)
    assert check(demonstrations).problems == []


def test_a_folder_of_something_else_is_left_alone(tmp_path, rig, bridge_sample):
    (tmp_path / "thesis.tex").write_text("important")
    with pytest.raises(UserError, match="thesis.tex"):
        DatasetWriter(tmp_path, rig)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(UserError, match="was not recorded by robosteer"):
        DatasetWriter(bridge_sample, rig)


def test_two_recorders_cannot_write_to_one_dataset(demonstrations, rig):
    with DatasetWriter(demonstrations, rig):
        with pytest.raises(UserError, match="another process writes"):
            DatasetWriter(demonstrations, rig)
    DatasetWriter(demonstrations, rig).close()


def test_a_folder_that_cannot_be_written_is_named(tmp_path, rig):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write to the dataset folder .*file/demos"):
        DatasetWriter(tmp_path / "file" / "demos", rig)


def test_steps_out_of_order_are_refused(tmp_path, rig, frame_of):
    with DatasetWriter(tmp_path / "demos", rig) as writer:
        with pytest.raises(UserError, match="no episode is running; call begin"):
            writer.add(**frame_of(0, 0))
        with pytest.raises(UserError, match="a task in words"):
            writer.begin(" ")
        writer.begin("press the red button")
        with pytest.raises(UserError, match="keep or discard it before"):
            writer.begin("press the red button")
        with pytest.raises(UserError, match="no frames"):
            writer.keep()
    empty = Dataset(tmp_path / "demos")
    assert (len(empty), empty.arrays().state.shape, empty.arrays().action.shape) == (0, (0, 7), (0, 7))
    assert check(tmp_path / "demos").problems == []


def test_a_rate_that_lerobot_cannot_store_is_refused(tmp_path, rig):
    with pytest.raises(UserError, match="whole number of frames per second.*found 7.5"):
        DatasetWriter(tmp_path / "demos", rig, fps=7.5)
    assert not (tmp_path / "demos").exists()


def test_an_episode_whose_task_could_not_be_written_has_it_after_the_next_try(demonstrations, rig, record, monkeypatch):
    from robosteer_core.episodes import layout

    write, failures = layout.write_parquet, iter([OSError(28, "No space left on device")])

    def full_once(table, path):
        if path.name == "tasks.parquet" and (failure := next(failures, None)):
            raise failure
        write(table, path)

    monkeypatch.setattr(layout, "write_parquet", full_once)
    with DatasetWriter(demonstrations, rig) as writer:
        with pytest.raises(OSError, match="No space"):
            record(writer, 3, 5, "push the green cube")
        record(writer, 4, 5, "touch the blue cube")
    assert [Dataset(demonstrations).arrays().task[row] for row in (31, 36)] == ["push the green cube", "touch the blue cube"]
