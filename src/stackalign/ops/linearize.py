"""Linearization of the masked correlation about a transform: what a Gauss-Newton step and an error bar are made of."""

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import ArrayLike

from stackalign import transforms
from stackalign._carriers import plain_array
from stackalign._types import FloatArray
from stackalign.backends import Array, backend_for

from . import _check
from ._linear_sums import AffineLinearization, contrast_of, linearization
from .correlate import ImagePair
from .transfer import asarray

__all__ = ["AffineLinearization", "linearize_affine", "linearize_with_jacobian"]


TILES = 10
"""Tiles along the shorter side of the reference, for the covariance: some hundred in all tell a variance to 7 %."""

SMALLEST_TILE, LARGEST_TILE = 8, 48

TILE_IN_SIGMAS, FEWEST_TILES = 10.0, 5

ASIDE = 0.1
"""Pixels that the farthest pixel is moved by, to both sides, where the curvature is measured."""


def linearize_affine(
    pair: ImagePair,
    matrices: ArrayLike,
    model: str,
    *,
    center: ArrayLike | None = None,
    derivatives: str = "moving",
    covariance: bool = False,
    workers: int | None = None,
) -> AffineLinearization:
    """Linearize the masked normalised cross-correlation about one transform per problem, in one pass.

    Parameters
    ----------
    pair : ImagePair
        Made by `prepare_pair`.
    matrices : array_like
        (2, 3) pull matrix for a pair or for every problem, or (B, 2, 3); of the model.
    model : str
        A key of `stackalign.transforms.MODELS`; shifts are in pixels, angles in degrees.
    center : array_like, optional
        (2,) centre (y, x) of scale and rotation in pixel indices; the middle of the reference by default.
    derivatives : {"moving", "reference"}
        Whose derivatives stand for those of the samples. Those of the moving image, the default, give the gradient of
        the score. Those of the reference, by central differences, give an estimating equation in its place: where
        "gradient" is 0 the residual has nothing in common with the reference's derivatives. Noise of the moving image
        is then multiplied by nothing but the reference, and its smoothing by interpolation, which makes the score
        prefer half pixels, has no effect.
    covariance : bool
        Also estimate the covariance of the parameters, as if the matrices were the optimum.
    workers : int, optional
        Number of CPU threads; one per core by default. Results do not depend on it.

    Returns
    -------
    AffineLinearization

    Raises
    ------
    ValueError
        The matrices have another shape, are not finite, or are not of the model.

    Notes
    -----
    With u the moving samples, centred and of norm 1, and t the reference likewise, the score is ``t . u``, and
    ``du = (J - u (u . J)) / |v|`` with J the derivatives of the samples, centred: the gradient is ``t . du``. Its
    derivative is about ``-score * du . du``, the part that the disagreement of the images contributes being left out.

    The covariance is that of a least-squares fit of the reference by offset, gain and the model, with sums of the
    residual times the derivatives over tiles as independent contributions (White, Econometrica 48, 817, 1980, with
    clusters). Residuals that are correlated over some pixels, as smoothing and interpolation make them, are thereby
    taken as they are. What interpolation does to the scene counts as a residual; the bias towards half pixels on
    noisy images does not.

    `normal` holds the derivatives' squares, those of the moving image's noise as well: where pixels fall between its
    pixels in all ways, it is too large by their share, and steps are too short. For the covariance of an optimum the
    curvature is therefore measured, by differences of the gradient as each parameter moves the farthest pixel by 0.1
    pixels to both sides: 2 P passes more. With `derivatives` of the reference it is not, and is too large by the noise
    of the reference.

    Examples
    --------
    >>> import numpy as np
    >>> import stackalign as sa
    >>> y, x = np.mgrid[:64, :64]
    >>> reference, moving = (np.exp(-((y - cy) ** 2 + (x - 30) ** 2) / 200) for cy in (31.0, 30.6))
    >>> pair = sa.prepare_pair(reference, moving)
    >>> fit = sa.linearize_affine(pair, [[1, 0, 0], [0, 1, 0]], "shift")
    >>> np.linalg.solve(fit.normal, fit.gradient).round(2) + 0.0  # a Gauss-Newton step towards (0.4, 0)
    array([0.4, 0. ])
    """
    m = _matrices(pair, matrices)
    middle = transforms.image_center(tuple(pair.reference.shape))
    about = middle if center is None else plain_array(center, np.float64, "center")
    parameters = transforms.parameters_from_matrices(m, about, model)
    jacobian = transforms.matrix_jacobian(parameters, model, about)
    if derivatives not in ("moving", "reference"):
        msg = f'derivatives must be "moving" or "reference", got {derivatives!r}'
        raise ValueError(msg)
    slopes = reference_slopes(pair.reference) if derivatives == "reference" else None
    linear = linearize_with_jacobian(pair, m, jacobian, slopes=slopes, covariance=covariance, workers=workers)
    if not pair.single:
        return linear
    return AffineLinearization(*(None if a is None else a[0] for a in vars(linear).values()))  # type: ignore[arg-type]


