"""Which frame of a camera stands for an instant."""

import pytest

from robosteer_core.rig import load_rig
from robosteer_ros.graph.station import oldest_frame_ns

MS = 1_000_000


@pytest.mark.parametrize("now_ms, oldest_ms", [(1000, 1000), (1033, 1000), (1034, 1034), (1067, 1067), (1099, 1067)])
def test_the_frame_of_an_instant_in_the_lab_is_the_last_on_the_cameras_grid(now_ms, oldest_ms):
    rig = load_rig("lab")
    assert oldest_frame_ns(rig, rig.cameras[0], now_ms * MS) == oldest_ms * MS


def test_a_real_cameras_frame_may_be_two_periods_old():
    rig = load_rig("lab")
    real = rig.model_copy(update={"lab": None})
    assert oldest_frame_ns(real, rig.cameras[0], 1000 * MS) == pytest.approx(1000 * MS - 2e9 / 30, abs=1)
