"""What is wrong with pose pairs that no mounting of the camera explains, in words that tell what to do."""

from __future__ import annotations

import numpy as np

from calibration.motion import motion_of, relative
from calibration.pairs import PosePairs
from calibration.rigid import distance
from calibration.robust_start import FLOOR, Start, robust_start
from calibration.solvers import HandEye, Mount
from robosteer_core.errors import UserError

#: Pairs that a mounting explains no better than this in the median are not explained [m, rad].
EXPLAINED = np.array([0.025, np.deg2rad(3.0)])
#: A set of poses that turns less is taken for pure translation; one whose axes differ less, for turns about one axis.
LEAST_TURN_DEG, LEAST_AXES_DEG = 8.0, 6.0
#: Two rotations between the same two poses that differ less are the same.
_SAME_TURN_RAD = np.deg2rad(2.5)
#: A camera on a hand is closer to it than this; a base is farther from a board.
_HAND_M = 0.3
#: Half the diagonal field of view of no camera of ours is wider.
_WIDEST_RAD = np.deg2rad(50)
_LEAST_OF_A_CAMERA = 4
TAKE = "take about 20 poses that turn the hand by 20 degrees or more, to both sides about two axes and about the optical axis"


def refuse_poor_motion(pairs: PosePairs) -> None:
    """Raises UserError where the hand only translates, or turns about one axis alone."""
    robot, target = motion_of(pairs.robot), motion_of(pairs.target)
    if max(robot.largest_deg, target.largest_deg) < LEAST_TURN_DEG:
        raise UserError(
            f"pure translation: the hand turns by {robot.largest_deg:.1f} degrees at most between any two poses; expected at "
            f"least {LEAST_TURN_DEG:g}. Where the camera sits cannot be seen from translations: {TAKE}"
        )
    if min(robot.largest_deg, target.largest_deg) < LEAST_TURN_DEG:
        still, turning = ("hand", "target") if robot.largest_deg < target.largest_deg else ("target", "hand")
        raise UserError(
            f"the {turning} turns by up to {max(robot.largest_deg, target.largest_deg):.0f} degrees and the {still} by "
            f"{min(robot.largest_deg, target.largest_deg):.2g}: the rotations of the {still} are wrong (an angle in radians "
            "given where degrees are expected?), or it did not move with the other"
        )
    axes_deg = min(robot.axes_deg, target.axes_deg)
    if axes_deg < LEAST_AXES_DEG:
        raise UserError(
            f"one axis of rotation: the axes about which the hand turns lie within {axes_deg:.1f} degrees (root mean square) "
            f"of one direction; expected at least {LEAST_AXES_DEG:g}. Along it the camera's place cannot be seen: {TAKE}"
        )


def refuse_mismatched_turns(pairs: PosePairs, floor: np.ndarray = FLOOR) -> None:
    """Raises UserError where the angles by which hand and target turn between two poses are not the same, whatever the
    mounting: they are invariant. `floor` (2,) [m, rad] is what the targets may be off by."""
    robot, target = (np.linalg.norm(relative(poses), axis=1) for poses in (pairs.robot, pairs.target))
    same = np.abs(robot - target) < max(_SAME_TURN_RAD, floor[1])
    if same.mean() > 0.4:
        return
    shift = _shift(pairs)
    if shift:
        raise UserError(
            f"the pairs are out of step: the targets fit the end effector poses {abs(shift)} "
            f"{'later' if shift > 0 else 'earlier'} in the list. Pair each image with the pose at its own capture stamp"
        )
    if np.median(np.abs(np.sort(robot) - np.sort(target))) < _SAME_TURN_RAD / 5:
        raise UserError(
            "the pairs are in a wrong order, targets swapped between them: hand and target turn by the same angles, but not "
            "between the same pairs. Put each target beside the end effector pose at which it was seen"
        )
    ratio = float(np.median(robot / np.maximum(target, 1e-9)))
    kind = "radians for degrees" if min(abs(ratio * 57.3 - 1), abs(ratio / 57.3 - 1)) < 0.2 else "degrees for radians"
    first, second = np.triu_indices(len(pairs), 1)
    worst = int(np.argmax(np.abs(robot - target)))
    raise UserError(
        f"{kind}? Between {pairs.names[first[worst]]} and {pairs.names[second[worst]]} the hand turns by "
        f"{np.degrees(robot[worst]):.0f} degrees and the target by {np.degrees(target[worst]):.0f}; these angles must be the "
        f"same, and are for {100 * same.mean():.0f} % of the motions. One side's rotation matrices were made from angles in "
        "the wrong unit (degrees where radians are expected), in the wrong order of axes, or from a quaternion in the wrong "
        "order (w first or last)"
    )


