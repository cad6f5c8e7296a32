"""`estimate_drift`: right within its error bars, flagged where it is not, on scenes of other makings."""

import itertools

import numpy as np
import pytest
from scipy import ndimage

from stackalign.drift import DriftResult, create_test_series, estimate_drift


def errors(result: DriftResult, shifts: np.ndarray) -> np.ndarray:
    """(N, 2) without the reference's error, which all share."""
    away = result.shifts - shifts
    return away - away.mean(axis=0)


def drifting_blobs(n: int, seed: int, *, counts: float, walk: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Frames drawn from a formula, not from a transform: Gaussians whose centres move."""
    rng = np.random.default_rng(seed)
    middles, widths = rng.uniform(-20, 116, (60, 2)), rng.uniform(1.5, 5.0, 60)
    drift = np.cumsum(rng.normal(size=(n, 2)) * walk, axis=0)
    drift -= drift[0]
    y, x = np.mgrid[:96, :96]
    frames = np.zeros((n, 96, 96))
    for frame, (dy, dx) in zip(frames, drift, strict=True):
        for (cy, cx), width in zip(middles, widths, strict=True):
            frame += np.exp(-((y - cy - dy) ** 2 + (x - cx - dx) ** 2) / (2 * width**2))
    return rng.poisson(counts * (0.3 + frames)).astype(np.uint16), -drift


def least_error(seed: int, counts: float) -> float:
    """Cramer-Rao bound in pixels of a frame against a noiseless one: the root of the mean over both axes."""
    rate = counts * drifting_blobs(1, seed, counts=1e4)[0][0].astype(np.float64) / 1e4
    information = [(slope**2 / rate).sum() for slope in np.gradient(rate)]
    return float(np.sqrt(np.mean(1 / np.array(information))))


@pytest.mark.parametrize("counts", [50.0, 3.0])
def test_shifts_are_right_within_their_error_bars(counts: float) -> None:
    pulls = []
    for seed in range(3):
        images, shifts = drifting_blobs(20, seed, counts=counts)
        result = estimate_drift(images)
        away = errors(result, shifts)
        assert result.ok.all(), result.remarks
        assert np.sqrt((away**2).mean()) < 1.6 * least_error(seed, counts)
        pulls.append(away / np.sqrt(np.diagonal(result.own, axis1=1, axis2=2)))
    assert 0.75 < np.sqrt((np.concatenate(pulls) ** 2).mean()) < 1.3


def test_all_frames_together_beat_chains() -> None:
    made = create_test_series(24, counts=1.0, seed=4)
    result = estimate_drift(made.images)
    ours = np.sqrt((errors(result, made.shifts) ** 2).mean())
    smooth = [ndimage.gaussian_filter(image - image.mean(), 1.5) for image in made.images]

    def shift(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        map_ = np.fft.ifft2(np.fft.fft2(first) * np.fft.fft2(second).conj()).real
        peak = np.array(np.unravel_index(map_.argmax(), map_.shape), float)
        return np.where(peak > np.array(map_.shape) / 2, peak - np.array(map_.shape), peak)

    chain = np.vstack([[0, 0], np.cumsum([shift(a, b) for a, b in itertools.pairwise(smooth)], axis=0)])
    away = chain - made.shifts
    assert ours < 0.7 * np.sqrt(((away - away.mean(axis=0)) ** 2).mean())
    assert ours < 0.15


def test_lattice_does_not_jump() -> None:
    made = create_test_series(24, counts=1.0, lattice=9.0, seed=2)
    result = estimate_drift(made.images)
    assert np.abs(errors(result, made.shifts)).max() < 0.4
    assert result.ok.mean() > 0.9


def test_lattice_without_information_is_flagged() -> None:
    made = create_test_series(24, counts=0.05, lattice=9.0, seed=2)
    result = estimate_drift(made.images)
    wrong = np.abs(errors(result, made.shifts)).max(axis=1) > 2
    assert wrong.any()  # there is nothing to find here
    assert not (wrong & result.ok).any()


def test_noise_alone_is_flagged() -> None:
    noise = np.random.default_rng(3).poisson(2.0, (12, 64, 64))
    result = estimate_drift(noise)
    assert not result.ok.any()
    assert all("insignificant" in flags for flags in result.flags)


def test_a_damaged_frame_is_flagged_and_does_no_harm() -> None:
    images, shifts = drifting_blobs(16, 5, counts=20.0)
    images = images.copy()
    images[7] = np.random.default_rng(0).poisson(images[7].mean(), images[7].shape)
    result = estimate_drift(images)
    assert not result.ok[7]
    others = np.arange(16) != 7
    away = (result.shifts - shifts)[others]
    pulls = (away - away.mean(axis=0)) / np.sqrt(np.diagonal(result.own[others], axis1=1, axis2=2))
    assert np.abs(pulls).max() < 4
    assert np.sqrt((pulls**2).mean()) < 1.4
    assert result.ok[others].all()


@pytest.mark.parametrize("counts", [1.0, 10.0])
def test_damaged_frames_do_not_let_a_lattice_jump(counts: float) -> None:
    made = create_test_series(30, counts=counts, lattice=9.0, seed=3)
    for k in (11, 21):
        made.images[k] = np.random.default_rng(k).poisson(counts, made.images[k].shape)
    result = estimate_drift(made.images)
    others = ~np.isin(np.arange(30), (11, 21))
    away = (result.shifts - made.shifts)[others]
    assert np.abs(away - away.mean(axis=0)).max() < 1.0
    assert not result.ok[[11, 21]].any()
    assert result.ok[others].mean() > 0.9


def test_hot_pixels_and_dead_lines_do_not_hold_the_frames() -> None:
    images, shifts = drifting_blobs(16, 14, counts=20.0)
    spoilt = images.astype(np.float32)
    rng = np.random.default_rng(1)
    spoilt[:, rng.integers(0, 96, 30), rng.integers(0, 96, 30)] += 2000
    spoilt[:, 50] = 0
    spoilt[:, :, 31] = 300
    result = estimate_drift(spoilt)
    assert np.abs(errors(result, shifts)).max() < 0.3
    assert result.ok.all()


@pytest.mark.parametrize("seed", [1, 2])
def test_a_pattern_that_stands_still_is_flagged(seed: int) -> None:
    """One that outweighs what moves, at several widths of structure."""
    made = create_test_series(24, counts=5.0, seed=seed)
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:128, :128]
    blobs = ndimage.gaussian_filter(rng.normal(size=(128, 128)), 2)
    for pattern in (10 + 10 * np.cos(0.7 * x) * np.cos(0.5 * y), 5 * np.clip(blobs / blobs.std() + 1, 0, None)):
        result = estimate_drift(made.images + rng.poisson(pattern, made.images.shape))
        assert all("two_motions" in flags for flags in result.flags)


@pytest.mark.parametrize("lattice", [None, 9.0])
def test_a_series_that_stands_still_is_not_flagged(lattice: float | None) -> None:
    made = create_test_series(24, counts=20.0, step=0.02, lattice=lattice, seed=2)
    result = estimate_drift(made.images)
    assert result.ok.all()
    assert np.abs(errors(result, made.shifts)).max() < 0.2


def test_a_frame_without_contrast_is_named() -> None:
    images, _ = drifting_blobs(8, 6, counts=20.0)
    images = images.copy()
    images[3] = 5
    result = estimate_drift(images)
    assert "constant" in result.flags[3]
    assert result.ok[[0, 1, 2, 4, 5, 6, 7]].all()


def test_a_jump_in_the_middle_is_followed() -> None:
    images, shifts = drifting_blobs(20, 8, counts=20.0, walk=0.3)
    rolled = images.copy()
    rolled[10:] = np.roll(images[10:], (17, -11), axis=(1, 2))
    shifts = shifts.copy()
    shifts[10:] -= (17, -11)
    away = errors(estimate_drift(rolled), shifts)
    assert np.abs(away).max() < 0.2


def test_a_drift_longer_than_a_frame() -> None:
    rng = np.random.default_rng(9)
    scene = ndimage.gaussian_filter(rng.normal(size=(80, 400)), 2)
    scene = 1 + 0.3 * scene / scene.std()
    starts = np.arange(40) * 7
    images = np.stack([rng.poisson(50 * np.clip(scene[8:72, s : s + 64], 0, None)) for s in starts])
    result = estimate_drift(images)
    expected = np.stack([np.zeros(40), starts], axis=1)
    away = result.shifts - expected
    assert np.abs(away - away.mean(axis=0)).max() < 0.5
    assert (np.abs(result.shifts[-1] - expected[-1]) < 5 * result.sigma[-1] + 0.1).all()


def test_the_reference_stays() -> None:
    made = create_test_series(10, (64, 64), counts=50, seed=3)
    first, fifth = estimate_drift(made.images), estimate_drift(made.images, reference=5)
    np.testing.assert_allclose(fifth.shifts, first.shifts - first.shifts[5], atol=1e-9)
    assert (fifth.sigma[5] == 0).all()
    shift, covariance = first.between(2, 7)
    np.testing.assert_allclose(shift, first.shifts[7] - first.shifts[2])
    assert (np.linalg.eigvalsh(covariance) > 0).all()


def test_masked_and_missing_pixels_do_not_pin_the_frames() -> None:
    images, shifts = drifting_blobs(16, 11, counts=50.0)
    spoilt = images.astype(np.float32)
    mask = np.ones((96, 96), np.bool_)
    mask[40:44, 50:54] = False
    spoilt[:, ~mask] = 5000
    spoilt[:, 10, 10] = np.nan
    result = estimate_drift(spoilt, mask=mask)
    assert np.abs(errors(result, shifts)).max() < 0.1


def test_average_is_sharper_than_the_plain_mean() -> None:
    images, _ = drifting_blobs(16, 12, counts=50.0)
    result = estimate_drift(images)
    average = result.average(images.astype(np.float32))
    truth = drifting_blobs(1, 12, counts=1e4)[0][0]
    seen = np.isfinite(average)
    aligned, plain = (np.corrcoef(image[seen], truth[seen])[0, 1] for image in (average, images.mean(axis=0)))
    assert aligned > 0.99
    assert 1 - plain > 3 * (1 - aligned)


def test_workers_do_not_matter() -> None:
    made = create_test_series(8, (48, 48), counts=20, seed=1)
    one, two = estimate_drift(made.images, workers=1), estimate_drift(made.images, workers=2)
    np.testing.assert_array_equal(one.shifts, two.shifts)
    np.testing.assert_array_equal(one.covariance, two.covariance)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"images": np.zeros((2, 32, 32))}, ValueError, "at least 3 frames"),
        ({"images": np.zeros((5, 32, 8))}, ValueError, "16 x 16"),
        ({"images": np.zeros((5, 32, 32), complex)}, TypeError, "real"),
        ({"mask": np.ones((32, 32), int)}, TypeError, "boolean"),
        ({"mask": np.ones((31, 32), bool)}, ValueError, "shape"),
        ({"max_step": 0.0}, ValueError, "max_step"),
        ({"pairs_per_frame": 0}, ValueError, "pairs_per_frame"),
        ({"reference": 5}, ValueError, "0 to 4"),
    ],
)
def test_what_does_not_fit_is_said(change: dict, error: type[Exception], words: str) -> None:
    images = np.random.default_rng(0).normal(size=(5, 32, 32))
    with pytest.raises(error, match=words):
        estimate_drift(**{"images": images, **change})
