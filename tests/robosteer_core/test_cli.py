"""The command line: assembled from entry points, quick, and clear about what it cannot do."""

import os
import resource
import shutil
import subprocess
import sys
import tomllib
from functools import cache
from importlib.metadata import entry_points, packages_distributions
from importlib.util import find_spec
from pathlib import Path

import pytest

from robosteer_core import __version__
from robosteer_core.cli import COMMANDS_GROUP, EXTRA_OF_MODULE, main

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
COMMANDS = PROJECT["entry-points"][COMMANDS_GROUP]
HEAVY = "torch transformers peft scipy numpy pyarrow av matplotlib mujoco franky_sim franky pyrealsense2 cv2"


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Installs a package of commands: a module, and a distribution whose entry points name it."""

    def install(source, **commands):
        (tmp_path / "some_commands.py").write_text(source)
        information = tmp_path / "some_commands-1.0.dist-info"
        information.mkdir()
        (information / "METADATA").write_text("Metadata-Version: 2.1\nName: some-commands\nVersion: 1.0\n")
        lines = "".join(f"{name} = {value}\n" for name, value in commands.items())
        (information / "entry_points.txt").write_text(f"[{COMMANDS_GROUP}]\n{lines}")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "some_commands", raising=False)

    return install


def test_installed_commands_are_those_of_the_project():
    assert {point.name: point.value for point in entry_points(group=COMMANDS_GROUP)} == COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_there_and_has_help(name, capsys):
    assert main([name, "--help"]) == 0
    assert f"Usage: robosteer {name}" in capsys.readouterr().out


def test_help_comes_within_a_second_and_imports_nothing_heavy():
    """Time is the processor's, the least of three: the wall's is the load's."""
    heavy = f"sys.modules.keys() & set({HEAVY!r}.split())"
    program = f"import sys; from robosteer_core.cli import main; main(['--help']); sys.exit(', '.join({heavy}) or 0)"
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "dataset" in done.stdout and "heads" in done.stdout
    assert min(seconds) < 1


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"robosteer {__version__}\n"


