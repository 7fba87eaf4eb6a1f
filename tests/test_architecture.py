"""The borders between the packages, read from the sources."""

import ast
import re
import subprocess
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("robosteer_core", "robosteer_sim", "robosteer_ros", "calibration")

MAY_IMPORT = {
    "robosteer_core": {"robosteer_core"},
    "robosteer_sim": {"robosteer_sim", "robosteer_core"},
    "robosteer_ros": {"robosteer_ros", "robosteer_core"},
    "calibration": {"calibration", "robosteer_core"},
}

EXTRAS = {"robosteer_core": ("tensorboard",), "robosteer_sim": ("sim",), "robosteer_ros": ("ros", "panda"), "calibration": ("calibration",)}

TOP_LEVEL = {
    "robosteer_core", "robosteer_ros", "robosteer_sim", "launch", "calibration", "tests", "docker", "docs", "resource", ".ci",
    "pyproject.toml", "requirements.lock", "README.md", "Makefile", "LICENSE", "NOTICE", "CHANGELOG.md", ".gitignore",
    "package.xml", "setup.py", "setup.cfg",
}  # fmt: skip


@cache
def imports(package: str) -> set[tuple[str, Path]]:
    """Top-level modules that the sources of `package` import, wherever in the file, each with the file."""
    found = set()
    for file in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(), file)):
            if isinstance(node, ast.Import):
                found |= {(alias.name.partition(".")[0], file) for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{file}:{node.lineno}: a relative import hides which package it reaches"
                found.add((node.module.partition(".")[0], file))
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_meet_over_wires_and_core_stays_at_the_bottom(package):
    crossing = {(name, str(file.relative_to(ROOT))) for name, file in imports(package) if name in PACKAGES}
    assert crossing, f"no file of {package} was read"
    assert {pair for pair in crossing if pair[0] not in MAY_IMPORT[package]} == set()


@pytest.mark.parametrize("package", PACKAGES)
def test_package_imports_only_what_its_extra_installs(package):
    """A training box installs the core alone; an import of something else would break it there and nowhere else."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = list(project["dependencies"])
    for extra in EXTRAS[package]:
        lines += project["optional-dependencies"][extra]
    allowed = {normal(re.split(r"[=<>\[; ]", line, maxsplit=1)[0]) for line in lines}
    distributions = packages_distributions()
    unknown = {
        (name, str(file.relative_to(ROOT)))
        for name, file in imports(package)
        if name not in sys.stdlib_module_names
        and name not in PACKAGES
        and not allowed & {normal(distribution) for distribution in distributions.get(name, [name])}
    }
    assert unknown == set()


def normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def test_top_level_holds_the_designed_folders_alone():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    names = {name.partition("/")[0] for name in listed.split("\0") if name}
    assert names - TOP_LEVEL == set()


def test_every_folder_of_a_package_is_installed():
    """Without its __init__.py a folder works in the checkout and is missing from an installation."""
    folders = {file.parent for package in PACKAGES for file in (ROOT / package).rglob("*.py")}
    assert {str(folder.relative_to(ROOT)) for folder in folders if not (folder / "__init__.py").is_file()} == set()
