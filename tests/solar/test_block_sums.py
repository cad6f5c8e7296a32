"""Sums over blocks and lines against products of whole planes, derivatives of the model against differences."""

import numpy as np
import pytest
from scipy import ndimage

from stackalign.solar.block_sums import Places, Sums, robust_residual
from stackalign.solar.pixels import PixelTransform
from stackalign.solar.polish import compare
from stackalign.solar.skymodel import MODELS, SkyModel

SHAPE = (70, 45)
JACOBIAN = np.array([[1.02, 0.03], [-0.05, 0.97]])


@pytest.fixture(scope="module")
def pair() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    reference = ndimage.gaussian_filter(rng.standard_normal(SHAPE), 2.0)
    reference /= reference.std()
    target = 1.3 * reference + 0.1 * rng.standard_normal(SHAPE)
    use = np.ones(SHAPE, bool)
    use[[0, -1]] = use[:, [0, -1]] = False
    use[20:24, 10:15] = False
    return target, reference, use


def planes_of(image: np.ndarray, use: np.ndarray, places: Places) -> np.ndarray:
    """(6, ny, nx) change of an image by a move of its middle, right edge and lower edge, along x and y of each."""
    slopes = np.zeros((2, *SHAPE))
    slopes[0, :, 1:-1] = (image[:, 2:] - image[:, :-2]) / 2
    slopes[1, 1:-1] = (image[2:] - image[:-2]) / 2
    moved = np.einsum("iyx,ij->jyx", slopes, JACOBIAN) * use
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    at = places.at(y, x)
    # The move at a place is that of the middle and a part of how much more the two edges move.
    right = (at[..., 0] - (places.shape[1] - 1) / 2) / (places.shape[1] / 2)
    lower = (at[..., 1] - (places.shape[0] - 1) / 2) / (places.shape[0] / 2)
    return np.stack([share * move for share in (1 - right - lower, right, lower) for move in moved])


def test_sums_are_those_of_products_of_planes(pair: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    target, reference, use = pair
    grid = PixelTransform(np.array([[2.0, 0.0], [0.0, 3.0]]), np.array([1.0, -2.0]))
    places = Places.of((slice(3, 3 + SHAPE[0]), slice(4, 4 + SHAPE[1])), grid, (260, 130))
    left = robust_residual(target, reference, use)
    assert left is not None
    sums = Sums.of(target, reference, left, JACOBIAN, places, use)
    left_side = np.concatenate([use[None], (reference * use)[None], planes_of(reference, use, places)])
    right_side = np.concatenate([left_side[:2], planes_of(target, use, places) / left.gain, left.values[None]])
    close = {"rtol": 1e-5, "atol": 1e-3}
    weighted = np.einsum("ayx,yx,byx->ab", left_side, left.weight, right_side)
    np.testing.assert_allclose(sums.weighted.sum(axis=0), weighted, **close)
    inner = np.einsum("ayx,yx,byx->ab", left_side, left.inner, right_side[:8])
    np.testing.assert_allclose(sums.inner.sum(axis=0), inner, **close)
    pushed = left_side * left.weight * left.values
    np.testing.assert_allclose(sums.columns.sum(axis=1), pushed.sum(axis=1), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(sums.rows.sum(axis=1), pushed.sum(axis=2), rtol=1e-9, atol=1e-9)
    for axis in (0, 1):
        moved = left_side * left.inner * right_side[2 + axis : 8 : 2].sum(axis=0)
        np.testing.assert_allclose(sums.column_moves[axis], moved.sum(axis=1), rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(sums.row_moves[axis], moved.sum(axis=2), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", MODELS)
def test_slopes_of_a_model_are_its_derivatives(name: str) -> None:
    model = SkyModel(name, np.array([[3.9, -0.3], [0.4, 1.1]]), (90, 60))
    at = model.neutral + np.array([3.0, -2.0, *[0.02] * (len(model.names) - 2)])
    step = 1e-5
    by_differences = [
        (model.moves(at + step * one) - model.moves(at - step * one)) / (2 * step) for one in np.eye(len(at))
    ]
    np.testing.assert_allclose(model.slope(at), np.transpose(by_differences), rtol=1e-7, atol=1e-7)


def test_error_bars_of_white_noise_are_its_scatter() -> None:
    still = PixelTransform.identity()
    image = ndimage.gaussian_filter(np.random.default_rng(3).standard_normal((130, 130)), 2.0)
    image /= image.std()
    model = SkyModel("shift", np.eye(2), image.shape)
    pulls = []
    for seed in range(80):
        noisy = image + 0.2 * np.random.default_rng(seed).standard_normal(image.shape)
        agreement = compare(noisy, image, still, still, image.shape, (0.7, 0.7))
        assert agreement is not None
        fit = model.read(still, agreement)
        pulls.append(fit.parameters / np.sqrt(np.diagonal(fit.covariance)))
    assert 0.85 < np.sqrt(np.mean(np.square(pulls))) < 1.15
