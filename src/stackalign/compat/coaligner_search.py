"""The score and the search of the first implementation on two images of one grid, on the engine's kernels."""

import sys
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stackalign import transforms
from stackalign._carriers import plain_array
from stackalign.backends._threads import governed
from stackalign.objectives import AffineNCC
from stackalign.ops import prepare_pair, score_affine, to_numpy
from stackalign.optimize import neighbor_search

__all__ = ["correlation_for_params", "optimize_alignment_local_grad_disc_persworkers"]


def _center(center: ArrayLike | None, shape: tuple[int, ...]) -> NDArray[np.float64]:
    return transforms.image_center(shape) if center is None else plain_array(center, np.float64, "center")


def _same_grid(reference: Any, target: Any) -> None:
    shapes = [tuple(image.shape) if hasattr(image, "shape") else np.shape(image) for image in (reference, target)]
    if shapes[0] != shapes[1]:
        msg = f"ref_img and target_img must be on one grid, got {shapes[0]} and {shapes[1]}"
        raise ValueError(msg)


@governed
def correlation_for_params(
    ref_img: Any,
    target_img: Any,
    dx: float,
    dy: float,
    sx: float,
    sy: float,
    center: ArrayLike | None = None,
) -> float:
    """Correlation of two images over their common valid pixels, the target scaled about `center` and then shifted.

    Parameters
    ----------
    ref_img, target_img : array
        (ny, nx) on one grid; NaN is invalid. NumPy or CuPy.
    dx, dy : float
        Shift in pixels, of any fraction; positive moves the target to larger indices.
    sx, sy : float
        Scale; above 1 magnifies the target.
    center : array_like, optional
        (cy, cx), by default the middle of the image.

    Returns
    -------
    float
        Pearson's coefficient; 0.0 without common pixels or variance.

    Examples
    --------
    >>> import numpy as np
    >>> from stackalign import solar
    >>> image = np.random.default_rng(0).standard_normal((40, 50)).cumsum(0).cumsum(1)
    >>> round(solar.correlation_for_params(image, np.roll(image, 2, axis=1)[:, :], -2.0, 0.0, 1.0, 1.0), 3)
    1.0
    """
    _same_grid(ref_img, target_img)
    pair = prepare_pair(ref_img, target_img)
    matrix = transforms.matrices_from_parameters([[dy, dx, sy, sx]], "shift+scale", _center(center, ref_img.shape))
    return float(to_numpy(score_affine(pair, matrix))[0])


