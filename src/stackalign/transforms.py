"""Affine transforms: from parameters to pull matrices and back.

The model, used everywhere
    A moving pixel q appears at the reference pixel ``p = c + A (q - c) + d``, with points (y, x) in pixel indices, the
    centre c (by default the middle of the image), the shift ``d = (dy, dx)`` and ``A = R(angle) K(shear) S(sy, sx)``.

    - Positive ``dy, dx`` move the content of the moving image to larger indices.
    - ``s > 1`` magnifies the moving image.
    - ``angle``, in degrees, turns +y towards +x as an array is printed, rows downwards: what points down comes to point
      right. ``R = [[cos, -sin], [sin, cos]]`` on (y, x).
    - ``shear`` moves content by ``shear * (y - cy)`` along x, before the rotation: ``K = [[1, 0], [shear, 1]]``.

Pull matrices
    Resampling asks the other way round where the moving image is to be sampled for a reference pixel:
    ``q = M[:, :2] @ p + M[:, 2]`` with ``M[:, :2] = inv(A)`` and ``M[:, 2] = c - inv(A) (c + d)``, as
    `scipy.ndimage.affine_transform` takes it.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stackalign._carriers import plain_array

__all__ = [
    "MODELS",
    "apply",
    "compose",
    "identity",
    "image_center",
    "invert",
    "matrices_from_parameters",
    "matrix_jacobian",
    "parameters_from_matrices",
]

MODELS: dict[str, tuple[str, ...]] = {
    "shift": ("dy", "dx"),
    "shift+scale": ("dy", "dx", "sy", "sx"),
    "rigid": ("dy", "dx", "angle"),
    "similarity": ("dy", "dx", "scale", "angle"),
    "shift+scale+angle": ("dy", "dx", "sy", "sx", "angle"),
    "affine": ("dy", "dx", "sy", "sx", "angle", "shear"),
}
"""Names of the parameters of each model, in order."""

_NEUTRAL = {"sy": 1.0, "sx": 1.0, "scale": 1.0}


def image_center(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Middle of an image, ``(n - 1) / 2`` along the last two axes, in pixel indices.

    Examples
    --------
    >>> from stackalign import transforms
    >>> transforms.image_center((5, 8))
    array([2. , 3.5])
    """
    return (plain_array(shape, np.float64, "shape")[-2:] - 1.0) / 2.0


def identity(model: str) -> NDArray[np.float64]:
    """Parameters of a model that change nothing.

    Examples
    --------
    >>> from stackalign import transforms
    >>> transforms.identity("shift+scale")  # dy, dx, sy, sx
    array([0., 0., 1., 1.])
    """
    return np.array([_NEUTRAL.get(name, 0.0) for name in _names(model)])


def _names(model: str) -> tuple[str, ...]:
    if model not in MODELS:
        msg = f"model must be one of {', '.join(MODELS)}, got {model!r}"
        raise ValueError(msg)
    return MODELS[model]


def _full(parameters: ArrayLike, model: str) -> dict[str, NDArray[np.float64]]:
    """Every parameter of the affine model, from those of a smaller one."""
    names = _names(model)
    values = plain_array(parameters, np.float64, "parameters")
    if values.ndim < 1 or values.shape[-1] != len(names):
        msg = (
            f"parameters of the model {model!r} must have {len(names)} columns ({', '.join(names)}), got {values.shape}"
        )
        raise ValueError(msg)
    if not np.isfinite(values).all():
        msg = f"parameters must be finite, got {int((~np.isfinite(values)).sum())} that are not"
        raise ValueError(msg)
    columns = dict(zip(names, np.moveaxis(values, -1, 0), strict=True))
    scale = columns.pop("scale", None)
    if scale is not None:
        columns |= {"sy": scale, "sx": scale}
    zero = np.zeros(values.shape[:-1])
    full = {name: columns.get(name, zero + _NEUTRAL.get(name, 0.0)) for name in MODELS["affine"]}
    if (full["sy"] == 0).any() or (full["sx"] == 0).any():
        msg = "scales must not be 0"
        raise ValueError(msg)
    return full


