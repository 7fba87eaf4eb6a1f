"""Bundle adjustment of a camera's mounting with slack on the robot's poses.

Unknown are the camera's pose, the target's pose, if wanted the lens, and every pose of the robot; each measured robot pose
is a prior on the true one, as is each lens parameter. The poses are eliminated from the normal equations by their Schur
complement, so that a step costs time in proportion to the number of views. Residuals come in blocks of one kind; each
block has Huber's weight, and the standard deviation of each kind is estimated along the way from residuals and redundancy
(Foerstner, Wrobel: Photogrammetric Computer Vision, 2016, section 4.2.4), held near an assumption by `ASSUMED_COUNT`
imagined residuals.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from calibration.rigid import hat, inverse, moved, steps_between
from calibration.solvers import HandEye

#: The robot's measured poses are assumed to be this good, until residuals tell [m, rad]: Franka's
#: data sheets state a repeatability of 0.1 mm and no accuracy.
ROBOT_TRANSLATION_M, ROBOT_ROTATION_RAD = 0.5e-3, np.deg2rad(0.1)
#: How many residuals an assumed standard deviation is worth beside those that are measured: those of one pose.
ASSUMED_COUNT = 3.0
#: Standard deviations are not estimated below this part of what is assumed: a perfect fit is no knowledge.
_LEAST_PART = 0.02
#: Part of the way that each step goes: kinds that can hardly be told apart would swing against each other.
_PATIENCE = 0.4
#: From this many standard deviations on a block counts linearly.
HUBER = 3.0
#: Of many blocks those beyond this many are wrong, not noisy, and count no longer; judged once the solution has settled.
REJECTED = 6.0
_SETTLED = 5
MAX_STEPS = 60


@dataclass(frozen=True)
class Blocks:
    """Residuals of one kind: `values` (n, blocks, d) in their unit, NaN-free, `present` (n, blocks) bool; Jacobians (n, blocks,
    d, .) with respect to the shared unknowns (camera 6, target 6, lens) and to the view's robot pose (6). `many` says that
    single ones may be left out altogether."""

    kind: str
    values: np.ndarray
    shared: np.ndarray
    own: np.ndarray
    present: np.ndarray
    many: bool = False


class Observations(Protocol):
    """What the camera saw of the target, view by view."""

    assumed: dict[str, float]

    def __len__(self) -> int: ...

    def lens_prior(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Expected values, standard deviations and bounds of the lens parameters; each (k,), empty where none is free."""

    def blocks(self, chain: Chain, lens: np.ndarray) -> list[Blocks]:
        """Residuals and Jacobians at the present values."""


