"""The simulated Panda beside the FR3: the same names, the same kinematics, the same tasks."""

import numpy as np
import pytest

from robosteer_core.rig import load_rig
from robosteer_sim.fci.kinematics import ArmKinematics
from robosteer_sim.fci.limits import FER
from robosteer_sim.operator import Operator
from robosteer_sim.panda.arm import HAND_MASS_KG, panda_spec
from robosteer_sim.robot import FINGER_JOINTS, JOINTS, TCP_SITE, arm_spec
from robosteer_sim.rollout import Rollout
from robosteer_sim.world import World


@pytest.fixture(scope="module")
def panda_rig():
    return load_rig("panda_lab")


def test_what_the_lab_looks_up_has_the_same_names_and_places():
    fr3, panda = arm_spec("fr3").compile(), arm_spec("panda").compile()
    for model in (fr3, panda):
        assert [model.joint(n).name for n in range(model.njnt)] == [*JOINTS, *FINGER_JOINTS]
        assert model.site(TCP_SITE).bodyid == model.body("hand").id
    assert panda.body_subtreemass[panda.body("hand").id] == pytest.approx(HAND_MASS_KG)
    arms = [ArmKinematics(model) for model in ("fr3", "panda")]
    np.testing.assert_array_equal(arms[1].joint_range, np.array([FER.position_low, FER.position_high]))
    for q in np.random.default_rng(1).uniform(*arms[1].joint_range, (5, 7)):
        for arm in arms:
            arm.move_to(q)
        np.testing.assert_allclose(arms[1].pose(), arms[0].pose(), atol=2e-6)
        np.testing.assert_allclose(arms[1].jacobian(), arms[0].jacobian(), atol=2e-6)


def test_identified_masses_are_physical():
    model = panda_spec().compile()
    moving = [model.body(f"link{number}").id for number in range(1, 8)] + [model.body("hand").id]
    inertia = model.body_inertia[moving]
    assert (inertia > 0).all() and (inertia.sum(1) >= 2 * inertia.max(1)).all()


def test_it_stays_where_it_is_and_pushed_goes_on_and_stops_by_friction(panda_rig):
    world = World(panda_rig)
    world.reset("press the red button", 0)
    start = world.joint_positions().copy()
    for _ in range(200):
        world.step(np.zeros(7))
    np.testing.assert_allclose(world.joint_positions(), start, atol=1e-6)
    for _ in range(100):
        world.step(np.array([3.0, 0, 0, 0, 0, 0, 0]))
    moving = world.joint_velocities()[0]
    for _ in range(1500):
        world.step(np.zeros(7))
    assert moving > 0.05 and abs(world.joint_velocities()[0]) < 1e-3


@pytest.mark.parametrize("task", ["press the red button", "pick up the red cube"])
def test_the_scripted_operator_does_tasks_with_it(panda_rig, task):
    world, operator = World(panda_rig), Operator(task)
    world.reset(task, 5)
    rollout = Rollout(world, panda_rig)
    for _ in range(150):
        if world.success():
            break
        rollout.apply(operator.act(world.truth()))
    assert world.success() and world.truth()["failure"] is None
