"""What an installation gets: pins, the lock, and the set-up by make."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
import xml.etree.ElementTree as ElementTree
from importlib.metadata import version
from pathlib import Path

import pytest
from setuptools.config.setupcfg import read_configuration

import robosteer_core
from robosteer_core.cli import SYSTEM_PACKAGES

ROOT = Path(__file__).resolve().parent.parent
PROJECT_TEXT = (ROOT / "pyproject.toml").read_text()
PROJECT = tomllib.loads(PROJECT_TEXT)["project"]
DIRECT = [line for group in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()) for line in group]


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def lock():
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return {normal(name): pin for name, pin in (line.split("==") for line in lines if not line.startswith("#"))}


def test_every_dependency_is_pinned_and_says_why_it_is_there():
    for line in DIRECT:
        assert re.fullmatch(r"[A-Za-z0-9-]+==[0-9][0-9.]*", line), f"{line} is not pinned"
        assert re.search(rf'"{re.escape(line)}", +# \w', PROJECT_TEXT), f"{line} has no reason beside it"


def test_lock_holds_every_dependency_at_its_pin():
    locked = lock()
    assert {line: locked.get(normal(line.partition("==")[0])) for line in DIRECT} == {
        line: line.partition("==")[2] for line in DIRECT
    }


def test_environment_of_the_tests_is_the_locked_one():
    """What passes here is what an installation runs."""
    assert {name: version(name).removesuffix("+cpu") for name in lock()} == lock()


@pytest.fixture
def checkout(tmp_path):
    """What `make setup` reads, in a folder of its own."""
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def make(folder, *arguments, environment=None, **options):
    """A make of its own, also where the tests were started by one."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    return subprocess.run(
        [shutil.which("make"), *arguments], cwd=folder, capture_output=True, text=True, timeout=60,
        env=environment or inherited, **options,
    )  # fmt: skip


def test_repeated_set_up_is_quick_and_silent(checkout):
    (checkout / ".venv" / "bin").mkdir(parents=True)
    (checkout / ".venv" / "bin" / "python").symlink_to(sys.executable)
    content = (checkout / "requirements.lock").read_bytes() + (checkout / "pyproject.toml").read_bytes()
    key = hashlib.sha256(content).hexdigest()
    (checkout / ".venv" / "robosteer.stamp").write_text(key + "\n")
    began = time.monotonic()
    done = make(checkout, "setup")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert time.monotonic() - began < 5


def test_changed_lock_is_set_up_again(checkout):
    """Seen by what it starts with: the environment is of a Python that robosteer does not run on."""
    (checkout / ".venv" / "bin").mkdir(parents=True)
    (checkout / ".venv" / "bin" / "python").symlink_to("/bin/false")
    (checkout / ".venv" / "robosteer.stamp").write_text("another key\n")
    done = make(checkout, "setup")
    assert done.returncode == 2
    assert "expected .venv to hold Python 3.11 or 3.12" in done.stderr and "rm -rf .venv" in done.stderr


