"""`resample_affine` and `bin_mean` against SciPy, against the definition of a valid sample, and with bad input."""

import sys
import types

import numpy as np
import pytest
from scipy import ndimage

from stackalign import ops, transforms
from stackalign.ops import _check

RELATIVE = {np.float32: 1e-6, np.float64: 1e-12}
MATRICES = {
    "shift": [[1.0, 0.0, 2.3], [0.0, 1.0, -1.6]],
    "shift+scale": [[1.03, 0.0, 0.4], [0.0, 0.96, 1.7]],
    "halfway": [[1.0, 0.0, 0.5], [0.0, 1.0, 1.5]],
    "finer": [[0.31, 0.0, 4.2], [0.0, 0.27, 9.0]],
    "upside_down": [[-1.0, 0.0, 41.25], [0.0, 1.0, 0.5]],
    "turned": [[0.98, 0.19, -3.0], [-0.19, 0.98, 4.0]],
    # Exact in binary: whether a position is halfway between pixels must not depend on the order of additions.
    "sheared": [[1.0, 0.0, 0.25], [0.3125, 1.0, -5.3125]],
}
each_order = pytest.mark.parametrize("order", [0, 1, 3])


def scipy_sample(image: np.ndarray, matrix: np.ndarray, shape: tuple[int, int], order: int) -> np.ndarray:
    """What SciPy makes of the image in float64, NaN outside."""
    settings = {"order": order, "mode": "constant", "cval": np.nan}
    return ndimage.affine_transform(image.astype(np.float64), matrix[:, :2], matrix[:, 2], shape, **settings)


@each_order
@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("name", MATRICES)
def test_like_scipy(rng: np.random.Generator, name: str, kind: type, order: int) -> None:
    image = (rng.normal(size=(43, 57)) + 5).astype(kind)
    matrix = np.array(MATRICES[name])
    for shape in ((43, 57), (30, 71)):
        found = ops.resample_affine(image, matrix, output_shape=shape, order=order)
        wanted = scipy_sample(image, matrix, shape, order)
        assert found.dtype == kind
        assert found.shape == shape
        assert np.isfinite(wanted).mean() > 0.3
        np.testing.assert_array_equal(np.isnan(found), np.isnan(wanted))
        np.testing.assert_allclose(found, wanted, rtol=0, atol=RELATIVE[kind] * np.abs(image).max())


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 2), (2, 9), (3, 3)])
@each_order
def test_like_scipy_where_an_axis_is_short(rng: np.random.Generator, shape, order: int) -> None:
    image = rng.normal(size=shape)
    m = np.array([[0.5, 0.0, 0.0], [0.0, 0.25, 0.0]])
    found = ops.resample_affine(image, m, order=order, output_shape=(5, 8))
    np.testing.assert_allclose(found, scipy_sample(image, m, (5, 8), order), rtol=0, atol=1e-12)


@each_order
def test_ties_of_order_0_and_exact_hits(order: int) -> None:
    image = np.arange(12.0).reshape(3, 4)
    for at in ((0.5, 0.5), (1.5, 2.5), (1.0, 3.0), (2.0, 3.0), (0.49999999999999994, 1.0)):
        m = np.array([[1.0, 0.0, at[0]], [0.0, 1.0, at[1]]])
        wanted = scipy_sample(image, m, (1, 1), order)
        np.testing.assert_allclose(
            ops.resample_affine(image, m, output_shape=(1, 1), order=order), wanted, rtol=1e-12, atol=1e-12
        )


def taps(q: float, size: int, order: int) -> list[int]:
    """Indices of the pixels that a position takes with a weight that is not zero."""
    k = int(np.floor(q))
    if order == 0:
        return [int(np.floor(q + 0.5))]
    if order == 1:
        return [k] if q == k else [k, k + 1]
    around = [k - 1, k, k + 1] if q == k else [k - 1, k, k + 1, k + 2]
    return [2 * (size - 1) - i if i > size - 1 else abs(i) for i in around]


