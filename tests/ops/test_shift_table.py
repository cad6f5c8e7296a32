"""`shift_table` against a float64 evaluation pixel by pixel, and against `score_affine`."""

import sys
import types

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from stackalign import ops, transforms
from stackalign.backends.reference.affine_resample import sample_affine


def planes(rng: np.random.Generator, shape, moving_shape, holes: float, problems: int = 1):
    """Smooth noise, shifted by fractions of a pixel, with holes in both."""
    pairs = []
    for _ in range(problems):
        scene = gaussian_filter(rng.normal(size=(2 * max(shape), 2 * max(*moving_shape, *shape))), 1.5)
        images = [scene[2 : 2 + shape[0], 1 : 1 + shape[1]], scene[: moving_shape[0], 3 : 3 + moving_shape[1]]]
        images = [np.pad(i, [(0, n - m) for n, m in zip(s, i.shape, strict=True)], constant_values=np.nan)
                  for i, s in zip(images, (shape, moving_shape), strict=True)]  # fmt: skip
        for image in images:
            image += 0.05 * rng.normal(size=image.shape)
            image[rng.random(image.shape) < holes] = np.nan
        pairs.append(images)
    return ops.prepare_pair(*(np.stack(side) for side in zip(*pairs, strict=True)))


def brute_force(reference, moving, shift) -> tuple[float, float]:
    """Score and overlap of one shift: two-pass coefficient of the samples, all in float64."""
    matrix = np.array([[1.0, 0.0, -shift[0]], [0.0, 1.0, -shift[1]]])
    v = sample_affine(moving.astype(np.float64), matrix, reference.shape)
    both = np.isfinite(v) & np.isfinite(reference)
    if both.sum() == 0:
        return 0.0, 0.0
    r, v = reference[both].astype(np.float64), v[both]
    r, v = r - r.mean(), v - v.mean()
    scale = np.sqrt((r * r).sum() * (v * v).sum())
    return float((r * v).sum() / scale) if scale > 0 else 0.0, both.mean()


def some_shifts(rng: np.random.Generator, limit) -> np.ndarray:
    """Any, whole along y, along x, along both, quarters, and the corners of what is allowed."""
    limit = np.array(limit)
    s = rng.uniform(-limit, limit, (40, 2))
    s[8:20, 0] = np.rint(s[8:20, 0])
    s[14:26, 1] = np.rint(s[14:26, 1])
    s[26:32] = np.rint(4 * s[26:32]) / 4
    s[32:36] = limit * [[1, 1], [-1, 1], [1, -1], [-1, -1]]
    s[36] = 0.0
    return s


@pytest.mark.parametrize("holes", [0.0, 0.15])
@pytest.mark.parametrize(
    ("shape", "moving_shape", "limit"),
    [((32, 41), (32, 41), 5), ((30, 47), (41, 28), (3, 7)), ((16, 16), (16, 16), 15), ((9, 40), (9, 40), (0, 11))],
)
def test_like_brute_force_and_score_affine(rng: np.random.Generator, shape, moving_shape, limit, holes: float) -> None:
    pair = planes(rng, shape, moving_shape, holes, problems=2)
    table = ops.shift_table(pair, limit)
    s = np.stack([some_shifts(rng, np.broadcast_to(limit, 2)) for _ in range(2)])
    scores, overlap = table.score(s), table.overlap(s)
    assert scores.shape == overlap.shape == (2, 40)
    enough = np.zeros(scores.shape, np.bool_)
    for at in np.ndindex(scores.shape):
        wanted = brute_force(pair.reference[at[0]], pair.moving[at[0]], s[at])
        assert overlap[at] == wanted[1]
        enough[at] = overlap[at] * shape[0] * shape[1] >= 30
        if enough[at]:
            assert abs(scores[at] - wanted[0]) <= 1e-9
    assert enough.mean() > 0.3
    matrices = transforms.matrices_from_parameters(s, "shift", (0.0, 0.0))
    theirs, same = ops.score_affine(pair, matrices, return_overlap=True)
    np.testing.assert_array_equal(overlap, same)
    assert np.abs(scores - theirs)[enough].max() <= 1e-7


