"""The library that the Panda's server hands out, against MuJoCo's numbers for the same arm."""

import ctypes

import mujoco
import numpy as np
import pytest

from robosteer_core.errors import UserError
from robosteer_sim.fci.limits import FER
from robosteer_sim.panda import model_library
from robosteer_sim.panda.arm import (
    ARMATURE_KG_M2,
    FINGER_MASS_KG,
    HAND_CENTRE_M,
    HAND_INERTIA_KG_M2,
    HAND_MASS_KG,
    panda_spec,
)

#: What libfranka 0.9.2 looks up in it.
NAMES = [f"{kind}_J{number}" for kind in ("O_T", "O_J", "Ji_J") for number in range(1, 10)] + ["M_NE", "c_NE", "g_NE"]


class Library:
    """Calls by name with arrays; the last argument of each function is its result."""

    def __init__(self, path):
        self._library = ctypes.CDLL(str(path))

    def __call__(self, name, size, *arguments):
        result = np.full(size, np.nan)
        given = [ctypes.c_double(a) if np.isscalar(a) else np.ascontiguousarray(a, float) for a in (*arguments, result)]
        pointers = [a if isinstance(a, ctypes.c_double) else a.ctypes.data_as(ctypes.c_void_p) for a in given]
        function = getattr(self._library, name)
        function.restype = None
        function(*pointers)
        return given[-1]


@pytest.fixture(scope="module")
def library():
    try:
        return Library(model_library.library_path())
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def arm():
    """The arm in MuJoCo with closed fingers, and its data."""
    spec = panda_spec()
    spec.body("hand").add_site(name="tool", pos=(0.01, -0.02, 0.1), euler=(0.3, -0.2, 0.5))
    spec.body("link7").add_site(name="flange", pos=spec.body("hand").pos)
    model = spec.compile()
    return model, mujoco.MjData(model)


@pytest.fixture
def configurations():
    random = np.random.default_rng(5)
    low, high = FER.position_low, FER.position_high
    return [(random.uniform(low, high), random.uniform(-2, 2, 7)) for _ in range(8)]


def at(arm, q, dq=np.zeros(7)):
    model, data = arm
    data.qpos[:7], data.qvel[:7] = q, dq
    mujoco.mj_forward(model, data)
    return model, data


def pose_of(rotation, position):
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = np.reshape(rotation, (3, 3)), position
    return pose


def frames(model, data):
    """(number, pose, body that carries the frame) for the nine frames of the library."""
    for number in range(1, 8):
        body = model.body(f"link{number}").id
        yield number, pose_of(data.xmat[body], data.xpos[body]), body
    for number, name in ((8, "flange"), (9, "tool")):
        site = model.site(name).id
        yield number, pose_of(data.site_xmat[site], data.site_xpos[site]), model.site_bodyid[site]


def test_it_exports_what_libfranka_looks_up(library):
    assert len(NAMES) == 30 and all(hasattr(library._library, name) for name in NAMES)


def test_poses_and_jacobians_are_those_of_the_simulated_arm(library, arm, configurations):
    for q, _ in configurations:
        model, data = at(arm, q)
        poses = {number: pose for number, pose, _ in frames(model, data)}
        tool = np.linalg.inv(poses[8]) @ poses[9]
        for number, pose, body in frames(model, data):
            arguments = (q, tool.ravel(order="F")) if number == 9 else (q,)
            found = library(f"O_T_J{number}", 16, *arguments).reshape(4, 4, order="F")
            np.testing.assert_allclose(found, pose, atol=1e-9)
            jacobian = np.zeros((6, model.nv))
            mujoco.mj_jac(model, data, jacobian[:3], jacobian[3:], pose[:3, 3], body)
            # The first link's Jacobians are constant: they are asked for without joint positions.
            arguments = arguments if number > 1 else ()
            zero = library(f"O_J_J{number}", 42, *arguments).reshape(6, 7, order="F")
            np.testing.assert_allclose(zero, jacobian[:, :7], atol=1e-9)
            own = library(f"Ji_J_J{number}", 42, *arguments).reshape(6, 7, order="F")
            turn = np.kron(np.eye(2), pose[:3, :3].T)
            np.testing.assert_allclose(own, turn @ zero, atol=1e-9)


def test_mass_coriolis_and_gravity_are_those_of_the_simulated_arm(library, arm, configurations):
    """With the hand as the load, as the client gets it from the robot's state."""
    load = (HAND_INERTIA_KG_M2.ravel(order="F"), HAND_MASS_KG, HAND_CENTRE_M)
    assert arm[0].body("hand").mass + 2 * FINGER_MASS_KG == pytest.approx(HAND_MASS_KG)
    for q, dq in configurations:
        model, data = at(arm, q, dq)
        full = np.empty((model.nv, model.nv))
        mujoco.mj_fullM(model, data, full)
        mass = library("M_NE", 49, q, *load).reshape(7, 7)
        np.testing.assert_allclose(mass + np.diag(ARMATURE_KG_M2), full[:7, :7], atol=1e-9)
        coriolis = library("c_NE", 7, q, dq, *load)
        gravity = library("g_NE", 7, q, model.opt.gravity, HAND_MASS_KG, HAND_CENTRE_M)
        np.testing.assert_allclose(coriolis + gravity, data.qfrc_bias[:7], atol=1e-9)
        np.testing.assert_allclose(gravity, at(arm, q)[1].qfrc_bias[:7], atol=1e-9)
        assert np.abs(coriolis).max() > 0.01 and np.abs(gravity).max() > 1.0


def test_a_missing_library_says_what_to_install(monkeypatch):
    monkeypatch.setattr(model_library, "MODULE", "robosteer_sim.panda._not_built")
    with pytest.raises(UserError, match="C compiler.*gcc.*pip install -e"):
        model_library.library_path()