@governed
def optimize_alignment_local_grad_disc_persworkers(
    ref_img: Any,
    target_img: Any,
    dx0: float = 0.0,
    dy0: float = 0.0,
    squeeze_x0: float = 1.0,
    squeeze_y0: float = 1.0,
    step_dx0: float = 3.0,
    step_dy0: float = 3.0,
    step_sx0: float = 0.02,
    step_sy0: float = 0.02,
    min_step_dx: float = 0.25,
    min_step_dy: float = 0.25,
    min_step_sx: float = 1e-3,
    min_step_sy: float = 1e-3,
    n_neighbors: int = 20,
    max_iter: int = 30,
    center: ArrayLike | None = None,
    squeeze_x_bounds: tuple[float, float] = (0.9, 1.1),
    squeeze_y_bounds: tuple[float, float] = (0.9, 1.1),
    shift_range: tuple[float, float] | None = None,
    n_jobs: int | None = 1,
    verbose: bool = True,
    corr_atol: float = 1e-4,
    corr_rtol: float = 1e-3,
    plateau_iters: int = 3,
    shrink_factor_dx: float | None = 2.0,
    shrink_factor_dy: float | None = 2.0,
    shrink_factor_sx: float | None = 2.0,
    shrink_factor_sy: float | None = 2.0,
    neighbor_extent: int = 11,
) -> tuple[dict[str, float], NDArray[np.float64]]:
    """Climb to the highest correlation; `stackalign.optimize.neighbor_search` in the arguments of the first version.

    Parameters
    ----------
    ref_img, target_img : array
        See `correlation_for_params`.
    dx0, dy0, squeeze_x0, squeeze_y0 : float
        Start.
    step_dx0, step_dy0, step_sx0, step_sy0 : float
        First steps; 0 freezes a parameter.
    min_step_dx, min_step_dy, min_step_sx, min_step_sy : float
        Smallest steps.
    n_neighbors, max_iter, neighbor_extent : int
        Neighbours per iteration, iterations, and how many steps away a neighbour may be.
    center : array_like, optional
        (cy, cx) of the scale.
    squeeze_x_bounds, squeeze_y_bounds : (float, float)
        Bounds of the scales.
    shift_range : (float, float), optional
        Bounds (lowest, highest) of both shifts.
    n_jobs : int, optional
        Number of threads; None takes one per core. Results do not depend on it.
    verbose : bool
        Say the outcome on standard error.
    corr_atol, corr_rtol, plateau_iters, shrink_factor_dx, shrink_factor_dy, shrink_factor_sx, shrink_factor_sy
        See `neighbor_search`.

    Returns
    -------
    best_params : dict
        dx, dy, squeeze_x, squeeze_y and corr of the best candidate that was scored; with "center" (cy, cx) where one
        was given, so that `make_corrected_wcs_map` scales about it too.
    history : numpy.ndarray
        (N, 6) with the columns [iteration, dx, dy, squeeze_x, squeeze_y, corr].

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.ndimage import gaussian_filter
    >>> from stackalign import solar
    >>> image = gaussian_filter(np.random.default_rng(0).standard_normal((60, 60)), 3)
    >>> found = solar.optimize_alignment_local_grad_disc_persworkers(image, np.roll(image, 3, 1), verbose=False)
    >>> round(found[0]["dx"])
    -3
    """
    _same_grid(ref_img, target_img)
    pair = prepare_pair(ref_img, target_img, workers=n_jobs)
    objective = AffineNCC(pair, "shift+scale", center, workers=n_jobs)
    # The engine orders parameters (dy, dx, sy, sx), this interface (dx, dy, sx, sy).
    swap = [1, 0, 3, 2]
    steps = np.array([step_dx0, step_dy0, step_sx0, step_sy0])
    shifts = (-np.inf, np.inf) if shift_range is None else (float(min(shift_range)), float(max(shift_range)))
    result = neighbor_search(
        lambda params: objective(params[..., swap]),
        [dx0, dy0, squeeze_x0, squeeze_y0],
        steps=steps,
        # The first version took a smallest step above the first one to mean that steps do not shrink.
        min_steps=np.minimum([min_step_dx, min_step_dy, min_step_sx, min_step_sy], np.where(steps > 0, steps, np.inf)),
        bounds=[shifts, shifts, squeeze_x_bounds, squeeze_y_bounds],
        n_neighbors=n_neighbors,
        neighbor_extent=neighbor_extent,
        max_iter=max_iter,
        corr_atol=corr_atol,
        corr_rtol=corr_rtol,
        plateau_iters=plateau_iters,
        shrink_factor=[shrink_factor_dx, shrink_factor_dy, shrink_factor_sx, shrink_factor_sy],
    )
    names = ("dx", "dy", "squeeze_x", "squeeze_y")
    best: dict[str, Any] = dict(zip(names, result.parameters[0].tolist(), strict=True))
    best["corr"] = float(result.score[0])
    if center is not None:
        best["center"] = tuple(objective.center.tolist())
    if verbose:
        optimum = ", ".join(f"{name} {value:.4f}" for name, value in best.items() if name != "center")
        sys.stderr.write(f"{optimum} after {int(result.n_evaluations[0])} evaluations: {result.reason[0]}\n")
    return best, result.history[0]
