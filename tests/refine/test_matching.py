"""One template within many simulations, against scikit-image and the engine; filters, and the blur."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.feature import match_template

from stackalign import ops
from stackalign.refine import DiffractionData, DisplayFrame, high_pass, local_normalise, log1p, ridge
from stackalign.refine.frames import ROI
from stackalign.refine.matching.grid import TiltGrid, blurred
from stackalign.refine.matching.measured import Measured
from stackalign.refine.matching.model import correlate
from stackalign.refine.matching.template import TemplateMatcher, find_peaks
from stackalign.refine.preprocess import apply_measured, apply_simulated


def stack(rng: np.random.Generator, count: int = 3, depth: int = 4) -> np.ndarray:
    images = gaussian_filter(rng.normal(size=(count, depth, 41, 38)), (0, 0, 1.5, 1.5))
    return images + rng.normal(size=(1, depth, 1, 1))


@pytest.mark.parametrize("shape", [(17, 14), (41, 9), (3, 38)])
def test_joint_scores_are_those_of_scikit_image(rng: np.random.Generator, shape: tuple[int, int]) -> None:
    images = stack(rng)
    template = images[1, :, -shape[0] :, : shape[1]] + 0.1 * rng.normal(size=(4, *shape))
    found = TemplateMatcher(template, (41, 38)).maps(images)
    expected = [match_template(image, template)[0] for image in images]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert found[1].max() > 0.9


@pytest.mark.parametrize("combine", ["joint", "each"])
@pytest.mark.parametrize("masks", ["none", "one", "own"])
def test_masked_scores_are_those_of_the_engine(rng: np.random.Generator, combine: str, masks: str) -> None:
    images = stack(rng)
    template = images[0, :, 6:26, 9:24] + 0.1 * rng.normal(size=(4, 20, 15))
    mask = {"none": np.ones((4, 20, 15), bool), "own": rng.random((4, 20, 15)) > 0.3}.get(masks)
    mask = np.broadcast_to(rng.random((20, 15)) > 0.3, (4, 20, 15)) if mask is None else mask
    holes = np.where(mask, template, np.nan)
    found = TemplateMatcher(holes, (41, 38), combine=combine).maps(images)
    expected = [ops.match_template(image, holes, combine=combine) for image in images]
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)


def test_flat_things_score_zero(rng: np.random.Generator) -> None:
    images = stack(rng)
    images[0] = 3.0
    matcher = TemplateMatcher(images[1, :, :10, :10], (41, 38))
    assert not matcher.maps(images)[0].any()
    assert not TemplateMatcher(np.ones((4, 10, 10)), (41, 38)).maps(images).any()


def test_per_disk_scores_are_weighted(rng: np.random.Generator) -> None:
    images = stack(rng)
    matcher = TemplateMatcher(images[0, :, 5:20, 5:20], (41, 38), combine="each")
    _, maps = matcher.peaks(images, np.array([1.0, 0, 2, 0]))
    each = matcher.maps(images)
    np.testing.assert_allclose(maps, (each[:, 0] + 2 * each[:, 2]) / 3, atol=1e-7)


def test_peaks_between_nodes() -> None:
    rows, columns = np.indices((9, 11))
    maps = np.stack([0.9 - 0.01 * (rows - y) ** 2 - 0.02 * (columns - x) ** 2 for y, x in [(4.3, 5.4), (0.0, 7.7)]])
    peaks = find_peaks(maps)
    np.testing.assert_allclose(peaks.position, [(4.3, 5.4), (0.0, 7.7)], atol=1e-9)
    np.testing.assert_allclose(peaks.score[0], 0.9, atol=1e-12)
    np.testing.assert_array_equal(peaks.on_border, [False, True])


def test_templates_lie_where_the_tilts_are(rng: np.random.Generator) -> None:
    """A smooth function of the tilt, seen through a turned and flipped frame, is sampled at the nodes' tilts."""
    frame = DisplayFrame(0.5, 60, (30.2, 28.7), rotation=25.0, flip=True, tilt=(0.02, -0.01))
    points = np.stack(np.meshgrid(np.arange(61.0), np.arange(59.0), indexing="ij"), -1)
    tilts = frame.to_tilt(frame.to_display(points))
    image = np.cos(9 * tilts[..., 0] + 4 * tilts[..., 1])
    mask = rng.random(image.shape) > 0.02
    data = DiffractionData.from_larbed(np.where(mask, image, 1e6)[None], [(0, 0, 0)], frame, mask=mask)
    measured = Measured(data, ROI.rectangle(24, 30))
    spacing = 2 * frame.step
    template = measured.template(frame, spacing)
    top, left = template.origin
    first = frame.tilt[0] + left * spacing, frame.tilt[1] - top * spacing
    nodes = TiltGrid(first, spacing, template.values.shape[1:]).tilts
    expected = np.cos(9 * nodes[:, 0] + 4 * nodes[:, 1]).reshape(template.values.shape[1:])
    assert template.weights.mean() > 0.95
    np.testing.assert_allclose(template.values[0], expected, atol=0.01)
    for binning in (1, 3):
        pixels = measured.pixels(frame, binning)
        at = pixels.tilts(frame)
        np.testing.assert_allclose(pixels.values, np.cos(9 * at[:, 0] + 4 * at[:, 1]), atol=0.01)


