"""Objectives: what an optimiser calls with parameters, and what turns them into scores of images."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stackalign import transforms
from stackalign._carriers import plain_array
from stackalign.backends import Array
from stackalign.ops import AffineLinearization, ImagePair, score_affine, to_numpy
from stackalign.ops.linearize import linearize_with_jacobian, reference_slopes

__all__ = ["AffineNCC"]


class AffineNCC:
    """Masked normalised cross-correlation of a pair, or of B pairs, as a function of a model's parameters.

    Parameters
    ----------
    pair : ImagePair
        Made by `stackalign.ops.prepare_pair`; on any device.
    model : str
        A key of `stackalign.transforms.MODELS`.
    center : array_like, optional
        (2,) centre (y, x) of scale and rotation in pixel indices; the middle of the reference by default.
    workers : int, optional
        Number of CPU threads; one per core by default. Scores do not depend on it.

    Raises
    ------
    ValueError
        The model is unknown, or the centre is not two finite numbers.
    """

    def __init__(
        self, pair: ImagePair, model: str, center: ArrayLike | None = None, workers: int | None = None
    ) -> None:
        self.identity = transforms.identity(model)
        self.pair = pair
        self.model = model
        self.workers = workers
        self._slopes: Array | None = None
        middle = transforms.image_center(tuple(pair.reference.shape))
        self.center = middle if center is None else plain_array(center, np.float64, "center")
        if self.center.shape != (2,) or not np.isfinite(self.center).all():
            msg = f"center must be two finite numbers (y, x), got {center!r}"
            raise ValueError(msg)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the P parameters, in order."""
        return transforms.MODELS[self.model]

    @property
    def n_problems(self) -> int:
        """Number of pairs B."""
        return self.pair.n_problems

    def score(self, params: ArrayLike) -> NDArray[np.float64]:
        """Score candidates.

        Parameters
        ----------
        params : array_like
            (B, K, P): K candidates for each of the B pairs, B = 1 for a single pair; shifts in pixels, angles in
            degrees.

        Returns
        -------
        numpy.ndarray
            (B, K) float64 in [-1, 1] on the host; 0.0 where nothing overlaps.

        Raises
        ------
        ValueError
            The shape does not fit, a parameter is not finite, or a scale is 0.
        """
        values = plain_array(params, np.float64, "params")
        expected = (self.n_problems, len(self.names))
        if values.ndim != 3 or (values.shape[0], values.shape[2]) != expected or not values.shape[1]:
            msg = f"params must have the shape (B, K, P) = ({expected[0]}, K, {expected[1]}), got {values.shape}"
            raise ValueError(msg)
        matrices = transforms.matrices_from_parameters(values, self.model, self.center)
        scores: NDArray[np.float64] = to_numpy(score_affine(self.pair, matrices, workers=self.workers))
        return scores

    __call__ = score

    def linearization(
        self, params: ArrayLike, *, derivatives: str = "moving", covariance: bool = False
    ) -> AffineLinearization:
        """Linearize the score about one candidate for each of the B pairs.

        Parameters
        ----------
        params : array_like
            (B, P).
        derivatives : {"moving", "reference"}
            See `stackalign.ops.linearize_affine`.
        covariance : bool
            Also estimate the covariance of the parameters, as if they were the optimum.

        Returns
        -------
        AffineLinearization
            With the axis B, also for a single pair.

        Raises
        ------
        ValueError
            The shape does not fit, a parameter is not finite, or a scale is 0.
        """
        values = plain_array(params, np.float64, "params")
        expected = (self.n_problems, len(self.names))
        if values.shape != expected:
            msg = f"params must have the shape (B, P) = {expected}, got {values.shape}"
            raise ValueError(msg)
        matrices = transforms.matrices_from_parameters(values, self.model, self.center)
        jacobian = transforms.matrix_jacobian(values, self.model, self.center)
        if derivatives == "reference" and self._slopes is None:
            self._slopes = reference_slopes(self.pair.reference)
        return linearize_with_jacobian(
            self.pair,
            matrices,
            jacobian,
            slopes=self._slopes if derivatives == "reference" else None,
            covariance=covariance,
            workers=self.workers,
        )

    def linearize(self, params: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Score (B,), gradient (B, P) and normal matrix (B, P, P), as `stackalign.optimize.gauss_newton` takes them."""
        linearized = self.linearization(params)
        return linearized.score, linearized.gradient, linearized.normal

    def covariance(self, params: ArrayLike) -> NDArray[np.float64]:
        """Covariance (B, P, P) of the parameters of an optimum; infinite where the images leave one open."""
        covariance = self.linearization(params, covariance=True).covariance
        assert covariance is not None
        return covariance
