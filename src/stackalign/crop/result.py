"""What a crop found and did."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntFlag
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign._results import Tabular, flagged_frames
from stackalign.io import Calibration

from .config import CroppingConfig

__all__ = ["CenterFit", "CropAnalysis", "CropResult", "CropValidation", "Flag", "RadialProfile", "VirtualImages"]


class Flag(IntFlag):
    """Why a pattern is not trusted; a pattern may have several flags."""

    EMPTY = 1
    NON_FINITE = 2
    NEGATIVE = 4
    HOT_PIXEL = 8
    OFF_FRAME = 16

    @property
    def words(self) -> str:
        """The flag in words."""
        return (self.name or "").lower().replace("_", " ")

    @classmethod
    def names(cls, flags: int) -> tuple[str, ...]:
        """Names of the flags in a sum of them.

        Parameters
        ----------
        flags : int
            An element of `CropAnalysis.flags`.

        Returns
        -------
        tuple of str
            Such as ``("empty", "off_frame")``.
        """
        return tuple(str(f.name).lower() for f in cls if flags & int(f))


@dataclass(frozen=True)
class RadialProfile:
    """Share of the intensity within each integer radius, of one pattern."""

    index: int
    cumulative: NDArray[np.float64]
    center: tuple[float, float]
    retention_radius: int


@dataclass(frozen=True)
class CenterFit:
    """Robust plane through the centres: ``c = intercept + slopes @ scan position``, and what remains.

    ``coefficients`` is (axes + 1, 2): intercept, then pixels per scan step along each scan axis, for y and x.
    ``residuals`` is (N, 2), measured minus fitted, NaN for patterns that were left out; ``rms`` is per axis (y, x).
    """

    coefficients: NDArray[np.float64]
    residuals: NDArray[np.float64]
    rms: tuple[float, float]


@dataclass(frozen=True)
class VirtualImages:
    """What two virtual detectors collect of each pattern of a scan, (N,) float64 each.

    Parameters
    ----------
    bright, dark : numpy.ndarray
        Sum within `bright_radius` of `center`, and beyond `dark_radius`.
    center : tuple of float
        (y, x) in pixels, the same for all patterns.
    bright_radius, dark_radius : float
        In pixels.
    """

    bright: NDArray[np.float64]
    dark: NDArray[np.float64]
    center: tuple[float, float]
    bright_radius: float
    dark_radius: float


@dataclass(frozen=True)
class CropAnalysis:
    """Outcome of the first pass; arrays have one row per pattern.

    Parameters
    ----------
    radii : numpy.ndarray
        (N,) int64 retention radius, in pixels.
    centers : numpy.ndarray
        (N, 2) float64 centres (y, x) that the windows are placed by; those of excluded patterns are the median of the
        others (or the fitted plane).
    measured_centers : numpy.ndarray
        (N, 2) as measured.
    total, minimum, maximum : numpy.ndarray
        (N,) float64.
    flags : numpy.ndarray
        (N,) uint8, sums of `Flag`.
    excluded : numpy.ndarray
        (N,) bool: kept out of the global radius and of the statistics.
    global_radius : int
        Radius of all windows, margin included.
    window : tuple of int
        (h, w) of the cropped patterns.
    window_before : tuple of int
        Pixels between the first pixel of a window and the pixel of its centre.
    original_shape : tuple of int
        (H, W).
    scan_shape : tuple of int
    profiles : tuple of RadialProfile
        Of up to ten patterns, evenly spaced.
    mean_pattern : numpy.ndarray
        (H, W) mean of `n_mean` patterns, evenly spaced.
    n_mean : int
    fit : CenterFit, optional
    notes : tuple of str
        Sentences for the user.
    """

    radii: NDArray[np.int64]
    centers: NDArray[np.float64]
    measured_centers: NDArray[np.float64]
    total: NDArray[np.float64]
    minimum: NDArray[np.float64]
    maximum: NDArray[np.float64]
    flags: NDArray[np.uint8]
    excluded: NDArray[np.bool_]
    global_radius: int
    window: tuple[int, int]
    window_before: tuple[int, int]
    original_shape: tuple[int, int]
    scan_shape: tuple[int, ...]
    profiles: tuple[RadialProfile, ...]
    mean_pattern: NDArray[np.float64]
    n_mean: int
    fit: CenterFit | None = None
    notes: tuple[str, ...] = ()

    @property
    def n_patterns(self) -> int:
        """Number of patterns."""
        return len(self.radii)

    @property
    def flag_counts(self) -> dict[str, int]:
        """Number of patterns with each flag that occurs."""
        counts = {flag.words: int(((self.flags & int(flag)) != 0).sum()) for flag in Flag}
        return {words: n for words, n in counts.items() if n}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What has one row per pattern, under the keys of `to_dict`."""
        return {
            "retention_radii": self.radii,
            "centers": self.centers,
            "measured_centers": self.measured_centers,
            "totals": self.total,
            "flags": self.flags,
            "excluded": np.flatnonzero(self.excluded),
        }

    def to_dict(self, *, rows: bool = True) -> dict[str, Any]:
        """Seed keys, and what came later, as plain values; without the lists of `arrays` if not `rows`.

        Parameters
        ----------
        rows : bool
            Include what has one value per pattern.

        Returns
        -------
        dict
            Plain values, as JSON takes them.
        """
        lists: dict[str, Any] = {name: array.tolist() for name, array in self.arrays().items()} if rows else {}
        for name in ("centers", "measured_centers"):
            if name in lists:
                lists[name] = [tuple(center) for center in lists[name]]
        used = self.radii[~self.excluded].astype(np.float64)
        return {
            "global_radius": self.global_radius,
            "retention_stats": _statistics(used),
            "original_shape": self.original_shape,
            "cropped_shape": self.window,
            "n_patterns": self.n_patterns,
            "sample_profiles": [
                {
                    "index": p.index,
                    "radii": list(range(len(p.cumulative))),
                    "cumulative": p.cumulative.tolist(),
                    "center": p.center,
                    "retention_radius": p.retention_radius,
                }
                for p in self.profiles
            ],
            "window_before": self.window_before,
            "scan_shape": self.scan_shape,
            **lists,
            "flag_counts": self.flag_counts,
            **({"flagged_frames": self.flagged_frames()} if rows else {}),
            "largest_radius_patterns": self.largest(),
            "center_fit": None
            if self.fit is None
            else {"coefficients": self.fit.coefficients.tolist(), "rms": self.fit.rms},
            "notes": list(self.notes),
        }

    def flagged_frames(self) -> list[dict[str, Any]]:
        """Patterns with a flag, by names instead of the sums of `flags`: ``{"frame": n, "flags": [...]}``.

        Returns
        -------
        list of dict
            In the order of the scan; whether a pattern was left out is said by `excluded`.
        """
        names = {flags: Flag.names(flags) for flags in np.unique(self.flags).tolist()}
        return flagged_frames(names[flags] for flags in self.flags.tolist())

    def largest(self, n: int = 10) -> list[int]:
        """Indices of the patterns with the largest radii that were not excluded, the largest first.

        Parameters
        ----------
        n : int
            Number of patterns, at most.

        Returns
        -------
        list of int
            Fewer where fewer were measured.
        """
        order = np.argsort(np.where(self.excluded, -1, self.radii), kind="stable")[::-1][:n]
        return [int(i) for i in order if not self.excluded[i]]


