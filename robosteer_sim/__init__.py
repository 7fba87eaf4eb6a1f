"""The simulated lab: a MuJoCo scene behind the robot's own network protocol and the cameras' own SDK."""

import os

# Without a screen MuJoCo has no default way to draw; EGL draws off screen. It must be chosen before mujoco is imported.
if not os.environ.get("DISPLAY"):
    os.environ.setdefault("MUJOCO_GL", "egl")
