"""Bragg peaks of lattices whose spots are known, peaks by persistence against a plain definition, and bad input."""

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial import cKDTree

import stackalign as sa
from stackalign.diffraction import bragg_peaks, bragg_peaks_persistence
from stackalign.diffraction.synthetic import lattice
from stackalign.errors import DataError, StackalignWarning

NEAR = 3.0


def judged(pattern, found) -> tuple[float, float, float]:
    """Precision against all spots, recall of those that stand out five deviations, rms distance per axis."""
    distance, _ = cKDTree(pattern.spots).query(found.position)
    rows, columns = np.rint(pattern.spots).astype(int).T
    strong = (pattern.amplitudes > 5 * np.sqrt(pattern.background)) & pattern.mask[rows, columns]
    missed, _ = cKDTree(found.position).query(pattern.spots[strong])
    hit = distance < NEAR
    return float(hit.mean()), float((missed < NEAR).mean()), float(np.sqrt((distance[hit] ** 2).mean() / 2))


@pytest.mark.parametrize("options", [{}, {"walkoff": 0.6}, {"counts": 50.0}], ids=["flat", "walk-off", "an eighth"])
@pytest.mark.parametrize("seed", [0, 1])
def test_spots_are_found_without_a_centre(options, seed) -> None:
    pattern = lattice(512, (250.3, 262.2), seed, **options)
    found = bragg_peaks(pattern.image, mask=pattern.mask)
    precision, recall, rms = judged(pattern, found)
    assert precision >= 0.98
    assert recall >= 0.95
    assert rms <= (0.3 if options.get("counts") else 0.15)
    assert found.width == pytest.approx(1.8, rel=0.1)
    assert (np.diff(found.snr) <= 0).all()


def test_intensities_are_those_of_the_spots() -> None:
    pattern = lattice(256, seed=3, blocked=False)
    found = bragg_peaks(pattern.image)
    inner = ((pattern.spots > 8) & (pattern.spots < 247)).all(axis=1) & (pattern.amplitudes > 100)
    distance, k = cKDTree(found.position).query(pattern.spots[inner])
    assert distance.max() < 1
    true = 2 * np.pi * 1.8**2 * pattern.amplitudes[inner]
    np.testing.assert_allclose(found.intensity[k], true, rtol=0.15)
    assert abs(np.median(found.intensity[k] / true) - 1) < 0.03


def test_neither_gain_nor_offset_matters() -> None:
    pattern = lattice(200, seed=1)
    plain = bragg_peaks(pattern.image, mask=pattern.mask)
    other = bragg_peaks(pattern.image * 1e-12 - 3e-9, mask=pattern.mask)
    np.testing.assert_allclose(other.position, plain.position, atol=1e-2)
    np.testing.assert_allclose(other.snr, plain.snr, rtol=1e-2)


def test_what_is_under_the_mask_does_not_matter() -> None:
    pattern = lattice(200, seed=1)
    plain = bragg_peaks(pattern.image, mask=pattern.mask)
    for value in (np.nan, 1e9):
        spoilt = np.where(pattern.mask, pattern.image, value)
        np.testing.assert_array_equal(bragg_peaks(spoilt, mask=pattern.mask).position, plain.position)
    np.testing.assert_array_equal(
        bragg_peaks(np.where(pattern.mask, pattern.image, np.nan)).position, plain.position
    )  # fmt: skip
    rows, columns = np.rint(plain.position).astype(int).T
    assert pattern.mask[rows, columns].all()


def test_noise_has_no_peaks(rng) -> None:
    assert len(bragg_peaks(rng.poisson(50.0, (256, 256)))) == 0
    assert len(bragg_peaks(np.full((64, 64), 7))) == 0
    assert len(bragg_peaks(np.zeros((16, 16)))) == 0