@each_order
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_sample_is_valid_when_its_taps_are(rng: np.random.Generator, kind: type, order: int) -> None:
    image = rng.normal(size=(23, 31)).astype(kind)
    image[rng.random(image.shape) < 0.05] = np.nan
    image[4, 5] = np.inf
    image[0, 20] = -np.inf
    mask = rng.random(image.shape) < 0.97
    valid = np.isfinite(image) & mask
    matrices = np.array([*MATRICES.values(), [[1.0, 0.0, 2.0], [0.0, 1.0, -3.0]], [[0.0, 1.0, 0.0], [1.0, 0.0, 0.5]]])
    found = ops.resample_affine(image, matrices, mask=mask, order=order)
    assert found.shape == (len(matrices), *image.shape)
    for n, m in enumerate(matrices):
        wanted = np.zeros(image.shape, np.bool_)
        for p in np.ndindex(image.shape):
            qy, qx = (m[:, 0] * p[0] + m[:, 2]) + m[:, 1] * p[1]
            if 0 <= qy <= image.shape[0] - 1 and 0 <= qx <= image.shape[1] - 1:
                wanted[p] = valid[np.ix_(taps(qy, 23, order), taps(qx, 31, order))].all()
        np.testing.assert_array_equal(np.isfinite(found[n]), wanted)
        assert not np.isinf(found[n]).any()


def test_cubic_spline_far_from_a_hole_does_not_know_of_it(rng: np.random.Generator) -> None:
    image = ndimage.gaussian_filter(rng.normal(size=(60, 60)), 1.5)
    m = np.array(MATRICES["turned"])
    whole = ops.resample_affine(image, m, order=3)
    image[30, 30] = np.nan
    holed = ops.resample_affine(image, m, order=3)
    lost = np.isnan(holed) & ~np.isnan(whole)
    assert 10 <= lost.sum() <= 20  # 4 x 4 pixels
    away = ndimage.distance_transform_edt(~lost)
    difference = np.where(np.isnan(holed), 0, np.abs(holed - whole)) / np.nanstd(whole)
    assert difference.max() < 0.02
    for far in (5, 10):
        assert difference[away > far].max() < 0.02 * 0.3**far


def test_cubic_reads_nothing_of_what_is_under_the_mask(rng: np.random.Generator) -> None:
    image = rng.normal(size=(40, 40))
    mask = rng.random(image.shape) < 0.9
    mask[17:20] = False
    other = np.where(mask, image, 1e30)
    m = MATRICES["shift+scale"]
    found = ops.resample_affine(other, m, mask=mask, order=3)
    np.testing.assert_array_equal(found, ops.resample_affine(image, m, mask=mask, order=3))
    np.testing.assert_array_equal(found, ops.resample_affine(np.where(mask, image, np.nan), m, order=3))


@each_order
def test_batches(rng: np.random.Generator, order: int) -> None:
    images = rng.normal(size=(7, 40, 33)).astype(np.float32)
    matrices = np.array(list(MATRICES.values()))
    each = [ops.resample_affine(i, m, order=order) for i, m in zip(images, matrices, strict=True)]
    np.testing.assert_array_equal(ops.resample_affine(images, matrices, order=order), each)
    one = [ops.resample_affine(i, matrices[3], order=order) for i in images]
    for m in (matrices[3], matrices[3:4]):
        np.testing.assert_array_equal(ops.resample_affine(images, m, order=order), one)
    several = [ops.resample_affine(images[2], m, order=order) for m in matrices]
    np.testing.assert_array_equal(ops.resample_affine(images[2], matrices, order=order), several)
    np.testing.assert_array_equal(ops.resample_affine(images[2:3], matrices, order=order), several)
    assert ops.resample_affine(images[:1], matrices[0]).shape == (1, 40, 33)
    assert ops.resample_affine(images[0], matrices[:1]).shape == (1, 40, 33)
    assert ops.resample_affine(images[0], matrices[0]).shape == (40, 33)


@each_order
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_the_same_bits_for_any_number_of_workers(rng: np.random.Generator, kind: type, order: int) -> None:
    images = rng.normal(size=(2, 131, 77)).astype(kind)
    images[rng.random(images.shape) < 0.1] = np.nan
    matrices = np.array([MATRICES["turned"], MATRICES["shift+scale"]])
    wanted = ops.resample_affine(images, matrices, order=order, workers=1).tobytes()
    assert all(ops.resample_affine(images, matrices, order=order, workers=n).tobytes() == wanted for n in (2, 3, 8))
    counted = [ops.bin_mean(images, (3, 2), return_count=True, workers=n) for n in (1, 2, 5)]
    assert len({(m.tobytes(), c.tobytes()) for m, c in counted}) == 1


