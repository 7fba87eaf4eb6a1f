"""What ends a command. That the end of a terminal does is tested with `robosteer run`."""

import os
import signal
import subprocess
import sys

from robosteer_ros.interrupts import signals_to


def test_each_signal_is_handed_on_until_the_block_ends_and_nohup_stays_in_force():
    heard = []
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals_to(lambda number, _: heard.append(number)):
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                os.kill(os.getpid(), number)
        assert heard == [signal.SIGINT, signal.SIGTERM] and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        with signals_to(lambda number, _: heard.append(number)):
            os.kill(os.getpid(), signal.SIGHUP)
        assert heard[2:] == [signal.SIGHUP] and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)


def test_who_speaks_to_a_closed_terminal_before_its_end_is_heard_of_is_interrupted():
    hand, terminal = os.openpty()
    spoken = """
from robosteer_ros.interrupts import signals_to
try:
    with signals_to(lambda *_: None):
        input()
        print("nobody hears this", flush=True)
except KeyboardInterrupt:
    print("nor this", flush=True)
    raise SystemExit(130)
"""
    with subprocess.Popen([sys.executable, "-c", spoken], stdin=subprocess.PIPE, stdout=terminal) as speaker:
        os.close(terminal)
        os.close(hand)  # of no process group: nobody is sent SIGHUP
        speaker.communicate(b"\n", timeout=60)
    assert speaker.returncode == 130
