"""Hot pixels: all of them, nothing else, and the photometry of spots; baselines by wavelets."""

import json

import numpy as np
import pytest

from stackalign import diffraction
from stackalign.diffraction import synthetic as make
from stackalign.errors import DataError, StackalignWarning

pytest.importorskip("pywt")


@pytest.fixture(scope="module")
def lattice():
    """A lattice, the same with hot pixels and blocks of them, and where these are."""
    pattern = make.lattice(512, seed=1)
    rng = np.random.default_rng(3)
    hot = np.zeros(pattern.image.shape, bool)
    hot[tuple(rng.integers(0, 512, (2, 800)))] = True
    for y, x in rng.integers(5, 500, (20, 2)):
        hot[y : y + 3, x : x + 2] = True
    hot[300:308, 60:67] = True
    hot[511, 100:140] = True
    hot &= pattern.mask
    image = pattern.image + np.where(hot, rng.uniform(300, 5000, hot.shape), 0.0)
    return pattern, image.astype(np.float32), hot


def test_hot_pixels_and_nothing_else(lattice) -> None:
    pattern, image, hot = lattice
    found = diffraction.remove_hot_spots(image, mask=pattern.mask)
    assert (found.hot & hot).sum() >= 0.995 * hot.sum()
    assert (found.hot & ~hot).sum() <= 2
    np.testing.assert_array_equal(found.mask, pattern.mask & ~found.hot)
    np.testing.assert_array_equal(found.images[~found.hot], image[~found.hot])
    assert found.n_hot.tolist() == [found.hot.sum()]
    assert not diffraction.remove_hot_spots(pattern.image, mask=pattern.mask).hot.any()


def test_photometry_of_spots(lattice) -> None:
    pattern, image, hot = lattice
    found = diffraction.remove_hot_spots(image, mask=pattern.mask)
    errors = []
    for (y, x), amplitude in zip(pattern.spots.astype(int), pattern.amplitudes, strict=True):
        box = np.s_[y - 5 : y + 6, x - 5 : x + 6]
        if amplitude > 100 and min(y, x) > 6 and max(y, x) < 505 and pattern.mask[box].all():
            sky = np.median(pattern.image[y - 12 : y + 13, x - 12 : x + 13]) * 121
            errors.append((found.images[box].sum() - sky) / (pattern.image[box].sum() - sky) - 1)
            if not hot[box].any():
                assert errors[-1] == 0
    assert len(errors) > 100
    assert np.abs(errors).max() <= 0.02


def test_real_spots_among_hot_pixels(hotspots) -> None:
    found = diffraction.remove_hot_spots(hotspots)
    assert (hotspots > 1000).sum() > 700
    spots = np.zeros(hotspots.shape, bool)
    for y, x in ((136, 121), (228, 126), (178, 201)):
        spots[y - 5 : y + 6, x - 5 : x + 6] = True
        box = np.s_[y - 4 : y + 5, x - 4 : x + 5]
        assert abs(found.images[box].sum() / hotspots[box].sum() - 1) <= 0.02
    assert found.images[~spots].max() < 1000  # nothing hot is left, blocks of 8 pixels included
    assert found.images.dtype == hotspots.dtype
    # Where the detector is known to be bad from the start.
    mask = hotspots < 1500
    mask[spots] = True
    assert diffraction.remove_hot_spots(hotspots, mask=mask).n_hot < found.n_hot


def test_stacks_and_kinds_of_numbers(rng) -> None:
    y, x = np.indices((40, 50))
    clean = 50 + 300 * np.exp(-((y - 20) ** 2 + (x - 22) ** 2) / (2 * 1.5**2))
    images = rng.poisson(clean, (3, 40, 50))
    images[1, 20, 22] = 4000
    images[2, 0, 0] = 4000
    for kind in ("uint16", "int32", "float32", "float64"):
        found = diffraction.remove_hot_spots(images.astype(kind))
        assert found.n_hot.tolist() == [0, 1, 1]
        assert found.images.dtype == kind
        assert abs(float(found.images[1, 20, 22]) - 300) < 120
        assert abs(float(found.images[2, 0, 0]) - 50) < 25
        single = diffraction.remove_hot_spots(images[2].astype(kind))
        np.testing.assert_array_equal(single.images, found.images[2])
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["hot"] == [[1, 20, 22], [2, 0, 0]]


@pytest.mark.parametrize("sigma", [1.2, 2.5])
@pytest.mark.parametrize("peak", [100, 3000, 100000])
def test_spots_of_any_brightness_stay(rng, sigma, peak) -> None:
    y, x = np.indices((200, 200))
    clean = np.full(y.shape, 5.0)
    for cy, cx in rng.uniform(15, 185, (25, 2)):
        clean += peak * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * sigma**2))
    assert diffraction.remove_hot_spots(rng.poisson(clean)).n_hot == 0


def test_counts_that_are_mostly_zero(rng) -> None:
    image = rng.poisson(0.05, (64, 64)).astype(np.uint8)
    image[30, 31] = 200
    assert np.argwhere(diffraction.remove_hot_spots(image).hot).tolist() == [[30, 31]]
    assert not diffraction.remove_hot_spots(np.full((20, 20), 7)).hot.any()
    assert not diffraction.remove_hot_spots(np.full((20, 20), np.nan)).hot.any()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"threshold": 0}, ValueError, "threshold must be above 0"),
        ({"contrast": 1}, ValueError, "contrast above 1"),
        ({"size": 4}, ValueError, "odd number"),
        ({"images": np.ones((2, 9))}, DataError, "at least 3 x 3"),
        ({"images": np.ones((9, 9), complex)}, TypeError, "complex"),
        ({"mask": np.ones((3, 3), bool)}, ValueError, "mask must have the shape"),
    ],
)
def test_bad_input_is_refused(change, error, message) -> None:
    with pytest.raises(error, match=message):
        diffraction.remove_hot_spots(**({"images": np.ones((9, 9))} | change))
    mask = np.zeros((40, 40), bool)
    mask[0, 0] = True
    with pytest.warns(StackalignWarning, match="True means valid"):
        diffraction.remove_hot_spots(np.ones((40, 40)), mask=mask)
    assert diffraction.remove_hot_spots(np.ones((3, 3))).n_hot.tolist() == [0]


