"""Each rule of bringing images to size, against numbers worked out from its published formula."""

import numpy as np
import pytest

from robosteer_core.vla.images import resize, store

RANDOM = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)


def bilinear(image, height, width):
    """Samples at (i + 1/2) scale - 1/2, edges repeated: `align_corners=False` without antialiasing."""
    def taps(count, size):
        place = np.clip((np.arange(count) + 0.5) * size / count - 0.5, 0, size - 1)
        low = np.floor(place).astype(int)
        return low, np.minimum(low + 1, size - 1), place - low

    (y0, y1, fy), (x0, x1, fx) = taps(height, image.shape[0]), taps(width, image.shape[1])
    rows = image[y0] * (1 - fy)[:, None, None] + image[y1] * fy[:, None, None]
    return rows[:, x0] * (1 - fx)[:, None] + rows[:, x1] * fx[:, None]


def triangle(image, height, width):
    """Weights 1 - |distance| / scale around each sample, normalised: bilinear with antialiasing."""
    def weights(count, size):
        scale = max(1.0, size / count)
        centre = (np.arange(count) + 0.5) * size / count - 0.5
        found = np.clip(1 - np.abs(np.arange(size) - centre[:, None]) / scale, 0, None)
        return found / found.sum(1, keepdims=True)

    return np.einsum("ah,hwc,bw->abc", weights(height, image.shape[0]), image.astype(float), weights(width, image.shape[1]))


@pytest.mark.parametrize("rule, top, left", [("lerobot", 2, 0), ("smolvla", 4, 0)])
def test_lerobot_shrinks_without_antialiasing_and_frames_with_black(rule, top, left):
    found = resize(RANDOM, 16, rule)
    assert found.shape == (16, 16, 3)
    assert np.allclose(found[top : top + 12, left:], bilinear(RANDOM, 12, 16), atol=1e-3)
    assert not found[:top].any() and not found[top + 12 :].any()


def test_a_tall_image_is_framed_at_its_sides():
    found = resize(RANDOM.transpose(1, 0, 2), 16, "smolvla")
    assert not found[:, :4].any() and found[:, 4:].any(axis=(1, 2)).all()


def test_openpi_frames_a_tall_image_at_both_its_sides():
    square = resize(np.full((100, 50, 3), 9, np.uint8), 20, "openpi")
    assert square.shape == (20, 20, 3) and (square[:, 5:15] == 9).all() and not square[:, :5].any() and not square[:, 15:].any()


def test_openpi_shrinks_with_antialiasing_in_the_middle_of_black():
    found = resize(RANDOM, 16, "openpi")
    assert found.dtype == np.uint8 and not found[:2].any() and not found[14:].any()
    # Pillow works in whole numbers, once per direction.
    assert np.abs(found[2:14] - triangle(RANDOM, 12, 16)).max() <= 1.01


def cubic(x):
    """Keys' kernel with a = -1/2, Pillow's bicubic."""
    x = np.abs(x)
    return np.where(x < 1, 1.5 * x**3 - 2.5 * x**2 + 1, np.where(x < 2, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2, 0))


def lanczos(x):
    return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)


@pytest.mark.parametrize("rule, kernel", [("openvla", cubic), ("openvla_whole", lanczos)])
def test_openvla_shrinks_to_the_whole_square(rule, kernel):
    def weights(count, size):
        scale = size / count
        found = kernel((np.arange(size) - ((np.arange(count) + 0.5) * scale - 0.5)[:, None]) / scale)
        return found / found.sum(1, keepdims=True)

    smooth = (np.add.outer(np.arange(24) * 4, np.arange(32) * 3)[..., None] + [0, 10, 20]).astype(np.uint8)
    wanted = np.einsum("ah,hwc,bw->abc", weights(12, 24), smooth.astype(float), weights(12, 32))
    assert np.abs(resize(smooth, 12, rule) - wanted).max() <= 1.01


def test_the_central_crop_keeps_nine_tenths_of_the_area():
    ramp = np.repeat(np.linspace(0, 200, 11).astype(np.uint8)[None, :, None], 11, 0).repeat(3, 2)
    found = resize(ramp, 11, "openvla_crop").astype(float)
    # A ramp of 20 per pixel is cut at sqrt(0.9) of its side around the centre, which stays.
    wanted = 100 + (np.arange(11) - 5) * 20 * 0.9**0.5
    assert np.abs(found[5, :, 0] - wanted).max() <= 1
    assert np.array_equal(found[0], found[10])


def test_what_is_kept_is_prepared_once():
    kept = store(RANDOM, 16, "openvla_crop")
    assert np.array_equal(resize(kept, 16, "openvla_crop"), resize(RANDOM, 16, "openvla_crop"))
    assert np.abs(store(RANDOM, 16, "smolvla") - resize(RANDOM, 16, "smolvla")).max() <= 0.5


def test_an_image_of_the_right_size_is_left_as_it_is():
    for rule in ("robosteer", "openpi", "lerobot", "smolvla", "openvla"):
        assert resize(RANDOM[:, :24], 24, rule) is not None and np.array_equal(resize(RANDOM[:, :24], 24, rule), RANDOM[:, :24])
