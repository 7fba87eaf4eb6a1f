"""robosteer: steer vision-language-action policies on Franka arms."""

import os

__version__ = "0.1.0"

# Policies are read from folders. The libraries beneath would otherwise ask a hub for files they miss, in the middle of a
# run; they read these variables when they are first imported. Set them to 0 to allow it.
for _variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
    os.environ.setdefault(_variable, "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads survive a fork badly, and prompts are short
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
