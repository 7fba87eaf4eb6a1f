"""Files on a disk that refuses them: one message, what was there before, and nothing else."""

import resource
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import save_file

from robosteer_core.episodes.layout import write_parquet
from robosteer_core.errors import UserError
from robosteer_core.files import require_room, require_writable, write_text, written, written_folder


@contextmanager
def no_file_larger_than(size):
    """A limit of this process, at which the system breaks off a file as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def torch_file(path):
    with written(path) as temporary, temporary.open("wb") as file:
        torch.save(torch.zeros(10000), file)


def safetensors_file(path):
    with written(path) as temporary:
        save_file({"a": torch.zeros(10000)}, temporary)


def parquet_file(path):
    write_parquet(pa.table({"a": np.random.default_rng(0).normal(size=10000)}), path)


@pytest.mark.parametrize("write", [torch_file, safetensors_file, parquet_file, lambda path: write_text(path, 20000 * "a")])
def test_a_file_that_breaks_off_is_told_by_its_name_and_leaves_what_was_there(tmp_path, write):
    path = tmp_path / "file"
    path.write_text("before")
    with no_file_larger_than(10000), pytest.raises(UserError, match=f"{path} cannot be written: .*File too large.*iB are free there; make room"):
        write(path)
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]
    write(path)
    assert path.stat().st_size >= 20000


def test_a_folder_that_breaks_off_is_not_there(tmp_path):
    with no_file_larger_than(10000), pytest.raises(UserError, match="folder cannot be written"), written_folder(tmp_path / "folder") as part:
        (part / "small").write_text("a")
        save_file({"a": torch.zeros(10000)}, part / "large")
    assert not list(tmp_path.iterdir())


def test_what_safetensors_writes_can_be_read_by_whom_the_umask_lets(tmp_path):
    (tmp_path / "neighbour").touch()
    safetensors_file(tmp_path / "file")
    with written_folder(tmp_path / "folder") as part:
        save_file({"a": torch.zeros(1)}, part / "file")
    assert {path.stat().st_mode for path in (tmp_path / "file", tmp_path / "folder" / "file")} == {(tmp_path / "neighbour").stat().st_mode}


def test_a_fault_in_what_writes_is_no_fault_of_the_disk(tmp_path):
    with pytest.raises(RuntimeError, match="mine"), written(tmp_path / "file"):
        raise RuntimeError("mine")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_is_told_before_anything_is_written(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file" / "out", "/proc/robosteer/out"):
        with pytest.raises(UserError, match=f"the folder {folder} cannot be written"):
            require_writable(type(tmp_path)(folder))
    require_writable(tmp_path / "new" / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_more_than_the_disk_has_is_refused(tmp_path):
    require_room(tmp_path / "new", 1)
    with pytest.raises(UserError, match=f"what goes to {tmp_path / 'new'} takes about 1048576.0 GiB; .* are free there; make room"):
        require_room(tmp_path / "new", 2**50)
