"""What a rig's demonstrations hold: the features of its datasets, and whether two contracts agree."""

from __future__ import annotations

from typing import Any, Mapping

from robosteer_core.episodes.layout import ACTION, DEFAULT_FEATURES, IMAGES, STATE
from robosteer_core.errors import UserError
from robosteer_core.rig import Rig

STAMP = "stamp_ns."
#: Columns that hold stamps besides the cameras': when the arm's state was measured, when the arm was commanded, and when the
#: operator's hand had said so.
STAMPED = ("state", "command", "steering")


def features_of(rig: Rig, fps: int, image_sizes: Mapping[str, tuple[int, int]] | None = None) -> dict[str, dict]:
    """LeRobot features of the rig's demonstrations; cameras as H.264 video.

    `image_sizes` (height, width) by camera where they differ from what the camera delivers. Each stamp is an int64
    column of nanoseconds: `stamp_ns.<camera>`, and `stamp_ns.` of each of `STAMPED`.
    """
    features: dict[str, dict] = {}
    for camera in rig.cameras:
        height, width = (image_sizes or {}).get(camera.name, (camera.height, camera.width))
        if height % 2 or width % 2:
            raise UserError(f"camera {camera.name}: expected an even height and width (H.264 yuv420p); found {height}x{width}")
        features[IMAGES + camera.name] = {
            "dtype": "video",
            "shape": [height, width, 3],
            "names": ["height", "width", "channels"],
            "info": {
                "video.height": height,
                "video.width": width,
                "video.codec": "h264",
                "video.pix_fmt": "yuv420p",
                "video.is_depth_map": False,
                "video.fps": fps,
                "video.channels": 3,
                "has_audio": False,
            },
        }
    for key, names in ((STATE, rig.state_names), (ACTION, rig.action_space.names)):
        features[key] = {"dtype": "float32", "shape": [len(names)], "names": list(names)}
    for source in (*(camera.name for camera in rig.cameras), *STAMPED):
        features[STAMP + source] = {"dtype": "int64", "shape": [1], "names": None}
    return features | DEFAULT_FEATURES


def whole_fps(rig: Rig, fps: float | None) -> int:
    """Frames per second as LeRobot stores them; raises UserError when they are no whole number."""
    rate = rig.rates.policy_hz if fps is None else fps
    if rate != round(rate) or rate < 1:
        raise UserError(f"expected a whole number of frames per second, as LeRobot stores it; found {rate}; change policy_hz")
    return int(rate)


def contract_of(info: Mapping[str, Any], rig: Mapping[str, Any]) -> dict[str, Any]:
    """What must be equal for two recordings to go into one dataset, by name."""
    contract = {"fps": info["fps"], "robot_type": info.get("robot_type")}
    for key, feature in info["features"].items():
        contract[f"{key} dtype and shape"] = (feature["dtype"], list(feature["shape"]))
        if feature.get("names") and feature["dtype"] != "video":
            contract[f"{key} names"] = list(feature["names"])
    contract["action space"] = rig["action_space"]["kind"]
    contract["gripper width"] = rig["gripper"]["max_width_m"]
    return contract


def require_same_contract(folder: Any, stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raises UserError naming both sides of everything that differs."""
    differing = [key for key in {**stored, **wanted} if stored.get(key) != wanted.get(key)]
    if differing:
        lines = [f"  {key}: {stored.get(key)} in the dataset, {wanted.get(key)} in the rig" for key in differing]
        raise UserError(
            f"the dataset {folder} was recorded under another contract than this rig's; record into a new folder:\n"
            + "\n".join(lines)
        )