def reference_baseline(data, axes, wavelet, level, steps):
    """The recipe of the paper by the transforms of PyWavelets over all axes at once."""
    import pywt

    signal = data.copy()
    for _ in range(steps):
        coefficients = pywt.wavedecn(signal, wavelet, "constant", level, axes)
        empty = [{key: np.zeros_like(v) for key, v in c.items()} for c in coefficients[1:]]
        approximation = pywt.waverecn([coefficients[0], *empty], wavelet, "constant", axes)
        approximation = approximation[tuple(slice(0, n) for n in data.shape)]
        signal = np.minimum(signal, np.maximum(approximation, data.min()))
    return signal


@pytest.mark.parametrize(("shape", "axes", "level"), [((120,), (0,), 2), ((3, 95), (1,), 3), ((41, 60), (0, 1), 1)])
def test_baseline_by_the_recipe(rng, shape, axes, level) -> None:
    data = rng.gamma(2, 10, shape)
    found = diffraction.baseline_dwt(data, axis=axes, level=level, wavelet="sym4", max_iter=20, tolerance=0)
    np.testing.assert_allclose(found.baseline, reference_baseline(data, axes, "sym4", level, 20), atol=1e-9)
    assert found.n_iterations == 20
    assert not found.converged


def test_baseline_under_peaks() -> None:
    x = np.arange(1000.0)
    background = 40 * np.exp(-x / 300) + 5
    peaks = sum(30 * np.exp(-((x - c) ** 2) / (2 * 6**2)) for c in (150, 330, 480, 720))
    data = background + peaks
    found = diffraction.baseline_dwt(data, wavelet="sym6", level=6)
    assert found.converged
    assert found.n_iterations < 1000
    assert found.last_change <= 1e-3
    assert np.sqrt(np.mean((found.baseline - background)[100:900] ** 2)) < 1.5  # of peaks 30 high
    closer = diffraction.baseline_dwt(data, wavelet="sym6", level=6, tolerance=1e-5)
    assert closer.n_iterations > found.n_iterations
    known = diffraction.baseline_dwt(data, wavelet="sym6", level=6, background_regions=[slice(560, 640)])
    np.testing.assert_array_equal(known.baseline[560:640], data[560:640])


def test_baseline_beside_invalid_pixels(rng) -> None:
    x = np.arange(400.0)
    data = 100 + 20 * np.sin(x / 60) + 50 * np.exp(-((x - 200) ** 2) / 30)
    mask = np.ones(400, bool)
    mask[90:110] = False
    holes = np.where(mask, data, 0.0)
    found = diffraction.baseline_dwt(holes, level=4, mask=mask)
    alone = diffraction.baseline_dwt(data, level=4)
    assert np.abs(found.baseline - alone.baseline)[mask].max() < 5
    nan = diffraction.baseline_dwt(np.where(mask, data, np.nan), level=4)
    np.testing.assert_array_equal(nan.baseline, found.baseline)
    assert np.isfinite(nan.baseline).all()
    odd = diffraction.baseline_dwt(rng.random((31, 47)), axis=(0, 1), level=1, mask=rng.random((31, 47)) < 0.9)
    assert odd.baseline.shape == (31, 47)


def test_baseline_of_hot_spots(hotspots) -> None:
    found = diffraction.baseline_dwt(hotspots, axis=(0, 1), level=1, wavelet="sym2")
    assert found.converged
    assert (hotspots > 1000).sum() > 700
    assert (found.baseline > 1000).sum() <= 30
    json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"wavelet": "sym999"}, ValueError, "wavelet 'sym999' is not known"),
        ({"wavelet": "morl"}, ValueError, "not known"),
        ({"mode": "nonsense"}, ValueError, "mode 'nonsense' is not known"),
        ({"level": 0}, DataError, "level must be at least 1"),
        ({"level": 30}, DataError, "too coarse"),
        ({"axis": 2}, ValueError, "axis must be"),
        ({"axis": (1, 1)}, ValueError, "two different axes"),
        ({"max_iter": 0}, ValueError, "max_iter"),
        ({"tolerance": -1}, ValueError, "tolerance"),
        ({"mask": np.zeros((40, 40), bool)}, DataError, "no element is valid"),
        ({"mask": np.ones((40, 4), bool)}, DataError, "mask must have the shape"),
        ({"mask": np.ones((40, 40))}, TypeError, "boolean"),
        ({"array": np.ones((40, 40), complex)}, TypeError, "complex"),
        ({"background_regions": [(99, 99)]}, DataError, "background region"),
    ],
)
def test_bad_input_for_baselines_is_refused(change, error, message) -> None:
    with pytest.raises(error, match=message):
        diffraction.baseline_dwt(**({"array": np.ones((40, 40))} | change))
    constant = diffraction.baseline_dwt(np.full((3, 3), 2.0), axis=(0, 1))
    np.testing.assert_allclose(constant.baseline, 2.0)
    assert constant.converged
