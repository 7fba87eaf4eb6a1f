"""`check` finds each kind of damage and `repair` keeps what is whole and destroys nothing."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from robosteer_core.cli import main
from robosteer_core.episodes.check import check
from robosteer_core.episodes.reader import Dataset
from robosteer_core.episodes.repair import repair
from robosteer_core.episodes.writer import DatasetWriter


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])


def replace_column(path: Path, key: str, change) -> None:
    table = pq.read_table(path)
    number = table.column_names.index(key)
    values = change(table[key].to_numpy().copy())
    pq.write_table(table.set_column(number, table.schema.field(number), pa.array(values)), path)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_whole_dataset_of_lerobots_own_has_no_problems(bridge_sample):
    report = check(bridge_sample)
    assert (report.problems, report.notes, len(report.verified)) == ([], [], 25)
    report = check(Path(__file__).parent / "lerobot_video")
    assert (report.problems, report.notes, len(report.verified)) == ([], [], 3)


DATA = "data/chunk-000/file-001.parquet"
VIDEO = "videos/observation.images.front/chunk-000/file-001.mp4"


@pytest.mark.parametrize(
    ("damage", "message", "whole"),
    [
        (lambda d: cut(d / DATA), "is truncated or no parquet", 1),
        (lambda d: (d / DATA).unlink(), "file-001.parquet; it is not there", 1),
        (lambda d: cut(d / VIDEO), "file-001.mp4 is truncated", 1),
        (lambda d: shutil.copy(d / VIDEO, d / VIDEO.replace("001", "000")), "ends after 9 of 12", 0),
        (lambda d: replace_column(d / DATA, "stamp_ns.front", lambda v: v[::-1]), "stamp_ns.front runs backwards", 1),
        (lambda d: replace_column(d / DATA, "stamp_ns.state", lambda v: v - (v == v[3]) * (v[3] - v[1])), "state runs backwards at frame 3", 1),
        (lambda d: replace_column(d / DATA, "timestamp", lambda v: v + 0.01), "timestamp is not frame_index / 15", 1),
        (lambda d: replace_column(d / DATA, "index", lambda v: v + 1), "index does not run from 12 to 20", 1),
        (lambda d: replace_column(d / DATA, "task_index", lambda v: 0 * v), "task_index stands for", 1),
        (lambda d: cut(d / "meta/episodes/chunk-000/file-002.parquet"), "meta/episodes/chunk-000/file-002.parquet is trunc", 2),
        (lambda d: (d / "meta/tasks.parquet").unlink(), "tasks.parquet; it is not there", 3),
        (lambda d: (d / "meta/stats.json").write_text("{"), "stats.json is not readable JSON", 3),
        (lambda d: shutil.copy(d / DATA, d / DATA.replace("001", "007")), "file-007.parquet belongs to no episode", 3),
    ],
)
def test_each_damage_is_found_and_repaired_without_loss(demonstrations, rig, record, damage, message, whole):
    intact = contents(demonstrations)
    damage(demonstrations)
    damaged = contents(demonstrations)
    report = check(demonstrations)
    assert any(message in problem for problem in report.problems), report.problems
    assert len(report.verified) == whole

    done = repair(demonstrations, report)
    assert done.kept == whole
    assert check(demonstrations).problems == []
    now = contents(demonstrations)
    derived = {"meta/info.json", "meta/stats.json", "meta/tasks.parquet", "meta/.lock"}
    for path, content in damaged.items():
        if path not in derived:
            assert content in (now.get(path), now.get(f"dropped/001/{path}")), f"{path} is gone"
    lengths = [12, 9, 10][:whole]
    assert [episode.length for episode in Dataset(demonstrations).episodes] == lengths
    if whole == 3:
        for path in ("meta/stats.json", "meta/info.json"):
            assert json.loads(now[path]) == json.loads(intact[path])
    with DatasetWriter(demonstrations, rig) as writer:  # recording goes on
        record(writer, 3, 4, "push the green cube")
    assert [episode.length for episode in Dataset(demonstrations).episodes] == [*lengths, 4]
    assert check(demonstrations).problems == []


@pytest.mark.parametrize("source", ["state", "front", "command"])
def test_the_same_stamp_at_two_ticks_is_no_damage(demonstrations, source):
    replace_column(demonstrations / DATA, f"stamp_ns.{source}", lambda v: v - (v == v[3]) * (v[3] - v[2]))
    assert check(demonstrations).problems == []


def test_repair_of_a_file_shared_by_many_episodes_keeps_the_rows_before_the_damage(tmp_path, bridge_sample):
    copy = tmp_path / "bridge"
    shutil.copytree(bridge_sample, copy)
    path = copy / "data/chunk-000/file-000.parquet"
    replace_column(path, "timestamp", lambda values: values + (np.arange(250) == 137).astype(np.float32))
    damaged = path.read_bytes()
    report = check(copy)
    assert len(report.problems) == 1 and "episode 13: timestamp" in report.problems[0]
    done = repair(copy, report)
    assert (done.kept, done.listed) == (13, 25)
    assert (copy / "dropped/001/data/chunk-000/file-000.parquet").read_bytes() == damaged
    assert check(copy).problems == []
    ours, theirs = Dataset(copy), Dataset(bridge_sample)
    np.testing.assert_array_equal(ours.arrays().state, theirs.arrays().state[:130])
    np.testing.assert_array_equal(ours.image(129, "image_0"), theirs.image(129, "image_0"))
    np.testing.assert_allclose(ours.stats["action"]["mean"], theirs.arrays().action[:130].astype(float).mean(0), atol=1e-12)


def test_repair_changes_nothing_in_a_whole_dataset(demonstrations):
    before = contents(demonstrations)
    assert repair(demonstrations, check(demonstrations)).dropped == []
    assert contents(demonstrations) == before


def test_commands_print_json_and_exit_with_2_when_something_is_wrong(demonstrations, capfd):
    assert main(["dataset", "check", str(demonstrations), "--json", "-"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert found == {"dataset": str(demonstrations), "episodes": 3, "verified_episodes": 3, "verified_frames": 31, "problems": [], "notes": []}
    cut(demonstrations / DATA)
    assert main(["dataset", "check", str(demonstrations), "--json", "-"]) == 2
    out, err = capfd.readouterr()
    assert len(json.loads(out)["problems"]) == 1
    assert err.startswith("robosteer: 1 problem in") and "truncated" in err
    assert main(["dataset", "repair", str(demonstrations)]) == 0
    assert "kept 1 of 3 episodes" in capfd.readouterr().out
    assert main(["dataset", "check", str(demonstrations)]) == 0
    (demonstrations / "meta/info.json").unlink()
    assert main(["dataset", "check", str(demonstrations)]) == 2
    assert "meta/info.json is missing" in capfd.readouterr().err