def test_positive_shift_moves_content_to_larger_indices() -> None:
    image = np.zeros((9, 11))
    image[3, 4] = 1.0
    moved = ops.resample_affine(
        image, transforms.matrices_from_parameters((2.0, 3.0), "shift", transforms.image_center(image.shape))
    )
    assert np.unravel_index(np.nanargmax(moved), moved.shape) == (5, 7)


def test_integers_become_float32(rng: np.random.Generator) -> None:
    image = rng.integers(0, 60000, (20, 20)).astype(np.uint16)
    m = MATRICES["turned"]
    for x in (image, image.astype(">u2"), image.astype(np.int64), np.asfortranarray(image)):
        found = ops.resample_affine(x, m)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, ops.resample_affine(image.astype(np.float32), m))


# Bins.


@pytest.mark.parametrize("factor", [1, 3, (2, 5), (20, 30), [4, 1]])
@pytest.mark.parametrize("kind", [np.uint8, np.float32, np.float64])
def test_bin_mean_like_numpy(rng: np.random.Generator, kind: type, factor) -> None:
    image = (rng.random((20, 30)) * 200).astype(kind)
    fy, fx = (factor, factor) if isinstance(factor, int) else factor
    h, w = 20 // fy, 30 // fx
    wanted = np.float64(image)[: h * fy, : w * fx].reshape(h, fy, w, fx).mean(axis=(1, 3))
    means, counts = ops.bin_mean(image, factor, return_count=True)
    assert means.dtype == (np.float64 if kind is np.float64 else np.float32)
    np.testing.assert_allclose(means, wanted, rtol=RELATIVE.get(kind, 1e-6))
    np.testing.assert_array_equal(counts, np.full((h, w), fy * fx))
    stack = ops.bin_mean(np.stack([image, image[::-1]]), factor)
    np.testing.assert_array_equal(stack[0], ops.bin_mean(image, factor))
    np.testing.assert_array_equal(stack[1], ops.bin_mean(image[::-1], factor))


def test_bin_mean_leaves_invalid_pixels_out() -> None:
    image = np.array([[1.0, 2.0, np.nan, 8.0, 9.0], [3.0, np.inf, 5.0, 7.0, 9.0], [0.0] * 5])
    mask = np.ones(image.shape, np.bool_)
    mask[1, 2] = False
    means, counts = ops.bin_mean(image, 2, mask=mask, return_count=True)
    np.testing.assert_allclose(means, [[2.0, 7.5]])
    np.testing.assert_array_equal(counts, [[3, 2]])
    mask[:, 2:4] = False
    means, counts = ops.bin_mean(image, 2, mask=mask, return_count=True)
    np.testing.assert_allclose(means, [[2.0, np.nan]])
    np.testing.assert_array_equal(counts, [[3, 0]])


