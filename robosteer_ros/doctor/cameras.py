"""The rig's cameras: whether each is plugged in, and at which USB speed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from robosteer_core.errors import UserError
from robosteer_core.rig import Rig
from robosteer_core.runtime.frame_buffer import LAB_SERIAL
from robosteer_core.runtime.lab_processes import lab_runs
from robosteer_ros.doctor.finding import Finding, fail, ok, warn


@dataclass(frozen=True)
class Device:
    """A camera on the bus; `usb` is the type of its connection, such as "3.2"."""

    model: str
    usb: str
    firmware: str


def findings(rig: Rig) -> Iterator[Finding]:
    try:
        devices = plugged_in()
    except UserError as error:
        yield fail("cameras", "the RealSense SDK cannot be loaded", str(error))
        return
    yield from compare(rig, devices, rig.lab is not None and lab_runs(rig))


def plugged_in() -> dict[str, Device]:
    """By serial number. Raises UserError where the SDK cannot be loaded."""
    from robosteer_ros.hardware.realsense_sdk import rs

    def told(device: rs.device, about: rs.camera_info) -> str:
        return device.get_info(about) if device.supports(about) else "unknown"

    about = rs.camera_info
    return {
        told(device, about.serial_number): Device(
            told(device, about.name), told(device, about.usb_type_descriptor), told(device, about.firmware_version)
        )
        for device in rs.context().query_devices()
    }


def compare(rig: Rig, devices: Mapping[str, Device], lab_is_up: bool) -> Iterator[Finding]:
    for camera in rig.cameras:
        check = f"camera {camera.name}"
        if camera.serial.startswith(LAB_SERIAL):
            if lab_is_up:
                yield ok(check, f"drawn by the lab at {rig.lab.control}")
            else:
                yield warn(check, f"the lab at {rig.lab.control} does not run", "`robosteer up lab` starts it, and `robosteer sim cameras`")
        elif (device := devices.get(camera.serial)) is None:
            there = ", ".join(f"{serial} ({each.model})" for serial, each in devices.items()) or "none"
            cure = "plug it in, or correct its serial in the rig; where `lsusb` does not show it, take another cable, else install "
            cure += "librealsense's udev rules"
            yield fail(check, f"serial {camera.serial} is not there; there are: {there}", cure)
        elif device.usb.startswith("3"):
            yield ok(check, f"{device.model}, USB {device.usb}, firmware {device.firmware}")
        else:
            yield fail(
                check, f"{device.model} at USB {device.usb}, which does not carry {camera.width}x{camera.height} colour and depth at "
                f"{camera.fps} Hz", "take a USB 3 cable and a blue port, pushed in quickly; not through a hub",
            )  # fmt: skip
