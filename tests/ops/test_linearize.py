"""One score with its derivatives: against differences of a float64 oracle, and against the scatter of noise."""

import warnings

import numpy as np
import pytest
from scipy.ndimage import affine_transform, gaussian_filter, map_coordinates, spline_filter

import stackalign as sa
from stackalign import transforms
from stackalign.objectives import AffineNCC
from stackalign.optimize import gauss_newton

AT = {
    "shift": [0.3137, -1.2241],
    "shift+scale": [0.3137, -1.2241, 1.01317, 0.99071],
    "rigid": [0.3137, -1.2241, 1.3119],
    "similarity": [0.3137, -1.2241, 1.01317, 1.3119],
    "affine": [0.3137, -1.2241, 1.01317, 0.98071, 1.3119, 0.0213],
}
"""Parameters of each model that put no pixel on an edge of the bilinear surface."""
SHAPE, MOVING = (50, 64), (60, 57)


def noisy(rng, shape, holes=0.05):
    values = gaussian_filter(rng.normal(size=shape), 2.0)
    values = values / values.std() + 0.2 * rng.normal(size=shape)
    values[rng.random(shape) < holes] = np.nan
    return values


@pytest.fixture
def pair(rng):
    """Two problems of rectangular images of different shapes, with holes."""
    fixed, moved = (np.stack([noisy(rng, shape) for _ in range(2)]) for shape in (SHAPE, MOVING))
    moved[:, :50, :57] += np.nan_to_num(fixed[:, :, :57])
    return sa.prepare_pair(fixed, moved)


def oracle(reference, moving, m):
    v = affine_transform(
        moving.astype(np.float64), m[:, :2], m[:, 2], output_shape=reference.shape, order=1, cval=np.nan
    )
    both = np.isfinite(reference) & np.isfinite(v)
    return np.corrcoef(reference[both].astype(np.float64), v[both])[0, 1]


def perturbed(model, factor=1.0):
    return np.array([AT[model], np.array(AT[model]) * 1.001]) * factor


@pytest.mark.parametrize("model", AT)
@pytest.mark.parametrize("center", [None, (12.5, 40.0)], ids=["middle", "elsewhere"])
def test_gradients_are_the_differences_of_the_oracle(pair, model, center):
    c = transforms.image_center(SHAPE) if center is None else np.array(center)
    p = perturbed(model)
    found = sa.linearize_affine(pair, transforms.matrices_from_parameters(p, model, c), model, center=center)
    for b in range(2):
        differences = np.empty(p.shape[1])
        for k, name in enumerate(transforms.MODELS[model]):
            step = np.zeros(p.shape[1])
            # So short that hardly a pixel passes an edge of the surface.
            step[k] = 1e-7 if name in ("dy", "dx", "angle") else 2e-9
            above, below = (
                oracle(pair.reference[b], pair.moving[b], transforms.matrices_from_parameters(q, model, c))
                for q in (p[b] + step, p[b] - step)
            )
            differences[k] = (above - below) / (2 * step[k])
        np.testing.assert_allclose(found.gradient[b], differences, rtol=2e-6, atol=2e-6 * np.abs(differences).max())


@pytest.mark.parametrize("model", AT)
def test_scores_and_overlaps_are_those_of_score_affine(pair, model):
    for p in (perturbed(model), np.tile(transforms.identity(model), (2, 1))):
        m = transforms.matrices_from_parameters(p, model, transforms.image_center(SHAPE))
        scores, overlap = sa.score_affine(pair, m[:, None], return_overlap=True)
        for covariance in (False, True):
            found = sa.linearize_affine(pair, m, model, covariance=covariance)
            np.testing.assert_allclose(found.score, scores[:, 0], rtol=0, atol=1e-7)
            np.testing.assert_array_equal(found.overlap, overlap[:, 0])
            assert (found.covariance is not None) == covariance


