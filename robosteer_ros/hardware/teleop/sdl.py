"""SDL, which knows gamepads by their layout and reads raw HID reports, or one clear message where it cannot be loaded."""

import os
import warnings

from robosteer_core.errors import UserError

os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # no window is opened, and no display is needed
try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it tells on import whose binaries it uses
        import sdl2 as sdl
except ImportError as error:
    raise UserError(f"this device needs SDL: {error}. In robosteer's folder, type: pip install -e '.[ros]'") from error

__all__ = ["sdl"]