def linearize_with_jacobian(
    pair: ImagePair,
    matrices: FloatArray,
    jacobian: FloatArray,
    *,
    slopes: Array | None = None,
    covariance: bool = False,
    workers: int | None = None,
) -> AffineLinearization:
    """`linearize_affine` for matrices (B, 2, 3) whose derivatives (B, P, 2, 3) are known; the axis B stays.

    With `slopes`, those of `reference_slopes`, the derivatives are the reference's.
    """
    tile = covariance_tile(pair.reference.shape[1:]) if covariance else 0
    chain = _chain(pair.reference, matrices, jacobian, of_reference=slopes is not None)
    # What no parameter moves off the diagonal needs fewer sums.
    diagonal = not (matrices[:, [0, 1], [1, 0]].any() or chain[..., [1, 3]].any())
    sums = _sums(pair.reference, pair.moving, slopes, matrices, tile, diagonal, workers)
    measured = None
    if covariance and slopes is None:
        measured = _measured_curvature(pair, matrices, jacobian, workers)
    return linearization(sums, chain, _n_pixels(pair.reference), covariance, measured, slopes is not None)


def linearize_resampled(
    reference: Array,
    resampled: Array,
    slopes: Array,
    matrices: FloatArray,
    jacobian: FloatArray,
    tile: int,
    workers: int | None,
    noise_share: FloatArray | None = None,
) -> tuple[AffineLinearization, FloatArray]:
    """Do as `linearize_with_jacobian` where the moving planes are samples on the reference's pixels already.

    `noise_share` (B,) is how much of both images' noise is the samples'. Given that, the gradient is of a residual
    whose gain is not attenuated by this noise (Fuller, Measurement Error Models, 1987, section 1.1): else a share of
    the scene would be left in it, which pulls scenes that are brighter on one side.

    Returns the linearization with its covariance, and the sums (B, T, 42) over tiles of a side of `tile` pixels, as
    `Backend.linearize_affine` describes them.
    """
    there = np.tile(np.eye(2, 3), (len(matrices), 1, 1))
    sums = _sums(reference, resampled, slopes, there, tile, False, workers)
    chain = _chain(reference, matrices, jacobian, of_reference=True)
    return linearization(sums, chain, _n_pixels(reference), True, None, True, noise_share), sums


def shared_sums(
    reference: Array, resampled: Array, slopes: tuple[Array, Array], tile: int, workers: int | None
) -> list[Array]:
    """Sums (B, T, 42) of `linearize_resampled`, and two more (B, 1, 42) for what `linearize_shared` returns.

    Of the `slopes` of the reference and of the samples; all stay on their device, where copies are expensive.
    """
    backend, n = backend_for(reference, resampled), _check.n_workers(workers)
    there = np.tile(np.eye(2, 3), (int(reference.shape[0]), 1, 1))
    of_both = ((slopes[0], tile), (slopes[0] + slopes[1], 0), (slopes[0] - slopes[1], 0))
    return [backend.linearize_affine(reference, resampled, s, there, t, False, n) for s, t in of_both]


def linearize_shared(
    sums: list[FloatArray],
    reference: Array,
    matrices: FloatArray,
    jacobian: FloatArray,
    noise_share: FloatArray | None = None,
) -> tuple[AffineLinearization, FloatArray]:
    """Do as `linearize_resampled`, from the `shared_sums` on the host; and what both images show of the normal matrix.

    The normal matrix of the linearization holds the squares of the reference's slopes, their noise included. The one
    (B, P, P) that is returned beside it holds the products of the reference's slopes with those of the samples, times
    the gain of these: the noise of one image has nothing in common with that of the other (instrumental variables;
    Wald, Ann. Math. Stat. 11, 284, 1940).
    """
    chain, n_pixels = _chain(reference, matrices, jacobian, of_reference=True), _n_pixels(reference)
    linear = linearization(sums[0], chain, n_pixels, True, None, True, noise_share)
    # (a b) = ((a + b)^2 - (a - b)^2) / 4
    both = linearization(np.concatenate(sums[1:]), np.concatenate([chain, chain]), n_pixels, False, None, True)
    plus, minus = np.split(both.normal, 2)
    return linear, np.asarray((0.25 * contrast_of(sums[0]))[:, None, None] * (plus - minus))