@pytest.mark.parametrize("model", AT)
def test_on_the_edges_of_the_surface_slopes_are_the_mean_of_both_sides(rng, model):
    values = noisy(rng, (40, 50), 0.0)
    same = sa.prepare_pair(values[5:-5, 5:-5], values + 0.5 * rng.normal(size=(40, 50)))
    m = np.array([[1.0, 0.0, 5.0], [0.0, 1.0, 5.0]])
    found = sa.linearize_affine(same, m, model)
    k = transforms.MODELS[model].index("dx")
    sides = []
    for step in (-1e-4, 1e-4):
        aside = m.copy()
        aside[1, 2] -= step
        sides.append(sa.linearize_affine(same, aside, model).gradient[k])
    assert abs(sides[0] - sides[1]) > 0.02
    np.testing.assert_allclose(found.gradient[k], np.mean(sides), atol=1e-3)


@pytest.mark.parametrize("model", ["shift+scale", "affine"])
def test_bits_depend_on_neither_workers_nor_other_problems(pair, model):
    m = transforms.matrices_from_parameters(perturbed(model), model, transforms.image_center(SHAPE))
    one = sa.linearize_affine(pair, m, model, covariance=True, workers=1)
    for workers in (2, 5):
        several = sa.linearize_affine(pair, m, model, covariance=True, workers=workers)
        for name in ("score", "overlap", "gradient", "normal", "covariance"):
            np.testing.assert_array_equal(getattr(several, name), getattr(one, name))
    for b in range(2):
        alone = sa.ImagePair(pair.reference[b : b + 1], pair.moving[b : b + 1], single=True)
        found = sa.linearize_affine(alone, m[b], model, covariance=True, workers=2)
        assert found.score.shape == ()
        for name in ("score", "overlap", "gradient", "normal", "covariance"):
            np.testing.assert_array_equal(getattr(found, name), getattr(one, name)[b])


def scenes(rng, truth, model, n, side, noise, *, holes=0.0, mix=1.0):
    """Pairs of one kind of scene, each a spline sampled at two places, with noise of its own in both images."""
    center = transforms.image_center((side, side))
    y, x = np.indices((side, side), np.float64)
    back = transforms.invert(transforms.matrices_from_parameters(truth, model, center))
    places = np.tensordot(back[:, :2], [y, x], 1) + back[:, 2, None, None]
    fixed, moved = np.empty((2, n, side, side))
    for k in range(n):
        scene = gaussian_filter(rng.normal(size=(side + 40, side + 40)), 3.0)
        spline = spline_filter(scene / scene.std(), 5)
        fixed[k], moved[k] = (
            map_coordinates(spline, at + 20, order=5, prefilter=False) for at in (np.array([y, x]), places)
        )
    fixed += noise * rng.normal(size=fixed.shape)
    moved += mix * noise * rng.normal(size=fixed.shape)
    for images in (fixed, moved):
        images[rng.random(images.shape) < holes] = np.nan
    return fixed, moved


TRUTH = np.array([0.3, -0.8, 1.004, 0.997])


@pytest.mark.parametrize(
    ("noise", "mix", "smooth", "wanted"),
    [(0.0, 1.0, 0.0, 0.05), (1.3, 0.0, 0.0, 0.05), (0.3, 1.0, 1.0, 0.2)],
    ids=["clean", "noise of the reference alone", "noise of both, smoothed"],
)
def test_one_step_reaches_the_optimum(rng, noise, mix, smooth, wanted):
    pair = sa.prepare_pair(*scenes(rng, TRUTH, "shift+scale", 6, 128, noise, mix=mix), smooth=smooth)
    objective = AffineNCC(pair, "shift+scale")
    best = gauss_newton(objective.linearize, np.tile(TRUTH, (6, 1)), tolerance=[1e-3, 1e-3, 1e-5, 1e-5])
    if mix == 0.0:
        assert 0.5 < best.score.mean() < 0.7
    for off in ([0.3, 0, 0, 0], [-0.3, 0, 0, 0], [0, 0.3, 0, 0], [0, -0.3, 0, 0]):
        _, gradient, normal = objective.linearize(best.parameters + off)
        step = np.linalg.solve(normal, gradient[..., None])[..., 0]
        np.testing.assert_allclose((step + off)[:, :2].mean(axis=0), 0.0, atol=0.3 * wanted)


