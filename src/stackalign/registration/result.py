"""What a registration found, for one pair or for a stack of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stackalign import transforms
from stackalign._carriers import plain_array
from stackalign._results import Tabular
from stackalign._types import FloatArray
from stackalign.backends import Array
from stackalign.io.provenance import to_jsonable
from stackalign.ops import resample_affine

from .exports import Exports, theta_of

__all__ = ["FLAGS", "RegistrationResult", "RegistrationStack"]


FLAGS: Mapping[str, str] = {
    "empty": "an image has no valid pixel",
    "constant": "an image does not vary",
    "few_pixels": "fewer valid pixels are compared than the parameters need",
    "small_overlap": "the images share less of the reference than min_overlap",
    "insignificant": "the score is what unrelated images reach by chance",
    "ambiguous": "another shift scores nearly as well",
    "undetermined": "the images leave a parameter open: the error bar is larger than a pixel, or infinite",
    "on_bound": "the optimum lies on a bound, the true one may lie beyond",
    "not_converged": "the search ended before the steps became small",
    "model_too_small": "the images want a parameter that the model does not have",
    "inconsistent": "regions of the images, or fine and coarse structures, disagree about the shift",
    "misfit": "the residual is not noise: the images do not show the same",
}
"""Why a result should not be trusted; a result without flags can be."""

BETWEEN = " | "
"""Between the remarks of one pair in a table."""


@dataclass(frozen=True)
class RegistrationResult(Tabular, Exports):
    """The transform that brings a moving image onto a reference, with its error bar.

    Parameters
    ----------
    model : str
        A key of `stackalign.transforms.MODELS`.
    parameters : numpy.ndarray
        (P,) float64 in the order of `names`: shifts in pixels, angles in degrees. Positive shifts move the content of
        the moving image to larger indices.
    covariance : numpy.ndarray
        (P, P) of the parameters, from the residual between the images; infinite where they leave a parameter open.
    matrix : numpy.ndarray
        (2, 3) pull matrix: the moving image is sampled at ``matrix[:, :2] @ p + matrix[:, 2]`` for the reference pixel
        p = (y, x), as `scipy.ndimage.affine_transform` takes it.
    center : numpy.ndarray
        (2,) the point (y, x) about which scale and angle act.
    score : float
        Pearson's coefficient of the images as they were compared (see `smooth`), over their common valid pixels.
    second_score : float
        Of the second peak among whole-pixel shifts, to be compared with `peak_score`; NaN where a start was given.
    peak_score : float
        At the optimum, of the images as they are, or smoothed where the noise would hide the peak.
    overlap : float
        Share of the reference's pixels that the score is made of.
    smooth : tuple of float
        Sigmas in pixels of the Gaussians that reference and moving image went through before they were compared. They
        differ where one image was found to be sharper than the other.
    noise : float
        Measured noise of the noisier image, in units of its standard deviation.
    n_evaluations : int
        Passes over the images, those over images binned by f counted as 1/f^2, rounded up.
    history : numpy.ndarray
        (N, P + 3) with the columns [binning, iteration, parameters..., score], in the order of evaluation.
    reason : str
        Why the search stopped: "converged", "stalled", "max_iter" or "flat", see `stackalign.optimize.gauss_newton`.
    flags : tuple of str
        Keys of `FLAGS`; empty for a result that can be trusted.
    provenance : dict
        Device, versions and settings.
    goodness : float
        Variance of the residual over that of its noise: 1 where only noise is left (reduced chi-square).
    systematic : numpy.ndarray
        (P, P) the part of `covariance` that is not noise: what regions scatter about the common answer, and what
        interpolation leaves.
    remarks : mapping
        A sentence for each flag, with the numbers behind it and what can be done.
    spikes : int
        Pixels of both images that were left out as spikes, see `stackalign.registration.spikes`.
    displacements : numpy.ndarray or None
        (T, 6) rows [y, x, dy, dx, sigma_dy, sigma_dx]: by how much the content of the moving image would have to move
        on, beyond the result, in each tile of the reference with its middle at (y, x), in pixels. Without systematic
        errors these scatter as their sigmas say. None where a result was read from a file.
    """

    model: str
    parameters: FloatArray
    covariance: FloatArray
    matrix: FloatArray
    center: FloatArray
    score: float
    second_score: float
    peak_score: float
    overlap: float
    smooth: tuple[float, float]
    noise: float
    n_evaluations: int
    history: FloatArray
    reason: str
    flags: tuple[str, ...]
    provenance: Mapping[str, Any] = field(repr=False)
    goodness: float = float("nan")
    systematic: FloatArray | None = None
    remarks: Mapping[str, str] = field(default_factory=dict, repr=False)
    spikes: int = 0
    displacements: FloatArray | None = field(default=None, repr=False)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters."""
        return transforms.MODELS[self.model]

    @property
    def sigma(self) -> FloatArray:
        """(P,) standard deviations of the parameters."""
        return np.sqrt(np.diagonal(self.covariance))

    @property
    def shift(self) -> FloatArray:
        """(dy, dx) in pixels."""
        return self.parameters[:2].copy()

    @property
    def ok(self) -> bool:
        """No flag is set."""
        return not self.flags

    def __getitem__(self, name: str) -> float:
        """Value of a parameter by name.

        Parameters
        ----------
        name : str
            One of `names`.

        Raises
        ------
        KeyError
            The model has no such parameter.
        """
        if name not in self.names:
            msg = f"the model {self.model!r} has the parameters {', '.join(self.names)}, not {name!r}"
            raise KeyError(msg)
        return float(self.parameters[self.names.index(name)])

    def __str__(self) -> str:
        values = ", ".join(
            f"{name} = {value:.5g} +- {sigma:.2g}"
            for name, value, sigma in zip(self.names, self.parameters, self.sigma, strict=True)
        )
        return f"{values}; score {self.score:.4f}, overlap {self.overlap:.0%}, flags: {', '.join(self.flags) or 'none'}"

    def sigma_at(self, points: ArrayLike) -> FloatArray:
        """Error bars of where points of the reference lead in the moving image.

        Parameters
        ----------
        points : array_like
            (..., 2) points (y, x) of the reference, in pixels.

        Returns
        -------
        numpy.ndarray
            (..., 2) standard deviations along y and x, in pixels; infinite where a parameter is left open.

        Examples
        --------
        >>> import stackalign as sa
        >>> from stackalign.registration import create_test_pair
        >>> pair = create_test_pair((96, 96), "rigid", (1.0, 2.0, 0.5), noise=0.05)
        >>> result = sa.register(pair.reference, pair.moving, model="rigid")
        >>> middle, corner = result.sigma_at([(47.5, 47.5), (0, 0)])
        >>> bool((corner > middle).all())
        True
        """
        p = plain_array(points, np.float64, "points")
        jacobian = transforms.matrix_jacobian(self.parameters, self.model, self.center)
        moves = np.einsum("kij,...j->...ik", jacobian[:, :, :2], p) + jacobian[:, :, 2].T
        finite = np.isfinite(self.covariance).all()
        if not finite:
            return np.full(p.shape, np.inf)
        variance = np.einsum("...ik,kl,...il->...i", moves, self.covariance, moves)
        deviation: FloatArray = np.sqrt(np.clip(variance, 0.0, None))
        return deviation

    def apply(self, moving: Array, *, output_shape: tuple[int, int] | None = None, order: int = 1) -> Array:
        """Resample moving images (..., Hm, Wm) onto the reference's pixels.

        Parameters
        ----------
        moving : array
            (Hm, Wm) or (N, Hm, Wm), on any device.
        output_shape : tuple of int, optional
            (H, W) of the reference; that of `moving` by default.
        order : int
            0, 1 or 3, see `stackalign.resample_affine`.

        Returns
        -------
        array
            NaN where the moving image says nothing.

        Examples
        --------
        >>> import numpy as np
        >>> import stackalign as sa
        >>> from stackalign.registration import create_test_pair
        >>> pair = create_test_pair((96, 96), "shift", (3.2, -1.4), gain=1.0, offset=0.0)
        >>> aligned = sa.register(pair.reference, pair.moving).apply(pair.moving, order=3)
        >>> bool(np.nanmax(np.abs(aligned - pair.reference)) < 0.1)
        True
        """
        return resample_affine(moving, self.matrix, output_shape=output_shape, order=order)

    def columns(self) -> dict[str, NDArray[Any]]:
        """Return a table of one row, as `RegistrationStack.columns` has many."""
        return RegistrationStack([self]).columns()

    def column_units(self) -> dict[str, str]:
        """Units of the columns that have one."""
        return column_units(self.names)

    def to_dict(self) -> dict[str, Any]:
        """Return numbers, strings and lists, as JSON takes them; what is not finite becomes None."""
        record = {f.name: getattr(self, f.name) for f in fields(self)}
        record |= {"names": self.names, "sigma": self.sigma, "ok": self.ok}
        plain: dict[str, Any] = to_jsonable(record)
        return plain


