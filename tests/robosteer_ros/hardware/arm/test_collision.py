"""The collision thresholds of the rig reach the robot."""

import numpy as np
import pytest

from robosteer_core.runtime.json_lines import Refused


@pytest.fixture(scope="module")
def rig_file(new_arm_rig):
    return new_arm_rig(arm={"collision_force_n": 20.0})


def test_an_arm_that_runs_into_something_stops_and_goes_on_after_recovery(arm, tracking, chunk):
    with pytest.raises(Refused, match="cartesian_reflex"), tracking() as clock:
        for _ in range(60):
            arm.send(chunk(arm.state(), clock, (0, 0, -0.02, 0, 0, 0)))
            clock.sleep_until_ns(clock.now_ns() + 66_000_000)
    assert arm.status()["mode"] == "fault" and arm.status()["last_error"].startswith("cartesian_reflex")
    arm.recover()
    with tracking() as clock:
        start = arm.state()
        for _ in range(10):
            arm.send(chunk(arm.state(), clock, (0, 0.005, 0, 0, 0, 0)))
            clock.sleep_until_ns(clock.now_ns() + 66_000_000)
        np.testing.assert_allclose(arm.state().commanded.position - start.commanded.position, [0, 0.05, 0], atol=0.006)