@pytest.mark.parametrize(("side", "holes", "smooth"), [(128, 0.0, 0.0), (128, 0.1, 1.0)])
def test_the_covariance_is_the_scatter_of_the_optimum(rng, side, holes, smooth):
    pair = sa.prepare_pair(*scenes(rng, TRUTH, "shift+scale", 120, side, 0.1, holes=holes), smooth=smooth)
    objective = AffineNCC(pair, "shift+scale")
    best = gauss_newton(objective.linearize, np.tile(TRUTH, (120, 1)), tolerance=1e-3, max_iter=20)
    sigma = np.sqrt(np.diagonal(objective.covariance(best.parameters), axis1=1, axis2=2))
    away = best.parameters - best.parameters.mean(axis=0)
    # The scatter of 120 is known to 6.5 %; a quarter is some three times what both are uncertain by.
    np.testing.assert_allclose(np.median(sigma, axis=0) / away.std(axis=0), 1.0, atol=0.25)
    assert 0.6 < (np.abs(away) < sigma).mean() < 0.76


def test_the_covariance_turns_with_the_parameters(pair):
    about = (3.0, 50.0)
    m = transforms.matrices_from_parameters(AT["affine"], "affine", transforms.image_center(SHAPE))
    here, there = (sa.linearize_affine(pair, m, "affine", center=c, covariance=True) for c in (None, about))
    jacobians = [
        transforms.matrix_jacobian(transforms.parameters_from_matrices(m, c, "affine"), "affine", c).reshape(6, 6)
        for c in (transforms.image_center(SHAPE), np.array(about))
    ]
    change = jacobians[0] @ np.linalg.inv(jacobians[1])  # d(there) / d(here), transposed
    np.testing.assert_allclose(here.gradient[0], change @ there.gradient[0], rtol=1e-5)
    np.testing.assert_allclose(here.normal[0], change @ there.normal[0] @ change.T, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("model", AT)
def test_nothing_to_correlate_is_zero(rng, model):
    values = rng.normal(size=(40, 50))
    empty, flat = np.full_like(values, np.nan), np.full_like(values, 0.7)
    striped = np.tile(values[:1], (40, 1))
    pair = sa.prepare_pair(np.stack([values, empty, values, striped]), np.stack([values, values, flat, striped]))
    m = transforms.matrices_from_parameters([AT[model]] * 4, model, transforms.image_center((40, 50)))
    m[0, :, 2] += 1000.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = sa.linearize_affine(pair, m, model, covariance=True)
    np.testing.assert_array_equal(found.score[:3], 0.0)
    np.testing.assert_array_equal(found.gradient[:3], 0.0)
    np.testing.assert_array_equal(found.normal[:3], 0.0)
    assert not np.isfinite(found.covariance).any()  # nothing says where stripes are along themselves
    assert np.isfinite(found.normal).all()
    assert found.score[3] != 0


def test_few_tiles_have_no_covariance(rng):
    values = noisy(rng, (16, 30), 0.0)
    pair = sa.prepare_pair(values, values + 0.1 * rng.normal(size=values.shape))
    found = sa.linearize_affine(pair, np.eye(2, 3), "affine", covariance=True)  # eight tiles for six parameters
    assert np.isinf(found.covariance).all()


def test_what_does_not_fit_is_refused(pair):
    one = np.eye(2, 3)
    assert sa.linearize_affine(pair, one, "shift").gradient.shape == (2, 2)  # for every problem
    for shape in ((3, 2, 3), (2, 1, 2, 3), (3, 3)):
        with pytest.raises(ValueError, match="matrices must be finite and have the shape"):
            sa.linearize_affine(pair, np.ones(shape), "shift")
    with pytest.raises(ValueError, match="finite"):
        sa.linearize_affine(pair, np.full((2, 3), np.nan), "shift")
    with pytest.raises(ValueError, match="not one of the model 'shift'"):
        sa.linearize_affine(pair, [[1.1, 0, 0], [0, 1, 0]], "shift")
    with pytest.raises(ValueError, match="model must be one of"):
        sa.linearize_affine(pair, one, "shifts")
    with pytest.raises(ValueError, match="workers"):
        sa.linearize_affine(pair, one, "shift", workers=0)
