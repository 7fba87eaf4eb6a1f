"""The Panda as a MuJoCo model: identified dynamics, and links of capsules that look like it."""

from __future__ import annotations

import re
from pathlib import Path

import mujoco
import numpy as np
from scipy.spatial.transform import Rotation

from robosteer_sim.fci.limits import FER

PARAMETERS = Path(__file__).with_name("parameters.h")

#: Half of the sigmoid's height in Gaz et al. 2019, which is the friction at full speed in either direction, Nm.
FRICTION_NM = (0.2731, 0.4361, 0.3203, 0.6397, 0.4195, 0.1515, 0.2824)
#: Rotors behind their gears. Nobody has published the Panda's: these are those of franky-sim's FR3, kg m^2.
ARMATURE_KG_M2 = (0.195, 0.195, 0.195, 0.195, 0.074, 0.074, 0.074)
#: The Franka Hand as Desk configures it: mass [kg], and at the flange centre of mass [m] and inertia [kg m^2]. One finger.
HAND_MASS_KG, HAND_CENTRE_M, HAND_INERTIA_KG_M2 = 0.73, np.array([-0.01, 0.0, 0.03]), np.diag([0.001, 0.0025, 0.0017])
FINGER_MASS_KG, FINGER_Z_M, FINGER_INERTIA_KG_M2 = 0.015, 0.0584, (2.375e-6, 2.375e-6, 7.5e-7)
#: The hand is turned against the flange, rad.
HAND_TURN_RAD = -np.pi / 4

WHITE, DARK = (0.92, 0.92, 0.93, 1), (0.25, 0.25, 0.27, 1)

#: What is drawn: link, from and to in its frame [m], radius [m]; white capsules, and dark discs across the joints.
_CAPSULES = (
    (0, (-0.08, 0, 0.04), (0, 0, 0.08), 0.065), (1, (0, 0, -0.19), (0, 0, 0), 0.06), (2, (0, 0, 0), (0, -0.18, 0), 0.06),
    (3, (0, 0, -0.10), (0, 0, -0.05), 0.06), (3, (0.01, 0, -0.045), (0.0825, 0, 0), 0.055),
    (4, (0, 0, 0), (-0.0825, 0.09, 0), 0.055), (5, (0, 0, -0.25), (0, 0, -0.20), 0.058),
    (5, (0, 0.055, -0.18), (0, 0.065, -0.03), 0.03), (5, (0, 0.03, -0.02), (0, 0, 0), 0.05),
    (6, (0, 0, 0), (0.088, 0, 0), 0.045), (7, (0, 0, -0.01), (0, 0, 0.06), 0.045),
)  # fmt: skip
_DISCS = (
    (0, (0, 0, 0.0), (0, 0, 0.02), 0.10), (1, (0, 0, -0.21), (0, 0, -0.19), 0.062), (2, (0, 0, -0.068), (0, 0, 0.068), 0.05),
    (3, (0, 0, -0.135), (0, 0, -0.115), 0.062), (4, (0, 0, -0.065), (0, 0, 0.065), 0.045),
    (5, (0, 0, -0.275), (0, 0, -0.255), 0.06), (6, (0, 0, -0.058), (0, 0, 0.058), 0.04), (7, (0, 0, 0.095), (0, 0, 0.107), 0.035),
)  # fmt: skip
#: Boxes of the hand and of a finger (centre, half sizes) in their frames, metres; they touch things. The fingers' inner
#: faces leave room for each other, so that closed ones are no contact.
_HAND_BOXES = (((0, 0, -0.001), (0.0315, 0.0995, 0.013)), ((0, 0, 0.039), (0.0205, 0.0995, 0.027)))
_FINGER_BOXES = (((0, 0.0135, 0.012), (0.0105, 0.0085, 0.012)), ((0, 0.0098, 0.0365), (0.0085, 0.0047, 0.017)))
_PAD = ((0, 0.0048, 0.0448), (0.0088, 0.0047, 0.0087))