def test_whole_shifts_take_fewer_pixels(rng: np.random.Generator) -> None:
    """Beside holes, whole positions are valid where the ones beside them are not; nearly whole ones are whole."""
    pair = planes(rng, (40, 40), (40, 40), 0.2)
    table = ops.shift_table(pair, 3)
    s = np.array([[1.0, -2.0], [1.0, -2.0 + 1e-8], [1.0 + 1e-8, -2.0], [1.0 + 1e-8, -2.0 + 1e-8]])
    n = np.rint(table.overlap(s)[0] * 1600)
    assert n[0] > n[1] > n[3]
    assert n[0] > n[2] > n[3]
    np.testing.assert_array_equal(table.score(s[:1] + np.array([1e-12, -1e-12])), table.score(s[:1]))
    rounded = np.arange(-3, 3.05, 0.1)  # some are whole but for rounding
    at = np.stack([rounded, np.zeros(61)], axis=1)
    np.testing.assert_array_equal(table.overlap(at)[0, ::10], table.overlap(np.rint(at[::10]))[0])


def test_one_pair_and_several(rng: np.random.Generator) -> None:
    pair = planes(rng, (25, 30), (25, 30), 0.1, problems=3)
    table = ops.shift_table(pair, (4, 2))
    s = some_shifts(rng, (4, 2))
    assert table.score(s).shape == (3, 40)
    best = table.argmax(0.1)
    assert best.shift.shape == (3, 2)
    for b in range(3):
        single = ops.shift_table(ops.prepare_pair(pair.reference[b], pair.moving[b]), (4, 2))
        np.testing.assert_allclose(single.score(s), table.score(s)[b], rtol=0, atol=1e-7)
        one = ops.ImagePair(pair.reference[b : b + 1], pair.moving[b : b + 1], single=True)
        single = ops.shift_table(one, (4, 2), workers=1)
        assert single.score(s).tobytes() == table.score(s)[b].tobytes()
        assert single.overlap(s).tobytes() == table.overlap(s)[b].tobytes()
        assert single.surface(0.5).tobytes() == table.surface(0.5)[b].tobytes()
        assert single.argmax(0.1).score == best.score[b]
        np.testing.assert_array_equal(single.argmax(0.1).shift, best.shift[b])


@pytest.mark.parametrize("step", [1.0, 0.5, 0.2, 1 / 3])
def test_surface_and_argmax_are_those_of_the_lattice(rng: np.random.Generator, step: float) -> None:
    pair = planes(rng, (33, 28), (33, 28), 0.1)
    single = ops.ImagePair(pair.reference, pair.moving, single=True)
    table = ops.shift_table(single, (3, 5))
    parts = round(1 / step)
    y, x = (np.arange(2 * m * parts + 1) / parts - m for m in (3, 5))
    lattice = np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1)
    wanted = table.score(lattice.reshape(-1, 2)).reshape(lattice.shape[:2])
    surface = table.surface(step)
    np.testing.assert_allclose(surface, wanted, rtol=0, atol=1e-12)
    best = table.argmax(step)
    assert best.score == surface.max()
    np.testing.assert_allclose(best.shift, lattice[np.unravel_index(surface.argmax(), surface.shape)], atol=1e-12)
    overlap = table.overlap(lattice.reshape(-1, 2)).reshape(lattice.shape[:2])
    least = float(np.quantile(overlap, 0.9))
    found = table.argmax(step, min_overlap=least)
    assert found.score == surface[overlap >= least].max()
    assert table.overlap(found.shift[None])[0] >= least


def test_recovers_a_shift(rng: np.random.Generator) -> None:
    scene = gaussian_filter(rng.normal(size=(90, 90)), 2.0)
    moved = ops.resample_affine(
        scene, transforms.matrices_from_parameters((-2.37, 4.81), "shift", (0, 0)), order=3, output_shape=(90, 90)
    )
    best = ops.shift_table(ops.prepare_pair(scene, moved), 6).argmax()
    np.testing.assert_allclose(best.shift, (2.37, -4.81), atol=0.02)
    assert best.score > 0.99


