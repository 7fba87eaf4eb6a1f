"""The rig contract: what it refuses, how it names the fault, and that it fits arms and policies of other kinds."""

from copy import deepcopy

import pytest
import yaml

from robosteer_core.errors import UserError
from robosteer_core.rig import RIGS_FOLDER, load_rig

MISSING = object()


@pytest.fixture
def load(tmp_path):
    """Loads the lab's rig with some entries changed, each given by its path and its new content."""
    lab = yaml.safe_load((RIGS_FOLDER / "lab.yaml").read_text())

    def load(changes=()):
        content = deepcopy(lab)
        for path, value in dict(changes).items():
            *parents, last = path
            section = content
            for key in parents:
                section = section[key]
            if value is MISSING:
                del section[last]
            else:
                section[last] = value
        file = tmp_path / "rig.yaml"
        file.write_text(yaml.safe_dump(content))
        return load_rig(file)

    return load


def test_lab_rig_is_found_by_name_and_by_file(load):
    assert load_rig("lab") == load()


def test_a_rig_knows_what_a_command_line_calls_it_whatever_its_own_name_is(tmp_path):
    assert load_rig("lab").given == "lab"
    copied = tmp_path / "my cell.yaml"
    copied.write_text((RIGS_FOLDER / "lab.yaml").read_text())
    assert load_rig(copied).at_reduced_speed().given == f"'{copied}'"
    assert load_rig(copied) == load_rig("lab") and load_rig(copied).model_dump() == load_rig("lab").model_dump()


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        (("wheels",), 4, "wheels: Extra inputs"),
        (("limits", "max_sped"), 1.0, "limits.max_sped: Extra inputs"),
        (("cameras", 1, "exposure"), 3, "cameras.1.exposure: Extra inputs"),
        (("limits", "workspace", "roof"), 1, "limits.workspace.roof: Extra inputs"),
    ],
)
def test_unknown_key_is_refused_with_its_path(load, path, value, named):
    with pytest.raises(UserError, match="not a valid rig") as caught:
        load({path: value})
    assert named in str(caught.value)


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        (("arm", "model"), "ur5", "arm.model"),
        (("arm", "home_joint_positions_rad"), [0.0] * 6, "arm.home_joint_positions_rad.6"),
        (("arm", "home_joint_positions_rad", 3), float("nan"), "arm.home_joint_positions_rad.3"),
        (("arm", "translational_stiffness_n_per_m"), -1, "arm.translational_stiffness_n_per_m"),
        (("gripper", "force_n"), 200, "gripper.force_n"),
        (("cameras",), [], "cameras"),
        (("cameras", 0, "fps"), 0, "cameras.0.fps"),
        (("cameras", 0, "mount"), "ceiling", "cameras.0.mount"),
        (("action_space", "kind"), "torque", "action_space.kind"),
        (("rates", "policy_hz"), 0, "rates.policy_hz"),
        (("rates", "setpoint_hz"), 10, "rates.setpoint_hz"),
        (("rates", "inference_delay_ms"), -5, "rates.inference_delay_ms"),
        (("limits", "max_speed_m_per_s"), 30.0, "limits.max_speed_m_per_s"),
        (("limits", "max_step_m"), float("inf"), "limits.max_step_m"),
        (("limits", "workspace", "low_m"), [0.25, 0.5, -0.01], "limits.workspace"),
        (("limits", "hold_after_s"), 2.0, "limits"),
        (("limits",), MISSING, "limits"),
        (("lab", "control"), "localhost", "lab.control"),
    ],
)
def test_impossible_value_is_refused_with_its_path(load, path, value, named):
    with pytest.raises(UserError) as caught:
        load({path: value})
    assert f"\n  {named}: " in str(caught.value)


def test_every_fault_is_named_at_once(load):
    with pytest.raises(UserError) as caught:
        load({("rates", "policy_hz"): 0, ("arm", "model"): "ur5"})
    assert "rates.policy_hz" in str(caught.value)
    assert "arm.model" in str(caught.value)


def test_the_address_of_the_arms_former_process_is_ignored_and_told(load, caplog):
    assert load({("arm", "command_address"): "127.0.0.1:1341"}) == load()
    assert [record.levelname for record in caplog.records] == ["WARNING"] and "arm.command_address" in caplog.text


def test_inverted_workspace_names_the_axis(load):
    with pytest.raises(UserError, match="below high_m on axis y"):
        load({("limits", "workspace", "low_m"): [0.25, 0.5, -0.01]})


@pytest.mark.parametrize("key", ["name", "serial"])
def test_two_cameras_cannot_share_a_name_or_a_serial(load, key):
    first = load().cameras[0]
    with pytest.raises(UserError, match=f"distinct {key}s, found twice: {getattr(first, key)}"):
        load({("cameras", 1, key): getattr(first, key)})


def test_camera_of_the_lab_needs_the_lab(load):
    with pytest.raises(UserError, match="needs the section `lab`"):
        load({("lab",): MISSING})


def test_real_rig_needs_no_lab(load):
    rig = load({("lab",): MISSING, ("cameras", 0, "serial"): "838212070001", ("cameras", 1, "serial"): "838212070002"})
    assert rig.lab is None
    assert rig.camera("wrist").serial == "838212070002"


@pytest.mark.parametrize(
    ("kind", "gripper", "names"),
    [
        ("cartesian_delta", True, ("dx", "dy", "dz", "drx", "dry", "drz", "gripper")),
        ("cartesian_absolute", True, ("x", "y", "z", "rx", "ry", "rz", "gripper")),
        ("joint_velocity", True, ("dq1", "dq2", "dq3", "dq4", "dq5", "dq6", "dq7", "gripper")),
        ("cartesian_delta", False, ("dx", "dy", "dz", "drx", "dry", "drz")),
    ],
)
def test_other_action_spaces_fit(load, kind, gripper, names):
    rig = load({("action_space",): {"kind": kind, "gripper": gripper}})
    assert rig.action_space.names == names


def test_rig_cannot_be_changed_while_it_is_in_use(load):
    rig = load()
    with pytest.raises(ValueError, match="frozen"):
        rig.limits.max_speed_m_per_s = 1.7


def test_unknown_camera_lists_those_there_are(load):
    with pytest.raises(UserError, match="no camera 'top'.*front, wrist"):
        load().camera("top")


def test_unknown_rig_lists_those_there_are():
    with pytest.raises(UserError, match="known rigs: .*lab"):
        load_rig("moon_base")


@pytest.mark.parametrize(("text", "named"), [
    ("a: [1", "not valid YAML"), ("a: \xff", "not valid YAML"), ("- 1\n- 2\n", "found list"), ("", "found NoneType"),
])  # fmt: skip
def test_file_that_is_no_rig_is_refused(tmp_path, text, named):
    file = tmp_path / "rig.yaml"
    file.write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match=named) as caught:
        load_rig(file)
    assert str(file) in str(caught.value)