def test_noisy_pixels_weigh_less(rng: np.random.Generator) -> None:
    frame = DisplayFrame(0.5, 60, (15, 15))
    image, variance = rng.normal(size=(1, 31, 31)), rng.uniform(1, 9, (1, 31, 31))
    data = DiffractionData.from_larbed(image, [(0, 0, 0)], frame, variance=variance)
    pixels = Measured(data, ROI.rectangle(20, 20)).pixels(frame, 1)
    inner = (0, slice(5, 26), slice(5, 26))
    np.testing.assert_array_equal(pixels.values, image[inner].ravel())
    np.testing.assert_allclose(
        pixels.weights * variance[inner].ravel(), np.full(441, pixels.weights[0] * variance[0, 5, 5])
    )
    found = correlate(pixels, 2 * pixels.values + 3, joint=True)
    assert found.scores == pytest.approx(1)


def test_blur_has_its_variance_however_small() -> None:
    point = np.zeros((1, 41, 41))
    point[0, 20, 20] = 1.0
    offset = np.arange(41) - 20.0
    for sigma in (0.3, 0.5, 1.0, 2.5):
        profile = blurred(np, point, sigma)[0].sum(1)
        assert profile.sum() == pytest.approx(1, abs=1e-12)
        assert (profile * offset**2).sum() == pytest.approx(sigma**2, rel=2e-3)
    noise = gaussian_filter(np.random.default_rng(0).normal(size=(2, 30, 30)), (0, 3, 3))
    np.testing.assert_allclose(blurred(np, noise, 2.0), gaussian_filter(noise, (0, 2, 2), mode="nearest"), atol=2e-3)


@pytest.mark.parametrize("preset", [ridge(), ridge((1.5,), dark=False), high_pass(6.0), local_normalise(6.0), log1p()])
def test_presets_mean_the_same_on_any_grid(preset, rng: np.random.Generator) -> None:
    """A filter scaled to a grid of two pixels is the filter at full resolution, sampled."""
    image = gaussian_filter(rng.normal(size=(81, 81)), 6.0)
    image[:, 30:34] -= 0.3 * image.std()
    image = gaussian_filter(image, 2.0)
    full = preset(image)[::2, ::2]
    coarse = apply_simulated(preset, image[::2, ::2], 2.0)
    assert full.shape == coarse.shape
    inner = (slice(8, -8), slice(8, -8))
    assert np.corrcoef(full[inner].ravel(), coarse[inner].ravel())[0, 1] > 0.98


def test_ridges_are_dark_lines() -> None:
    image = np.ones((40, 40))
    image[:, 20] = 0.0
    found = ridge((1.0, 2.0))(image)
    assert found[:, 20].min() > 5 * found[:, :12].max()
    assert ridge((1.0,), dark=False)(image)[:, 20].max() < 1e-3 * found[:, 20].min()


def test_hooks_see_pixels_of_the_display(rng: np.random.Generator) -> None:
    """A plain function gets simulated images at about one node per pixel, with `sim` set, and its own copy."""
    seen = []

    def hook(image: np.ndarray, sim: bool = False) -> np.ndarray:
        seen.append((image.shape, sim))
        result = gaussian_filter(image, 3.0)
        image[:] = np.nan
        return result

    images = gaussian_filter(rng.normal(size=(2, 2, 31, 27)), (0, 0, 3, 3))
    before = images.copy()
    found = apply_simulated(hook, images, 3.0)
    np.testing.assert_array_equal(images, before)
    assert seen == [((91, 79), True)] * 4
    np.testing.assert_allclose(found, gaussian_filter(images, (0, 0, 1, 1)), atol=0.2 * images.std())
    measured = apply_measured(hook, images[0, 0], rng.random((31, 27)) > 0.1)
    assert np.isfinite(measured).all()
    assert seen[-1] == ((31, 27), False)


def test_bad_hooks() -> None:
    image, mask = np.ones((8, 8)), np.ones((8, 8), dtype=bool)
    with pytest.raises(ValueError, match=r"image of the shape that it got, \(8, 8\), and returned \(4, 8\)"):
        apply_measured(lambda image, sim=False: image[::2], image, mask)
    with pytest.raises(ValueError, match="finite real numbers"):
        apply_simulated(lambda image, sim=False: image * np.nan, image[None], 1.0)
    with pytest.raises(ValueError, match="above 0"):
        ridge((0.0,))
