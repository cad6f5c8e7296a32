"""The parameters of a correction as they appear in a header: shift, lengths of the pixels, roll; and their covariance.

The engine's models turn and scale pixel grids. A roll of the instrument is a turn on the sky, and on pixels that are
5 times as long as they are high that is no rotation of the grid. So where the model has an angle and the pixels are not
square, the engine fits all six numbers of an affine transform and what the model allows is taken from them by
generalised least squares with their covariance, which loses nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from stackalign import transforms
from stackalign._types import FloatArray
from stackalign.registration import RegistrationResult

from .pixels import PixelTransform
from .polish import Agreement

__all__ = ["MODELS", "SkyFit", "SkyModel"]


MODELS: Mapping[str, tuple[str, ...]] = {
    "shift": ("dx", "dy"),
    "shift+scale": ("dx", "dy", "sx", "sy"),
    "shift+scale_x": ("dx", "dy", "sx"),
    "shift+scale_y": ("dx", "dy", "sy"),
    "rigid": ("dx", "dy", "angle"),
    "similarity": ("dx", "dy", "scale", "angle"),
    "shift+scale+angle": ("dx", "dy", "sx", "sy", "angle"),
    "affine": ("dx", "dy", "sx", "sy", "angle", "shear"),
}
"""Parameters: dx, dy in pixels is how far the middle of the image moves; sx, sy is how much longer a pixel is than its
header says; angle in degrees is added to CROTA; shear moves a row along x, in pixels per row."""

SQUARE = 1e-3
"""Pixels whose sides and angle agree within this share are square: a roll is a rotation of the grid."""


QUARTER = np.array([[0.0, -1.0], [1.0, 0.0]])
"""A turn by 90 degrees: times a turn, its derivative by the angle."""


@dataclass(frozen=True)
class SkyFit:
    """Parameters of a model, their covariance, and the correction that they make."""

    parameters: FloatArray
    covariance: FloatArray
    correction: PixelTransform


@dataclass(frozen=True)
class SkyModel:
    """A model on an image of a shape (ny, nx) whose pixels are `jacobian` (2, 2) large, in arcsec (Tx, Ty) per pixel.

    With the parameters' roll R on the sky, the correction is ``p = c + J^-1 R J diag(sx, sy) (q - c) + d``.
    """

    name: str
    jacobian: FloatArray
    shape: tuple[int, int]

    def __post_init__(self) -> None:
        if self.name not in MODELS:
            msg = f"model must be one of {', '.join(MODELS)}, got {self.name!r}"
            raise ValueError(msg)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters."""
        return MODELS[self.name]

    @property
    def neutral(self) -> FloatArray:
        """Parameters that change nothing."""
        return np.array([1.0 if name in ("sx", "sy", "scale") else 0.0 for name in self.names])

    @property
    def center(self) -> FloatArray:
        """Middle of the image, (x, y)."""
        ny, nx = self.shape
        return np.array([(nx - 1) / 2, (ny - 1) / 2])

    @property
    def engine(self) -> str:
        """The engine's model that is fitted."""
        if "angle" not in self.names:
            return "shift+scale" if {"sx", "sy"} & set(self.names) else self.name
        if self.name in ("rigid", "similarity"):
            gram = self.jacobian.T @ self.jacobian
            mean = np.trace(gram) / 2
            if np.abs(gram - mean * np.eye(2)).max() < SQUARE * mean:
                return self.name
        return "affine"

    def correction(self, parameters: ArrayLike) -> PixelTransform:
        """Correction that the parameters make."""
        named, turn, lengths, sheared = self._factors(parameters)
        return PixelTransform.about(self.center, self._on_pixels(turn) @ lengths @ sheared, (named["dx"], named["dy"]))

    def _factors(self, parameters: ArrayLike) -> tuple[dict[str, float], FloatArray, FloatArray, FloatArray]:
        """Parameters by name, and the turn, lengths and shear (2, 2) that they make."""
        named = dict(zip(self.names, np.asarray(parameters, np.float64).tolist(), strict=True))
        scale = named.get("scale", 1.0)
        angle = np.deg2rad(named.get("angle", 0.0))
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        lengths = np.diag([named.get("sx", scale), named.get("sy", scale)])
        return named, turn, lengths, np.array([[1.0, named.get("shear", 0.0)], [0.0, 1.0]])

    def _on_pixels(self, turn: FloatArray) -> FloatArray:
        """A matrix on the sky as one on pixels."""
        return np.asarray(np.linalg.solve(self.jacobian, turn @ self.jacobian), np.float64)

    @property
    def _points(self) -> FloatArray:
        """The middle and two edges: an affine transform is known by where it takes them."""
        ny, nx = self.shape
        points: FloatArray = self.center + np.array([[0.0, 0.0], [nx / 2, 0.0], [0.0, ny / 2]])
        return points

    @property
    def corners(self) -> FloatArray:
        """(4, 2) corners of the image."""
        ny, nx = self.shape
        return np.array([[0, 0], [nx - 1, 0], [0, ny - 1], [nx - 1, ny - 1]], np.float64)

    def _moves(self, parameters: FloatArray, points: FloatArray) -> FloatArray:
        moved: FloatArray = (self.correction(parameters)(points) - points).ravel()
        return moved

    def _derivative(self, parameters: FloatArray, points: FloatArray) -> FloatArray:
        """(2 N, P) of `_moves`."""
        _, turn, lengths, sheared = self._factors(parameters)
        turned, further = self._on_pixels(turn), self._on_pixels(np.deg2rad(QUARTER @ turn))
        matrices = {
            "sx": turned @ np.diag([1.0, 0.0]) @ sheared,
            "sy": turned @ np.diag([0.0, 1.0]) @ sheared,
            "scale": turned @ sheared,
            "angle": further @ lengths @ sheared,
            "shear": turned @ lengths @ np.array([[0.0, 1.0], [0.0, 0.0]]),
        }
        away = points - self.center
        columns = [np.tile([1.0, 0.0], len(points)), np.tile([0.0, 1.0], len(points))]
        columns += [(away @ matrices[name].T).ravel() for name in self.names[2:]]
        return np.stack(columns, axis=-1)

    def moves(self, parameters: FloatArray) -> FloatArray:
        """(6,) by how far the middle and two edges of the image are moved, (x, y) of each."""
        return self._moves(parameters, self._points)

    def slope(self, parameters: FloatArray) -> FloatArray:
        """(6, P) derivatives of `moves`."""
        return self._derivative(parameters, self._points)

    def fit(
        self,
        so_far: PixelTransform,
        grid: PixelTransform,
        registered: RegistrationResult,
        covariance: FloatArray | None = None,
    ) -> SkyFit:
        """Read the model's parameters from a registration.

        Parameters
        ----------
        so_far : PixelTransform
            The correction with which the reference was sampled.
        grid : PixelTransform
            Pixels of the grid on which images were compared to the image's own.
        registered : RegistrationResult
            Of the image as the reference and the sampled reference as the moving one.
        covariance : numpy.ndarray, optional
            From `covariance_of`, if another one than that of `registered`.
        """
        step = PixelTransform.from_pull(registered.matrix).inverse()
        total = so_far.after(grid.after(step).after(grid.inverse()))
        points = self._points
        moves = (total(points) - points).ravel()
        covariance = self.covariance_of(so_far, grid, registered) if covariance is None else covariance
        known = bool(np.isfinite(covariance).all())
        weight = np.linalg.pinv(covariance, rcond=1e-12, hermitian=True) if known else np.eye(6)
        values = self.neutral
        for _ in range(10):
            slope = self._derivative(values, points)
            normal = slope.T @ weight @ slope
            change = np.linalg.lstsq(normal, slope.T @ weight @ (moves - self._moves(values, points)), rcond=None)[0]
            values = values + change
            if np.abs(slope @ change).max() < 1e-10:
                break
        size = len(values)
        spread = np.linalg.pinv(normal, rcond=1e-14, hermitian=True) if known else np.full((size, size), np.inf)
        return SkyFit(values, np.asarray(spread, np.float64), self.correction(values))

    def read(self, so_far: PixelTransform, agreement: Agreement) -> SkyFit:
        """Read the model's parameters from the free moves of `polish.compare`, which are of the correction `so_far`.

        What the model allows is taken from them with the weights of their least squares, so that the fit is that of
        the model to the images.
        """
        points = self._points
        values = self._nearest((so_far(points) - points).ravel() + agreement.moves, agreement.normal)
        covariance = agreement.covariance(self._derivative(values, points))
        return SkyFit(values, covariance, self.correction(values))

    def _nearest(self, moves: FloatArray, weight: FloatArray) -> FloatArray:
        """Parameters whose moves are nearest to those of the middle and two edges."""
        values = self.neutral
        for _ in range(10):
            slope = self._derivative(values, self._points)
            left = slope.T @ weight @ (moves - self._moves(values, self._points))
            change = np.linalg.lstsq(slope.T @ weight @ slope, left, rcond=None)[0]
            values = values + change
            if np.abs(slope @ change).max() < 1e-10:
                break
        return values

    def between(self, first: SkyFit, second: SkyFit) -> SkyFit:
        """Halfway between two fits; the covariance is that of the second."""
        middle = (first.parameters + second.parameters) / 2
        return SkyFit(middle, second.covariance, self.correction(middle))

    def covariance_of(
        self, so_far: PixelTransform, grid: PixelTransform, registered: RegistrationResult, *, swapped: bool = False
    ) -> FloatArray:
        """Covariance (6, 6) of where the middle and two edges are moved; `swapped` if the image was the moving one."""
        if not np.isfinite(registered.covariance).all():
            return np.full((6, 6), np.inf)
        pull = PixelTransform.from_pull(registered.matrix)
        at, onward = grid.inverse()(self._points), so_far.matrix @ grid.matrix
        if swapped:
            # What a point of the reference is pulled from moves; the point itself moves by the inverse of that.
            at, onward = pull(at), onward @ pull.matrix
        slopes = transforms.matrix_jacobian(registered.parameters, registered.model, registered.center)
        moves = np.einsum("kij,nj->nik", slopes[:, :, :2], at[:, ::-1]) + slopes[:, :, 2].T
        moves = np.einsum("ij,njk->nik", onward, moves[:, ::-1]).reshape(6, -1)
        covariance: FloatArray = moves @ registered.covariance @ moves.T
        return covariance

    def largest_sigma(self, fit: SkyFit) -> float:
        """Largest standard error, in pixels, of a corner of the image along its axes."""
        if not np.isfinite(fit.covariance).all():
            return float("inf")
        slope = self._derivative(fit.parameters, self.corners)
        return float(np.sqrt(np.einsum("ik,kl,il->i", slope, fit.covariance, slope).max()))
