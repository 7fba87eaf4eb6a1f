"""The RealSense SDK, or one clear message where it cannot be loaded."""

from robosteer_core.errors import UserError

try:
    import pyrealsense2 as rs
except ImportError as error:
    raise UserError(
        f"the camera driver needs the RealSense SDK (pyrealsense2); loading it failed: {error}. "
        "Install robosteer's extra `ros`, and the system package: apt-get install libusb-1.0-0"
    ) from error

__all__ = ["rs"]
