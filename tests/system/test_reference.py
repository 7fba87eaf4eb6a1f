"""The page docs/reference.md tells what the nodes have."""

import importlib.util
from pathlib import Path

import pytest

from robosteer_ros import ros

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("make_reference", DOCS / "make_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_tells_what_the_nodes_have(script, rig_file, tmp_path):
    ros.init(args=["test"], signal_handler_options=ros.SignalHandlerOptions.NO)
    try:
        assert script.reference(rig_file, tmp_path) == script.REFERENCE.read_text(), "type: python docs/make_reference.py"
    finally:
        ros.try_shutdown()