def test_distance_width_and_order() -> None:
    pattern = lattice(200, seed=2)
    found = bragg_peaks(pattern.image, mask=pattern.mask, min_distance=40, width=1.8)
    apart = cKDTree(found.position).query(found.position, k=2)[0][:, 1]
    assert apart.min() > 38
    near = found.sorted_by_distance((100, 100))
    assert (np.diff(np.hypot(*(near.position - 100).T)) >= 0).all()
    assert near.to_dict()["position"][0] == near.position[0].tolist()


def test_real_patterns(graphite, mos2) -> None:
    image, mask = graphite
    image, mask = sa.bin_mean(image, 2, mask=mask), sa.bin_mean(mask.astype(np.float32), 2) > 0.99
    found = bragg_peaks(image, mask=mask)
    # By hand: the lattice through the bright spots, and single weak ones that one sees in crops of 23 pixels.
    lattice = np.array([[-227.94, 170.66], [-63.62, 149.74]])
    indices = (found.position - (556.12, 505.46)) @ np.linalg.inv(lattice)
    off = np.hypot(*((indices - np.rint(indices)) @ lattice).T)
    bright = off < 4
    assert bright.sum() in (41, 42)
    assert found.snr[bright].min() > 40
    weak = [(895, 917), (731, 80), (100, 405), (868, 168), (969, 298), (723, 931), (243, 842), (240, 334), (518, 795)]
    far = cKDTree(np.array(weak)).query(found.position[~bright])[0]
    assert (far < 3).sum() >= 7
    assert (far >= 3).sum() <= 3, "two at the edge, and one of two pixels"
    assert len(bragg_peaks_persistence(mos2, prominence=0.1)) == 103


def plain_persistence(image, valid) -> list[tuple[float, float]]:
    """Births and deaths by labelling every superlevel set."""
    alive: dict[tuple[int, int], float] = {}
    pairs = []
    for level in np.unique(image[valid])[::-1]:
        labels, count = ndimage.label(valid & (image >= level), np.ones((3, 3)))
        for k in range(1, count + 1):
            inside = sorted((p for p in alive if labels[p] == k), key=lambda p: -alive[p])
            if not inside:
                top = np.argwhere((labels == k) & (image == level))[0]
                alive[tuple(top)] = level
            pairs.extend((alive.pop(p), level) for p in inside[1:])
    return pairs + [(v, float(image[valid].min())) for v in alive.values()]


@pytest.mark.parametrize("masked", [False, True])
def test_pairs_are_those_of_the_definition(rng, masked) -> None:
    image = ndimage.gaussian_filter(rng.standard_normal((24, 31)), 1.0) + 1e-6 * rng.standard_normal((24, 31))
    valid = rng.random(image.shape) < 0.7 if masked else np.ones(image.shape, bool)
    if masked:
        valid[:, 15] = False
    found = sa.persistence_pairs(np.where(valid, image, np.nan) if masked else image)
    expected = np.array(sorted(plain_persistence(image, valid), key=lambda pair: pair[1] - pair[0]))
    np.testing.assert_array_equal(found.birth, expected[:, 0])
    np.testing.assert_array_equal(found.death, expected[:, 1])
    np.testing.assert_array_equal(image[tuple(found.birth_index.T)], found.birth)
    never = found.death_index[:, 0] < 0
    np.testing.assert_array_equal(image[tuple(found.death_index[~never].T)], found.death[~never])
    assert never.sum() == ndimage.label(valid, np.ones((3, 3)))[1]