def test_nothing_to_correlate() -> None:
    """No overlap, no variance: 0, and the first of equals wins."""
    empty = ops.prepare_pair(np.full((8, 9), np.nan), np.ones((8, 9)))
    table = ops.shift_table(empty, 2)
    assert table.argmax(0.5).score == 0.0
    np.testing.assert_array_equal(table.argmax(0.5).shift, [-2, -2])
    assert np.isnan(table.argmax(0.5, min_overlap=0.1).shift).all()
    assert table.argmax(0.5, min_overlap=0.1).score == 0.0
    np.testing.assert_array_equal(table.surface(0.5), np.zeros((9, 9)))
    constant = ops.prepare_pair(np.ones((8, 9)), np.random.default_rng(0).normal(size=(8, 9)))
    np.testing.assert_array_equal(ops.shift_table(constant, 2).surface(0.5), np.zeros((9, 9)))


# Refusals.


@pytest.fixture
def table(rng: np.random.Generator) -> ops.ShiftTable:
    return ops.shift_table(planes(rng, (12, 15), (12, 15), 0.0, problems=2), 3)


@pytest.mark.parametrize("limit", [-1, (2, -1), 1.5, (1, 2, 3), "3", None, np.nan])
def test_max_shift_that_is_none(rng: np.random.Generator, limit) -> None:
    with pytest.raises(ValueError, match="max_shift must be a whole number of pixels, 0 or more, or two of them"):
        ops.shift_table(planes(rng, (12, 15), (12, 15), 0.0), limit)


@pytest.mark.parametrize("limit", [12, (12, 3), (3, 14), 100])
def test_max_shift_beyond_the_images(rng: np.random.Generator, limit) -> None:
    with pytest.raises(ValueError, match="max_shift must be smaller than the images, 12 x 14 pixels"):
        ops.shift_table(planes(rng, (12, 15), (13, 14), 0.0), limit)


def test_no_workers(rng: np.random.Generator) -> None:
    with pytest.raises(ValueError, match="workers must be at least 1"):
        ops.shift_table(planes(rng, (12, 15), (12, 15), 0.0), 2, workers=0)


@pytest.mark.parametrize("method", ["score", "overlap"])
def test_shifts_that_do_not_fit(table: ops.ShiftTable, method: str) -> None:
    ask = getattr(table, method)
    for shape in ((), (2,), (4, 3), (3, 4, 2), (1, 2, 4, 2)):
        with pytest.raises(ValueError, match=r"shifts must have the shape \(K, 2\) or \(2, K, 2\), got"):
            ask(np.zeros(shape))
    for value in (3.01, -3.01, np.nan, np.inf):
        with pytest.raises(ValueError, match="shifts must be finite and within max_shift"):
            ask([[0.0, value]])
    assert ask(np.zeros((0, 2))).shape == (2, 0)


@pytest.mark.parametrize("step", [0.0, -0.5, 0.3, 2.0, np.nan, np.inf])
def test_steps(table: ops.ShiftTable, step: float) -> None:
    for ask in (table.surface, table.argmax):
        with pytest.raises(ValueError, match="step must be 1 pixel divided by a whole number"):
            ask(step)


@pytest.mark.parametrize("overlap", [-0.1, 1.1, np.nan])
def test_overlaps(table: ops.ShiftTable, overlap: float) -> None:
    with pytest.raises(ValueError, match=r"min_overlap must be in \[0, 1\]"):
        table.argmax(0.5, min_overlap=overlap)


def test_pairs_that_cannot_be_prepared() -> None:
    for kind in ("complex64", "O"):
        with pytest.raises(TypeError, match="must be real numbers"):
            ops.prepare_pair(np.zeros((4, 5), kind), np.zeros((4, 5)))


def test_mixed_homes(monkeypatch: pytest.MonkeyPatch) -> None:
    class Elsewhere:
        __module__ = "cupy"

    monkeypatch.setitem(sys.modules, "cupy", types.ModuleType("cupy"))
    pair = ops.prepare_pair(np.ones((4, 5)), np.ones((4, 5)))
    with pytest.raises(TypeError, match="arrays live on different devices"):
        ops.shift_table(ops.ImagePair(pair.reference, Elsewhere(), single=True), 1)