def explained(pairs: PosePairs, mount: Mount | None, floor: np.ndarray = FLOOR) -> Start:
    """The robust start under `mount`, or under the mounting that explains the pairs better.

    Raises UserError where none does, naming what would: the other mounting, or two cameras.
    """
    starts = {kind: robust_start(pairs, kind, floor) for kind in ("hand", "fixed")}
    wanted = [mount] if mount else ["hand", "fixed"]
    best = min(wanted, key=lambda kind: _badness(starts[kind], floor))
    if _badness(starts[best], floor) > 1:
        other = "fixed" if best == "hand" else "hand"
        if _badness(starts[other], floor) < 1:
            places = {"hand": "on the hand (--mount hand)", "fixed": "on a stand (--mount fixed)"}
            raise UserError(
                f"the pairs fit no camera {places[best]}, but one {places[other]}: name the right mounting; or if it is named "
                "rightly, one side is inverted: expected the end effector in the base frame, and the target in the camera's"
            )
        _refuse_two_cameras(pairs, starts[best], best, floor)
        typical = starts[best].typical if starts[best] else np.full(2, np.nan)
        raise UserError(
            f"no mounting of the camera explains the pairs: the best leaves {typical[0] * 1e3:.0f} mm and "
            f"{np.degrees(typical[1]):.1f} degrees in the median. Look for a board or camera that moved, poses and images "
            "that are not of the same instant, a board whose square size is not the printed one, or millimetres for metres "
            "on one side"
        )
    start = starts[best]
    _refuse_two_cameras(pairs, start, best, floor)
    _refuse_swapped(pairs, start.hand_eye)
    return start


def exchanged(pairs: PosePairs, start: Start) -> list[tuple[int, int]]:
    """Outliers that fit when two of them exchange their targets."""
    outliers = np.flatnonzero(~start.inliers)
    limit = np.maximum(4 * start.typical, [3e-3, np.deg2rad(0.5)])
    predicted = start.hand_eye.target_in_camera(pairs.robot)

    def fits(robot: int, target: int) -> bool:
        far_mm, turned_deg = distance(pairs.target[target], predicted[robot])
        return far_mm / 1e3 < limit[0] and np.deg2rad(turned_deg) < limit[1]

    return [(int(i), int(j)) for i in outliers for j in outliers if i < j and fits(i, j) and fits(j, i)]


def _badness(start: Start | None, floor: np.ndarray) -> float:
    """Above 1 the pairs are not explained: too large misfits, or too few pairs."""
    if start is None:
        return np.inf
    share = start.inliers.mean()
    return float((start.typical / np.maximum(EXPLAINED, floor)).max()) if share > 0.4 else np.inf


def _shift(pairs: PosePairs) -> int:
    """By how many places the targets lag behind the robot's poses, 0 where no small shift brings them into step."""
    n = len(pairs)
    for shift in (1, -1, 2, -2, 3, -3):
        robot, target = (
            (pairs.robot[shift:], pairs.target[: n - shift]) if shift > 0 else (pairs.robot[:shift], pairs.target[-shift:])
        )
        if len(robot) >= _LEAST_OF_A_CAMERA:
            angles = [np.linalg.norm(relative(poses), axis=1) for poses in (robot, target)]
            if (np.abs(angles[0] - angles[1]) < _SAME_TURN_RAD).mean() > 0.8:
                return shift
    return 0


def _refuse_two_cameras(pairs: PosePairs, start: Start | None, mount: Mount, floor: np.ndarray) -> None:
    if start is None or start.inliers.all() or (~start.inliers).sum() < max(_LEAST_OF_A_CAMERA, 0.2 * len(pairs)):
        return
    rest = pairs.subset(~start.inliers)
    second = robust_start(rest, mount, floor)
    if (
        second is None
        or second.inliers.sum() < max(_LEAST_OF_A_CAMERA, 0.7 * len(rest))
        or (second.typical > np.maximum(EXPLAINED / 2, floor)).any()
    ):
        return
    # A camera of their own must fit them far better than the first one's does.
    before = np.median(start.sizes[~start.inliers], axis=0)
    if (before < 2 * floor).all() or (before < 3 * second.typical).all():
        return
    far_mm, turned_deg = distance(start.hand_eye.camera, second.hand_eye.camera)
    board_mm, board_deg = distance(start.hand_eye.target, second.hand_eye.target)
    one, two = (
        ", ".join(names[:3]) + (" ..." if len(names) > 3 else "") for names in (pairs.subset(start.inliers).names, rest.names)
    )
    raise UserError(
        f"mixed cameras: {start.inliers.sum()} pairs ({one}) fit one mounting and {len(rest)} ({two}) another, whose camera "
        f"is {far_mm:.0f} mm and {turned_deg:.1f} degrees, whose board {board_mm:.0f} mm and {board_deg:.1f} degrees away. "
        "Calibrate each camera by itself; if there was only one, it or the board moved in between: fix it and begin anew"
    )


def _refuse_swapped(pairs: PosePairs, found: HandEye) -> None:
    """Exchanged parts of every pair are as consistent as the right ones: only what a camera can see tells them apart."""
    far_camera, far_target = (np.linalg.norm(pose[:3, 3]) for pose in (found.camera, found.target))
    seen, seen_if_swapped = (_in_view(poses).mean() for poses in (pairs.target, pairs.robot))
    on_hand = found.mount == "hand" and far_camera > _HAND_M and far_target < _HAND_M
    on_stand = found.mount == "fixed" and far_target > 2 * _HAND_M
    if on_hand or on_stand or (seen < 0.25 and seen_if_swapped > 0.9):
        raise UserError(
            f"swapped pairs? As given, the camera would sit {far_camera:.2f} m from "
            f"{'the hand' if found.mount == 'hand' else 'the base'}, the target {far_target:.2f} m from "
            f"{'the base' if found.mount == 'hand' else 'the hand'}, and {100 * seen:.0f} % of the targets lie in the "
            "camera's view. Expected [end effector in base, target in camera]: exchange the two parts of each pair"
        )


def _in_view(poses: np.ndarray) -> np.ndarray:
    x, y, z = poses[:, :3, 3].T
    return np.arctan2(np.hypot(x, y), z) < _WIDEST_RAD
