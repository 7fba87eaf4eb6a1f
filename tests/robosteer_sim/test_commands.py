"""`robosteer sim`: what it tells about the lab, and what it refuses."""

import subprocess
import sys

import pytest
from PIL import Image

from robosteer_core.errors import UserError
from robosteer_core.rig import load_rig
from robosteer_sim.contact_sheet import COLUMNS, TILE_PX, contact_sheet
from robosteer_sim.tasks import TASKS
from robosteer_sim.variations import VARIATIONS


def sim(*words):
    return subprocess.run([sys.executable, "-m", "robosteer_core.cli", "sim", *words], capture_output=True, text=True, timeout=60)


def test_tasks_are_listed_with_their_wordings_and_variations():
    done = sim("tasks")
    assert done.returncode == 0 and not done.stderr
    for task, others in TASKS.items():
        assert task in done.stdout and all(wording in done.stdout for wording in others)
    assert ", ".join(VARIATIONS) in done.stdout


def test_the_operator_refuses_an_unknown_variation_before_it_looks_for_a_lab():
    done = sim("operator", "--task", "open the drawer", "--variation", "fog")
    assert done.returncode == 2 and "unknown variation 'fog'; expected none, all" in done.stderr


def test_the_picture_of_the_lab_has_a_tile_for_every_task_and_variation(tmp_path):
    out = tmp_path / "new" / "lab.png"
    contact_sheet(load_rig("lab"), 0, out)
    with Image.open(out) as sheet:
        tiles = len(TASKS) + len(VARIATIONS)  # no tile for "none", one more for the depth image of "sensor"
        assert sheet.size[0] == COLUMNS * TILE_PX[0] and sheet.size[1] >= -(-tiles // COLUMNS) * TILE_PX[1]
    with pytest.raises(UserError, match="ends in .jpg or .png, found .*lab.gif"):
        contact_sheet(load_rig("lab"), 0, tmp_path / "lab.gif")
    assert not (tmp_path / "lab.gif").exists()
