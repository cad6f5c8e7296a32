"""First pass: centre and radius of every pattern, what is wrong with it, and the window for all."""

import dataclasses
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign import ops
from stackalign.errors import DataError
from stackalign.io import StackReader
from stackalign.runs import ChunkPlan, ProgressCallback, Source, StopRequest

from .advice import Observed, advice
from .background import measured as without_background
from .centers import fit_plane, stated_centers
from .config import CroppingConfig
from .flags import flag_patterns, set_aside
from .measure import N_MEAN, Measurements, measure, prepare, source_name
from .result import CropAnalysis, Flag, RadialProfile
from .window import chosen_windows

__all__ = ["analyze"]

N_PROFILES = 10
"""Patterns whose radial profiles are kept for the picture."""


def analyze(
    reader: StackReader,
    config: CroppingConfig,
    *,
    mask: NDArray[np.bool_] | None = None,
    plan: ChunkPlan,
    rows: Measurements | None = None,
    centers: NDArray[np.float64] | None = None,
    on_chunk: Callable[[Measurements], None] = lambda rows: None,
    progress: ProgressCallback | None = None,
    stop: StopRequest | None = None,
    executor: Executor | None = None,
    source: Source | None = None,
) -> CropAnalysis:
    """Measure centre and radius of every pattern and choose the window.

    Parameters
    ----------
    reader : StackReader
    config : CroppingConfig
    mask : numpy.ndarray, optional
        (H, W) boolean, True = valid, already combined with the file's.
    plan : ChunkPlan
    rows : Measurements, optional
        Of an interrupted run, to go on from.
    centers : numpy.ndarray, optional
        (N, 2) centre of each pattern, instead of `config.center_method`.
    on_chunk : callable
        Called with the rows after each chunk, for the journal.
    progress : callable, optional
    stop : StopRequest, optional
    executor : concurrent.futures.Executor, optional
        Where chunks are worked on.
    source : Source, optional
        How its workers open the input.

    Raises
    ------
    DataError
        No pattern has any signal, or a policy of "error" was broken.
    """
    stopping = StopRequest() if stop is None else stop  # one that is not set yet is false

    def after_chunk(current: Measurements) -> None:
        on_chunk(current)
        if current.done < reader.info.shape[0]:
            stopping.check("stopped during the analysis")

    n, height, width = reader.info.shape
    measured = rows or Measurements(n, (height, width))
    stated = stated_centers(reader, config) if centers is None else centers
    measure(reader, config, mask, plan, measured, stated, after_chunk, progress, "analyse", executor, source, stopping)
    flags = flag_patterns(measured, mask, (height, width))
    if ((flags & int(Flag.EMPTY)) != 0).all():
        msg = (
            f"all {n} patterns of {source_name(reader)} are empty (no positive total intensity), "
            "so there is no radius to measure; is this a dark run, or does the mask cover the beam?"
        )
        raise DataError(msg)
    fit, placed = None, None
    if config.center_fit == "plane":
        fit, fitted = fit_plane(measured.centers, set_aside(flags)[0], reader.info.scan_shape)
        plain = dataclasses.replace(config, nan="mask")
        again = Measurements(n, (height, width))
        measure(
            reader, plain, mask, plan, again, fitted, lambda rows: stopping.check("stopped"), progress, "refine",
            executor, source, stopping,
        )  # fmt: skip
        measured.radii = again.radii
        placed = fitted
    elif centers is not None:
        placed = centers
    return _conclude(reader, config, mask, measured, flags, fit, placed)


