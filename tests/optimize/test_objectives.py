"""The objective on images: two samplings of one smooth scene, with a shift and a scale between them."""

import numpy as np
import pytest
import scipy.ndimage

from optimize.functions import Counted
from stackalign import transforms
from stackalign.objectives import AffineNCC
from stackalign.ops import prepare_pair
from stackalign.optimize import gauss_newton, grid_search, neighbor_search, pyramid_search

SHAPE = (96, 112)
TRUTHS = np.array([[2.3, -1.9, 1.012, 0.991], [-1.45, 0.75, 0.994, 1.008]])
STEPS, MIN_STEPS = [1.0, 1.0, 0.01, 0.01], [0.01, 0.01, 1e-4, 1e-4]


def sample_twice(truth, seed):
    """Sample one quintic spline scene on two grids, so that neither image is an interpolation of the other."""
    rng = np.random.default_rng(seed)
    scene = scipy.ndimage.gaussian_filter(rng.standard_normal((SHAPE[0] + 40, SHAPE[1] + 40)), 4.0)
    center = transforms.image_center(SHAPE)
    pixels = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1)
    # p = c + S (q - c) + d is where a moving pixel q lies among the reference's.
    moved = center + np.asarray(truth[2:]) * (pixels - center) + np.asarray(truth[:2])
    reference, moving = (
        scipy.ndimage.map_coordinates(scene, np.moveaxis(points + 20.0, -1, 0), order=5) for points in (pixels, moved)
    )
    holes = rng.random((2, *SHAPE)) < 0.02
    return np.where(holes[0], np.nan, reference), np.where(holes[1], np.nan, 3 + 1.7 * moving)


@pytest.fixture(scope="module")
def objective():
    references, movings = zip(*(sample_twice(truth, seed) for seed, truth in enumerate(TRUTHS)), strict=True)
    return AffineNCC(prepare_pair(np.stack(references), np.stack(movings)), "shift+scale", workers=1)


def error_px(found, truth):
    """Largest distance over the image between where pixels are put and where they belong."""
    half = (np.array(SHAPE) - 1) / 2
    away = np.abs(np.asarray(found) - truth)
    return (away[..., :2] + half * away[..., 2:]).max(axis=-1)


def test_shift_and_scale_by_neighbors(objective):
    score = Counted(objective.score)
    found = neighbor_search(
        score, np.tile(objective.identity, (2, 1)), steps=STEPS, min_steps=MIN_STEPS, corr_rtol=1e-7
    )
    assert found.reason == ("converged", "converged")
    assert error_px(found.parameters, TRUTHS).max() < 0.05
    assert found.n_evaluations.max() < 1000
    assert {call.shape[0] for call in score.calls} == {2}


def test_shift_and_scale_by_neighbors_in_pairs(objective):
    found = neighbor_search(
        objective.score, np.tile(objective.identity, (2, 1)), steps=STEPS, min_steps=MIN_STEPS, n_neighbors=80,
        pairs=((0, 2), (1, 3)), corr_rtol=1e-7,
    )  # fmt: skip
    assert error_px(found.parameters, TRUTHS).max() < 0.05


def test_shift_and_scale_by_grid_and_parabola(objective):
    start = pyramid_search(objective.score, [np.arange(-4, 5.0)] * 2 + [[0.0]] * 2, levels=2,
                           origin=np.tile(objective.identity, (2, 1)))  # fmt: skip
    origin = start.parameters
    for width in (1.0, 0.25):
        axes = [np.linspace(-1, 1, 5) * width * step for step in (1, 1, 0.02, 0.02)]
        found = grid_search(objective.score, axes, origin=origin, refine=True)
        origin = found.parameters
    assert error_px(found.parameters, TRUTHS).max() < 0.05


def test_shift_and_scale_by_gauss_newton(objective):
    start = np.tile(objective.identity, (2, 1))
    found = gauss_newton(objective.linearize, start, tolerance=[1e-3, 1e-3, 1e-5, 1e-5])
    assert found.reason == ("converged", "converged")
    assert found.n_evaluations.max() <= 8
    sigma = np.sqrt(np.diagonal(objective.covariance(found.parameters), axis1=1, axis2=2))
    assert error_px(found.parameters, TRUTHS).max() < 0.01
    assert (np.abs(found.parameters - TRUTHS) < 4 * sigma).all()
    np.testing.assert_allclose(found.score, objective.score(found.parameters[:, None])[:, 0], rtol=0, atol=1e-7)


def test_one_pair_is_a_batch_of_one(objective):
    pair = prepare_pair(*sample_twice(TRUTHS[0], 0))
    single = AffineNCC(pair, "shift+scale")
    candidates = np.array([[single.identity, TRUTHS[0]]])
    scores = single(candidates)
    assert scores.shape == (1, 2)
    assert scores.dtype == np.float64
    np.testing.assert_array_equal(scores[0], objective.score(np.concatenate([candidates, candidates]))[0])
    assert scores[0, 1] > 0.99 > scores[0, 0]


def test_names_identity_and_center(objective):
    assert objective.names == ("dy", "dx", "sy", "sx")
    assert objective.identity.tolist() == [0, 0, 1, 1]
    np.testing.assert_array_equal(objective.center, transforms.image_center(SHAPE))
    about_a_corner = AffineNCC(objective.pair, "shift+scale", center=(0, 0))
    # Scaling about another point is a shift more: d' = d + (S - 1) (c - c').
    moved = TRUTHS.copy()
    moved[:, :2] -= (TRUTHS[:, 2:] - 1) * objective.center
    np.testing.assert_allclose(about_a_corner.score(moved[:, None]), objective.score(TRUTHS[:, None]), atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 3, 4), (2, 3, 3), (2, 4), (2, 0, 4)])
def test_parameters_of_another_shape_are_refused(objective, shape):
    with pytest.raises(ValueError, match="params must have the shape"):
        objective.score(np.ones(shape))


@pytest.mark.parametrize("shape", [(2, 1, 4), (1, 4), (2, 3), (4,)])
def test_derivatives_are_taken_at_one_place_for_each_problem(objective, shape):
    for method in (objective.linearize, objective.covariance):
        with pytest.raises(ValueError, match="params must have the shape"):
            method(np.ones(shape))


def test_what_describes_no_objective_is_refused(objective):
    with pytest.raises(ValueError, match="model must be one of"):
        AffineNCC(objective.pair, "shifts")
    with pytest.raises(ValueError, match="center"):
        AffineNCC(objective.pair, "shift", center=(1, 2, 3))
    with pytest.raises(ValueError, match="scales must not be 0"):
        objective.score(np.zeros((2, 1, 4)))
