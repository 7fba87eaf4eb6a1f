"""A RealSense camera on this machine's USB, found by its serial number."""

from __future__ import annotations

import logging
import time

from robosteer_core.errors import UserError
from robosteer_ros.hardware.camera_source import CameraSource
from robosteer_ros.hardware.realsense_sdk import rs

logger = logging.getLogger(__name__)

#: A hardware clock that moves by more than this against ours has been reset.
_RESET_NS = 1_000_000_000


class SerialCamera(CameraSource):
    """The connected camera with serial number `serial`.

    Frames stamped with the host's time (global or system time) keep that capture time, moved onto the monotonic clock;
    those stamped with the camera's own clock are placed by the shortest delay seen between capture and arrival.
    """

    def __init__(self, serial: str, context: rs.context | None = None) -> None:
        self._serial = serial
        self._context = context or rs.context()
        self._offset_ns: int | None = None

    def pipeline(self, config: rs.config) -> rs.pipeline:
        device = self._find()
        usb = _info(device, rs.camera_info.usb_type_descriptor)
        if usb is not None and usb.startswith("2"):
            logger.warning("camera %s is on USB %s; depth and colour at full rate need USB 3", self._serial, usb)
        for sensor in device.query_sensors():
            if sensor.supports(rs.option.global_time_enabled):
                sensor.set_option(rs.option.global_time_enabled, 1)
        config.enable_device(self._serial)
        return rs.pipeline(self._context)

    def stamp_ns(self, frame: rs.frame, arrival_ns: int) -> int:
        captured_ns = round(frame.get_timestamp() * 1e6)
        if frame.get_frame_timestamp_domain() in (rs.timestamp_domain.global_time, rs.timestamp_domain.system_time):
            return arrival_ns - max(0, time.time_ns() - captured_ns)
        offset_ns = arrival_ns - captured_ns
        if self._offset_ns is None or abs(offset_ns - self._offset_ns) > _RESET_NS:
            self._offset_ns = offset_ns
        self._offset_ns = min(self._offset_ns, offset_ns)
        return captured_ns + self._offset_ns

    def advice(self) -> str:
        if self._serial in _serials(self._context):
            return "the camera is connected: check its cable and hub (USB 3, enough power), then unplug it and plug it in"
        return "the camera is no longer connected: check its cable and the power of its hub"

    def _find(self) -> rs.device:
        for device in self._context.query_devices():
            if _info(device, rs.camera_info.serial_number) == self._serial:
                return device
        connected = ", ".join(_serials(self._context)) or "none"
        raise UserError(
            f"no RealSense camera with serial number {self._serial}; connected: {connected}. "
            "Check the cable, the power of the hub and the serial in the rig"
        )


def _info(device: rs.device, key: rs.camera_info) -> str | None:
    return device.get_info(key) if device.supports(key) else None


def _serials(context: rs.context) -> list[str]:
    found = (_info(device, rs.camera_info.serial_number) for device in context.query_devices())
    return sorted(serial for serial in found if serial is not None)
