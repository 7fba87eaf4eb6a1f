"""A policy behind openpi's websocket protocol, spoken here by a real server that answers well, badly, or not at all."""

import msgpack
import numpy as np
import pytest

from robosteer_core.errors import UserError
from robosteer_core.evaluation.ndarray_packing import pack, unpack
from robosteer_core.evaluation.remote_policy import RemotePolicy
from robosteer_core.evaluation.trial_policy import PolicySpec, load_trial_policy
from robosteer_core.rig import load_rig
from robosteer_core.runtime.frame import Frame, Intrinsics
from robosteer_core.runtime.observation import ArmState, Observation
from robosteer_core.runtime.pose import Pose


@pytest.fixture(scope="module")
def rig():
    return load_rig("lab")


@pytest.fixture
def observation(rig):
    images = {camera.name: np.full((480, 640, 3), 50 + 100 * (camera.mount == "hand"), np.uint8) for camera in rig.cameras}
    frames = {n: Frame(n, 0, 0, i, np.zeros((480, 640), np.uint16), 0.001, Intrinsics(640, 480, 1, 1, 1, 1)) for n, i in images.items()}
    pose = Pose(np.array([0.4, 0.1, 0.3]), np.array([1.0, 0, 0, 0]))
    return Observation(0, frames, ArmState(0, pose, pose, np.zeros(7), np.zeros(3), 0.5), "press the red button")


def act(policy, observation):
    try:
        return policy.begin(None, None)(observation)
    finally:
        policy.close()


def test_a_request_holds_what_openpis_policies_read_and_the_actions_come_back(rig, observation, policy_server):
    asked = []

    def answer(message):
        asked.append(unpack(message))
        return pack({"actions": np.arange(14, dtype=np.float32).reshape(2, 7), "server_timing": {"infer_ms": 1.0}})

    with policy_server(answer) as address:
        policy = load_trial_policy(PolicySpec(name="remote", policy=address), rig)
        assert policy.identity() == {"remote": address, "metadata": {"model": "test"}}
        actions = act(policy, observation)
    assert np.array_equal(actions, np.arange(14).reshape(2, 7))
    (request,) = asked
    assert sorted(request) == ["observation/image", "observation/state", "observation/wrist_image", "prompt"]
    assert request["prompt"] == "press the red button"
    assert request["observation/state"].dtype == np.float32 and np.array_equal(request["observation/state"], observation.arm.vector())
    for key, level in (("observation/image", 50), ("observation/wrist_image", 150)):
        image = request[key]
        assert image.shape == (224, 224, 3) and image.dtype == np.uint8
        # 640 x 480 becomes 224 x 168 between black bars.
        assert image[:28].max() == 0 and image[196:].max() == 0 and (image[28:196] == level).all()


def test_arrays_travel_in_openpis_layout():
    """As the module that it documents writes them: maps with keys of bytes, data in C order."""
    array = np.arange(6, dtype=np.int16).reshape(2, 3)
    raw = msgpack.unpackb(pack({"a": array, "b": np.float32(2.5)}))
    assert raw["a"] == {b"__ndarray__": True, b"data": array.tobytes(), b"dtype": "<i2", b"shape": [2, 3]}
    assert raw["b"] == {b"__npgeneric__": True, b"data": 2.5, b"dtype": "<f4"}
    back = unpack(pack({"a": array.T, "b": np.float32(2.5)}))
    assert np.array_equal(back["a"], array.T) and back["b"] == 2.5 and back["b"].dtype == np.float32


def test_objects_are_neither_packed_nor_unpacked():
    with pytest.raises(ValueError, match="object"):
        pack({"a": np.array([object()])})
    message = msgpack.packb({b"__ndarray__": True, b"data": b"12345678", b"dtype": "|O", b"shape": [1]})
    with pytest.raises(ValueError):
        unpack(message)


def test_where_no_server_is_the_error_comes_at_once_and_says_what_to_start(rig, free_ports):
    with pytest.raises(UserError, match=r"no policy server at ws://127.0.0.1:\d+: .*; start one that speaks openpi"):
        RemotePolicy(f"ws://127.0.0.1:{free_ports()}", rig)


def test_an_address_that_is_none_is_refused(rig):
    with pytest.raises(UserError, match="no policy server at ws://"):
        RemotePolicy("ws://", rig)


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (b"\xc1 rubbish", "no MessagePack of openpi's kind"),
        (pack([1, 2]), "sent list instead of a map"),
        (pack({"action": 1}), "without an array `actions`; found: action"),
        (pack({"actions": [[0.0] * 7]}), "without an array `actions`"),
        (msgpack.packb({"actions": {b"__ndarray__": True, b"data": b"123", b"dtype": "<f4", b"shape": [1, 7]}}), "no MessagePack"),
        ("Traceback: ValueError: no such camera", "failed: ...Traceback: ValueError: no such camera"),
        (None, "did not send actions within 0.2 s"),
    ],
)
def test_an_answer_that_is_no_actions_is_told_as_it_is(rig, observation, reply, message, policy_server):
    with policy_server(lambda _: reply) as address:
        policy = RemotePolicy(address, rig, first_timeout_s=0.2 if reply is None else 10.0)
        with pytest.raises(UserError, match=message):
            act(policy, observation)


def test_a_server_that_goes_is_missed(rig, observation, policy_server):
    with policy_server(lambda _: None) as address:
        policy = RemotePolicy(address, rig)
    with pytest.raises(UserError, match="connection to the policy server .* is lost"):
        act(policy, observation)
