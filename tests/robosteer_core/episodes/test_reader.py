"""What is read is what was written, by us or by others, or one message says what is wrong."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from robosteer_core.episodes.reader import Dataset
from robosteer_core.errors import UserError


def test_arrays_hold_every_frame_as_recorded(demonstrations, frame_of):
    dataset = Dataset(demonstrations)
    arrays = dataset.arrays()
    assert [(e.index, e.length, e.task) for e in dataset.episodes] == [
        (0, 12, "press the red button"),
        (1, 9, "touch the blue cube"),
        (2, 10, "press the red button"),
    ]
    expected = [frame_of(episode.index, frame) for episode in dataset.episodes for frame in range(episode.length)]
    np.testing.assert_array_equal(arrays.state, [frame["state"] for frame in expected])
    np.testing.assert_array_equal(arrays.action, [frame["action"] for frame in expected])
    assert arrays.task == tuple(["press the red button"] * 12 + ["touch the blue cube"] * 9 + ["press the red button"] * 10)
    for source in ("front", "wrist", "state", "command", "steering"):
        assert dataset.column(f"stamp_ns.{source}").tolist() == [frame["stamps_ns"][source] for frame in expected]


def test_images_come_back_frame_by_frame(demonstrations, image_of):
    dataset = Dataset(demonstrations)
    for episode in dataset.episodes:
        for camera in dataset.cameras:
            images = list(dataset.images(episode.index, camera))
            assert len(images) == episode.length
            for frame, image in enumerate(images):
                wanted = image_of(episode.index, frame, camera).astype(int)
                assert np.abs(image - wanted).mean() < 2.5  # neighbouring frames differ by 4 in two of three channels
            np.testing.assert_array_equal(next(dataset.images(episode.index, camera, 7)), images[7])
            np.testing.assert_array_equal(dataset.image(episode.first_frame + 7, camera), images[7])


def test_a_real_dataset_by_lerobot_with_images_in_the_parquet(bridge_sample):
    dataset = Dataset(bridge_sample)
    dataset.require(state_dim=7, action_dim=7, cameras=["image_0"])
    arrays = dataset.arrays()
    assert (len(dataset), len(dataset.episodes), dataset.fps) == (250, 25, 5)
    assert dataset.state_names == ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
    table = pq.read_table(bridge_sample / "data/chunk-000/file-000.parquet")
    np.testing.assert_array_equal(arrays.action, np.array(table["action"].to_pylist(), np.float32))
    np.testing.assert_array_equal(arrays.state, np.array(table["observation.state"].to_pylist(), np.float32))
    read = [image for episode in dataset.episodes for image in dataset.images(episode.index, "image_0")]
    stored = [np.array(Image.open(io.BytesIO(cell["bytes"])).convert("RGB")) for cell in table["observation.images.image_0"].to_pylist()]
    np.testing.assert_array_equal(read, stored)


def test_a_video_dataset_by_lerobot_with_all_episodes_in_one_file():
    """`lerobot_video` was written by LeRobot 0.4.4; its README says what each frame holds."""
    dataset = Dataset(Path(__file__).parent / "lerobot_video")
    assert [(episode.length, episode.task) for episode in dataset.episodes] == [(7, "task 0"), (5, "task 1"), (9, "task 0")]
    rows, columns = np.mgrid[0:48, 0:64]
    for episode in dataset.episodes:
        for frame, image in enumerate(dataset.images(episode.index, "cam")):
            level = 40 + 4 * frame
            wanted = np.stack([level + columns // 2, level + rows // 2, np.full_like(rows, 30 + 40 * episode.index)], -1)
            assert np.abs(image - wanted).mean() < 2.5
        assert frame == episode.length - 1
    np.testing.assert_allclose(dataset.arrays().state[:, 0], [e + 0.01 * f for e, n in enumerate((7, 5, 9)) for f in range(n)], rtol=1e-6)


def rewrite_json(path: Path, **changes) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def cut(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def test_a_folder_without_info_json_is_named(tmp_path, demonstrations):
    with pytest.raises(UserError, match="no such folder"):
        Dataset(tmp_path / "nothing")
    (demonstrations / "meta/info.json").unlink()
    with pytest.raises(UserError, match=f"{demonstrations}; its meta/info.json is missing"):
        Dataset(demonstrations)


def test_an_unknown_version_says_how_to_convert(demonstrations):
    rewrite_json(demonstrations / "meta/info.json", codebase_version="v2.1")
    with pytest.raises(UserError, match="expected codebase_version v3.0; found v2.1; convert it"):
        Dataset(demonstrations)


def test_wrong_widths_name_both_shapes(demonstrations):
    dataset = Dataset(demonstrations)
    dataset.require(state_dim=7, action_dim=7, cameras=["front", "wrist"])
    with pytest.raises(UserError, match=r"expected action of shape \(8,\); found \(7,\)"):
        dataset.require(action_dim=8)
    with pytest.raises(UserError, match=r"expected observation.state of shape \(14,\); found \(7,\)"):
        dataset.require(state_dim=14)
    with pytest.raises(UserError, match="expected camera 'left'; found front, wrist"):
        dataset.require(cameras=["front", "left"])


def test_a_missing_feature_is_named(demonstrations):
    info = json.loads((demonstrations / "meta/info.json").read_text())
    del info["features"]["action"]
    (demonstrations / "meta/info.json").write_text(json.dumps(info))
    with pytest.raises(UserError, match="expected the feature 'action'; found .*observation.state"):
        Dataset(demonstrations).arrays()


def test_files_that_disagree_with_their_declared_shape_are_refused(demonstrations):
    info = json.loads((demonstrations / "meta/info.json").read_text())
    info["features"]["action"]["shape"] = [8]
    (demonstrations / "meta/info.json").write_text(json.dumps(info))
    with pytest.raises(UserError, match=r"action has shape \(8,\); its files hold \(7,\)"):
        Dataset(demonstrations).arrays()


@pytest.mark.parametrize("file", ["data/chunk-000/file-001.parquet", "meta/episodes/chunk-000/file-001.parquet", "meta/tasks.parquet"])
def test_a_truncated_parquet_is_named(demonstrations, file):
    cut(demonstrations / file, 0.7)
    with pytest.raises(UserError, match=f"{file} is truncated or no parquet file"):
        Dataset(demonstrations).arrays()


def test_a_missing_or_truncated_video_is_named(demonstrations):
    dataset = Dataset(demonstrations)
    video = demonstrations / "videos/observation.images.wrist/chunk-000/file-002.mp4"
    cut(video, 0.6)
    with pytest.raises(UserError, match=f"{video} is truncated or damaged"):
        list(dataset.images(2, "wrist"))
    video.unlink()
    with pytest.raises(UserError, match=f"expected the video {video}; it is not there"):
        list(dataset.images(2, "wrist"))
    assert len(list(dataset.images(2, "front"))) == 10


def test_a_video_shorter_than_its_episode_is_refused(demonstrations):
    """A whole MP4 in the wrong place: episode 1 has 9 frames, episode 2 has 10."""
    folder = demonstrations / "videos/observation.images.front/chunk-000"
    (folder / "file-002.mp4").write_bytes((folder / "file-001.mp4").read_bytes())
    with pytest.raises(UserError, match="ends after 9 of 10"):
        list(Dataset(demonstrations).images(2, "front"))


def test_counts_that_disagree_with_the_metadata_are_refused(demonstrations):
    rewrite_json(demonstrations / "meta/info.json", total_frames=32)
    with pytest.raises(UserError, match="total_frames 32, meta/episodes lists 31"):
        Dataset(demonstrations)
    rewrite_json(demonstrations / "meta/info.json", total_frames=31)
    path = demonstrations / "data/chunk-000/file-001.parquet"
    pq.write_table(pq.read_table(path).slice(0, 8), path)
    with pytest.raises(UserError, match="lists 9 frames of episode 1; found 8"):
        Dataset(demonstrations).arrays()


def test_damaged_images_in_a_parquet_are_named(tmp_path, bridge_sample):
    copy = tmp_path / "bridge"
    shutil.copytree(bridge_sample, copy)
    path = copy / "data/chunk-000/file-000.parquet"
    table = pq.read_table(path)
    cells = table["observation.images.image_0"].to_pylist()
    cells[13]["bytes"] = cells[13]["bytes"][:2000]
    column = pa.array(cells, table.schema.field("observation.images.image_0").type)
    pq.write_table(table.set_column(0, table.schema.field(0), column), path)
    dataset = Dataset(copy)
    assert len(list(dataset.images(0, "image_0"))) == 10
    with pytest.raises(UserError, match="episode 1, frame 3: no readable image"):
        list(dataset.images(1, "image_0"))
