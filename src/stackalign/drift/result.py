"""What a drift is: shifts of all frames with error bars, flags and remarks."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign._results import Tabular
from stackalign._types import BoolArray, FloatArray
from stackalign.backends import Array, backend_for, refuse_hidden
from stackalign.ops import resample_affine

__all__ = ["FLAGS", "DriftResult"]

FLAGS: Mapping[str, str] = {
    "insignificant": "the frame shows little more than noise: its place is a guess",
    "ambiguous": "the frame, or all frames from it on, may belong elsewhere, such as a cell of a lattice away",
    "undetermined": "the frame's error bar is larger than a pixel, or infinite",
    "two_motions": "a part of what all frames show stands still while the rest moves",
    "unlike": "the frame agrees far worse with the others than most frames do",
    "constant": "the frame does not vary",
}
"""Why the drift of a frame should not be trusted."""


@dataclass(frozen=True)
class DriftResult(Tabular):
    """The drift of a series.

    Parameters
    ----------
    shifts : numpy.ndarray
        (N, 2) float64 (dy, dx) in pixels by which the content of each frame must be moved, to larger indices where
        positive, to lie on the reference frame's.
    covariance : numpy.ndarray
        (N, 2, 2) of each shift, the reference frame's error included; zero for the reference itself.
    reference : int
        Number of the frame that stays where it is.
    score : numpy.ndarray
        (N,) correlation coefficient of each frame and the mean of the others, over frequencies that carry signal.
    evidence : numpy.ndarray
        (N,) logarithm of the likelihood ratio of each frame's content against nothing but noise.
    rival : numpy.ndarray
        (N,) probability that the frame belongs elsewhere.
    remarks : tuple of mapping
        (N,) flag to sentence for each frame; empty where nothing speaks against it.
    own : numpy.ndarray
        (N, 2, 2) covariance of each frame against the mean of all: independent from frame to frame.
    """

    shifts: FloatArray
    covariance: FloatArray
    reference: int
    score: FloatArray
    evidence: FloatArray
    rival: FloatArray
    remarks: tuple[Mapping[str, str], ...] = field(repr=False)
    own: FloatArray = field(repr=False)

    def __len__(self) -> int:
        return len(self.shifts)

    def __str__(self) -> str:
        flagged = int((~self.ok).sum())
        extent = np.ptp(self.shifts, axis=0)
        return (
            f"drift of {len(self)} frames: {extent[0]:.4g} x {extent[1]:.4g} pixels (y, x), "
            f"median sigma {np.median(self.sigma):.2g}, {flagged} flagged"
        )

    @property
    def sigma(self) -> FloatArray:
        """(N, 2) standard deviations of the shifts, in pixels."""
        return np.sqrt(np.diagonal(self.covariance, axis1=1, axis2=2))

    @property
    def flags(self) -> tuple[tuple[str, ...], ...]:
        """(N,) keys of `FLAGS`."""
        return tuple(tuple(remarks) for remarks in self.remarks)

    @property
    def ok(self) -> BoolArray:
        """(N,) no flag is set."""
        return np.array([not remarks for remarks in self.remarks], np.bool_)

    def between(self, first: int, second: int) -> tuple[FloatArray, FloatArray]:
        """Return by how much the content of a frame must be moved to lie on another's, and its covariance.

        Parameters
        ----------
        first, second : int
            Numbers of the frame that stays and of the one that is moved.

        Returns
        -------
        shift, covariance : numpy.ndarray
            (2,) pixels and (2, 2).
        """
        spread = np.zeros((2, 2)) if first == second else self.own[first] + self.own[second]
        return self.shifts[second] - self.shifts[first], spread

    def matrices(self) -> FloatArray:
        """Return (N, 2, 3) pull matrices, as `stackalign.resample_affine` takes them."""
        matrices = np.tile(np.eye(2, 3), (len(self), 1, 1))
        matrices[:, :, 2] = -self.shifts
        return matrices

    def apply(self, images: Array, *, order: int = 3) -> Array:
        """Resample frames onto the pixels of the reference frame.

        Parameters
        ----------
        images : array
            (N, H, W), on any device.
        order : int
            0, 1 or 3, see `stackalign.resample_affine`.

        Returns
        -------
        array
            (N, H, W), NaN where a frame says nothing.
        """
        return resample_affine(images, self.matrices(), order=order)

    def average(self, images: Array, *, order: int = 3, only_ok: bool = True) -> Array:
        """Mean of the aligned frames over what each of them shows.

        Parameters
        ----------
        images : array
            (N, H, W), on any device.
        order : int
            As for `apply`.
        only_ok : bool
            Leave flagged frames out.

        Returns
        -------
        array
            (H, W) on the reference frame's pixels, NaN where no frame says anything.

        Raises
        ------
        ValueError
            Every frame is flagged, and `only_ok` is on.
        """
        chosen = self.ok if only_ok else np.ones(len(self), np.bool_)
        if not chosen.any():
            msg = "every frame is flagged: an average of them would show nothing; only_ok=False takes them all the same"
            raise ValueError(msg)
        refuse_hidden(images, "images")
        backend_for(images)
        total: Any = 0.0
        count: Any = 0.0
        for k in np.flatnonzero(chosen):
            plane = resample_affine(images[int(k)], self.matrices()[k], order=order)
            seen = plane == plane
            plane[~seen] = 0
            total, count = total + plane, count + seen
        mean = total / count
        return mean

    def columns(self) -> dict[str, NDArray[Any]]:
        """Return a table by columns, one row for each frame."""
        sigma = self.sigma
        return {
            "frame": np.arange(len(self)),
            "dy": self.shifts[:, 0],
            "sigma_dy": sigma[:, 0],
            "dx": self.shifts[:, 1],
            "sigma_dx": sigma[:, 1],
            "score": self.score,
            "evidence": self.evidence,
            "rival": self.rival,
            "flags": np.array([" ".join(flags) for flags in self.flags]),
            "remarks": np.array([" | ".join(f"{k}: {text}" for k, text in r.items()) for r in self.remarks]),
        }

    def column_units(self) -> dict[str, str]:
        """Units of the columns that have one."""
        return dict.fromkeys(("dy", "dx", "sigma_dy", "sigma_dx"), "pix")
