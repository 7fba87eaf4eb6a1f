"""Keyboard, gamepad and SpaceMouse: the real terminal, SDL's own virtual pad, and HID reports, with no hardware."""

import logging
import os
import select
import struct
import sys

import numpy as np
import pytest

from robosteer_core.errors import UserError
from robosteer_core.rig import load_rig
from robosteer_ros.hardware.teleop.deflection import DEAD_ZONE, Speeds
from robosteer_ros.hardware.teleop.devices import open_device
from robosteer_ros.hardware.teleop.keyboard import HOLD_S, Keyboard
from robosteer_ros.hardware.teleop.spacemouse import SILENT_S, SpaceMouse

RIG = load_rig("lab")
SPEEDS = Speeds(m_per_s=0.15, rad_per_s=0.6)
STEP_M, STEP_RAD = 0.15 / 15, 0.6 / 15


class Time:
    """Passes when it is told to."""

    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def keyboard(monkeypatch):
    """A keyboard at a terminal of its own, a function that types, and its time."""
    ours, theirs = os.openpty()
    now_s = Time()
    with os.fdopen(theirs, "r") as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        device = Keyboard(RIG, SPEEDS, now_s)

        def type_(keys):
            os.write(ours, keys.encode())
            # The line discipline has handed it on when it can be read.
            assert select.select([terminal], [], [], 10)[0]

        yield device, type_, now_s
        device.close()
    os.close(ours)


def test_a_key_moves_the_hand_as_long_as_the_terminal_repeats_it(keyboard):
    device, type_, now_s = keyboard
    assert not device.read().deadman
    type_("w")
    command = device.read()
    assert command.deadman and command.delta == pytest.approx([STEP_M, 0, 0, 0, 0, 0])
    now_s.now_s += HOLD_S * 0.9
    assert device.read().deadman
    type_("w")
    device.read()
    now_s.now_s += HOLD_S * 1.1
    command = device.read()
    assert not command.deadman and not command.delta.any()


@pytest.mark.parametrize("keys, axis, sign", [("f", 2, -1), ("a", 1, 1), ("u", 5, 1), ("k", 4, -1)])
def test_each_key_has_its_direction(keyboard, keys, axis, sign):
    device, type_, _ = keyboard
    type_(keys)
    expected = np.zeros(6)
    expected[axis] = sign * (STEP_M if axis < 3 else STEP_RAD)
    assert device.read().delta == pytest.approx(expected)


def test_decisions_are_heard_once_although_the_terminal_repeats_them(keyboard):
    device, type_, now_s = keyboard
    type_("\n\n")
    assert device.read().events == ("start",)
    type_("\n")
    assert device.read().events == ()
    now_s.now_s += 1
    type_("yn")
    command = device.read()
    assert command.events == ("keep", "discard") and not command.deadman


def test_the_space_bar_turns_the_hand_over_from_where_it_was(keyboard):
    device, type_, now_s = keyboard
    device.begin(0.3)
    assert device.read().gripper == 0.3
    for expected in (1.0, 0.0):
        type_(" ")
        assert device.read().gripper == expected
        now_s.now_s += 1
        device.read()


def test_the_keyboard_needs_a_terminal(monkeypatch):
    with open(os.devnull) as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        with pytest.raises(UserError, match="needs a terminal"):
            Keyboard(RIG, SPEEDS)


def reports_of(*reports):
    """What a puck's kernel driver hands over, one report at a time; then there is none."""
    waiting = list(reports)
    return waiting, lambda: waiting.pop(0) if waiting else b""


def moved(*raw):
    return b"\x01" + struct.pack(f"<{len(raw)}h", *raw)


def turned(*raw):
    return b"\x02" + struct.pack("<3h", *raw)


LEFT, BOTH, RIGHT, NONE = b"\x03\x01\x00", b"\x03\x03\x00", b"\x03\x02\x00", b"\x03\x00\x00"


@pytest.mark.parametrize("reports, expected", [
    # Full deflection away from the operator, to the right, and pulled up: forward, right, up as seen from behind the arm.
    ((moved(0, -350, 0), turned(0, 0, 0)), [STEP_M, 0, 0, 0, 0, 0]),
    ((moved(350, 0, 0),), [0, -STEP_M, 0, 0, 0, 0]),
    ((moved(0, 0, -350),), [0, 0, STEP_M, 0, 0, 0]),
    ((turned(0, 0, -350),), [0, 0, 0, 0, 0, STEP_RAD]),
    # Newer ones tell motion and turn in one report.
    ((moved(0, -350, 0, 350, 0, 0),), [STEP_M, 0, 0, 0, -STEP_RAD, 0]),
    ((moved(int(350 * DEAD_ZONE * 0.9), 0, 0),), [0, 0, 0, 0, 0, 0]),
])  # fmt: skip
def test_a_pucks_reports_become_deltas_in_the_base_frame(reports, expected):
    device = SpaceMouse(RIG, SPEEDS, reports_of(LEFT, *reports)[1], Time())
    command = device.read()
    assert command.deadman and command.delta == pytest.approx(expected)


