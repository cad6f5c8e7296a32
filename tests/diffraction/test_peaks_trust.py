"""Peaks where electrons are few, spots fill the image or have several widths, and beside what is no spot."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree
from scipy.stats import norm, poisson

from stackalign.diffraction import bragg_peaks
from stackalign.diffraction._peak_filters import counted

SIDE = 192
PLACES = np.array([(i, j) for i in np.arange(14.4, SIDE - 8, 21) for j in np.arange(17.2, SIDE - 8, 21)])


def _spots(places, sigmas, heights, ground=15.0) -> np.ndarray:
    y, x = np.indices((SIDE, SIDE)).astype(float)
    image = np.full((SIDE, SIDE), float(ground))
    for (r, c), sigma, height in zip(places, sigmas, heights, strict=True):
        image += height * np.exp(-((y - r) ** 2 + (x - c) ** 2) / (2 * sigma**2))
    return image


def _found(peaks, places, near=2.0) -> int:
    return int((cKDTree(peaks.position).query(places)[0] < near).sum()) if len(peaks) else 0


@pytest.mark.parametrize("mean", [0.002, 0.03, 0.3, 3.0])
def test_noise_of_counts_has_no_peaks(mean) -> None:
    for seed in range(4):
        assert len(bragg_peaks(np.random.default_rng(seed).poisson(mean, (256, 256)).astype(np.uint16))) == 0


@pytest.mark.parametrize("mean", [0.004, 0.06, 1.0, 20.0])
@pytest.mark.parametrize("detector", ["read noise", "blur and read noise", "gain per pixel", "multiplied"])
def test_noise_of_analogue_detectors_has_no_peaks(detector, mean) -> None:
    """Single electrons stand out of the read noise, and what blurs them makes noise that is not independent."""
    for seed in range(3):
        rng = np.random.default_rng([seed, len(detector)])
        counts = rng.poisson(mean, (160, 160)).astype(float)
        read = rng.normal(0, 2.0, counts.shape)
        image = {
            "read noise": 12 * counts + read,
            "blur and read noise": gaussian_filter(30 * counts, 0.7) + read,
            "gain per pixel": counts * (1 + 0.05 * rng.standard_normal(counts.shape)),
            "multiplied": rng.gamma(np.maximum(counts, 1e-9), 30.0) * (counts > 0) + read,
        }[detector]
        assert len(bragg_peaks(image.astype(np.float32))) == 0


@pytest.mark.parametrize(("blur", "mean"), [(0.4, 0.02), (0.6, 0.1), (1.0, 0.01), (1.5, 0.001), (1.5, 0.02)])
def test_single_electrons_that_are_blurred_are_no_peaks(blur, mean) -> None:
    for seed in range(50, 53):
        counts = np.random.default_rng([seed, int(1000 * blur)]).poisson(mean, (256, 256))
        assert len(bragg_peaks(gaussian_filter(20.0 * counts, blur).astype(np.float32))) == 0


@pytest.mark.parametrize("blur", [0.5, 0.8])
def test_spots_beside_single_electrons_that_are_blurred(blur) -> None:
    rng = np.random.default_rng(4)
    counts = rng.poisson(_spots(PLACES, [1.2] * len(PLACES), [4.0] * len(PLACES), 0.003))
    found = bragg_peaks(gaussian_filter(20.0 * counts, blur).astype(np.float32))
    assert _found(found, PLACES) == len(found) >= 0.95 * len(PLACES)


@pytest.mark.parametrize("mean", [0.02, 2.0])
def test_weak_spots_beside_single_electrons_of_an_analogue_detector(mean) -> None:
    rng = np.random.default_rng(9)
    counts = rng.poisson(_spots(PLACES, [1.6] * len(PLACES), [8.0] * len(PLACES), mean))
    image = gaussian_filter(20.0 * counts, 0.6) + rng.normal(50, 3.0, counts.shape)
    found = bragg_peaks(image.astype(np.float32))
    assert _found(found, PLACES) >= 0.95 * len(PLACES)
    assert len(found) == _found(found, PLACES)


def test_two_hot_pixels_side_by_side_are_no_spot() -> None:
    rng = np.random.default_rng(10)
    image = rng.poisson(_spots(PLACES, [1.8] * len(PLACES), [120] * len(PLACES)))
    image[109, [90, 91]] = 900
    image[[45, 46], 70] = 400
    found = bragg_peaks(image)
    assert _found(found, PLACES) == len(PLACES)
    assert len(found) == len(PLACES)


@pytest.mark.parametrize("gain", [1.0, 7.5e-9])
def test_spots_of_few_electrons_are_found(gain) -> None:
    rng = np.random.default_rng(0)
    expected = _spots(PLACES, [1.5] * len(PLACES), [24 / (2 * np.pi * 1.5**2)] * len(PLACES), 0.004)
    counts = rng.poisson(expected)
    electrons = np.array([counts[int(r) - 4 : int(r) + 6, int(c) - 4 : int(c) + 6].sum() for r, c in PLACES])
    strong = PLACES[electrons >= 15]
    assert len(strong) > 60
    found = bragg_peaks(counts * gain)
    assert _found(found, strong, 3) >= 0.97 * len(strong)
    assert len(found) == _found(found, PLACES, 3)


@pytest.mark.parametrize(("mean", "width", "share"), [(0.1, 1.0, 0.9), (0.05, 1.5, 0.8), (0.02, 2.0, 0.85)])
def test_spots_of_15_electrons_are_found_as_an_ideal_filter_would(mean, width, share) -> None:
    """An ideal filter of the known width finds 1.00, 0.99 and 1.00 of them at one false peak in a thousand images."""
    rng = np.random.default_rng(11)
    places = np.stack(np.meshgrid(*2 * [np.arange(28.0, 240, 48)]), axis=-1).reshape(-1, 2) + rng.uniform(
        -6, 6, (25, 2)
    )
    image = rng.poisson(mean, (256, 256)).astype(np.uint16)
    electrons = np.rint(np.repeat(places, 15, axis=0) + rng.normal(0, width, (375, 2))).astype(int)
    np.add.at(image, tuple(electrons.T), 1)
    peaks = bragg_peaks(image).position
    far = np.hypot(*(places[:, None] - peaks).transpose(2, 0, 1))
    assert np.mean(far.min(axis=1) < 3) >= share
    assert far.min(axis=0).max() < 3


def test_the_tail_is_that_of_counts() -> None:
    """Of equal weights, Poisson's own; of many electrons, the plain ratio."""
    many = counted(np.array([3.0, 6.0, 9.0]), np.full(3, 1e6), 1.0, 2.0)
    np.testing.assert_allclose(many, [3, 6, 9], rtol=2e-3)
    rng = np.random.default_rng(1)
    y, x = np.indices((13, 13)) - 6.0
    weights = np.exp(-(y * y + x * x) / (2 * 1.2**2))
    mean = 0.05
    sums = (rng.poisson(mean, (60_000, 13, 13)) * weights).sum(axis=(1, 2))
    snr = (sums - mean * weights.sum()) / np.sqrt(mean * (weights**2).sum())
    chance = counted(snr, np.full(len(snr), mean), 1.0, 1.2)
    for level in (2.5, 3.5):
        assert (chance > level).mean() < 3 * norm.sf(level)
    assert (snr > 3.5).mean() > 10 * norm.sf(3.5)
    assert poisson.sf(0, mean) > 0.04  # A single electron is no rare event, though its ratio is above 2.


