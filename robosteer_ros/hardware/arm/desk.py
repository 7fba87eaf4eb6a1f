"""Desk, the robot's web server: its brakes and its FCI, by franky's client of it.

Who is let in is asked of the operator, or read from the environment by the caller; nothing is stored.
"""

from __future__ import annotations

import builtins
import os
from collections.abc import Callable

from robosteer_core import rig
from robosteer_core.errors import UserError

USER, PASSWORD = "ROBOSTEER_DESK_USER", "ROBOSTEER_DESK_PASSWORD"
TIMEOUT_S = 10.0
#: How long whoever else has control of Desk may take to give it up.
CONTROL_TIMEOUT_S = 30.0
#: What a Desk of before version 1 answers to who asks for that.
_NOT_FOUND = 404


def credentials() -> tuple[str, str]:
    """User and password from the environment. Raises UserError where one is not there."""
    missing = [name for name in (USER, PASSWORD) if not os.environ.get(name)]
    if missing:
        raise UserError(
            f"Desk asks who you are: set {' and '.join(missing)} for the arm's node, or call `robosteer arm unlock`, `lock` "
            "or `activate-fci`, which ask you"
        )
    return os.environ[USER], os.environ[PASSWORD]


def unlock(arm: rig.Arm, user: str, password: str) -> str:
    """Unlock the brakes of all joints: somebody stands by with the emergency stop in the hand. Returns what was done."""
    return _ask(arm, user, password, lambda desk: desk.unlock_brakes(), "the brakes are unlocked")


def lock(arm: rig.Arm, user: str, password: str) -> str:
    """Lock the brakes of all joints of an arm at rest. Returns what was done."""
    return _ask(arm, user, password, lambda desk: desk.lock_brakes(), "the brakes are locked")


def activate_fci(arm: rig.Arm, user: str, password: str) -> str:
    """Let programs move the robot. Returns what was done."""
    return _ask(arm, user, password, lambda desk: desk.enable_fci(), "the FCI is active")


#: By the name of the arm node's service.
ACTIONS = {"unlock": unlock, "lock": lock, "activate_fci": activate_fci}


def _ask(arm: rig.Arm, user: str, password: str, do: Callable[[object], None], done: str) -> str:
    """Raises UserError where Desk is not there, does not let the user in, or refuses."""
    try:
        from franky import Desk, DeskWebSession
    except ImportError as error:
        raise UserError(f"Desk is asked through franky, which is not installed ({error}): pip install -e '.[ros]'") from error
    try:
        desk = None
        for kind in (DeskWebSession,) if arm.model == "panda" else (Desk, DeskWebSession):
            desk = kind(arm.address, user, password)
            try:
                desk.open(timeout=TIMEOUT_S)
                break
            except builtins.Exception as error:
                if kind is DeskWebSession or getattr(error, "http_code", None) != _NOT_FOUND:
                    raise
        try:
            desk.client.sock.settimeout(CONTROL_TIMEOUT_S + TIMEOUT_S)  # whoever has control is given time
            desk.take_control(wait_timeout=CONTROL_TIMEOUT_S)
            do(desk)
        finally:
            desk.close()
    except builtins.Exception as error:
        wrong = getattr(error, "http_code", None) in (401, 403)
        advice = "is the password right?" if wrong else "check `arm.address` in the rig, and that Desk opens in a browser there"
        raise UserError(f"Desk at {arm.address} did not do it: {error}; {advice}") from error
    return f"{done}, as Desk at {arm.address} says"
