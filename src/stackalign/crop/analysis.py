"""First pass: centre and radius of every pattern, what is wrong with it, and the window for all."""

import dataclasses
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign import ops
from stackalign.chunks import ChunkPlan, ProgressCallback, StopRequest, map_halving, read_chunks, require_fit
from stackalign.device import format_bytes
from stackalign.errors import DataError
from stackalign.io import StackReader

from .centers import fit_plane
from .config import CroppingConfig
from .flags import flag_patterns, hot_pixel, set_aside
from .result import CropAnalysis, Flag, RadialProfile
from .window import placed_windows

__all__ = [
    "Measurements",
    "add_finite",
    "analyze",
    "chunk_plan",
    "combine_masks",
    "prepare",
    "say_split",
    "source_name",
]

_log = logging.getLogger(__name__)

N_PROFILES = 10
N_MEAN = 128
CACHE_BYTES = 16 * 2**20
"""A chunk of this size is still in the last-level cache when the kernels read what the reader has just written."""


ROW_BYTES = 160
"""Memory that a pattern takes besides its pixels: measurements, corners, retention, and copies of them."""


class Measurements:
    """Rows of the first pass, filled in order and saved for a resumed run. ``done`` rows are filled."""

    def __init__(self, n_patterns: int, frame: tuple[int, int]) -> None:
        self.done = 0
        self.total = np.zeros(n_patterns)
        self.minimum = np.zeros(n_patterns)
        self.maximum = np.zeros(n_patterns)
        self.n_valid = np.zeros(n_patterns, np.int64)
        self.centers = np.zeros((n_patterns, 2))
        self.radii = np.zeros(n_patterns, np.int64)
        self.hot = np.full((n_patterns, 2), -1, np.int32)  # (y, x) of a hot pixel
        self.mean_sum = np.zeros(frame)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Everything as arrays, for the journal."""
        return {name: np.asarray(value) for name, value in vars(self).items()}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]]) -> "Measurements":
        """Restore what `to_arrays` gave."""
        rows = cls(len(arrays["total"]), arrays["mean_sum"].shape)
        for name, value in arrays.items():
            setattr(rows, name, int(value) if name == "done" else value)
        return rows


def chunk_plan(reader: StackReader, config: CroppingConfig, memory_limit: int) -> ChunkPlan:
    """Divide the stack so that all buffers stay within the limit.

    What the reader holds itself, two buffers that are read into, two for the windows (never larger than the frame),
    and one for a widened copy of types that the kernels do not take as they are.
    """
    info = reader.info
    rows = ROW_BYTES * info.shape[0]
    require_fit(reader, memory_limit - rows - 5 * info.pattern_bytes)
    if rows + 5 * info.pattern_bytes > memory_limit:
        msg = (
            f"the memory limit of {format_bytes(memory_limit)} is too small for {info.shape[0]} patterns: their rows "
            f"take {format_bytes(rows)}, and the buffers at least {format_bytes(5 * info.pattern_bytes)}; raise it"
        )
        raise DataError(msg)
    memory_limit -= rows + (0 if info.chunk is None else info.chunk.nbytes)
    plan = ChunkPlan.from_budget(
        info.shape[0], 5 * info.pattern_bytes, min(memory_limit, 5 * CACHE_BYTES), config.chunk_size
    )
    if plan.size < min(config.chunk_size, info.shape[0]):
        _log.info("chunks of %d patterns (chunk_size %d does not fit)", plan.size, config.chunk_size)
    return plan


def combine_masks(reader: StackReader, mask: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
    """Combine the mask that was given with the one that the file carries; True = valid in both."""
    own = reader.info.mask
    frame = reader.info.shape[1:]
    if mask is None:
        return own
    if mask.dtype != np.bool_:
        msg = f"mask must be boolean, True = valid, got {mask.dtype}"
        raise DataError(msg)
    if mask.shape != frame:
        msg = f"mask has the shape {mask.shape}, the patterns are {frame}; a mask is one frame, True = valid"
        raise DataError(msg)
    return mask if own is None else mask & own


def prepare(block: NDArray[Any], first: int, config: CroppingConfig, name: str) -> None:
    """Apply the policies for negative and non-finite values to a block, in place; refuse what kernels cannot sum.

    Raises
    ------
    DataError
        Names the first pattern that breaks a policy of "error", or has integers that the kernels do not take.
    """
    if config.negative != "keep" and block.dtype.kind != "u":
        if config.negative == "clip":
            np.maximum(block, 0, out=block)
        elif (block < 0).any():
            index = first + int((block < 0).any(axis=(1, 2)).argmax())
            msg = f"pattern {index} of {name} has negative values; use --negative keep or clip"
            raise DataError(msg)
    if config.nan == "error" and block.dtype.kind == "f" and not np.isfinite(block).all():
        index = first + int((~np.isfinite(block)).any(axis=(1, 2)).argmax())
        msg = f"pattern {index} of {name} has NaN or infinite values; use --nan mask"
        raise DataError(msg)

    if block.dtype.kind in "iu" and block.dtype.itemsize == 8:
        beyond = (block > np.iinfo(np.uint32).max).any(axis=(1, 2))
        if block.dtype.kind == "i":
            beyond |= (block < np.iinfo(np.int32).min).any(axis=(1, 2))
        if beyond.any():
            msg = (
                f"pattern {first + int(beyond.argmax())} of {name} has values beyond 32 bits; "
                "convert the data to float64"
            )
            raise DataError(msg)


def _given_centers(reader: StackReader, config: CroppingConfig) -> NDArray[np.float64] | None:
    height, width = reader.info.shape[1:]
    if config.center_method == "centroid":
        return None
    if config.center_method == "manual":
        assert config.manual_center is not None  # the configuration has checked it
        y, x = config.manual_center
        if not (-0.5 <= y <= height - 0.5 and -0.5 <= x <= width - 0.5):
            msg = (
                f"manual_center ({y:g}, {x:g}) lies outside the {height} x {width} patterns; "
                "give (y, x) in pixel indices from 0"
            )
            raise DataError(msg)
        return np.array([y, x], np.float64)
    if config.legacy_window:
        return np.array([height // 2, width // 2], np.float64)
    return np.array([(height - 1) / 2, (width - 1) / 2])


def _measure(
    reader: StackReader,
    config: CroppingConfig,
    mask: NDArray[np.bool_] | None,
    plan: ChunkPlan,
    rows: Measurements,
    centers: NDArray[np.float64] | None,
    on_chunk: Callable[[Measurements], None],
    progress: ProgressCallback | None,
    stage: str,
) -> None:
    """Fill the rows that are still missing."""
    name = source_name(reader)
    device_mask = None if mask is None else ops.asarray(mask, config.device)
    step = max(1, reader.info.shape[0] // N_MEAN)
    for first, last, block in read_chunks(reader, plan, start=rows.done, stage=stage, progress=progress):
        prepare(block, first, config, name)

        def work(start: int, stop: int, block: NDArray[Any] = block, first: int = first) -> None:
            part = ops.asarray(block[start - first : stop - first], config.device)
            given = None if centers is None else centers if centers.ndim == 1 else centers[start:stop]
            summary = ops.pattern_summary(
                part, config.target_retention, centers=given, mask=device_mask, workers=config.workers
            )
            rows.total[start:stop] = ops.to_numpy(summary.total)
            rows.minimum[start:stop] = ops.to_numpy(summary.minimum)
            rows.maximum[start:stop] = ops.to_numpy(summary.maximum)
            rows.n_valid[start:stop] = ops.to_numpy(summary.n_valid)
            rows.centers[start:stop] = ops.to_numpy(summary.centers)
            rows.radii[start:stop] = ops.to_numpy(summary.radii)[:, 0]

        map_halving(work, first, last, say_split)
        for k in range(first, last):
            if rows.maximum[k] * 200 > rows.total[k] > 0:  # only a pixel with that much of the total can be a fault
                rows.hot[k] = hot_pixel(block[k - first], mask) or (-1, -1)
        sampled = block[-first % step :: step]
        for pattern in sampled:  # one by one: the sum then does not depend on where chunks end
            add_finite(rows.mean_sum, pattern)
        rows.done = last
        on_chunk(rows)


def add_finite(total: NDArray[np.float64], pattern: NDArray[Any]) -> None:
    """Add a pattern to a sum, its invalid pixels as 0."""
    with np.errstate(over="ignore"):  # float64 near its end overflows; such a pattern is flagged, the picture may clip
        total += pattern if pattern.dtype.kind != "f" else np.nan_to_num(pattern, posinf=0.0, neginf=0.0)


def say_split(size: int, error: MemoryError) -> None:
    """Tell the user that chunks got smaller."""
    _log.warning("the device ran out of memory (%s); going on with %d patterns at a time", error, size)


def source_name(reader: StackReader) -> str:
    """Name a source in messages."""
    return str(reader.path) if reader.path is not None else "the array"


def analyze(
    reader: StackReader,
    config: CroppingConfig,
    *,
    mask: NDArray[np.bool_] | None = None,
    plan: ChunkPlan,
    rows: Measurements | None = None,
    on_chunk: Callable[[Measurements], None] = lambda rows: None,
    progress: ProgressCallback | None = None,
    stop: StopRequest | None = None,
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
    on_chunk : callable
        Called with the rows after each chunk, for the journal.
    progress : callable, optional
    stop : StopRequest, optional

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
    centers = _given_centers(reader, config)
    _measure(reader, config, mask, plan, measured, centers, after_chunk, progress, "analyse")
    flags = flag_patterns(measured, mask, (height, width))
    if ((flags & int(Flag.EMPTY)) != 0).all():
        msg = (
            f"all {n} patterns of {source_name(reader)} are empty (no positive total intensity), "
            "so there is no radius to measure; is this a dark run, or does the mask cover the beam?"
        )
        raise DataError(msg)
    fit = None
    if config.center_fit == "plane":
        fit, fitted = fit_plane(measured.centers, set_aside(flags)[0], reader.info.scan_shape)
        plain = dataclasses.replace(config, nan="mask")
        again = Measurements(n, (height, width))
        _measure(reader, plain, mask, plan, again, fitted, lambda rows: stopping.check("stopped"), progress, "refine")
        measured.radii = again.radii
        placed = fitted
    return _conclude(reader, config, mask, measured, flags, fit, placed if fit is not None else None)


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
    centers = rows.centers.copy() if placed is None else placed.copy()
    if excluded.any() and placed is None and config.center_method == "centroid":
        centers[excluded] = np.median(rows.centers[~excluded], axis=0)
        notes.append(
            f"flagged patterns ({int(excluded.sum())}) are cropped about the median centre "
            "and left out of the radius and the statistics"
        )
    if config.legacy_window:
        empty = (flags & int(Flag.EMPTY)) != 0
        centers = rows.centers.copy()
        if config.center_method == "centroid":
            centers[empty] = frame[0] / 2, frame[1] / 2
        radius = int(rows.radii.max()) + config.margin_pixels
    else:
        radii = rows.radii[~excluded]
        if config.radius_policy == "max":
            chosen = int(radii.max())
        else:
            chosen = int(np.percentile(radii, config.radius_policy, method="higher"))
        radius = chosen + config.margin_pixels
    window = placed_windows(centers, radius, frame, legacy=config.legacy_window)
    n = len(flags)
    step = max(1, n // N_MEAN)
    n_mean = len(range(0, n, step))
    whole = [name for name, length, side in zip("yx", window.shape, frame, strict=True) if length >= side]
    if whole and not config.legacy_window:
        notes.append(
            f"kept whole along {' and '.join(whole)}, not centred: radius {radius} reaches beyond the "
            f"{frame[0]} x {frame[1]} frame there"
        )
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
        mean_pattern=rows.mean_sum / n_mean,
        n_mean=n_mean,
        fit=fit,
        notes=tuple(notes),
    )


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
        sums = ops.radial_cumulative(buffer[0], centers[k], mask=mask)
        share = sums / rows.total[k] if rows.total[k] > 0 else np.zeros_like(sums)
        center = (float(centers[k, 0]), float(centers[k, 1]))
        profiles.append(RadialProfile(k, share, center, int(rows.radii[k])))
    return tuple(profiles)