def test_spots_of_two_widths() -> None:
    rng = np.random.default_rng(3)
    sigmas = rng.choice([1.0, 3.2], len(PLACES))
    image = rng.poisson(_spots(PLACES, sigmas, rng.uniform(70, 250, len(PLACES))))
    found = bragg_peaks(image.astype(np.float32))
    assert _found(found, PLACES) >= 0.95 * len(PLACES)
    assert len(found) <= len(PLACES) + 1


def test_spots_cut_off_at_the_top_of_the_type() -> None:
    image = np.random.default_rng(4).poisson(_spots(PLACES, [3.0] * len(PLACES), [1500] * len(PLACES)))
    found = bragg_peaks(np.minimum(image, 255).astype(np.uint8))
    assert _found(found, PLACES) >= 0.95 * len(PLACES)


def test_hot_pixels_are_no_spots_and_do_not_hide_them() -> None:
    rng = np.random.default_rng(5)
    places = tuple(rng.integers(0, SIDE, (2, 25)))
    empty = rng.poisson(8.0, (SIDE, SIDE))
    empty[places] = 60000
    assert len(bragg_peaks(empty)) == 0
    image = rng.poisson(_spots(PLACES, [1.8] * len(PLACES), [120] * len(PLACES)))
    image[places] = 60000
    found = bragg_peaks(image)
    assert _found(found, PLACES) >= len(PLACES) - 2
    assert len(found) <= len(PLACES)
    assert found.width == pytest.approx(1.8, rel=0.1)