def test_a_puck_without_its_left_button_moves_nothing_and_its_right_one_decides():
    waiting, reports = reports_of(moved(350, 350, 350))
    device = SpaceMouse(RIG, SPEEDS, reports, Time())
    command = device.read()
    assert not command.deadman and not command.delta.any()
    waiting += [RIGHT, NONE]
    assert device.read().events == ("start",)
    device.announce("recording", 0)
    waiting += [RIGHT, NONE]
    assert device.read().events == ("keep",)
    device.begin(1.0)
    waiting += [LEFT, BOTH, LEFT]
    command = device.read()
    assert command.events == () and command.gripper == 0.0


def test_a_puck_that_has_fallen_silent_stands_and_one_that_is_gone_is_released(caplog):
    waiting, reports = reports_of(LEFT, moved(0, -350, 0))
    now_s = Time()
    device = SpaceMouse(RIG, SPEEDS, reports, now_s)
    assert device.read().delta[0] == pytest.approx(STEP_M)
    now_s.now_s += SILENT_S * 1.1
    command = device.read()
    assert command.deadman and not command.delta.any()
    waiting += [moved(0, -350, 0), None]
    with caplog.at_level(logging.ERROR):
        assert not device.read().deadman
    assert "has gone" in caplog.text


def test_speeds_beyond_the_rigs_limits_are_refused():
    with pytest.raises(UserError, match="speed_m_per_s.*at most the rig's limit 0.25, found 0.3"):
        open_device("keyboard", RIG, 0.3, 0.5)


def test_an_unknown_device_is_refused_with_those_there_are():
    with pytest.raises(UserError, match="no teleoperation device 'wand'; there are: remote, keyboard"):
        open_device("wand", RIG, 0.1, 0.1)


@pytest.fixture
def pad():
    """SDL's virtual gamepad: (joystick to set, function that unplugs it)."""
    from robosteer_ros.hardware.teleop.sdl import sdl

    sdl.SDL_SetHint(sdl.SDL_HINT_NO_SIGNAL_HANDLERS, b"1")
    assert sdl.SDL_InitSubSystem(sdl.SDL_INIT_GAMECONTROLLER) == 0
    index = sdl.SDL_JoystickAttachVirtual(sdl.SDL_JOYSTICK_TYPE_GAMECONTROLLER, 6, 15, 0)
    assert index >= 0, sdl.SDL_GetError()
    joystick = sdl.SDL_JoystickOpen(index)
    attached = [index]
    yield sdl, joystick, lambda: sdl.SDL_JoystickDetachVirtual(attached.pop())
    sdl.SDL_JoystickClose(joystick)
    for index in attached:
        sdl.SDL_JoystickDetachVirtual(index)
    sdl.SDL_QuitSubSystem(sdl.SDL_INIT_GAMECONTROLLER)


def test_a_gamepad_moves_the_hand_while_its_right_shoulder_is_held(pad, caplog):
    sdl, joystick, unplug = pad
    device = open_device("gamepad", RIG, 0.15, 0.6)
    sdl.SDL_JoystickSetVirtualAxis(joystick, sdl.SDL_CONTROLLER_AXIS_LEFTY, -32768)
    sdl.SDL_JoystickSetVirtualAxis(joystick, sdl.SDL_CONTROLLER_AXIS_RIGHTX, 32767)
    command = device.read()
    assert not command.deadman and not command.delta.any()
    sdl.SDL_JoystickSetVirtualButton(joystick, sdl.SDL_CONTROLLER_BUTTON_RIGHTSHOULDER, 1)
    command = device.read()
    assert command.deadman and command.delta == pytest.approx([STEP_M, 0, 0, 0, 0, -STEP_RAD])
    device.begin(1.0)
    for button in (sdl.SDL_CONTROLLER_BUTTON_A, sdl.SDL_CONTROLLER_BUTTON_START):
        sdl.SDL_JoystickSetVirtualButton(joystick, button, 1)
    command = device.read()
    assert command.events == ("start",) and command.gripper == 0.0
    assert device.read().events == () and device.read().gripper == 0.0
    unplug()
    with caplog.at_level(logging.ERROR):
        command = device.read()
    assert not command.deadman and not command.delta.any() and "gone" in caplog.text
    device.close()


def test_without_a_gamepad_the_operator_is_told():
    with pytest.raises(UserError, match="no gamepad found"):
        open_device("gamepad", RIG, 0.15, 0.6)