def test_where_the_middle_of_a_bin_lies() -> None:
    """A linear image stays one: its binned copy is the image sampled at the documented positions."""
    y, x = np.mgrid[:24, :35]
    image = 3.0 * y - 2.0 * x + 0.5
    for fy, fx in ((2, 3), (4, 5), (1, 7)):
        m = [[fy, 0, (fy - 1) / 2], [0, fx, (fx - 1) / 2]]
        sampled = ops.resample_affine(image, m, output_shape=(24 // fy, 35 // fx))
        np.testing.assert_allclose(ops.bin_mean(image, (fy, fx)), sampled, rtol=0, atol=1e-12)


# Refusals.

OPERATIONS = {
    "resample_affine": lambda x, **k: ops.resample_affine(x, MATRICES["turned"], **k),
    "resample_affine_cubic": lambda x, **k: ops.resample_affine(x, MATRICES["turned"], order=3, **k),
    "bin_mean": lambda x, **k: ops.bin_mean(x, 2, **k),
}
every_operation = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS.keys())


@every_operation
def test_images_that_are_not_taken(operation) -> None:
    for kind in ("complex64", "complex128", "O", "U3"):
        with pytest.raises(TypeError, match="images must be real numbers of one of the types uint8"):
            operation(np.zeros((9, 9), kind))
    for shape in ((9,), (1, 2, 9, 9)):
        with pytest.raises(ValueError, match=r"images must have the shape \(H, W\) or \(N, H, W\)"):
            operation(np.zeros(shape))
    with pytest.raises(ValueError, match="images must hold at least one frame"):
        operation(np.zeros((0, 9, 9)))
    with pytest.raises(TypeError, match="arrays must be NumPy or CuPy arrays, got builtins"):
        operation([[1.0, 2.0]])
    with pytest.raises(ValueError, match="workers must be at least 1"):
        operation(np.zeros((9, 9)), workers=0)


@every_operation
def test_masks_that_do_not_fit(operation) -> None:
    with pytest.raises(TypeError, match="mask must be boolean, True = valid, got uint8"):
        operation(np.zeros((9, 8)), mask=np.ones((9, 8), np.uint8))
    for shape in ((8, 9), (2, 9, 8), (9,)):
        with pytest.raises(ValueError, match=r"mask must have the shape \(9, 8\)"):
            operation(np.zeros((9, 8)), mask=np.ones(shape, np.bool_))


@every_operation
def test_mixed_homes(operation, monkeypatch: pytest.MonkeyPatch) -> None:
    class Elsewhere:
        __module__ = "cupy"

    monkeypatch.setitem(sys.modules, "cupy", types.ModuleType("cupy"))
    with pytest.raises(TypeError, match="arrays live on different devices"):
        operation(np.zeros((9, 8)), mask=Elsewhere())


@pytest.mark.parametrize("order", [2, -1, 4, 1.5, True, "linear", None])
def test_orders_that_are_not_there(order) -> None:
    with pytest.raises(ValueError, match=r"order must be 0 \(nearest\), 1 \(linear\) or 3 \(cubic spline\), got"):
        ops.resample_affine(np.zeros((9, 9)), MATRICES["turned"], order=order)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_matrices_that_are_not_finite(value: float) -> None:
    m = np.array(MATRICES["turned"])
    m[1, 2] = value
    with pytest.raises(ValueError, match="matrices must be finite"):
        ops.resample_affine(np.zeros((9, 9)), m)


def test_matrices_of_another_shape() -> None:
    good = np.array(MATRICES["turned"])
    for m in (good[0], good.T, np.zeros((2, 2)), np.zeros((0, 2, 3)), np.zeros((1, 1, 2, 3))):
        with pytest.raises(ValueError, match=r"matrices must have the shape \(2, 3\) or \(K, 2, 3\) for 1 image"):
            ops.resample_affine(np.zeros((9, 9)), m)
    with pytest.raises(ValueError, match=r"matrices must have the shape \(2, 3\) or \(4, 2, 3\) for 4 image"):
        ops.resample_affine(np.zeros((4, 9, 9)), np.stack([good] * 3))
    for kind in (complex, object, str):
        with pytest.raises(TypeError, match="matrices must be real numbers, got"):
            ops.resample_affine(np.zeros((9, 9)), good.astype(kind))


@pytest.mark.parametrize("shape", [(0, 3), (3,), 5, (2.5, 3), (3, -1), (3, 3, 3)])
def test_output_shapes(shape) -> None:
    with pytest.raises(ValueError, match="output_shape must be two positive whole numbers of pixels"):
        ops.resample_affine(np.zeros((9, 9)), MATRICES["turned"], output_shape=shape)


def test_output_that_is_too_long() -> None:
    with pytest.raises(ValueError, match=f"output_shape must have sides up to {_check.LARGEST_SIDE} pixels"):
        ops.resample_affine(np.zeros((9, 9)), MATRICES["turned"], output_shape=(1, _check.LARGEST_SIDE + 1))


@pytest.mark.parametrize("factor", [0, -1, (2, 0), 1.5, (2,), (1, 2, 3), "2", None, np.nan])
def test_factors(factor) -> None:
    with pytest.raises(ValueError, match="factor must be a positive whole number of pixels or two of them"):
        ops.bin_mean(np.zeros((9, 8)), factor)


@pytest.mark.parametrize("factor", [9, (10, 1), (1, 9)])
def test_factors_beyond_the_image(factor) -> None:
    with pytest.raises(ValueError, match="factor must not exceed the image of 9 x 8 pixels"):
        ops.bin_mean(np.zeros((9, 8)), factor)
