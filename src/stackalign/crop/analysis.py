"""First pass: centre and radius of every pattern, what is wrong with it, and the window for all."""

import dataclasses
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from stackalign import ops
from stackalign.device import format_bytes
from stackalign.errors import DataError
from stackalign.io import StackInfo, StackReader
from stackalign.runs import (
    ChunkPlan,
    Part,
    ProgressCallback,
    Source,
    StopRequest,
    chunk_parts,
    map_halving,
    require_fit,
)

from .advice import Observed, advice
from .background import measured
from .centers import fit_plane
from .config import CroppingConfig
from .detector import add_sample, mask_of_stack
from .flags import flag_patterns, hot_pixel, set_aside
from .result import CropAnalysis, Flag, RadialProfile
from .window import placed_windows

__all__ = [
    "Measurements",
    "add_finite",
    "analyze",
    "automatic_mask_note",
    "buffers",
    "check_centers",
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
        self.mean_sum = np.zeros((2, *frame))  # of some patterns, and of their squares

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Everything as arrays, for the journal."""
        return {name: np.asarray(value) for name, value in vars(self).items()}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]]) -> "Measurements":
        """Restore what `to_arrays` gave."""
        rows = cls(len(arrays["total"]), arrays["mean_sum"].shape[1:])
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
    each = buffers(info, config) * info.pattern_bytes
    require_fit(reader, memory_limit - rows - each)
    if rows + each > memory_limit:
        msg = (
            f"the memory limit of {format_bytes(memory_limit)} is too small for {info.shape[0]} patterns: their rows "
            f"take {format_bytes(rows)}, and the buffers at least {format_bytes(each)}; raise it"
        )
        raise DataError(msg)
    memory_limit -= rows + (0 if info.chunk is None else info.chunk.nbytes)
    plan = ChunkPlan.from_budget(info.shape[0], each, min(memory_limit, 5 * CACHE_BYTES), config.chunk_size)
    if plan.size < min(config.chunk_size, info.shape[0]):
        _log.info("chunks of %d patterns (chunk_size %d does not fit)", plan.size, config.chunk_size)
    return plan


def buffers(info: StackInfo, config: CroppingConfig) -> int:
    """Memory that a pattern takes during a pass, in sizes of the pattern: see `chunk_plan`.

    A background takes another copy, in floats, and an output of another type one in that type.
    """
    size = info.dtype.itemsize
    more = 0 if config.background is None else -(-(8 if size > 2 else 4) // size)
    if config.output_dtype is not None:
        more += -(-np.dtype(config.output_dtype).itemsize // size)
    return 5 + more


def combine_masks(reader: StackReader, mask: NDArray[np.bool_] | str | None) -> NDArray[np.bool_] | None:
    """Combine the mask that was given with the one that the file carries; True = valid in both.

    "auto" leaves out the detector's faults, which are looked for in patterns that are spread over the stack.
    """
    own = reader.info.mask
    frame = reader.info.shape[1:]
    if mask is None:
        return own
    if isinstance(mask, str):
        if mask != "auto":
            msg = f'mask must be a boolean frame or "auto", got {mask!r}'
            raise DataError(msg)
        return mask_of_stack(reader, own)
    valid: NDArray[np.bool_] = ops.asarray(mask, "cpu")
    if valid.dtype != np.bool_:
        msg = f"mask must be boolean, True = valid, got {valid.dtype}"
        raise DataError(msg)
    if valid.shape != frame:
        msg = f"mask has the shape {valid.shape}, the patterns are {frame}; a mask is one frame, True = valid"
        raise DataError(msg)
    return valid if own is None else valid & own


def automatic_mask_note(
    reader: StackReader, mask: NDArray[np.bool_] | str | None, valid: NDArray[np.bool_] | None
) -> tuple[str, ...]:
    """Say how many pixels an automatic mask leaves out."""
    if not isinstance(mask, str) or valid is None:
        return ()
    own = reader.info.mask
    count = int((~valid).sum()) - (0 if own is None else int((~own).sum()))
    if not count:
        return ("mask auto: no faults of the detector were found",)
    return (f"mask auto: {count} pixel{'s' if count > 1 else ''} left out as faults of the detector",)


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


def check_centers(centers: NDArray[np.floating[Any]], reader: StackReader) -> NDArray[np.float64]:
    """Check stated centres (N, 2) of a stack's patterns.

    Raises
    ------
    DataError
        Their number is not that of the patterns, or one is no number or lies outside the frame.
    """
    n, height, width = reader.info.shape
    stated = np.asarray(centers, np.float64)
    if stated.shape != (n, 2):
        msg = f"centers must have the shape ({n}, 2), one (y, x) for each pattern, got {stated.shape}"
        raise DataError(msg)
    inside = (stated >= -0.5).all(axis=1) & (stated[:, 0] <= height - 0.5) & (stated[:, 1] <= width - 0.5)
    if not inside.all():
        k = int((~inside).argmax())
        y, x = stated[k]
        msg = (
            f"the centre ({y:g}, {x:g}) of pattern {k} is not inside the {height} x {width} frame; correct it in the "
            "table of centres, or give that pattern the centre of its neighbours"
        )
        raise DataError(msg)
    return np.ascontiguousarray(stated)


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


@dataclasses.dataclass(frozen=True)
class _MeasureChunk:
    """Measure the patterns of a chunk; picklable."""

    config: CroppingConfig
    mask: NDArray[np.bool_] | None
    centers: NDArray[np.float64] | None
    name: str
    step: int
    offset: int = 0
    """Pattern of the first row of `centers`, where they are those of some patterns only."""
    alignment: ClassVar[int] = 0
    """Chunks are halved in here, where the halves are parts of one block."""

    def restricted(self, start: int, stop: int) -> "_MeasureChunk":
        """The same for the patterns start..stop alone."""
        if self.centers is None or self.centers.ndim == 1:
            return self
        return dataclasses.replace(self, centers=self.centers[start:stop], offset=start)

    def __call__(self, block: NDArray[Any], first: int) -> Part:
        prepare(block, first, self.config, self.name)
        n = len(block)
        columns: dict[str, NDArray[Any]] = {
            "total": np.empty(n), "minimum": np.empty(n), "maximum": np.empty(n), "n_valid": np.empty(n, np.int64),
            "centers": np.empty((n, 2)), "radii": np.empty(n, np.int64), "hot": np.full((n, 2), -1, np.int32),
        }  # fmt: skip
        mask = None if self.mask is None else ops.asarray(self.mask, self.config.device)
        map_halving(lambda start, stop: self._summary(block, start, stop, first, mask, columns), 0, n, say_split)
        maximum, total = columns["maximum"], columns["total"]
        for k in np.flatnonzero((maximum * 200 > total) & (total > 0)):  # only so bright a pixel can be a fault
            columns["hot"][k] = hot_pixel(block[k], self.mask) or (-1, -1)
        columns["sampled"] = block[-first % self.step :: self.step].copy()
        return Part(columns)

    def _summary(
        self, block: NDArray[Any], start: int, stop: int, first: int, mask: Any, columns: dict[str, NDArray[Any]]
    ) -> None:
        """Fill the rows start..stop of a chunk."""
        centers = self.centers
        if centers is not None and centers.ndim == 2:
            centers = centers[first - self.offset + start : first - self.offset + stop]
        summary = ops.pattern_summary(
            ops.asarray(measured(block[start:stop], self.config, self.mask), self.config.device),
            self.config.target_retention,
            centers=centers,
            mask=mask,
            workers=self.config.workers,
        )
        for name in ("total", "minimum", "maximum", "n_valid", "centers"):
            columns[name][start:stop] = ops.to_numpy(getattr(summary, name))
        if self.config.background is not None:  # the flags are about what was recorded
            recorded = ops.asarray(block[start:stop], self.config.device)
            extrema = ops.pattern_summary(recorded, mask=mask, workers=self.config.workers)
            columns["minimum"][start:stop] = ops.to_numpy(extrema.minimum)
            columns["maximum"][start:stop] = ops.to_numpy(extrema.maximum)
        columns["radii"][start:stop] = ops.to_numpy(summary.radii)[:, 0]


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
    executor: Executor | None,
    source: Source | None,
    stop: StopRequest,
) -> None:
    """Fill the rows that are still missing."""
    function = _MeasureChunk(config, mask, centers, source_name(reader), max(1, reader.info.shape[0] // N_MEAN))
    parts = chunk_parts(
        reader, function, plan, start=rows.done, stage=stage, progress=progress, ahead=config.workers != 1,
        executor=executor, source=source, stop=stop,
    )  # fmt: skip
    for first, last, part in parts:
        for name, values in part.columns.items():
            if name != "sampled":
                getattr(rows, name)[first:last] = values
        for pattern in part.columns["sampled"]:  # one by one: the sum then does not depend on where chunks end
            add_sample(rows.mean_sum, pattern)
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
    stated = _given_centers(reader, config) if centers is None else centers
    _measure(reader, config, mask, plan, measured, stated, after_chunk, progress, "analyse", executor, source, stopping)
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
        _measure(
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
    window = placed_windows(centers, radius, frame, legacy=config.legacy_window, one=config.one_window)
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
        sums = ops.radial_cumulative(measured(buffer, config, mask)[0], centers[k], mask=mask)
        share = sums / rows.total[k] if rows.total[k] > 0 else np.zeros_like(sums)
        center = (float(centers[k, 0]), float(centers[k, 1]))
        profiles.append(RadialProfile(k, share, center, int(rows.radii[k])))
    return tuple(profiles)
