"""Keys of a terminal."""

import os
import sys

from robosteer_ros.hardware.teleop.keys import Keys


def test_keys_come_at_once_and_a_terminal_that_is_closed_is_silence(monkeypatch):
    hand, terminal = os.openpty()
    with os.fdopen(terminal) as end:
        monkeypatch.setattr(sys, "stdin", end)
        with Keys() as keys:
            os.write(hand, b"sk")
            heard = ""
            while len(heard) < 2:
                heard += keys.read()
            os.close(hand)
            assert heard == "sk" and keys.read() == "" and not keys.listening