def matrices_from_parameters(parameters: ArrayLike, model: str, center: ArrayLike) -> NDArray[np.float64]:
    """Build pull matrices.

    Parameters
    ----------
    parameters : array_like
        (..., P) with the columns that `MODELS` names.
    model : str
        A key of `MODELS`.
    center : array_like
        (2,) centre c, (y, x) in pixel indices; `image_center` gives the usual one.

    Returns
    -------
    numpy.ndarray
        (..., 2, 3) float64.

    Raises
    ------
    ValueError
        The model is unknown, the number of columns does not fit, a parameter is not finite, or a scale is 0.

    Examples
    --------
    >>> from stackalign import transforms
    >>> transforms.matrices_from_parameters([2.0, -1.0], "shift", center=(0, 0)) + 0.0  # where it came from
    array([[ 1.,  0., -2.],
           [ 0.,  1.,  1.]])
    """
    p = _full(parameters, model)
    inverse = _inverse_linear(p)
    c = plain_array(center, np.float64, "center")
    shift = np.stack([p["dy"], p["dx"]], axis=-1)
    offset = c - np.einsum("...ij,...j->...i", inverse, c + shift)
    return np.concatenate([inverse, offset[..., None]], axis=-1)


def _inverse_linear(p: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    """Inverse of A = R K S, written out: inv(S) inv(K) R^T. Exact where angle and shear are 0."""
    angle = np.deg2rad(p["angle"])
    cos, sin = np.cos(angle), np.sin(angle)
    shear = p["shear"]
    rows = [
        [cos / p["sy"], sin / p["sy"]],
        [(-sin - shear * cos) / p["sx"], (cos - shear * sin) / p["sx"]],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def matrix_jacobian(parameters: ArrayLike, model: str, center: ArrayLike) -> NDArray[np.float64]:
    """Derivatives of the pull matrices with respect to the parameters.

    Parameters
    ----------
    parameters : array_like
        (..., P).
    model : str
    center : array_like
        (2,) centre c.

    Returns
    -------
    numpy.ndarray
        (..., P, 2, 3): element [..., k, :, :] is dM / d(parameter k); for `angle`, per degree.

    Notes
    -----
    With B = inv(A): dB = -B (dA) B, and the offset follows from ``c - B (c + d)``.

    Examples
    --------
    >>> from stackalign import transforms
    >>> transforms.matrix_jacobian([2.0, -1.0], "shift", center=(0, 0))[0]  # with respect to dy
    array([[ 0.,  0., -1.],
           [ 0.,  0.,  0.]])
    """
    names = _names(model)
    p = _full(parameters, model)
    b = _inverse_linear(p)
    c = plain_array(center, np.float64, "center")
    moved = np.stack([c[0] + p["dy"], c[1] + p["dx"]], axis=-1)[..., None]
    jacobian = np.zeros((*p["dy"].shape, len(names), 2, 3))
    for k, name in enumerate(names):
        if name == "dy":
            jacobian[..., k, :, 2] = -b[..., :, 0]
        elif name == "dx":
            jacobian[..., k, :, 2] = -b[..., :, 1]
        else:
            db = -b @ _linear_derivative(p, name) @ b
            jacobian[..., k, :, :2] = db
            jacobian[..., k, :, 2] = -(db @ moved)[..., 0]
    return jacobian


def _linear_derivative(p: dict[str, NDArray[np.float64]], name: str) -> NDArray[np.float64]:
    """Derivative (..., 2, 2) of A = R K S by one of its parameters; by the angle, per degree."""
    angle = np.deg2rad(p["angle"])
    cos, sin = np.cos(angle), np.sin(angle)
    sy, sx, shear = p["sy"], p["sx"], p["shear"]
    # R K = [[cos - shear sin, -sin], [sin + shear cos, cos]], and S scales its columns.
    turn = np.deg2rad(1.0)
    d = np.zeros((*angle.shape, 2, 2))
    if name in ("sy", "scale"):
        d[..., 0, 0], d[..., 1, 0] = cos - shear * sin, sin + shear * cos
    if name in ("sx", "scale"):
        d[..., 0, 1], d[..., 1, 1] = -sin, cos
    if name == "angle":
        d[..., 0, 0], d[..., 1, 0] = -(sin + shear * cos) * sy * turn, (cos - shear * sin) * sy * turn
        d[..., 0, 1], d[..., 1, 1] = -cos * sx * turn, -sin * sx * turn
    if name == "shear":
        d[..., 0, 0], d[..., 1, 0] = -sin * sy, cos * sy
    return d


def parameters_from_matrices(matrices: ArrayLike, center: ArrayLike, model: str = "affine") -> NDArray[np.float64]:
    """Recover the parameters of pull matrices.

    Parameters
    ----------
    matrices : array_like
        (..., 2, 3).
    center : array_like
        (2,) centre c.
    model : str
        A key of `MODELS`; a matrix that the model cannot express is refused.

    Returns
    -------
    numpy.ndarray
        (..., P), angles in (-180, 180].

    Raises
    ------
    ValueError
        A matrix is singular, mirrors the image, or is not one of the model (by more than 1e-9 of its
        largest number).

    Examples
    --------
    >>> from stackalign import transforms
    >>> matrix = transforms.matrices_from_parameters([2.0, -1.0, 30.0], "rigid", center=(10, 10))
    >>> transforms.parameters_from_matrices(matrix, (10, 10), "rigid").round(6).tolist()
    [2.0, -1.0, 30.0]
    """
    names = _names(model)
    m = _matrix_array(matrices)
    determinant = np.linalg.det(m[..., :2])
    if not (determinant > 0).all():
        msg = "a matrix is singular or mirrors the image; no parameters describe it"
        raise ValueError(msg)
    a = np.linalg.inv(m[..., :2])
    c = plain_array(center, np.float64, "center")
    shift = np.einsum("...ij,...j->...i", a, c - m[..., 2]) - c
    # The second column of A = R K S is sx (-sin, cos): K does not touch it.
    sx = np.hypot(a[..., 0, 1], a[..., 1, 1])
    cos, sin = a[..., 1, 1] / sx, -a[..., 0, 1] / sx
    sy = cos * a[..., 0, 0] + sin * a[..., 1, 0]
    shear = (-sin * a[..., 0, 0] + cos * a[..., 1, 0]) / sy
    columns = {
        "dy": shift[..., 0],
        "dx": shift[..., 1],
        "sy": sy,
        "sx": sx,
        "scale": np.sqrt(sy * sx),
        "angle": np.rad2deg(np.arctan2(sin, cos)),
        "shear": shear,
    }
    parameters = np.stack([columns[name] for name in names], axis=-1)
    allowed = 1e-9 * (1 + np.abs(m).max(axis=(-2, -1), keepdims=True))  # each matrix by its own numbers
    if not (np.abs(matrices_from_parameters(parameters, model, c) - m) <= allowed).all():
        msg = f"a matrix is not one of the model {model!r}; use model='affine'"
        raise ValueError(msg)
    return parameters


def _matrix_array(matrices: ArrayLike) -> NDArray[Any]:
    m = plain_array(matrices, np.float64, "matrices")
    if m.shape[-2:] != (2, 3) or not np.isfinite(m).all():
        msg = f"matrices must be finite and have the shape (..., 2, 3), got {m.shape}"
        raise ValueError(msg)
    return m


def apply(matrices: ArrayLike, points: ArrayLike) -> NDArray[np.float64]:
    """Map reference points (..., 2) to where the moving image is sampled for them; shapes broadcast.

    Examples
    --------
    >>> from stackalign import transforms
    >>> matrix = transforms.matrices_from_parameters([2.0, -1.0], "shift", center=(0, 0))
    >>> transforms.apply(matrix, [[10.0, 10.0]])
    array([[ 8., 11.]])
    """
    m = _matrix_array(matrices)
    p = plain_array(points, np.float64, "points")
    mapped: NDArray[np.float64] = np.einsum("...ij,...j->...i", m[..., :2], p) + m[..., 2]
    return mapped


def compose(outer: ArrayLike, inner: ArrayLike) -> NDArray[np.float64]:
    """Pull matrix that maps a point through `inner` first and through `outer` then.

    Examples
    --------
    >>> from stackalign import transforms
    >>> there = transforms.matrices_from_parameters([2.0, -1.0], "shift", center=(0, 0))
    >>> transforms.compose(there, there)[:, 2]
    array([-4.,  2.])
    """
    a, b = _matrix_array(outer), _matrix_array(inner)
    return np.concatenate([a[..., :2] @ b[..., :2], apply(a, b[..., 2])[..., None]], axis=-1)


def invert(matrices: ArrayLike) -> NDArray[np.float64]:
    """Pull matrix of the way back.

    Raises
    ------
    numpy.linalg.LinAlgError
        A matrix is singular.

    Examples
    --------
    >>> from stackalign import transforms
    >>> there = transforms.matrices_from_parameters([2.0, -1.0], "shift", center=(0, 0))
    >>> transforms.invert(there)[:, 2]
    array([ 2., -1.])
    """
    m = _matrix_array(matrices)
    inverse = np.linalg.inv(m[..., :2])
    return np.concatenate([inverse, -np.einsum("...ij,...j->...i", inverse, m[..., 2])[..., None]], axis=-1)