def _conclude(
    reader: StackReader,
    config: CroppingConfig,
    mask: NDArray[np.bool_] | None,
    rows: Measurements,
    flags: NDArray[np.uint8],
    fit: Any,
    placed: NDArray[np.float64] | None,
) -> CropAnalysis:
    """Choose radius and window from the rows."""
    frame = reader.info.shape[1:]
    excluded, notes = set_aside(flags, rows.hot)
    centers, center_notes = _window_centers(config, rows, flags, excluded, frame, placed)
    notes += center_notes
    radius = _radius(config, rows, excluded)
    window = chosen_windows(centers, radius, frame, config)
    n = len(flags)
    step = max(1, n // N_MEAN)
    n_mean = len(range(0, n, step))
    whole = [name for name, length, side in zip("yx", window.shape, frame, strict=True) if length >= side]
    if whole and not config.legacy_window:
        notes.append(
            f"kept whole along {' and '.join(whole)}, not centred: radius {radius} reaches beyond the "
            f"{frame[0]} x {frame[1]} frame there"
        )
    mean, mean_square = rows.mean_sum / n_mean
    observed = Observed(rows.radii, centers, excluded, rows.total, mean, mean_square, n_mean, window.radius, mask)
    notes += advice(observed, reader.info, config)
    return CropAnalysis(
        radii=rows.radii,
        centers=centers,
        measured_centers=rows.centers,
        total=rows.total,
        minimum=rows.minimum,
        maximum=rows.maximum,
        flags=flags,
        excluded=excluded,
        global_radius=window.radius,
        window=window.shape,
        window_before=window.before,
        original_shape=(int(frame[0]), int(frame[1])),
        scan_shape=reader.info.scan_shape,
        profiles=_profiles(reader, config, mask, rows, centers),
        mean_pattern=mean,
        n_mean=n_mean,
        fit=fit,
        notes=tuple(notes),
    )


def _window_centers(
    config: CroppingConfig,
    rows: Measurements,
    flags: NDArray[np.uint8],
    excluded: NDArray[np.bool_],
    frame: tuple[int, ...],
    placed: NDArray[np.float64] | None,
) -> tuple[NDArray[np.float64], list[str]]:
    """Centres (N, 2) of the windows, and what is to be said about them."""
    if config.legacy_window:
        centers = rows.centers.copy()
        if config.center_method == "centroid":
            centers[(flags & int(Flag.EMPTY)) != 0] = frame[0] / 2, frame[1] / 2
    else:
        centers = rows.centers.copy() if placed is None else placed.copy()
    if not (excluded.any() and placed is None and config.center_method == "centroid"):
        return centers, []
    if not config.legacy_window:
        centers[excluded] = np.median(rows.centers[~excluded], axis=0)
    count = int(excluded.sum())
    return centers, [
        f"flagged patterns ({count}) are cropped about the median centre and left out of the radius and the statistics"
    ]


def _radius(config: CroppingConfig, rows: Measurements, excluded: NDArray[np.bool_]) -> int:
    """Radius of the window, margin included."""
    if config.legacy_window:
        return int(rows.radii.max()) + config.margin_pixels
    radii = rows.radii[~excluded]
    if config.radius_policy == "max":
        return int(radii.max()) + config.margin_pixels
    return int(np.percentile(radii, config.radius_policy, method="higher")) + config.margin_pixels


def _profiles(
    reader: StackReader,
    config: CroppingConfig,
    mask: NDArray[np.bool_] | None,
    rows: Measurements,
    centers: NDArray[np.float64],
) -> tuple[RadialProfile, ...]:
    """Cumulative profiles of a few patterns, read once more."""
    profiles = []
    n = reader.info.shape[0]
    buffer = np.empty((1, *reader.info.shape[1:]), reader.info.dtype)
    for k in sorted({round(i * (n - 1) / max(1, N_PROFILES - 1)) for i in range(min(N_PROFILES, n))}):
        reader.read(k, k + 1, buffer)
        prepare(buffer, k, config, source_name(reader))
        sums = ops.radial_cumulative(without_background(buffer, config, mask)[0], centers[k], mask=mask)
        share = sums / rows.total[k] if rows.total[k] > 0 else np.zeros_like(sums)
        center = (float(centers[k, 0]), float(centers[k, 1]))
        profiles.append(RadialProfile(k, share, center, int(rows.radii[k])))
    return tuple(profiles)
