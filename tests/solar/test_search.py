"""The first implementation's score and search, on the engine."""

import numpy as np
import pytest
from scipy.ndimage import affine_transform, gaussian_filter

from stackalign import solar


def pair(rng, dx=7.3, dy=-4.6, sx=1.012, sy=0.991, n=160):
    scene = gaussian_filter(rng.random((2 * n, 2 * n)), 3)
    y, x = np.mgrid[:n, :n] + n / 2
    target = affine_transform(scene, np.eye(2), offset=n / 2, output_shape=(n, n), order=3)
    c = (n - 1) / 2
    # reference(p) = target(q) with p = c + s (q - c) + d
    q = [c + (np.mgrid[:n, :n][i] - c - d) / s + n / 2 for i, (d, s) in enumerate(((dy, sy), (dx, sx)))]
    from scipy.ndimage import map_coordinates

    reference = map_coordinates(scene, q, order=3)
    assert x.shape == y.shape == reference.shape
    return reference, 3 + 1.7 * target


def by_definition(reference, target, dx, dy, sx, sy, center=None):
    c = np.array([(n - 1) / 2 for n in reference.shape]) if center is None else np.asarray(center)
    inverse = np.array([1 / sy, 1 / sx])
    moved = affine_transform(target, inverse, offset=c - inverse * (c + np.array([dy, dx])), order=1, cval=np.nan)
    both = np.isfinite(moved) & np.isfinite(reference)
    return np.corrcoef(reference[both], moved[both])[0, 1]


@pytest.mark.parametrize("center", [None, (30.0, 100.5)])
def test_score(rng, center) -> None:
    reference, target = pair(rng)
    for params in ((0, 0, 1, 1), (7.3, -4.6, 1.012, 0.991), (-3.25, 2.5, 0.95, 1.05)):
        found = solar.correlation_for_params(reference, target, *params, center=center)
        assert found == pytest.approx(by_definition(reference, target, *params, center), abs=2e-5)
    assert solar.correlation_for_params(reference, target, 1e4, 0, 1, 1) == 0.0
    assert solar.correlation_for_params(reference, np.full_like(target, np.nan), 0, 0, 1, 1) == 0.0


def test_a_fraction_of_a_pixel_counts(rng) -> None:
    reference, target = pair(rng)
    scores = [solar.correlation_for_params(reference, target, 7.3 + step, -4.6, 1.012, 0.991) for step in (0, 0.2, 0.4)]
    assert scores[0] > scores[1] > scores[2]


def test_search_finds_the_truth(rng, capsys) -> None:
    reference, target = pair(rng)
    target[20:30, 40:50] = np.nan
    best, history = solar.optimize_alignment_local_grad_disc_persworkers(
        reference, target, n_neighbors=80, max_iter=200, min_step_dx=0.01, min_step_dy=0.01, min_step_sx=1e-4,
        min_step_sy=1e-4, corr_atol=1e-6, corr_rtol=1e-6, shift_range=(-20, 20), n_jobs=2,
    )  # fmt: skip
    assert (best["dx"], best["dy"]) == pytest.approx((7.3, -4.6), abs=0.05)
    assert (best["squeeze_x"], best["squeeze_y"]) == pytest.approx((1.012, 0.991), abs=5e-4)
    assert best["corr"] > 0.999
    assert history.shape[1] == 6
    assert history[:, 5].max() == best["corr"]
    assert "converged" in capsys.readouterr().err


def test_search_is_quiet_and_frozen_where_asked(rng, capsys) -> None:
    reference, target = pair(rng)
    best, history = solar.optimize_alignment_local_grad_disc_persworkers(
        reference, target, step_sx0=0, step_sy0=0, shift_range=(-3, 3), verbose=False, max_iter=5, center=(10, 20)
    )
    assert capsys.readouterr().err == ""
    assert set(history[:, 3]) == set(history[:, 4]) == {1.0}
    assert np.abs(history[:, 1:3]).max() <= 3
    assert best["center"] == (10.0, 20.0)


def test_images_of_two_grids_are_refused(rng) -> None:
    with pytest.raises(ValueError, match="on one grid"):
        solar.correlation_for_params(np.zeros((5, 5)), np.zeros((5, 6)), 0, 0, 1, 1)