def test_installed_program_prints_bad_input_once_and_exits_with_2():
    program = Path(sys.executable).with_name("robosteer")
    done = subprocess.run([program, "arm", "status", "--rig", "moon_base"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("robosteer: no rig file") and "known rigs" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [["levitate"], ["--levitate"], []])
def test_wrong_usage_exits_with_2(arguments):
    assert main(arguments) == 2


def test_commands_of_other_packages_come_by_entry_points(install, capsys):
    install(
        "import typer\n"
        "app = typer.Typer()\n"
        "@app.command()\ndef start(): print('started')\n"
        "@app.command()\ndef stop(): print('stopped')\n"
        "def once(times: int = 1):\n    'Do it once.'\n    print('done', times)\n",
        many="some_commands:app",
        single="some_commands:once",
    )
    assert main(["many", "stop"]) == 0
    assert main(["single", "--times", "3"]) == 0
    assert capsys.readouterr().out == "stopped\ndone 3\n"
    assert main(["--help"]) == 0
    assert "Do it once." in capsys.readouterr().out


def test_commands_that_cannot_be_imported_do_not_hide_the_others(install, capsys):
    source = "def fine():\n    'It works.'\n"
    install(source, gone="no_such_module:app", nameless="some_commands:nothing", fine="some_commands:fine")
    assert main(["--help"]) == 0
    listed = capsys.readouterr().out
    assert "It works." in listed and "gone" not in listed and "nameless" not in listed
    for name, missing in {"gone": "no_such_module", "nameless": "some_commands:nothing"}.items():
        assert main([name]) == 2
        message = capsys.readouterr().err
        assert f"the command {name!r} is not part of this version ({missing} is not there)" in message


def test_fault_in_a_command_is_not_taken_for_bad_input(install):
    install("def broken():\n    import no_such_module_at_all\n", broken="some_commands:broken")
    with pytest.raises(ModuleNotFoundError, match="no_such_module_at_all"):
        main(["broken"])


@pytest.mark.parametrize("work, words", [
    ("open('/nowhere/file', 'w')", "/nowhere/file: No such file or directory"),
    ("open('/dev/full', 'w', buffering=1).write('a\\n')", "a file cannot be written: No space left on device; make room"),
])  # fmt: skip
def test_a_disk_that_refuses_is_one_message(install, capsys, work, words):
    install(f"def work():\n    {work}\n", work="some_commands:work")
    assert main(["work"]) == 2
    assert words in capsys.readouterr().err


def test_other_faults_of_the_system_are_not_taken_for_the_disks(install):
    install("def work():\n    raise ConnectionRefusedError(111, 'refused')\n", work="some_commands:work")
    with pytest.raises(ConnectionRefusedError):
        main(["work"])


@pytest.mark.parametrize(("module", "extra"), EXTRA_OF_MODULE.items())
def test_missing_package_names_the_extra_that_brings_it(install, monkeypatch, capsys, module, extra):
    install(f"def work():\n    import {module}.parts\n", work="some_commands:work")
    monkeypatch.setitem(sys.modules, module, None)  # Python's own way to say that a module cannot be imported
    assert main(["work"]) == 2
    message = f"needs the module {module!r}, which is not installed; in robosteer's folder, type: pip install -e '.[{extra}]'\n"
    assert capsys.readouterr().err.endswith(message)


distributions = cache(packages_distributions)  # it reads the lists of all installed files


@pytest.mark.parametrize(("module", "extra"), EXTRA_OF_MODULE.items())
def test_extras_bring_the_modules_they_are_named_for(module, extra):
    pinned = {line.partition("==")[0] for line in PROJECT["optional-dependencies"][extra]}
    assert find_spec(module) is not None
    assert pinned & set(distributions()[module])


@pytest.mark.parametrize(("arguments", "hidden"), [(["sim", "serve"], "mujoco"), (["arm", "status", "--rig", "lab"], "cyclonedds")])
def test_commands_without_their_extra_say_so(arguments, hidden):
    program = f"import sys; sys.modules[{hidden!r}] = None; from robosteer_core.cli import main; sys.exit(main({arguments!r}))"
    without_ros = os.environ | {"ROBOSTEER_ROS": "dds"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, env=without_ros)
    assert done.returncode == 2, done.stderr
    assert f"pip install -e '.[{EXTRA_OF_MODULE[hidden]}]'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(shutil.which("cc") is None, reason="the extension module has to be compiled")
def test_missing_system_library_names_the_packages(install, tmp_path, capsys):
    """A real extension module that asks for a library that no machine has."""
    source = tmp_path / "driver.c"
    source.write_text("void *PyInit_some_driver(void) { return 0; }\n")
    library = tmp_path / "libnosuchdevice.so.0"
    link = ["cc", "-shared", "-fPIC", "-Wl,--no-as-needed", "-o"]
    subprocess.run([*link, library, "-x", "c", "/dev/null", f"-Wl,-soname,{library.name}"], check=True)
    subprocess.run([*link, tmp_path / "some_driver.so", source, library], check=True)
    os.remove(library)
    install("def work():\n    import some_driver\n", work="some_commands:work")
    assert main(["work"]) == 2
    message = capsys.readouterr().err
    assert "libnosuchdevice.so.0" in message and "apt-get install" in message and "libusb-1.0-0" in message


def test_models_are_never_fetched():
    """Whatever module of ours comes first, the libraries beneath are told to stay off the network."""
    program = "import robosteer_core.vla.policy, huggingface_hub.constants as c, sys; sys.exit(not c.HF_HUB_OFFLINE)"
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "TRANSFORMERS_"))}
    assert subprocess.run([sys.executable, "-c", program], env=environment).returncode == 0
