"""What `register` refuses, in one clear sentence."""

import numpy as np
import pytest

import stackalign as sa

IMAGE = np.random.default_rng(0).normal(size=(40, 50))


@pytest.mark.parametrize(
    ("arguments", "settings", "error", "message"),
    [
        ((IMAGE[0], IMAGE), {}, ValueError, r"must be 2-D images, got \(50,\)"),
        ((IMAGE, IMAGE[None]), {}, ValueError, "register_stack takes stacks"),
        ((IMAGE * 1j, IMAGE), {}, TypeError, "reference must hold real numbers, got complex128"),
        ((IMAGE, IMAGE.astype(object)), {}, TypeError, "moving must hold real numbers, got object"),
        ((IMAGE, IMAGE), {"model": "projective"}, ValueError, "model must be one of"),
        (
            (IMAGE, IMAGE),
            {"reference_mask": np.ones((40, 50))},
            TypeError,
            "reference_mask must be boolean, True = valid",
        ),
        (
            (IMAGE, IMAGE),
            {"moving_mask": np.ones((4, 5), bool)},
            ValueError,
            r"moving_mask must have the shape \(40, 50\)",
        ),
        ((IMAGE, IMAGE), {"max_shift": -1}, ValueError, "max_shift must be a number of pixels"),
        ((IMAGE, IMAGE), {"max_shift": np.nan}, ValueError, "max_shift"),
        ((IMAGE, IMAGE), {"smooth": "much"}, ValueError, 'smooth must be "auto" or a sigma'),
        ((IMAGE, IMAGE), {"smooth": -1.0}, ValueError, "smooth"),
        ((IMAGE, IMAGE), {"min_overlap": 1.5}, ValueError, "min_overlap must be a share"),
        ((IMAGE, IMAGE), {"max_iter": 0}, ValueError, "max_iter must be 1 or more"),
        ((IMAGE, IMAGE), {"center": (1, np.inf)}, ValueError, "center must be two finite numbers"),
        ((IMAGE, IMAGE), {"start": (1, 2, 3)}, ValueError, r"start must be 2 finite numbers \(dy, dx\)"),
        ((IMAGE, IMAGE), {"start": {"sx": 1}}, ValueError, "start names sx; the model has dy, dx"),
        ((IMAGE, IMAGE), {"start": (30, 0), "max_shift": 5}, ValueError, "start must lie within the bounds"),
        ((IMAGE, IMAGE), {"bounds": {"sx": (1, 2)}}, ValueError, "bounds names sx"),
        ((IMAGE, IMAGE), {"bounds": {"dy": (2, 1)}}, ValueError, r"bounds of dy must be \(lower, upper\)"),
        ((IMAGE, IMAGE), {"device": "tpu"}, ValueError, "device must be"),
        ((IMAGE, IMAGE), {"workers": 0}, ValueError, "workers must be at least 1"),
    ],
)
def test_is_refused(arguments, settings, error, message) -> None:
    with pytest.raises(error, match=message):
        sa.register(*arguments, **settings)


def test_stacks_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="must hold one image or the same number, got 2 and 3"):
        sa.register_stack(np.stack([IMAGE] * 2), np.stack([IMAGE] * 3))
    with pytest.raises(ValueError, match=r"moving must have the shape \(H, W\) or \(B, H, W\)"):
        sa.register_stack(IMAGE, IMAGE[None, None])


def test_matrices_that_do_not_fit_a_linearization() -> None:
    pair = sa.prepare_pair(IMAGE, IMAGE)
    for wrong in (np.eye(3), np.full((2, 3), np.nan), np.zeros((4, 2, 3))):
        with pytest.raises(ValueError, match=r"matrices must be finite and have the shape \(2, 3\)"):
            sa.linearize_affine(pair, wrong, "shift")
    with pytest.raises(ValueError, match="not one of the model 'shift'"):
        sa.linearize_affine(pair, [[1.1, 0, 0], [0, 1, 0]], "shift")
    with pytest.raises(ValueError, match='derivatives must be "moving" or "reference"'):
        sa.linearize_affine(pair, np.eye(2, 3), "shift", derivatives="both")