def covariance_tile(shape: tuple[int, ...], smooth: float = 0.0) -> int:
    """Side in pixels of the tiles whose sums make the covariance of images of a shape that were smoothed.

    What is left of noise then hangs together over some 3.5 sigmas of the Gaussian along each axis.
    """
    side = min(max(min(shape) // TILES, SMALLEST_TILE), LARGEST_TILE)
    return max(side, min(int(TILE_IN_SIGMAS * smooth), min(shape) // FEWEST_TILES))


def _n_pixels(planes: Array) -> int:
    return int(planes.shape[1] * planes.shape[2])


def _chain(reference: Array, matrices: FloatArray, jacobian: FloatArray, *, of_reference: bool) -> FloatArray:
    """Derivatives (B, P, 6) of the numbers of a matrix that counts y and x from the middle of the reference."""
    # A point of the reference that moves by e is met by one of the moving image that moves by M e.
    chain = np.linalg.inv(matrices[:, None, :, :2]) @ jacobian if of_reference else jacobian.copy()
    chain[..., 2] += chain[..., :2] @ transforms.image_center(tuple(int(n) for n in reference.shape[1:]))
    return np.asarray(chain.reshape(*chain.shape[:2], 6))


def _sums(
    reference: Array,
    moving: Array,
    slopes: Array | None,
    matrices: FloatArray,
    tile: int,
    diagonal: bool,
    workers: int | None,
) -> FloatArray:
    backend = backend_for(reference, moving)
    raw = backend.linearize_affine(reference, moving, slopes, matrices, tile, diagonal, _check.n_workers(workers))
    return np.asarray(backend.to_numpy(raw))


def _measured_curvature(pair: ImagePair, matrices: FloatArray, jacobian: FloatArray, workers: int | None) -> FloatArray:
    """Minus the Hessian (B, P, P) of the score, by differences of the gradient, over many edges of the samples."""
    bottom, right = (side - 1.0 for side in pair.reference.shape[1:])
    corners = np.array([[0.0, 0.0, 1.0], [0.0, right, 1.0], [bottom, 0.0, 1.0], [bottom, right, 1.0]])
    moved = jacobian @ corners.T
    steps = ASIDE / np.hypot(moved[..., 0, :], moved[..., 1, :]).max(axis=-1)
    curvature = np.empty((*steps.shape, steps.shape[1]))
    for k in range(steps.shape[1]):
        aside = steps[:, k, None, None] * jacobian[:, k]
        before, after = (
            linearize_with_jacobian(pair, matrices + sign * aside, jacobian, workers=workers).gradient
            for sign in (-1.0, 1.0)
        )
        curvature[:, k] = (before - after) / (2.0 * steps[:, k, None])
    return 0.5 * (curvature + np.swapaxes(curvature, 1, 2))


def reference_slopes(planes: Array) -> Array:
    """Derivatives (B, 2, H, W) of planes (B, H, W) by central differences, NaN where a neighbour is not valid."""
    xp = array_namespace(planes)
    slopes = xp.full((planes.shape[0], 2, *planes.shape[1:]), xp.nan, dtype=planes.dtype)
    if planes.shape[1] > 2:
        slopes[:, 0, 1:-1] = 0.5 * (planes[:, 2:] - planes[:, :-2])
    if planes.shape[2] > 2:
        slopes[:, 1, :, 1:-1] = 0.5 * (planes[:, :, 2:] - planes[:, :, :-2])
    return slopes


def _matrices(pair: ImagePair, matrices: ArrayLike) -> FloatArray:
    """Check matrices and give them the shape (B, 2, 3)."""
    m = asarray(matrices, "cpu", np.float64)
    if m.shape not in ((2, 3), (pair.n_problems, 2, 3)) or not np.isfinite(m).all():
        msg = f"matrices must be finite and have the shape (2, 3) or ({pair.n_problems}, 2, 3), got {m.shape}"
        raise ValueError(msg)
    return np.ascontiguousarray(np.broadcast_to(m, (pair.n_problems, 2, 3)))
