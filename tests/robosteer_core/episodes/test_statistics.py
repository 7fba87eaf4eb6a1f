"""Statistics equal numpy's on the whole, and LeRobot's own on its own data."""

import numpy as np

from robosteer_core.episodes.reader import Dataset
from robosteer_core.episodes.statistics import ImageHistogram, combine, of_array, scale


def test_combined_parts_equal_the_whole():
    generator = np.random.default_rng(0)
    parts = [generator.normal(loc, 2.0, (size, 3)) for loc, size in ((0, 50), (5, 7), (-2, 100))]
    combined, whole = combine([of_array(part) for part in parts]), of_array(np.concatenate(parts))
    for key in ("min", "max", "mean", "std", "count"):
        np.testing.assert_allclose(combined[key], whole[key], atol=1e-12)


def test_a_histogram_tells_what_the_pixels_tell():
    images = np.random.default_rng(1).integers(0, 256, (5, 40, 60, 3), dtype=np.uint8)
    images[..., 2] //= 3
    histogram = ImageHistogram()
    for image in images:
        histogram.add(image)
    found, pixels = histogram.statistics(), images.reshape(-1, 3) / 255
    for key, wanted in (("min", pixels.min(0)), ("max", pixels.max(0)), ("mean", pixels.mean(0)), ("std", pixels.std(0))):
        np.testing.assert_allclose(found[key].ravel(), wanted, atol=1e-9)
    np.testing.assert_allclose(found["q90"].ravel(), np.quantile(pixels, 0.9, axis=0), atol=1 / 255)
    assert found["count"].tolist() == [5]


def test_real_statistics_equal_those_lerobot_wrote(bridge_sample):
    """LeRobot averages quantiles over episodes and histograms, so only the exact ones are compared."""
    dataset = Dataset(bridge_sample)
    for key in ("action", "observation.state", "timestamp", "index"):
        ours = of_array(dataset.column(key))
        for name in ("min", "max", "mean", "std", "count"):
            np.testing.assert_allclose(ours[name], dataset.stats[key][name], rtol=1e-4, atol=2e-6)


def test_scale_drops_and_names_constant_dimensions(bridge_sample):
    generator = np.random.default_rng(2)
    values = generator.normal(0, [1.0, 0.01, 1.0], (200, 3)).astype(np.float32)
    values[:, 2] = 0.1  # no float32 mean is exactly 0.1
    found = scale(values, ("dx", "dy", "gripper"))
    assert found.constant == ("gripper",)
    assert found.varies.tolist() == [True, True, False]
    np.testing.assert_allclose(found.apply(values).std(0), [1, 1], rtol=1e-5)
    dataset = Dataset(bridge_sample)
    assert scale(dataset.arrays().action, dataset.action_names).constant == ()
