"""What ROS 2 looks for in share/; name, packages and programs stand in pyproject.toml, where entry points of this file would vanish."""

from glob import glob

from setuptools import setup

setup(
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/robosteer"]),
        ("share/robosteer", ["package.xml"]),
        ("share/robosteer/launch", sorted(glob("launch/*.launch.py") + glob("launch/*.yaml"))),
    ]
)
