"""One suite for both drivers: an FR3 through franky, a Panda through panda-python."""

import importlib.util

import pytest

from robosteer_core.rig import load_rig


def missing(model):
    """Why the tests of a robot cannot run here, or None."""
    if model == "panda" and importlib.util.find_spec("panda_py") is None:
        return "panda-python is not installed: pip install -e '.[panda]'"
    if model == "panda" and importlib.util.find_spec("robosteer_sim.panda._model_library") is None:
        return "the Panda's model library is not built: there was no C compiler when robosteer was installed"
    return None


@pytest.fixture(scope="module", params=["fr3", "panda"])
def arm_model(request):
    reason = missing(request.param)
    if reason:
        pytest.skip(reason)
    return request.param


@pytest.fixture(scope="module")
def new_arm_rig(new_rig, arm_model):
    """`new_rig` for the robot of these tests: `new_arm_rig(arm={...}, limits={...})`."""
    return lambda arm={}, **changes: new_rig(arm={"model": arm_model, "driver": None} | arm, **changes)


@pytest.fixture(scope="module")
def rig_file(new_arm_rig):
    return new_arm_rig()


@pytest.fixture(scope="module")
def rig(rig_file):
    return load_rig(rig_file)
