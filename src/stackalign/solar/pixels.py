"""Pixel transforms in the order of FITS, (x, y): the one place where they meet the engine's (y, x)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from stackalign import transforms
from stackalign._carriers import plain_array
from stackalign._types import FloatArray

__all__ = ["PixelTransform"]


@dataclass(frozen=True)
class PixelTransform:
    """An affine map of pixels, ``p = matrix @ q + offset``; apply it to target pixels to obtain reference pixels.

    Points are (x, y), counted from 0 = middle of the first pixel (FITS counts from 1: ``CRPIX - 1``).

    Parameters
    ----------
    matrix : numpy.ndarray
        (2, 2), the Jacobian J or A.
    offset : numpy.ndarray
        (2,).
    """

    matrix: FloatArray
    offset: FloatArray

    def __post_init__(self) -> None:
        matrix, offset = plain_array(self.matrix, np.float64, "matrix"), plain_array(self.offset, np.float64, "offset")
        if (
            matrix.shape != (2, 2)
            or offset.shape != (2,)
            or not (np.isfinite(matrix).all() and np.isfinite(offset).all())
        ):
            msg = f"a pixel transform needs a finite (2, 2) matrix and a finite (2,) offset, got {matrix} and {offset}"
            raise ValueError(msg)
        if abs(np.linalg.det(matrix)) < 1e-12:
            msg = "a pixel transform must not be singular: a scale of 0 leaves no image"
            raise ValueError(msg)
        object.__setattr__(self, "matrix", matrix)
        object.__setattr__(self, "offset", offset)

    @classmethod
    def identity(cls) -> "PixelTransform":
        """Change nothing."""
        return cls(np.eye(2), np.zeros(2))

    @classmethod
    def about(cls, center: ArrayLike, matrix: ArrayLike, shift: ArrayLike = (0.0, 0.0)) -> "PixelTransform":
        """Build ``p = c + A (q - c) + d`` from the centre c, the matrix A and the shift d, all in the order (x, y).

        Parameters
        ----------
        center : array_like
            (2,) the centre c.
        matrix : array_like
            (2, 2) the matrix A.
        shift : array_like
            (2,) the shift d.

        Returns
        -------
        PixelTransform
            Of pixels q to pixels p.
        """
        c, a = plain_array(center, np.float64, "center"), plain_array(matrix, np.float64, "matrix")
        return cls(a, c - a @ c + plain_array(shift, np.float64, "shift"))

    @classmethod
    def from_pull(cls, pull: ArrayLike) -> "PixelTransform":
        """Build it from a pull matrix of the engine, which maps reference to target pixels in (y, x).

        Parameters
        ----------
        pull : array_like
            (2, 3), as of `stackalign.RegistrationResult.matrix`.

        Returns
        -------
        PixelTransform
            From target to reference pixels, in (x, y).
        """
        push = transforms.invert(pull)
        return cls(push[::-1, 1::-1], push[::-1, 2])

    @classmethod
    def from_parameters(cls, parameters: ArrayLike, model: str, center: ArrayLike) -> "PixelTransform":
        """Build it from a model's parameters and centre as `stackalign.transforms` takes them: (y, x).

        Parameters
        ----------
        parameters : array_like
            (P,) of the model.
        model : str
            A key of `stackalign.transforms.MODELS`.
        center : array_like
            (2,) centre (y, x) of scale and angle.

        Returns
        -------
        PixelTransform
            The same in (x, y).
        """
        return cls.from_pull(transforms.matrices_from_parameters(parameters, model, center))

    def to_pull(self) -> FloatArray:
        """Pull matrix (2, 3) of the engine."""
        push = np.concatenate([self.matrix[::-1, ::-1], self.offset[::-1, None]], axis=1)
        return transforms.invert(push)

    def __call__(self, points: ArrayLike) -> FloatArray:
        """Map target pixels (..., 2) to reference pixels."""
        p = plain_array(points, np.float64, "points")
        mapped = np.empty(p.shape)
        # Written out: a product with a 2 x 2 matrix takes ten times as long for a million points.
        for i in (0, 1):
            mapped[..., i] = p[..., 0] * self.matrix[i, 0] + p[..., 1] * self.matrix[i, 1] + self.offset[i]
        return mapped

    def inverse(self) -> "PixelTransform":
        """Map reference pixels to target pixels."""
        inverse = np.linalg.inv(self.matrix).astype(np.float64)
        return PixelTransform(inverse, -inverse @ self.offset)

    def after(self, first: "PixelTransform") -> "PixelTransform":
        """Map through `first` and then through this one.

        Parameters
        ----------
        first : PixelTransform
            What is applied before.

        Returns
        -------
        PixelTransform
            Both as one.
        """
        return PixelTransform(self.matrix @ first.matrix, self(first.offset))

    def shift_at(self, center: ArrayLike) -> FloatArray:
        """Shift d (x, y) of the form ``c + A (q - c) + d`` about that centre.

        Parameters
        ----------
        center : array_like
            (2,) the centre c, (x, y).

        Returns
        -------
        numpy.ndarray
            (2,) in pixels.
        """
        c = plain_array(center, np.float64, "center")
        moved: FloatArray = self(c) - c
        return moved
