"""What is measured of each pattern in the first pass: total, range, centre, radius, hot pixels."""

import dataclasses
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from stackalign import ops
from stackalign.errors import DataError
from stackalign.io import StackReader
from stackalign.runs import ChunkPlan, Part, ProgressCallback, Source, StopRequest, chunk_parts, map_halving

from .background import measured
from .budget import say_split
from .config import CroppingConfig
from .detector import add_sample
from .hot_pixels import hot_pixel

__all__ = ["N_MEAN", "Measurements", "add_finite", "measure", "prepare", "source_name"]

N_MEAN = 128
"""Patterns, spread over the stack, of which the mean is taken."""


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


def measure(
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


def add_finite(total: NDArray[np.float64], pattern: NDArray[Any]) -> None:
    """Add a pattern to a sum, its invalid pixels as 0."""
    with np.errstate(over="ignore"):  # float64 near its end overflows; such a pattern is flagged, the picture may clip
        total += pattern if pattern.dtype.kind != "f" else np.nan_to_num(pattern, posinf=0.0, neginf=0.0)


def source_name(reader: StackReader) -> str:
    """Name a source in messages."""
    return str(reader.path) if reader.path is not None else "the array"