@dataclass(frozen=True)
class Chain:
    """Base, end effector, camera and target at the present values: `robot` (n, 4, 4)."""

    hand_eye: HandEye
    robot: np.ndarray

    def target_in_camera(self) -> np.ndarray:
        return self.hand_eye.target_in_camera(self.robot)

    def points(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Target points (m, 3) in the camera (n, m, 3), with the derivatives by shared (12) and own (6) steps."""
        turn = self.hand_eye.camera[:3, :3].T
        in_camera = self.target_in_camera()
        found = np.einsum("nij,mj->nmi", in_camera[:, :3, :3], points) + in_camera[:, None, :3, 3]
        shared = np.zeros((*found.shape, 12))
        shared[..., 0:3] = -np.eye(3)
        shared[..., 3:6] = hat(found)
        shared[..., 6:9] = in_camera[:, None, :3, :3]
        shared[..., 9:12] = -np.einsum("nij,mjk->nmik", in_camera[:, :3, :3], hat(points))
        own = np.zeros((*found.shape, 6))
        if self.hand_eye.mount == "hand":
            # Points in the end effector frame move against its steps.
            own[..., 0:3] = -turn
            own[..., 3:6] = turn @ hat((found @ turn) + self.hand_eye.camera[:3, 3])
        else:
            in_hand = points @ self.hand_eye.target[:3, :3].T + self.hand_eye.target[:3, 3]
            turned = turn @ self.robot[:, :3, :3]
            own[..., 0:3] = turned[:, None]
            own[..., 3:6] = -np.einsum("nij,mjk->nmik", turned, hat(in_hand))
        return found, shared, own

    def turns(self) -> tuple[np.ndarray, np.ndarray]:
        """Derivatives of the target's rotation in the camera, as a step in the target's frame: (n, 3, 12), (n, 3, 6)."""
        in_camera = self.target_in_camera()[:, :3, :3]
        shared, own = np.zeros((len(self.robot), 3, 12)), np.zeros((len(self.robot), 3, 6))
        shared[..., 3:6] = -in_camera.transpose(0, 2, 1)
        shared[..., 9:12] = np.eye(3)
        if self.hand_eye.mount == "hand":
            carrier = inverse(self.robot)[:, :3, :3] @ self.hand_eye.target[:3, :3]
            own[..., 3:6] = -carrier.transpose(0, 2, 1)
        else:
            own[..., 3:6] = self.hand_eye.target[:3, :3].T
        return shared, own


@dataclass(frozen=True)
class Adjusted:
    """`hand_eye` with `covariance` (6, 6) of the camera's step [m, rad], in the camera's own frame; `target_covariance`
    likewise. `robot` (n, 4, 4) are the poses as adjusted, `lens` (k,) with `lens_covariance`, `sigmas` by kind of
    residual, `without` (n,) the solution without each view, `freedom` the redundancy. `weights` (n, blocks) by kind are 1
    where a residual counts in full."""

    hand_eye: HandEye
    covariance: np.ndarray
    target_covariance: np.ndarray
    robot: np.ndarray
    lens: np.ndarray
    lens_covariance: np.ndarray
    sigmas: dict[str, float]
    freedom: float
    weights: dict[str, np.ndarray]
    residuals: dict[str, np.ndarray]
    steps: int
    converged: bool
    without: list[tuple[HandEye, np.ndarray]] = field(repr=False, default_factory=list)


def adjust(observations: Observations, measured: np.ndarray, start: HandEye) -> Adjusted:
    """Maximum a posteriori from `start`, with the robot's poses `measured` (n, 4, 4) in the base frame."""
    assumed = {"robot_translation": ROBOT_TRANSLATION_M, "robot_rotation": ROBOT_ROTATION_RAD} | observations.assumed
    lens_mean, lens_sigma, lens_bound = observations.lens_prior()
    state = _State(start, measured.copy(), lens_mean.copy(), dict(assumed))
    converged, count = False, 0
    for count in range(1, MAX_STEPS + 1):
        system = _System(observations, measured, state, (lens_mean, lens_sigma), count > _SETTLED)
        after = system.step(state)
        after = replace(after, lens=np.clip(after.lens, lens_mean - lens_bound, lens_mean + lens_bound))
        change = np.abs(system.change / np.sqrt(np.diag(system.covariance))).max()
        if count > 2:
            after = replace(after, sigmas=system.sigmas(assumed))
        ratio = max(abs(np.log(after.sigmas[kind] / state.sigmas[kind])) for kind in assumed)
        state = after
        if count > _SETTLED + 2 and change < 1e-2 and ratio < 1e-2:
            converged = True
            break
    system = _System(observations, measured, state, (lens_mean, lens_sigma), True)
    return Adjusted(
        state.hand_eye, system.covariance[:6, :6], system.covariance[6:12, 6:12], state.robot, state.lens,
        system.covariance[12:, 12:], state.sigmas, system.freedom, system.weights, system.residuals, count, converged,
        system.solutions_without(state),
    )  # fmt: skip


@dataclass(frozen=True)
class _State:
    hand_eye: HandEye
    robot: np.ndarray
    lens: np.ndarray
    sigmas: dict[str, float]


class _System:
    """The normal equations at one state."""

    def __init__(
        self, observations: Observations, measured: np.ndarray, state: _State, lens_prior: tuple[np.ndarray, np.ndarray],
        rejecting: bool = False,
    ) -> None:  # fmt: skip
        lens_mean, lens_sigma = lens_prior
        self._state = state
        self._blocks = [
            *observations.blocks(Chain(state.hand_eye, state.robot), state.lens),
            *_slack(measured, state, len(lens_mean)),
        ]
        n, k = len(measured), 12 + len(lens_mean)
        self._shared, self._mixed, self._own = np.zeros((n, k, k)), np.zeros((n, k, 6)), np.zeros((n, 6, 6))
        right, right_own = np.zeros((n, k)), np.zeros((n, 6))
        self.weights, self.residuals, self._weighted = {}, {}, []
        for block in self._blocks:
            sigma = state.sigmas[block.kind]
            size = np.linalg.norm(block.values, axis=-1) / sigma
            present = block.present & (size < REJECTED) if rejecting and block.many else block.present
            weight = present * np.minimum(1.0, HUBER / np.maximum(size, HUBER))
            self.weights[block.kind], self.residuals[block.kind] = np.where(block.present, weight, np.nan), block.values
            root = np.sqrt(weight)[..., None] / sigma
            flat = (n, -1)
            values = (block.values * root).reshape(flat)
            shared = (block.shared * root[..., None]).reshape(*values.shape, k)
            own = (block.own * root[..., None]).reshape(*values.shape, 6)
            shared_t = shared.transpose(0, 2, 1)
            self._shared += shared_t @ shared
            self._mixed += shared_t @ own
            self._own += own.transpose(0, 2, 1) @ own
            right += np.einsum("nkr,nr->nk", shared_t, values)
            right_own += np.einsum("nrj,nr->nj", own, values)
            self._weighted.append((block.kind, values, shared, own, present, block.values.shape[-1]))
        # Slack and lens parameters are unknowns, each with a row of its own.
        rows = sum(int(present.sum()) * width for *_, present, width in self._weighted)
        self.freedom = float(rows - 6 * n - 12)
        self._inverse = np.linalg.inv(self._own)
        gain = self._mixed @ self._inverse
        self.reduced = self._shared - gain @ self._mixed.transpose(0, 2, 1)
        self._right = right - np.einsum("nkj,nj->nk", gain, right_own)
        self._lens = np.zeros((k, k))
        self._lens[12:, 12:] = np.diag(1 / lens_sigma**2)
        lens_right = np.zeros(k)
        lens_right[12:] = (state.lens - lens_mean) / lens_sigma**2
        self._normal = self.reduced.sum(0) + self._lens
        self._total = self._right.sum(0) + lens_right
        self.covariance = _inverse(self._normal)
        self.change = -self.covariance @ self._total
        self._own_change = -np.einsum("nij,nj->ni", self._inverse, right_own) - np.einsum("nkj,k->nj", gain, self.change)

    def step(self, state: _State) -> _State:
        return replace(
            state, hand_eye=_shifted(state.hand_eye, self.change), robot=moved(state.robot, self._own_change),
            lens=state.lens + self.change[12:],
        )  # fmt: skip

    def sigmas(self, assumed: dict[str, float]) -> dict[str, float]:
        """Standard deviation of each kind, from its squares and its redundancy."""
        gain = self._inverse @ self._mixed.transpose(0, 2, 1)
        mixed = -self.covariance @ gain.transpose(0, 2, 1)
        own = self._inverse - gain @ mixed
        current = {}
        squares, redundancy = dict.fromkeys(assumed, 0.0), dict.fromkeys(assumed, 0.0)
        for block, (kind, values, shared, own_rows, present, width) in zip(self._blocks, self._weighted):
            known = ((shared @ self.covariance) * shared).sum(-1) + ((own_rows @ own) * own_rows).sum(-1)
            known += 2 * ((shared @ mixed) * own_rows).sum(-1)
            counted = np.repeat(present, width, axis=-1)
            squares[kind] += float((values**2).sum())
            redundancy[kind] += float((counted * (1 - known)).sum())
        for kind, before in assumed.items():
            variance = (ASSUMED_COUNT * before**2 + self._state.sigmas[kind] ** 2 * squares[kind]) / (
                ASSUMED_COUNT + max(redundancy[kind], 0.0)
            )
            wanted = max(float(np.sqrt(variance)), _LEAST_PART * before)
            current[kind] = self._state.sigmas[kind] * (wanted / self._state.sigmas[kind]) ** _PATIENCE
        return current

    def solutions_without(self, state: _State) -> list[tuple[HandEye, np.ndarray]]:
        """The solution without each view, by one more step from the solution with all: (hand_eye, lens)."""
        found = []
        for reduced, right in zip(self.reduced, self._right):
            change = -_inverse(self._normal - reduced) @ (self._total - right)
            found.append((_shifted(state.hand_eye, change), state.lens + change[12:]))
        return found


def _slack(measured: np.ndarray, state: _State, lens_count: int) -> list[Blocks]:
    """The robot's poses as measured: a prior on the true ones."""
    steps = steps_between(measured, state.robot)
    n = len(measured)
    own = np.zeros((n, 6, 6))
    # A step in the adjusted frame, seen from the measured one; of the turn its own direction alone matters to first order.
    own[:, :3, :3] = inverse(measured)[:, :3, :3] @ state.robot[:, :3, :3]
    own[:, 3:, 3:] = np.eye(3) + hat(steps[:, 3:]) / 2
    shared, present = np.zeros((n, 1, 3, 12 + lens_count)), np.ones((n, 1), bool)
    return [
        Blocks("robot_translation", steps[:, None, :3], shared, own[:, None, :3], present),
        Blocks("robot_rotation", steps[:, None, 3:], shared, own[:, None, 3:], present),
    ]


def _shifted(hand_eye: HandEye, change: np.ndarray) -> HandEye:
    return HandEye(hand_eye.mount, moved(hand_eye.camera, change[:6]), moved(hand_eye.target, change[6:12]))


def _inverse(normal: np.ndarray) -> np.ndarray:
    """Inverse of a normal matrix whose unknowns have units of their own."""
    scale = 1 / np.sqrt(np.diag(normal))
    return np.linalg.inv(normal * scale * scale[:, None]) * scale * scale[:, None]


def information(observations: Observations, robot: np.ndarray, hand_eye: HandEye) -> np.ndarray:
    """(n, k, k) what each view tells of the shared unknowns, at assumed standard deviations and where nothing deviates."""
    assumed = {"robot_translation": ROBOT_TRANSLATION_M, "robot_rotation": ROBOT_ROTATION_RAD} | observations.assumed
    mean, sigma, _ = observations.lens_prior()
    return _System(observations, robot, _State(hand_eye, robot, mean, assumed), (mean, sigma)).reduced


def expected_covariance(total: np.ndarray, lens_sigma: np.ndarray) -> np.ndarray:
    """Covariance of the shared unknowns that information (k, k) and the lens's prior imply. Few views leave it finite and
    large: poses are known beforehand to a metre and a radian."""
    return _inverse(total + np.diag(np.concatenate([np.ones(12), 1 / lens_sigma**2])))