@dataclass(frozen=True)
class CropValidation:
    """Share of each pattern's intensity that its window kept: (N,) float64, NaN where the total is not positive."""

    retentions: NDArray[np.float64]
    excluded: NDArray[np.bool_]
    target_retention: float
    min_retention: float
    mean_window: NDArray[np.float64] | None = None

    @property
    def used(self) -> NDArray[np.float64]:
        """Retentions of the patterns that count."""
        return self.retentions[~self.excluded & np.isfinite(self.retentions)]

    @property
    def n_below_min(self) -> int:
        """Number of patterns that count and keep less than `min_retention`."""
        return int((self.used < self.min_retention).sum())

    @property
    def n_below_target(self) -> int:
        """Number of patterns that count and keep less than `target_retention`."""
        return int((self.used < self.target_retention).sum())

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What has one row per pattern, under the keys of `to_dict`."""
        return {"retentions": self.retentions}

    def to_dict(self, *, rows: bool = True) -> dict[str, Any]:
        """Seed keys as plain values; `retentions` is an array, and left out if not `rows`.

        Parameters
        ----------
        rows : bool
            Include what has one value per pattern.

        Returns
        -------
        dict
            Plain values; `retentions` is an array.
        """
        stats = _statistics(self.used)
        return {
            **{f"{name}_retention": stats[name] for name in ("mean", "min", "max", "std", "median")},
            **(self.arrays() if rows else {}),
            "passes_min_threshold": int(self.used.size) - self.n_below_min,
            "passes_target_threshold": int(self.used.size) - self.n_below_target,
            "n_patterns": int(self.retentions.size),
            "n_evaluated": int(self.used.size),
        }


@dataclass(frozen=True)
class CropResult(Tabular):
    """Everything about one crop.

    ``status`` is "done", or "short" when a quality target was missed; ``messages`` say in sentences why.
    """

    analysis: CropAnalysis
    validation: CropValidation
    config: CroppingConfig
    processing_time: float
    input_bytes: int
    output_bytes: int
    device: str
    status: str
    messages: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    calibration: Calibration | None = None
    input_name: str = ""
    output_name: str = ""
    virtual: VirtualImages | None = None
    examples: Mapping[int, NDArray[Any]] = field(default_factory=dict, repr=False)

    def columns(self) -> dict[str, NDArray[Any]]:
        """Return a table by columns: centre, radius, total, retention and flags, one row a pattern."""
        analysis = self.analysis
        scan = np.indices(analysis.scan_shape).reshape(len(analysis.scan_shape), -1)
        named = zip(("scan_y", "scan_x"), scan, strict=True) if len(scan) == 2 else ()
        words = {flags: " ".join(Flag.names(flags)) for flags in np.unique(analysis.flags).tolist()}
        return {
            "pattern": np.arange(analysis.n_patterns),
            **dict(named),
            "center_y": analysis.centers[:, 0],
            "center_x": analysis.centers[:, 1],
            "radius": analysis.radii,
            "total": analysis.total,
            "retention": self.validation.retentions,
            "excluded": analysis.excluded,
            "flags": np.array([words[flags] for flags in analysis.flags.tolist()]),
        }

    def column_units(self) -> dict[str, str]:
        """Units of the columns that have one."""
        return dict.fromkeys(("center_y", "center_x", "radius"), "pix")

    @property
    def saved(self) -> float:
        """Share of the input's bytes that the output does without."""
        return 1 - self.output_bytes / self.input_bytes

    def to_dict(self, *, rows: bool = True) -> dict[str, Any]:
        """Seed keys, and what came later; without what has one row per pattern if not `rows`.

        Parameters
        ----------
        rows : bool
            Include what has one value per pattern.

        Returns
        -------
        dict
            Plain values, as JSON takes them.
        """
        return {
            "analysis": self.analysis.to_dict(rows=rows),
            "validation": self.validation.to_dict(rows=rows),
            "processing_time": self.processing_time,
            "config": self.config,
            "status": self.status,
            "messages": list(self.messages),
            "input_bytes": self.input_bytes,
            "output_bytes": self.output_bytes,
            "size_saved": self.saved,
            "device": self.device,
            "provenance": dict(self.provenance),
        }


def _statistics(values: NDArray[np.float64]) -> dict[str, float]:
    if values.size == 0:
        return dict.fromkeys(("mean", "std", "min", "max", "median"), float("nan"))
    return {
        "mean": float(values.mean()),
        "std": float(values.std()),
        "min": float(values.min()),
        "max": float(values.max()),
        "median": float(np.median(values)),
    }
