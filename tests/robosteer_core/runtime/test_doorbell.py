"""Doorbell: waiting for another process without polling."""

import mmap
import subprocess
import sys
import time

import pytest

from robosteer_core.runtime.doorbell import Doorbell

RINGER = """
import mmap, os, sys, time
from robosteer_core.runtime.doorbell import Doorbell
file = os.open(sys.argv[1], os.O_RDWR)
bell = Doorbell(mmap.mmap(file, 64), 8)
for count in range(1, 51):
    time.sleep(0.004)
    bell.ring(count)
"""


@pytest.fixture
def shared(tmp_path):
    path = tmp_path / "bell"
    path.write_bytes(bytes(64))
    with path.open("r+b") as file:
        yield path, mmap.mmap(file.fileno(), 64)


def test_a_ring_in_another_process_wakes_the_waiter_each_time(shared):
    path, mapping = shared
    bell = Doorbell(mapping, 8)
    process = subprocess.Popen([sys.executable, "-c", RINGER, path])
    seen, wakes, cpu = 0, 0, time.process_time()
    while seen < 50:
        count = bell.wait(seen, 10.0)
        assert count > seen, "woke without news before the time-out"
        seen, wakes = count, wakes + 1
    assert process.wait(10) == 0
    assert wakes <= 50
    assert time.process_time() - cpu < 0.15, "waiting burnt processor time"


def test_waiting_ends_at_the_time_out_with_the_count_unchanged(shared):
    bell = Doorbell(shared[1], 8)
    bell.ring(3)
    start = time.monotonic()
    assert bell.wait(3, 0.05) == 3
    assert 0.045 <= time.monotonic() - start < 2.0


def test_news_that_came_before_the_wait_is_not_missed(shared):
    bell = Doorbell(shared[1], 8)
    bell.ring(7)
    assert bell.wait(6, 60.0) == 7


def test_where_there_is_no_futex_the_counter_is_polled(shared, monkeypatch):
    monkeypatch.setattr("robosteer_core.runtime.doorbell._FUTEX_CALL", None)
    path, mapping = shared
    bell = Doorbell(mapping, 8)
    process = subprocess.Popen([sys.executable, "-c", RINGER, path])
    assert bell.wait(0, 10.0) >= 1
    assert process.wait(10) == 0
    assert bell.wait(50, 0.01) == 50
