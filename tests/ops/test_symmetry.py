"""`rotational_average` and `mirror_average` against SciPy, under masks, and with bad input."""

import numpy as np
import pytest
from scipy.ndimage import affine_transform

from stackalign import ops
from stackalign.backends import load
from stackalign.ops.symmetry import _about


def _mean_of(image: np.ndarray, center, parts) -> np.ndarray:
    """Mean of the samples that are inside, in float64."""
    total, count = np.zeros(image.shape), np.zeros(image.shape)
    c = np.array(center, float)
    for part in parts:
        sampled = affine_transform(image.astype(float), part, c - part @ c, order=1, mode="constant", cval=np.nan)
        total += np.nan_to_num(sampled)
        count += np.isfinite(sampled)
    return total / count


def _turns(fold: int) -> list[np.ndarray]:
    angles = 2 * np.pi * np.arange(fold) / fold
    return [np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]) for a in angles]


@pytest.mark.parametrize("fold", [1, 2, 3, 4, 5, 6, 7, 11])
def test_like_scipy(fold: int) -> None:
    image = np.random.default_rng(fold).random((57, 63))
    found = ops.rotational_average(image, (25.3, 33.6), fold)
    expected = _mean_of(image, (25.3, 33.6), _turns(fold))
    # On the border rounding decides whether a sample is inside.
    assert (np.abs(found - expected) > 1e-9).mean() < (0.0 if fold == 1 else 0.002) + 1e-12


def test_mirrored_like_scipy() -> None:
    image = np.random.default_rng(0).random((57, 63))
    a = np.radians(33.0)
    d = np.array([-np.sin(a), np.cos(a)])
    parts = [np.eye(2), 2 * np.outer(d, d) - np.eye(2)]
    found = ops.mirror_average(image, (25.3, 33.6), 33.0)
    assert (np.abs(found - _mean_of(image, (25.3, 33.6), parts)) > 1e-9).mean() < 0.002


def test_quarters_of_a_turn_do_not_interpolate() -> None:
    image = np.random.default_rng(1).integers(0, 100, (64, 64)).astype(np.uint8)
    turned = [np.rot90(image.astype(float), k) for k in range(4)]
    np.testing.assert_array_equal(ops.rotational_average(image, None, 4), np.mean(turned, axis=0))
    np.testing.assert_array_equal(ops.mirror_average(image, None, 0.0), 0.5 * (turned[0] + turned[0][::-1]))
    np.testing.assert_array_equal(ops.mirror_average(image, None, 90.0), 0.5 * (turned[0] + turned[0][:, ::-1]))
    np.testing.assert_array_equal(ops.mirror_average(image, None, -45.0), 0.5 * (turned[0] + turned[0].T))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("under", [1e4, np.nan, np.inf])
def test_nothing_leaks_from_under_a_mask(under: float, dtype) -> None:
    image = np.ones((64, 80), dtype)
    mask = np.ones(image.shape, bool)
    mask[20:44, 30:70] = False
    image[~mask] = under
    for fold in (1, 3, 4, 7):
        found = ops.rotational_average(image, (30.7, 41.2), fold, mask=mask)
        seen = np.isfinite(found)
        assert np.abs(found[seen] - 1).max() <= 1e-6
        assert seen[mask].mean() > 0.98
        assert fold != 1 or not seen[~mask].any()


def test_each_image_and_center_of_a_stack() -> None:
    rng = np.random.default_rng(2)
    images = rng.random((11, 40, 50)).astype(np.float32)
    masks = rng.random(images.shape) > 0.2
    centers = rng.uniform(15, 30, (11, 2))
    apart = [ops.rotational_average(i, c, 5, mask=m) for i, c, m in zip(images, centers, masks, strict=True)]
    np.testing.assert_array_equal(ops.rotational_average(images, centers, 5, mask=masks), np.stack(apart))
    together = ops.rotational_average(images, (20, 25), 5, mask=masks[0])
    apart = [ops.rotational_average(i, (20, 25), 5, mask=masks[0], workers=1) for i in images]
    np.testing.assert_array_equal(together, np.stack(apart))
    for workers in (1, 2, 5):
        np.testing.assert_array_equal(
            ops.rotational_average(images, (20, 25), 5, mask=masks[0], workers=workers), together
        )


def test_is_symmetric() -> None:
    """Turned by a seventh, the average of a smooth image stays what it is."""
    y, x = np.indices((101, 101)) - 50.0
    image = np.exp(-((y - 10) ** 2 + (x - 15) ** 2) / 50)
    once = ops.rotational_average(image, None, 7)
    again = ops.rotational_average(once, None, 7)
    near = np.hypot(y, x) < 48
    assert np.abs(again - once)[near].max() < 0.05 * once[near].max()


def test_bad_input() -> None:
    image = np.ones((9, 8))
    for fold in (1.7, 0, -2, 1001, "6", True):
        with pytest.raises(ValueError, match="fold must be"):
            ops.rotational_average(image, None, fold)
    assert ops.rotational_average(image, None, 2.0).shape == (9, 8)
    with pytest.raises(ValueError, match="center must be finite"):
        ops.rotational_average(image, (np.nan, 0), 2)
    with pytest.raises(ValueError, match="center must be one"):
        ops.rotational_average(image, (1, 2, 3), 2)
    with pytest.raises(ValueError, match="angle"):
        ops.mirror_average(image, None, np.inf)
    with pytest.raises(TypeError, match="boolean"):
        ops.rotational_average(image, None, 2, mask=image)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(200, 331), (129, 64), (321, 190)])
def test_parts_of_large_images_are_as_the_reference_says(dtype, shape) -> None:
    # Parts without a hole are computed in another way than those with one, and than those at the frame's edge.
    rng = np.random.default_rng(shape[0])
    images = rng.integers(0, 3000, (3, *shape)).astype(dtype)
    mask = np.ones(shape, bool)
    mask[90:110, 20:40] = False
    if dtype is not np.uint16:
        images[1, 5, 50:60] = np.nan
        images[2, 60:70, 55] = 0.9 * np.finfo(dtype).max
    for centers in ([0.4 * shape[0], 0.6 * shape[1]], rng.uniform(0.3, 0.7, (3, 2)) * shape):
        about = _about(np.array(_turns(7)), np.atleast_2d(np.array(centers)))
        expected = load("reference").affine_average(images, mask[None], about, 1)
        for workers in (1, 3):
            found = ops.rotational_average(images, centers, 7, mask=mask, workers=workers)
            np.testing.assert_allclose(found, expected, rtol=3e-6, atol=2e-3)
        center = np.broadcast_to(centers, (3, 2))[1]
        alone = ops.rotational_average(images[1], center, 7, mask=mask)
        np.testing.assert_array_equal(alone, found[1])
