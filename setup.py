"""For colcon, which starts here. The package stands in pyproject.toml; entry points named here would vanish beside its [project]."""

from setuptools import setup

setup()
