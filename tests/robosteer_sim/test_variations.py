"""Variations of the lab: how they are written, what each changes and leaves alone, and how they reach who looks at the lab."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from robosteer_core.errors import UserError
from robosteer_core.rig import load_rig
from robosteer_sim.objects.item import COLOURS
from robosteer_sim.scene import Scene, build
from robosteer_sim.studio import Studio
from robosteer_sim.tasks import TASKS, parse, sample_scene
from robosteer_sim.textures import SIZE, TEXTURES, texture
from robosteer_sim.variations import AXES, DISTRACTORS, VARIATIONS, parse_variation
from robosteer_sim.world import START_LOWEST_M, World

MUG_TASK = "place the marker in the mug"


def test_a_variation_is_none_all_or_axes_joined_by_plus():
    assert [parse_variation(variation) for variation in VARIATIONS] == [(), *((axis,) for axis in AXES), AXES]
    assert parse_variation("Camera+lighting") == ("lighting", "camera")


@pytest.mark.parametrize("text", ["", "fog", "none+camera", "camera+camera", "camera+", "all+form"])
def test_another_text_is_refused_with_what_there_is(text):
    with pytest.raises(UserError, match="expected none, all, or some of lighting, form"):
        parse_variation(text)


def test_the_lab_puts_up_a_variation_and_says_so(lab, link):
    link.reset("press the red button", 1, variation="camera+lighting")
    assert link.truth()["variation"] == link.status()["variation"] == "camera+lighting"
    with lab.observe() as second, pytest.raises(UserError, match="unknown variation 'fog'"):
        second.reset("press the red button", 1, variation="fog")
    link.reset("press the red button", 1)
    assert link.truth()["variation"] == "none"


def changed(before: Scene, after: Scene) -> set[str]:
    """Which parts of a scene differ; parts of the items of `before` by their own names."""
    parts = {name for name in Scene.__dataclass_fields__ if name != "items" and getattr(before, name) != getattr(after, name)}
    for old, new in zip(before.items, after.items):
        parts |= {name for name in old.__dataclass_fields__ if getattr(old, name) != getattr(new, name)}
    return parts | ({"more items"} if len(after.items) > len(before.items) else set())


CHANGES = {
    "lighting": {"brightness", "light_direction"}, "form": {"scale", "shape"}, "colour": {"paint"}, "distractors": {"more items"},
    "texture": {"textures"}, "camera": {"camera_offsets"}, "start": {"start_offset"}, "sensor": {"sensor_seed"},
}  # fmt: skip


@pytest.mark.parametrize("task", TASKS)
def test_each_axis_changes_its_own_part_alone_and_the_same_with_others_on(task):
    for seed in range(5):
        nominal, everything = sample_scene(task, seed), sample_scene(task, seed, "all")
        for axis in AXES:
            alone = sample_scene(task, seed, axis)
            assert alone == sample_scene(task, seed, axis)
            assert changed(nominal, alone) - {"shape"} == CHANGES[axis] - {"shape"} and changed(nominal, alone) <= CHANGES[axis]
            # What the axis did alone it also did among all the others.
            for name in CHANGES[axis] & set(Scene.__dataclass_fields__):
                assert getattr(alone, name) == getattr(everything, name)
            for ours, theirs in zip(alone.items, everything.items):
                for name in CHANGES[axis] & set(ours.__dataclass_fields__):
                    assert getattr(ours, name) == getattr(theirs, name)
        more = sample_scene(task, seed, "distractors").items[len(nominal.items) :]
        assert more == everything.items[len(nominal.items) :] and DISTRACTORS[0] <= len(more) <= DISTRACTORS[1]
        assert sample_scene(task, seed, "all") != sample_scene(task, seed + 1, "all")


def test_the_ranges_are_as_wide_as_promised_and_used():
    scenes = [sample_scene(MUG_TASK, seed, "all") for seed in range(200)]
    bright = [scene.brightness for scene in scenes]
    assert 0.3 <= min(bright) < 0.35 and 1.85 < max(bright) <= 2.0
    scales = np.array([item.scale for scene in scenes for item in scene.items[:3]])
    assert 0.85 <= scales.min() < 0.86 and 1.14 < scales.max() <= 1.15
    offsets = np.array([offset for scene in scenes for _, offset in scene.camera_offsets])
    moved, turned = np.linalg.norm(offsets[:, :3], axis=1), np.linalg.norm(offsets[:, 3:], axis=1)
    assert 0.019 < moved.max() <= 0.02 and np.deg2rad(2.9) < turned.max() <= np.deg2rad(3)
    starts = np.array([scene.start_offset for scene in scenes])
    assert 0.045 < np.linalg.norm(starts[:, :3], axis=1).max() <= 0.05
    assert np.deg2rad(9) < np.linalg.norm(starts[:, 3:], axis=1).max() <= np.deg2rad(10)
    assert {scene.textures.table for scene in scenes} == {scene.textures.floor for scene in scenes} == set(TEXTURES)
    assert len(TEXTURES) == 8


def test_named_colours_stay_nearest_to_their_name():
    for seed in range(50):
        for item in sample_scene("stack the red cube on the green cube", seed, "colour").items:
            distances = {name: hue_distance(item.paint, rgb) for name, rgb in COLOURS.items()}
            assert min(distances, key=distances.get) == item.colour


def hue_distance(first, second):
    import colorsys

    gap = abs(colorsys.rgb_to_hsv(*first)[0] - colorsys.rgb_to_hsv(*second)[0])
    return min(gap, 1 - gap)


@pytest.mark.parametrize("task", TASKS)
def test_distractors_are_never_taken_for_what_the_task_names(task):
    goal = parse(task)
    for seed in range(60):
        items = sample_scene(task, seed, "distractors").items
        names = [item.name for item in items]
        assert len(set(names)) == len(names)
        for kind, colour in ((goal.kind, goal.colour), (goal.goal_kind, goal.goal_colour)):
            if kind and not colour:
                assert sum(item.kind == kind for item in items) == 1


def test_the_start_pose_is_displaced_within_the_joints_ranges_and_above_the_table():
    world = World(load_rig("lab"))
    for seed in range(8):
        world.reset(MUG_TASK, seed)
        nominal = world.end_effector_pose()
        world.reset(MUG_TASK, seed, "start")
        pose, offset = world.end_effector_pose(), np.array(world.scene.start_offset)
        assert pose[2, 3] >= START_LOWEST_M - 0.001
        if nominal[2, 3] + offset[2] > START_LOWEST_M:
            np.testing.assert_allclose(pose[:3, 3] - nominal[:3, 3], offset[:3], atol=0.001)
        assert (world.joint_positions() > world.joint_range[0]).all() and (world.joint_positions() < world.joint_range[1]).all()


@pytest.mark.parametrize("name", TEXTURES)
def test_a_texture_is_computed_from_its_seed_and_has_contrast(name):
    image = texture(name, 3)
    assert image.shape == (SIZE, SIZE, 3) and image.dtype == np.uint8
    np.testing.assert_array_equal(image, texture(name, 3))
    assert (image != texture(name, 4)).any() and image.std(axis=(0, 1)).max() > 5


#: Of the models that the base policy was trained on, taken before there were variations.
NOMINAL = {
    ("touch the red button", 0): "143c44a83e29c21c", ("touch the green bowl", 3): "715eba82895f8e23", ("press the red button", 700001): "f7ffd1277c20756e",
    ("push the yellow cube", 3): "d5365f2f4a8d52b8", ("pick up the red cube", 0): "15200ac7498b51c7",
}  # fmt: skip
# Without the ranges of the joints: the arm's are now those that its server names.
ARRAYS = """qpos0 body_pos body_quat body_mass body_inertia jnt_stiffness dof_damping dof_armature geom_type geom_size
geom_pos geom_quat geom_rgba geom_friction geom_solref geom_contype cam_pos cam_quat cam_fovy light_pos light_dir light_diffuse""".split()


def digest(model) -> str:
    return hashlib.sha256(b"".join(getattr(model, name).tobytes() for name in ARRAYS)).hexdigest()[:16]


@pytest.mark.parametrize(("task", "seed"), NOMINAL)
def test_without_variation_the_models_of_the_grammar_are_bit_for_bit_what_they_were(task, seed):
    assert digest(build(sample_scene(task, seed))) == NOMINAL[task, seed]


@pytest.fixture(scope="module")
def studio():
    with Studio(load_rig("lab")) as studio:
        yield studio


def test_a_variation_of_the_camera_shows_in_the_picture_and_leaves_the_lens(studio):
    camera = load_rig("lab").cameras[0]
    lenses, pictures = [], []
    for variation in ("none", "camera", "lighting", "none"):
        studio.build(MUG_TASK, 1, variation)
        studio.pose(studio.model.qpos0)
        lenses.append(studio.format(camera))
        pictures.append(studio.draw(camera)[0])
    assert len(set(map(str, lenses))) == 1
    np.testing.assert_array_equal(pictures[0], pictures[3])
    assert (pictures[0] != pictures[1]).any() and (pictures[0] != pictures[2]).any()


def test_the_sensor_is_noisy_in_the_same_way_for_the_same_frame(studio):
    camera = load_rig("lab").cameras[0]
    studio.build(MUG_TASK, 1)
    studio.pose(studio.model.qpos0)
    clean, true = studio.draw(camera)
    studio.build(MUG_TASK, 1, "sensor")
    studio.pose(studio.model.qpos0)
    colour, depth = studio.draw(camera, 7)
    for ours, again in zip((colour, depth), studio.draw(camera, 7)):
        np.testing.assert_array_equal(ours, again)
    other = studio.draw(camera, 8)
    assert (other[0] != colour).mean() > 0.5 and (other[1] != depth).mean() > 0.3
    # Stereo error grows with the square of the distance: at 1 m, 0.08 pixels of disparity are 2.6 mm.
    seen = (depth > 0) & (true > 0)
    error = (depth.astype(float) - true)[seen]
    near, far = error[true[seen] < 700], error[(true[seen] > 1000) & (true[seen] < 1200)]
    assert 0.5 < near.std() < 2.0 < far.std() < 5.0 and abs(error.mean()) < 0.3
    holes = (depth == 0) & (true > 0)
    assert 0.003 < holes.mean() < 0.2
    gain = (colour.astype(float).mean((0, 1)) + 1) / (clean.astype(float).mean((0, 1)) + 1)
    assert (gain > 0.6).all() and (gain < 1.6).all()


def test_parts_of_a_scene_can_be_replaced_one_by_one():
    """What the studio draws follows from the scene alone."""
    scene = sample_scene(MUG_TASK, 0)
    assert digest(build(replace(scene, brightness=0.5))) != digest(build(scene))
