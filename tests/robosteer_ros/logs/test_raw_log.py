"""The raw log of episodes: what is on the graph, as MCAP's own reader finds it; a full disk ends the log and nothing else."""

import json
import resource
import time

import pytest
from mcap.reader import make_reader

from robosteer_core.errors import UserError
from robosteer_core.rig import load_rig
from robosteer_ros import ros
from robosteer_ros.graph.participant import spinning
from robosteer_ros.graph.qos import LATCHED, STATES
from robosteer_ros.logs.episode_logs import EpisodeLogs
from robosteer_ros.logs.raw_log import RawLog, topics
from robosteer_ros.logs.run_log import RunLog
from robosteer_ros.ros import create_node, geometry_msgs, std_msgs, tf2_msgs

RIG = load_rig("lab")


@pytest.fixture
def node():
    ros.init(args=["test"])
    node = create_node("recorder", namespace="/left")
    with spinning(node):
        yield node
    ros.try_shutdown()


def pose_at(second):
    header = std_msgs.msg.Header(frame_id="fr3_link0")
    header.stamp.sec = second
    return geometry_msgs.msg.PoseStamped(header=header)


def publish(node, log, seconds):
    """Poses that the log has heard when this returns."""
    publisher = node.create_publisher(geometry_msgs.msg.PoseStamped, "arm/pose", STATES)
    deadline = time.monotonic() + 60
    while publisher.get_subscription_count() == 0:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    for second in seconds:
        publisher.publish(pose_at(second))
    while log._stamp_ns < seconds[-1] * 10**9:
        assert time.monotonic() < deadline, "the last pose was not heard"
        time.sleep(0.01)
    node.destroy_publisher(publisher)


def read(folder, index):
    name = f"episode_{index:06d}"
    with (folder / "raw" / name / f"{name}.mcap").open("rb") as file:
        return [(channel.topic, schema.name, message.log_time // 10**9) for schema, channel, message in make_reader(file).iter_messages()]


def test_an_episodes_log_holds_what_was_said_meanwhile_at_robot_time_and_what_is_latched(node, tmp_path):
    transforms = node.create_publisher(tf2_msgs.msg.TFMessage, "/tf_static", LATCHED)
    transforms.publish(tf2_msgs.msg.TFMessage())
    raw = RawLog(node, RIG)
    log = EpisodeLogs(raw, tmp_path)
    publish(node, raw, [1, 2])
    log.begin()
    publish(node, raw, [3, 4, 5])
    log.end(0)
    log.begin()
    publish(node, raw, [6])
    log.end(None)
    log.close()
    pose, transform = "geometry_msgs/msg/PoseStamped", "tf2_msgs/msg/TFMessage"
    assert read(tmp_path, 0) == [("/tf_static", transform, 2), *(("/left/arm/pose", pose, second) for second in (3, 4, 5))]
    assert [path.name for path in (tmp_path / "raw").iterdir()] == ["episode_000000"]


def test_a_full_disk_ends_the_log_of_that_episode_alone(node, tmp_path, caplog):
    raw = RawLog(node, RIG)
    log = EpisodeLogs(raw, tmp_path)
    log.begin()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        publish(node, raw, [1, 2, 3])
        log.end(0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "cannot be finished" in caplog.text or "ends here" in caplog.text
    log.begin()
    publish(node, raw, [4])
    log.end(1)
    log.close()
    assert sorted(path.name for path in (tmp_path / "raw").iterdir()) == ["episode_000001", "interrupted_000"]
    assert [second for *_, second in read(tmp_path, 1)] == [4]


def test_a_run_has_a_folder_of_its_own_which_says_what_it_was_asked_and_what_came_of_it(node, tmp_path):
    node.create_publisher(geometry_msgs.msg.PoseStamped, "arm/pose", STATES)
    runs = []
    for status in ({"outcome": "over", "error": "", "policy": "base", "ticks": "30", "rate_hz": "14.9", "state": "ready"}, None):
        log = RunLog(node, RIG, tmp_path, {"instruction": "wave"})
        log.begin()
        runs.append(log.folder)
        begun = json.loads((log.folder / "summary.json").read_text())
        assert (begun["instruction"], begun["outcome"]) == ("wave", None)
        publish(node, log._log, [1, 2])
        if status:
            log.tell(status, success=True)
        said = log.end()
    assert said == "" and [path.name for path in tmp_path.iterdir()] == [runs[0].name], "a run that was refused leaves nothing"
    told = json.loads((runs[0] / "summary.json").read_text())
    assert (told["outcome"], told["policy"], told["success"], told["loop"]) == ("over", "base", True, {"ticks": 30, "rate_hz": 14.9})
    assert told["topics"] == {"/left/arm/pose": {"messages": 2, "nodes": ["/left/recorder"]}}
    with (runs[0] / f"{runs[0].name}.mcap").open("rb") as file:
        assert [channel.topic for _, channel, _ in make_reader(file).iter_messages()] == ["/left/arm/pose"] * 2


def test_where_the_disk_is_full_a_runs_log_is_refused_in_words_and_nothing_is_half_written(node, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    log = RunLog(node, RIG, tmp_path, {"instruction": "wave"})
    log.begin()
    begun = (log.folder / "summary.json").read_text()
    log.tell({"outcome": "over", "error": ""})
    other = RunLog(node, RIG, tmp_path / "other", {"instruction": "wave"})
    resource.setrlimit(resource.RLIMIT_FSIZE, (60, before[1]))
    try:
        with pytest.raises(UserError, match="the run itself was over; .*summary.json cannot be written: File too large; .*make room"):
            log.end()
        with pytest.raises(UserError, match="(?i)make room"):
            other.begin()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (log.folder / "summary.json").read_text() == begun and not list(tmp_path.rglob("*.tmp")) and not other.folder.exists()


def test_each_camera_is_logged_compressed_and_nothing_is_logged_raw():
    listed = topics(RIG)
    for camera in RIG.cameras:
        assert f"{camera.name}/color/image_raw/compressed" in listed and f"{camera.name}/color/image_raw" not in listed