@pytest.mark.parametrize("masked", [False, True])
def test_pairs_are_those_of_gudhi(rng, masked) -> None:
    """Another library's cubical complexes: pixels are its cells of highest dimension, so that 8 are neighbours."""
    gudhi = pytest.importorskip("gudhi", reason="needs gudhi, of the extra test")
    image = ndimage.gaussian_filter(rng.standard_normal((300, 217)), 1.5) + 1e-9 * rng.standard_normal((300, 217))
    valid = rng.random(image.shape) < 0.8 if masked else np.ones(image.shape, bool)
    complex_ = gudhi.CubicalComplex(top_dimensional_cells=np.where(valid, -image, np.inf))
    complex_.compute_persistence()
    pairs = -complex_.persistence_intervals_in_dimension(0)
    pairs = pairs[np.isfinite(pairs[:, 0])]
    pairs[np.isinf(pairs[:, 1]), 1] = image[valid].min()
    expected = pairs[np.argsort(pairs[:, 1] - pairs[:, 0], kind="stable")]
    found = sa.persistence_pairs(image, mask=valid)
    assert len(expected) > 300
    np.testing.assert_array_equal(found.birth, expected[:, 0])
    np.testing.assert_array_equal(found.death, expected[:, 1])


def test_persistence_of_negative_and_of_equal_pixels() -> None:
    image = np.full((9, 9), -5.0)
    image[2, 2], image[6, 6] = -1.0, -2.0
    found = sa.persistence_pairs(image)
    np.testing.assert_array_equal(found.birth_index, [[2, 2], [6, 6]])
    np.testing.assert_array_equal(found.persistence, [4, 3])
    flat = sa.persistence_pairs(np.ones((5, 4), np.uint8))
    assert flat.persistence.tolist() == [0]
    assert flat.birth_index.tolist() == [[0, 0]]
    relative = bragg_peaks_persistence(image, prominence=0.8, relative=True, subpixel=False)
    np.testing.assert_array_equal(relative.position, [[2, 2]])
    near = bragg_peaks_persistence(image, min_distance=8)
    assert len(near) == 1


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: bragg_peaks(np.ones((3, 3))), DataError, "at least 8 x 8"),
        (lambda: bragg_peaks(np.ones((9, 9)) * 1j), TypeError, "real numbers"),
        (lambda: bragg_peaks(np.full((9, 9), np.nan)), DataError, "no pixel"),
        (lambda: bragg_peaks(np.ones((9, 9)), mask=np.zeros((9, 9), bool)), DataError, "no valid pixel"),
        (lambda: bragg_peaks(np.ones((9, 9)), mask=np.ones((9, 8), bool)), DataError, "mask must have the shape"),
        (lambda: bragg_peaks(np.ones((2, 9, 9))), DataError, "loop over the images"),
        (lambda: bragg_peaks(np.ones((9, 9)), min_snr=0), ValueError, "min_snr"),
        (lambda: bragg_peaks(np.ones((9, 9)), width=5), ValueError, "width"),
        (lambda: bragg_peaks_persistence(np.ones((9, 9)), prominence=-1), ValueError, "prominence"),
        (lambda: sa.persistence_pairs(np.ones((9, 9), complex)), TypeError, "real numbers"),
        (lambda: sa.persistence_pairs(np.ones(9)), DataError, r"\(H, W\)"),
        (lambda: sa.persistence_pairs(np.ones((9, 9)), mask=np.ones((9, 9))), TypeError, "boolean"),
        (lambda: sa.persistence_pairs(np.ones((9, 9)), mask=np.ones((8, 9), bool)), DataError, "shape"),
        (lambda: sa.persistence_pairs(np.full((9, 9), np.nan)), DataError, "no pixel"),
    ],
)
def test_bad_input(call, error, words) -> None:
    with pytest.raises(error, match=words):
        call()


def test_a_mask_of_the_other_polarity_is_suspected() -> None:
    pattern = lattice(128, blocked=False)
    mask = np.zeros((128, 128), bool)
    mask[:5, :40] = True
    with pytest.warns(StackalignWarning, match="True means valid"):
        bragg_peaks(pattern.image, mask=mask)


@pytest.mark.parametrize("distance", [-4.0, float("nan"), float("inf")])
def test_distances_that_are_none(distance) -> None:
    image = np.random.default_rng(0).poisson(5.0, (32, 32))
    for find in (bragg_peaks, bragg_peaks_persistence):
        with pytest.raises(ValueError, match="min_distance must be"):
            find(image, min_distance=distance)
