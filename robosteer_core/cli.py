"""The command `robosteer`, put together from the commands that the installed packages bring.

A package brings a command by an entry point of the group `robosteer.commands` whose value is a function (one command)
or a typer.Typer (a group of commands). Only the command that is asked for is imported, and the modules named there
import nothing heavy, so that help comes at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated

import typer

from robosteer_core import __version__
from robosteer_core.errors import UserError
from robosteer_core.files import refusal

COMMANDS_GROUP = "robosteer.commands"

EXTRA_OF_MODULE = {
    "mujoco": "sim",
    "franky_sim": "sim",
    "franky": "ros",
    "pyrealsense2": "ros",
    "cyclonedds": "ros",
    "rosbags": "ros",
    "cv2": "calibration",
    "tensorboardX": "tensorboard",
}
"""Top-level modules that a core installation lacks, with the extra that brings each."""

SYSTEM_PACKAGES = "libegl1 libgl1-mesa-dri libgl1 libglib2.0-0 libusb-1.0-0"
"""Debian packages whose shared libraries the extras load."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `robosteer` with `arguments` (default: those of the process) and return its exit code.

    Bad input (UserError), a disk that refuses and missing packages become one message on stderr and exit code 2.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        _assemble(arguments)(args=arguments, prog_name="robosteer")
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    except UserError as error:
        message = str(error)
    except ImportError as error:
        message = _missing(error)
        if message is None:
            raise
    except OSError as error:
        message = refusal(error)
        if message is None:
            raise
    else:
        return 0
    print(f"robosteer: {message}", file=sys.stderr)
    return 2


def _assemble(arguments: Sequence[str]) -> typer.Typer:
    """The command line with the one command that `arguments` ask for, else with all commands that can be imported."""
    app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
    app.callback()(_root)
    found = {point.name: point for point in entry_points(group=COMMANDS_GROUP)}
    asked = found.get(arguments[0]) if arguments else None
    if asked is not None:
        _add(app, asked, _load(asked))
        return app
    for point in found.values():
        try:
            command = _load(point)
        except (UserError, ImportError):
            continue  # one package that cannot be imported must not hide the commands of the others
        _add(app, point, command)
    return app


def _load(point: EntryPoint) -> object:
    """Import a command; UserError if this version of robosteer names it and does not have it."""
    try:
        module = import_module(point.module)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{point.module}.".startswith(f"{error.name}."):
            raise UserError(f"the command {point.name!r} is not part of this version ({point.module} is not there)") from error
        raise
    if not hasattr(module, point.attr):
        raise UserError(f"the command {point.name!r} is not part of this version ({point.value} is not there)")
    return getattr(module, point.attr)


def _add(app: typer.Typer, point: EntryPoint, command: object) -> None:
    if isinstance(command, typer.Typer):
        app.add_typer(command, name=point.name)
    else:
        app.command(name=point.name)(command)


def _missing(error: ImportError) -> str | None:
    """What to install so that the import works, None where the fault is not one of installation."""
    module = (error.name or "").partition(".")[0]
    extra = EXTRA_OF_MODULE.get(module)
    if isinstance(error, ModuleNotFoundError) and extra is not None:
        return (
            f"this command needs the module {module!r}, which is not installed; "
            f"in robosteer's folder, type: pip install -e '.[{extra}]'"
        )
    if "cannot open shared object file" in str(error):
        return f"this command needs a system library ({error}); as root, type: apt-get install {SYSTEM_PACKAGES}"
    return None


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"robosteer {__version__}")
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", help="Print the version and stop.", is_eager=True, callback=_print_version)]


def _root(version: Version = False) -> None:
    """Steer vision-language-action policies on Franka arms."""


if __name__ == "__main__":
    sys.exit(main())
