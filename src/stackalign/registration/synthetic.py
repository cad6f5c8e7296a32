"""Image pairs whose true transform is known, and how well any method could find it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stackalign import transforms
from stackalign._carriers import plain_array
from stackalign._types import FloatArray

__all__ = ["SyntheticPair", "create_test_pair", "point_error", "random_scene"]


SPLINE_ORDER = 5
FEATURE_SIZES = (2.0, 5.0, 15.0)


@dataclass(frozen=True)
class SyntheticPair:
    """Two images of one scene, and the truth.

    Parameters
    ----------
    reference, moving : numpy.ndarray
        float64, NaN where invalid.
    model : str
        A key of `stackalign.transforms.MODELS`.
    parameters : numpy.ndarray
        (P,) the true ones, about the middle of the reference.
    matrix : numpy.ndarray
        (2, 3) the true pull matrix.
    bound : numpy.ndarray
        (P, P) Cramer-Rao bound of the parameters' covariance: what no unbiased method that knows neither gain nor
        offset can undercut, from the gradient of the truth, the noise and the pixels that both images have. Zero
        without noise.
    """

    reference: FloatArray
    moving: FloatArray
    model: str
    parameters: FloatArray
    matrix: FloatArray
    bound: FloatArray


def random_scene(shape: tuple[int, int], seed: int = 0) -> FloatArray:
    """Sum of three Gaussian-filtered noises (sigma 2, 5 and 15 px, amplitudes 1, 1 and 2), of deviation 1.

    Parameters
    ----------
    shape : tuple of int
        (H, W) in pixels.
    seed : int
        The same seed gives the same scene.

    Returns
    -------
    numpy.ndarray
        (H, W) float64 of mean 0.

    Examples
    --------
    >>> from stackalign.registration import random_scene
    >>> scene = random_scene((64, 80), seed=1)
    >>> scene.shape, round(float(scene.std()), 6)
    ((64, 80), 1.0)
    """
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    scene = np.zeros(shape)
    for size, amplitude in zip(FEATURE_SIZES, (1.0, 1.0, 2.0), strict=True):
        layer = gaussian_filter(rng.normal(size=shape), size)
        scene += amplitude * layer / layer.std()
    normalised: FloatArray = (scene - scene.mean()) / scene.std()
    return normalised


def create_test_pair(
    shape: tuple[int, int] = (256, 256),
    model: str = "shift",
    parameters: Sequence[float] | Mapping[str, float] | None = None,
    *,
    scene: ArrayLike | None = None,
    noise: float = 0.0,
    gain: float = 1.7,
    offset: float = 3.0,
    holes: float = 0.0,
    salt: float = 0.0,
    moving_blur: float = 0.0,
    seed: int = 0,
) -> SyntheticPair:
    """Sample one continuous scene twice.

    Neither image is made from the other: both are taken from the same spline, so that no interpolation favours one
    transform over another.

    Parameters
    ----------
    shape : tuple of int
        (H, W) of both images.
    model : str
        A key of `stackalign.transforms.MODELS`.
    parameters : sequence or mapping of float, optional
        The true transform, about the middle of the image: all parameters in order, or some of them by name; none
        means the identity.
    scene : array_like, optional
        2-D, finite, without structure below about three pixels; the images are taken from its middle, and repeat it
        mirrored beyond its edges. A random scene by default.
    noise : float
        Standard deviation of the white noise in each image, in units of the scene's deviation.
    gain, offset : float
        The moving image is ``gain * scene + offset``, its noise times the gain.
    holes, salt : float
        Share of invalid pixels in each image: in blobs of some ten pixels, and single ones.
    moving_blur : float
        Sigma in pixels of a Gaussian over the moving image: a wider point-spread function.
    seed : int

    Returns
    -------
    SyntheticPair

    Raises
    ------
    ValueError
        The parameters do not fit the model, or a share is outside [0, 1).

    Examples
    --------
    >>> from stackalign.registration import create_test_pair
    >>> pair = create_test_pair((96, 128), "rigid", {"dy": 1.5, "angle": 2.0}, noise=0.05, holes=0.1, seed=3)
    >>> pair.reference.shape, pair.parameters
    ((96, 128), array([1.5, 0. , 2. ]))
    """
    from scipy.ndimage import gaussian_filter, map_coordinates, spline_filter

    if not (0 <= holes < 1 and 0 <= salt < 1 and noise >= 0 and moving_blur >= 0):
        msg = "holes and salt must be in [0, 1), noise and moving_blur 0 or more"
        raise ValueError(msg)
    truth = _parameters(model, parameters)
    rng = np.random.default_rng(seed)
    center = transforms.image_center(shape)
    matrix = transforms.matrices_from_parameters(truth, model, center)
    if scene is None:
        margin = 40 + int(np.ceil(np.abs(transforms.apply(transforms.invert(matrix), _corners(shape))).max()))
        scene = random_scene((shape[0] + 2 * margin, shape[1] + 2 * margin), seed)
    values = plain_array(scene, np.float64, "scene")
    if values.ndim != 2 or not np.isfinite(values).all():
        msg = "scene must be a finite 2-D array"
        raise ValueError(msg)
    values = (values - values.mean()) / values.std()
    middle = (np.array(values.shape) - 1.0) / 2.0 - center
    grid = _grid(shape)

    def sample(coefficients: FloatArray, points: FloatArray) -> FloatArray:
        at = np.moveaxis(points + middle, -1, 0)
        sampled: FloatArray = map_coordinates(coefficients, at, order=SPLINE_ORDER, mode="mirror", prefilter=False)
        return sampled

    sharp = spline_filter(values, SPLINE_ORDER, mode="mirror")
    blurred = sharp
    if moving_blur:
        blurred = spline_filter(gaussian_filter(values, moving_blur, mode="mirror"), SPLINE_ORDER, mode="mirror")
    reference = sample(sharp, grid) + noise * rng.normal(size=shape)
    moving = sample(blurred, transforms.apply(transforms.invert(matrix), grid))
    moving = offset + gain * (moving + noise * rng.normal(size=shape))
    for image in (reference, moving):
        image[_invalid(rng, shape, holes, salt)] = np.nan

    step = 1e-3
    slopes = [(sample(sharp, grid + o) - sample(sharp, grid - o)) / (2 * step) for o in step * np.eye(2)]
    gradient: FloatArray = np.stack(slopes, axis=-1)
    common = np.isfinite(reference) & _valid_at(moving, transforms.apply(matrix, grid))
    bound = _cramer_rao(sample(sharp, grid), gradient, common, truth, model, matrix, noise)
    return SyntheticPair(reference, moving, model, truth, matrix, bound)


def point_error(matrix: ArrayLike, pair: SyntheticPair) -> tuple[float, float]:
    """How far a pull matrix leads from where the true one leads.

    Parameters
    ----------
    matrix : array_like
        (2, 3) pull matrix, as of `RegistrationResult`.
    pair : SyntheticPair
        Where the true one comes from.

    Returns
    -------
    tuple of float
        Root mean square and largest distance, in pixels of the moving image, over the reference's pixels that both
        images have under the true transform.

    Examples
    --------
    >>> import numpy as np
    >>> from stackalign.registration import create_test_pair, point_error
    >>> pair = create_test_pair((64, 64), "shift", (2.0, -1.0))
    >>> rms, largest = point_error(pair.matrix + np.array([[0, 0, 0.3], [0, 0, 0.4]]), pair)
    >>> round(rms, 6), round(largest, 6)
    (0.5, 0.5)
    """
    grid = _grid(pair.reference.shape)
    target = transforms.apply(pair.matrix, grid)
    common = np.isfinite(pair.reference) & _valid_at(pair.moving, target)
    distance = np.linalg.norm(transforms.apply(matrix, grid[common]) - target[common], axis=-1)
    return float(np.sqrt((distance**2).mean())), float(distance.max())


def _parameters(model: str, parameters: Sequence[float] | Mapping[str, float] | None) -> FloatArray:
    values = transforms.identity(model)
    if parameters is None:
        return values
    if isinstance(parameters, Mapping):
        names = transforms.MODELS[model]
        unknown = set(parameters) - set(names)
        if unknown:
            msg = f"the model {model!r} has the parameters {', '.join(names)}, not {', '.join(sorted(unknown))}"
            raise ValueError(msg)
        for name, value in parameters.items():
            values[names.index(name)] = value
        return values
    vector = plain_array(parameters, np.float64, "parameters")
    if vector.shape != values.shape:
        msg = f"the model {model!r} has {len(values)} parameters, got {vector.shape}"
        raise ValueError(msg)
    return vector


def _grid(shape: tuple[int, ...]) -> FloatArray:
    """(H, W, 2) points (y, x)."""
    return np.moveaxis(np.indices(shape).astype(np.float64), 0, -1)


def _corners(shape: tuple[int, int]) -> FloatArray:
    h, w = shape[0] - 1.0, shape[1] - 1.0
    return np.array([[0.0, 0.0], [0.0, w], [h, 0.0], [h, w]])


def _invalid(rng: np.random.Generator, shape: tuple[int, int], holes: float, salt: float) -> NDArray[np.bool_]:
    from scipy.ndimage import gaussian_filter

    invalid = rng.random(shape) < salt
    if holes:
        blobs = gaussian_filter(rng.normal(size=shape), 6.0)
        invalid |= blobs > np.quantile(blobs, 1.0 - holes)
    return invalid


def _valid_at(image: FloatArray, points: FloatArray) -> NDArray[np.bool_]:
    """Whether the pixel nearest to each point is inside and valid."""
    nearest = np.rint(points).astype(np.int64)
    inside = ((nearest >= 0) & (nearest < image.shape)).all(axis=-1)
    y, x = (np.clip(nearest[..., k], 0, image.shape[k] - 1) for k in (0, 1))
    valid: NDArray[np.bool_] = inside & np.isfinite(image[y, x])
    return valid


def _cramer_rao(
    truth: FloatArray,
    gradient: FloatArray,
    common: NDArray[np.bool_],
    parameters: FloatArray,
    model: str,
    matrix: FloatArray,
    noise: float,
) -> FloatArray:
    """Bound on the covariance of the parameters where gain and offset are unknown too.

    The images differ by noise of variance ``2 noise**2`` a pixel. A parameter t moves the point where the moving image
    is sampled by ``dM/dt p``; in the scene that is a move by ``A dM/dt p``.
    """
    if noise == 0.0 or common.sum() <= len(parameters) + 2:
        return np.zeros((len(parameters), len(parameters)))
    points = np.argwhere(common).astype(np.float64)
    center = transforms.image_center(truth.shape)
    jacobian = transforms.matrix_jacobian(parameters, model, center)
    forward = np.linalg.inv(matrix[:, :2])
    moves = np.einsum("ij,kjl,nl->nki", forward, jacobian, np.column_stack([points, np.ones(len(points))]))
    columns = np.einsum("nki,ni->nk", moves, gradient[common])
    columns = np.column_stack([columns, truth[common], np.ones(len(points))])
    information = columns.T @ columns / (2.0 * noise**2)
    bound: FloatArray = np.linalg.pinv(information, hermitian=True)[: len(parameters), : len(parameters)]
    return bound
