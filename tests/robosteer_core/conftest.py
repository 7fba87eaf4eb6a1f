"""A small random policy for tests of the core."""

import pytest

from robosteer_core.rig import load_rig
from robosteer_core.vla.config import Normalisation, PolicyConfig
from robosteer_core.vla.small import IMAGE_SIZE, INSTRUCTION_TOKENS, new_policy


@pytest.fixture
def small_policy():
    """A pi0 with random weights and unit normalisation."""
    rig = load_rig("lab")
    unit = Normalisation(mean=(0.0,) * 7, std=(1.0,) * 7)
    return new_policy(
        PolicyConfig(
            family="pi0", cameras=("front", "wrist"), image_size=IMAGE_SIZE, state_names=rig.state_names,
            action_names=rig.action_space.names, action_hz=15, instruction_tokens=INSTRUCTION_TOKENS, flow_steps=3,
            state=unit, action=unit,
        ),
        seed=0, layers=3,
    )  # fmt: skip