def test_narrow_spots_are_no_hot_pixels() -> None:
    image = np.random.default_rng(6).poisson(_spots(PLACES, [0.6] * len(PLACES), [500] * len(PLACES)))
    assert _found(bragg_peaks(image), PLACES) == len(PLACES)


@pytest.mark.parametrize("width", [1.5, 4.0])
def test_a_streak_is_no_spot_and_a_row_of_spots_is(width) -> None:
    rng = np.random.default_rng(7)
    x = np.arange(SIDE)
    streak = 20 + np.broadcast_to(90 * np.exp(-((x - 80.3) ** 2) / (2 * width**2)), (SIDE, SIDE))
    assert len(bragg_peaks(rng.poisson(streak))) <= 1
    places = np.array([(r, 80.3) for r in np.arange(12.0, SIDE - 10, 5 * width)])
    row = rng.poisson(_spots(places, [width] * len(places), [300] * len(places)))
    assert _found(bragg_peaks(row), places) >= 0.9 * len(places)


def test_real_spots_that_fill_the_image(stem_data) -> None:
    from stackalign.diffraction import diffread

    found = bragg_peaks(diffread(stem_data / "blockfile" / "test1.blo").images[0])
    assert 12 <= len(found) <= 30
    assert _found(found, np.array([(39, 57), (78, 105), (98, 101)])) == 3


@pytest.mark.parametrize(("spread", "mean"), [(0.8, 0.05), (0.8, 1.0), (1.2, 0.05), (1.6, 0.2)])
def test_spots_of_a_detector_that_blurs_electrons(spread, mean) -> None:
    """Its noise is correlated, and a sum over a spot scatters by more than the variance of its pixels says."""
    places = PLACES[::2]
    yy, xx = np.indices((SIDE, SIDE))
    spots = sum(np.exp(-((yy - r) ** 2 + (xx - c) ** 2) / (2 * 1.5**2)) for r, c in places) * 70 / (2 * np.pi * 1.5**2)
    rng = np.random.default_rng([5, int(10 * spread), int(100 * mean)])
    noise, image = (
        gaussian_filter(rng.poisson(m).astype(float), spread) for m in (np.full_like(spots, mean), mean + spots)
    )
    assert len(bragg_peaks(noise)) == 0
    peaks = bragg_peaks(image)
    assert _found(peaks, places) >= 0.9 * len(places)
    assert _found(peaks, places) == len(peaks)


@pytest.mark.parametrize("seed", [32, 45, 396])
def test_one_electron_far_from_all_others_is_no_peak(seed) -> None:
    """Where the window of the background sees no electron, the next one is no surprise."""
    image = np.random.default_rng([0, 10, seed]).poisson(0.001, (128, 128)).astype(np.uint16)
    assert image.sum() < 20
    assert len(bragg_peaks(image)) == 0