def test_without_a_fitting_python_the_set_up_says_what_to_install(checkout, tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sed", "sha256sum", "cut", "cat", "id"):
        (tools / name).symlink_to(shutil.which(name))
    done = make(checkout, "setup", environment={"PATH": str(tools)})
    assert done.returncode == 2
    assert "Python 3.11 or 3.12" in done.stderr and "python3-venv" in done.stderr
    assert not (checkout / ".venv").exists()


@pytest.mark.parametrize(
    ("prefix", "told"),
    [("", "source /opt/ros/jazzy/setup.bash"), ("/opt/ros/none", "import rclpy, colcon_ros, colcon_python_setup_py")],
)
def test_the_colcon_package_is_built_where_ros_is_sourced(checkout, tmp_path, prefix, told):
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sed", "sha256sum", "cut", "cat"):
        (tools / name).symlink_to(shutil.which(name))
    done = make(checkout, "ros", "SYSTEM_PACKAGES=", environment={"PATH": str(tools), "AMENT_PREFIX_PATH": prefix})
    assert done.returncode == 2 and told in done.stderr
    assert not (checkout / ".ros").exists()


@pytest.mark.skipif(shutil.which("dpkg-query") is None, reason="system packages are checked on Debian and its kin")
def test_who_is_not_root_is_told_what_to_type_before_anything_starts(checkout):
    os.chmod(checkout, 0o755)
    nobody = {"user": 65534, "group": 65534, "extra_groups": []} if os.getuid() == 0 else {}
    # Folders above a test's own are closed to others, so make reads its file from standard input.
    arguments = ["-f", "-", "demo", "SYSTEM_PACKAGES=libegl1 no-such-package"]
    done = make("/", *arguments, input=(ROOT / "Makefile").read_text(), **nobody)
    assert done.returncode == 2
    assert "sudo apt-get install --yes" in done.stderr.replace("sudo apt-get update && ", "")
    assert "no-such-package" in done.stderr
    assert done.stdout == ""


def test_make_and_the_command_line_name_the_same_system_packages():
    assert f"SYSTEM_PACKAGES ?= {SYSTEM_PACKAGES}\n" in (ROOT / "Makefile").read_text()


def test_ci_runs_the_test_command_of_the_readme():
    assert "\n    make test " in (ROOT / "README.md").read_text()
    script = ROOT / ".ci" / "run"
    assert script.read_text().endswith("exec make test\n")
    assert os.access(script, os.X_OK)


def test_every_file_of_a_package_is_installed():
    """A file that is no Python and that package-data forgets is there in a checkout alone; what is compiled is not needed."""
    setuptools = tomllib.loads(PROJECT_TEXT)["tool"]["setuptools"]
    patterns, sources = setuptools["package-data"], {name for module in setuptools["ext-modules"] for name in module["sources"]}
    installed = {path for package, globs in patterns.items() for pattern in globs for path in (ROOT / package).glob(pattern)}
    command = ["git", "ls-files", "-z", "robosteer_core", "robosteer_sim", "robosteer_ros", "calibration"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    forgotten = {name for name in listed if name and not name.endswith(".py") and ROOT / name not in installed}
    assert forgotten - sources == set()


def test_nodes_are_programs_of_the_package():
    """Entry points in setup.py vanish silently beside a [project] table; ROS starts what [project.scripts] lists."""
    nodes = {file.stem for file in (ROOT / "robosteer_ros" / "nodes").glob("*.py") if "\ndef main() -> None:" in file.read_text()}
    scripts = {name: target for name, target in PROJECT["scripts"].items() if name != "robosteer"}
    assert scripts == {f"robosteer_{name}": f"robosteer_ros.nodes.{name}:main" for name in nodes}


def test_package_xml_tells_ros_what_pyproject_and_the_facade_say():
    package = ElementTree.parse(ROOT / "package.xml").getroot()
    told = {name: package.findtext(name) for name in ("name", "version", "description", "license", "export/build_type")}
    assert told == {name: PROJECT[name] for name in ("name", "description", "license")} | {
        "version": robosteer_core.__version__, "export/build_type": "ament_python",
    }  # fmt: skip
    facade = (ROOT / "robosteer_ros" / "ros" / "__init__.py").read_text()
    messages = set(re.findall(r'"(\w+)"', facade[facade.index("PACKAGES = (") : facade.index(")  # fmt: skip")]))
    needed = {element.text for element in package.findall("exec_depend")}
    assert messages and needed - messages == {"rclpy", "launch", "launch_ros", "ros2launch"} and messages <= needed


def test_colcon_reads_setup_cfg_without_running_setup_py():
    """It looks for these; run, setup.py gives it a requires-python that it cannot read back."""
    assert "setup()" in (ROOT / "setup.py").read_text()
    assert read_configuration(ROOT / "setup.cfg")["metadata"]["name"] == PROJECT["name"]


def test_rigs_and_launch_files_are_found_where_ros_looks(tmp_path):
    """The share/ of an installation: what setup.cfg gives ROS, and where `--rig lab` finds its file."""
    command = [sys.executable, "-W", "ignore", "setup.py", "-q", "install_data", "--install-dir", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=60)
    launch = {path.name for path in (ROOT / "launch").iterdir() if path.name.endswith((".yaml", ".launch.py"))}
    share = tmp_path / "share"
    assert {path.name for path in (share / "robosteer" / "launch").iterdir()} == launch >= {"lab.yaml"}
    assert (share / "robosteer" / "package.xml").is_file()
    assert (share / "ament_index" / "resource_index" / "packages" / "robosteer").is_file()
    assert not (ROOT / "launch" / "__init__.py").exists()
    package = tmp_path / "lib" / "python3" / "site-packages" / "robosteer_core"
    package.mkdir(parents=True)
    (package.parent / "launch").mkdir()  # that of ROS 2
    for name in ("__init__.py", "rig.py", "errors.py"):
        shutil.copy(ROOT / "robosteer_core" / name, package)
    code = "from robosteer_core.rig import load_rig; print(load_rig('lab').name)"
    done = subprocess.run([sys.executable, "-c", code], cwd=package.parent, env={}, capture_output=True, text=True)
    assert done.stdout == "lab\n", done.stderr
