"""What the versions of the protocol have differently on the wire."""

import pytest

from robosteer_sim.fci.versions import V5, V10
from robosteer_sim.fci.wire import MoveStatus, Status


@pytest.mark.parametrize(
    "version, number, state, control, move", [(V5, 5, 2373, 370, 56), (V10, 10, 1377, 371, 113)], ids=["5", "10"]
)
def test_packets_have_the_sizes_that_libfranka_expects(version, number, state, control, move):
    assert (version.number, version.state.itemsize, version.control.itemsize) == (number, state, control)
    assert version.move_request.size == move


def test_the_same_answer_and_request_have_different_numbers():
    assert [version.code(MoveStatus.REFLEX_ABORTED) for version in (V5, V10)] == [6, 8]
    assert [version.code(MoveStatus.INPUT_ERROR_ABORTED) for version in (V5, V10)] == [8, 10]
    assert [version.code(Status.INVALID_ARGUMENT) for version in (V5, V10)] == [2, 2]
    assert [version.commands["AUTOMATIC_ERROR_RECOVERY"] for version in (V5, V10)] == [12, 10]
    missing = {name for name in V10.commands.__members__ if name not in V5.commands.__members__}
    assert missing == {"GET_ROBOT_MODEL"}