def panda_spec() -> mujoco.MjSpec:
    """A fresh spec: bodies link0 to link7, hand, left_finger, right_finger; joints joint1 to joint7, finger_joint1 and 2."""
    lines = re.findall(r"^(JOINT|LINK|FLANGE)\((.*)\)$", PARAMETERS.read_text(), re.MULTILINE)
    numbers = {kind: [tuple(map(float, text.split(","))) for name, text in lines if name == kind] for kind, _ in lines}
    spec = mujoco.MjSpec()
    spec.modelname, spec.compiler.degree = "panda", False
    parent = spec.worldbody.add_body(name="base").add_body(name="link0")
    _draw(parent, 0)
    for index, ((a, d, quarters), link) in enumerate(zip(numbers["JOINT"], numbers["LINK"])):
        alpha = Rotation.from_euler("x", quarters * np.pi / 2)
        parent = parent.add_body(
            name=f"link{index + 1}", pos=alpha.apply([0, 0, d]).round(12) + [a, 0, 0], quat=alpha.as_quat(scalar_first=True)
        )
        mass, x, y, z, xx, xy, xz, yy, yz, zz = link
        _weigh(parent, mass, (x, y, z), np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]))
        effort = FER.torque[index]
        parent.add_joint(
            name=f"joint{index + 1}", axis=(0, 0, 1), range=(FER.position_low[index], FER.position_high[index]), limited=True, frictionloss=FRICTION_NM[index],
            armature=ARMATURE_KG_M2[index], actfrcrange=(-effort, effort), actfrclimited=True,
        )  # fmt: skip
        _draw(parent, index + 1)
    _add_hand(spec, parent, numbers["FLANGE"][0][0])
    return spec


def _add_hand(spec: mujoco.MjSpec, link: mujoco.MjsBody, flange_m: float) -> None:
    turn = Rotation.from_euler("z", HAND_TURN_RAD)
    hand = link.add_body(name="hand", pos=(0, 0, flange_m), quat=turn.as_quat(scalar_first=True))
    # Desk's numbers are of the whole hand at the flange: the fingers are taken off, and what is left is turned.
    fingers_m = np.array([0, 0, FINGER_Z_M])
    mass = HAND_MASS_KG - 2 * FINGER_MASS_KG
    centre = (HAND_MASS_KG * HAND_CENTRE_M - 2 * FINGER_MASS_KG * fingers_m) / mass
    inertia = HAND_INERTIA_KG_M2 + _steiner(HAND_MASS_KG, HAND_CENTRE_M) - _steiner(mass, centre)
    inertia -= 2 * (np.diag(FINGER_INERTIA_KG_M2) + _steiner(FINGER_MASS_KG, fingers_m))
    back = turn.inv().as_matrix()
    _weigh(hand, mass, back @ centre, back @ inertia @ back.T)
    for centre, half in _HAND_BOXES:
        hand.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, pos=centre, size=half, rgba=WHITE)
    for number, (name, quat) in enumerate((("left_finger", (1, 0, 0, 0)), ("right_finger", (0, 0, 0, 1)))):
        finger = hand.add_body(name=name, pos=fingers_m, quat=quat)
        _weigh(finger, FINGER_MASS_KG, (0, 0, 0), np.diag(FINGER_INERTIA_KG_M2))
        finger.add_joint(
            name=f"finger_joint{number + 1}", type=mujoco.mjtJoint.mjJNT_SLIDE, axis=(0, 1, 0), range=(0, 0.04), limited=True,
        )  # fmt: skip
        for centre, half in (*_FINGER_BOXES, _PAD):
            finger.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, pos=centre, size=half, rgba=DARK)
    # One motor moves both fingers.
    spec.add_equality(
        type=mujoco.mjtEq.mjEQ_JOINT, name1="finger_joint1", name2="finger_joint2", objtype=mujoco.mjtObj.mjOBJ_JOINT,
        data=[0, 1, *[0] * 10], solref=(0.005, 1), solimp=(0.95, 0.99, 0.001, 0.5, 2),
    )  # fmt: skip


def _steiner(mass: float, at: np.ndarray) -> np.ndarray:
    """Inertia (3, 3) of a point of `mass` at `at` (3,) about the origin."""
    return mass * (at @ at * np.eye(3) - np.outer(at, at))


def _weigh(body: mujoco.MjsBody, mass: float, centre: np.ndarray, inertia: np.ndarray) -> None:
    body.mass, body.ipos, body.explicitinertial = mass, centre, True
    body.fullinertia = inertia[[0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]]


def _draw(body: mujoco.MjsBody, link: int) -> None:
    capsule, cylinder = mujoco.mjtGeom.mjGEOM_CAPSULE, mujoco.mjtGeom.mjGEOM_CYLINDER
    for shape, rgba, table in ((capsule, WHITE, _CAPSULES), (cylinder, DARK, _DISCS)):
        for drawn_on, start, end, radius in table:
            if drawn_on == link:
                body.add_geom(type=shape, fromto=(*start, *end), size=(radius, 0, 0), rgba=rgba)