def column_units(names: Sequence[str]) -> dict[str, str]:
    """Units of parameters and of their standard deviations, for tables."""
    units = dict.fromkeys(("dy", "dx"), "pix") | {"angle": "deg"}
    units = {name: units[name] for name in names if name in units}
    smooth = {"smooth_reference": "pix", "smooth_moving": "pix"}
    return units | {f"sigma_{name}": unit for name, unit in units.items()} | smooth


class RegistrationStack(Tabular, Sequence[RegistrationResult]):
    """Results of B pairs: a sequence of `RegistrationResult`, and their numbers as arrays.

    Parameters
    ----------
    results : sequence of RegistrationResult
        Of one model, at least one.
    """

    def __init__(self, results: Sequence[RegistrationResult]) -> None:
        self._results = tuple(results)
        self.model = self._results[0].model

    def __len__(self) -> int:
        return len(self._results)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return RegistrationStack(self._results[index])
        return self._results[index]

    def __iter__(self) -> Iterator[RegistrationResult]:
        return iter(self._results)

    def __repr__(self) -> str:
        flagged = sum(not r.ok for r in self)
        return f"RegistrationStack({len(self)} pairs, model {self.model!r}, {flagged} flagged)"

    def _stacked(self, name: str) -> NDArray[Any]:
        return np.array([getattr(r, name) for r in self])

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters."""
        return transforms.MODELS[self.model]

    @property
    def parameters(self) -> FloatArray:
        """(B, P)."""
        return self._stacked("parameters")

    @property
    def sigma(self) -> FloatArray:
        """(B, P)."""
        return self._stacked("sigma")

    @property
    def matrices(self) -> FloatArray:
        """(B, 2, 3) pull matrices."""
        return self._stacked("matrix")

    @property
    def scores(self) -> FloatArray:
        """(B,)."""
        return self._stacked("score")

    @property
    def ok(self) -> NDArray[np.bool_]:
        """(B,) no flag is set."""
        return self._stacked("ok")

    def apply(self, moving: Array, *, output_shape: tuple[int, int] | None = None, order: int = 1) -> Array:
        """Resample each moving image with its own transform, see `RegistrationResult.apply`.

        Parameters
        ----------
        moving : array
            (B, Hm, Wm), or (Hm, Wm) for all, on any device.
        output_shape : tuple of int, optional
            (H, W) of the reference; that of `moving` by default.
        order : int
            0, 1 or 3, see `stackalign.resample_affine`.

        Returns
        -------
        array
            (B, H, W), NaN where the moving image says nothing.
        """
        return resample_affine(moving, self.matrices, output_shape=output_shape, order=order)

    def columns(self) -> dict[str, NDArray[Any]]:
        """Return a table by columns: parameters, sigmas, score, overlap, reason, flags and remarks, one row a pair."""
        parameters, sigma = self.parameters, self.sigma
        table: dict[str, NDArray[Any]] = {"pair": np.arange(len(self))}
        for k, name in enumerate(self.names):
            table |= {name: parameters[:, k], f"sigma_{name}": sigma[:, k]}
        table |= {name: self._stacked(name) for name in ("score", "second_score", "overlap", "noise", "goodness")}
        table |= {"smooth_reference": self._stacked("smooth")[:, 0], "smooth_moving": self._stacked("smooth")[:, 1]}
        table["reason"] = self._stacked("reason")
        table["flags"] = np.array([" ".join(r.flags) for r in self])
        table["remarks"] = np.array([BETWEEN.join(f"{k}: {text}" for k, text in r.remarks.items()) for r in self])
        return table

    def column_units(self) -> dict[str, str]:
        """Units of the columns that have one."""
        return column_units(self.names)

    def to_theta(
        self,
        moving_shape: tuple[int, int],
        output_shape: tuple[int, int] | None = None,
        *,
        align_corners: bool = False,
    ) -> FloatArray:
        """Return the matrices that `torch.nn.functional.affine_grid` takes, see `RegistrationResult.to_theta`.

        Parameters
        ----------
        moving_shape : tuple of int
            (Hm, Wm) of the moving images.
        output_shape : tuple of int, optional
            (H, W) of the reference; that of the moving images by default.
        align_corners : bool
            As it is given to `affine_grid` and `grid_sample`.

        Returns
        -------
        numpy.ndarray
            (B, 2, 3) float64.
        """
        return theta_of(self.matrices, moving_shape, output_shape or moving_shape, align_corners=align_corners)
