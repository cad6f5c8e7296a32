"""Which frame of an imager serves which column of a raster."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable
from astropy.time import Time
from astropy.units import Quantity
from numpy.typing import NDArray

from stackalign._types import FloatArray
from stackalign.errors import DataError, StackalignWarning

from .columns import as_times, column_positions, column_times
from .framestore import Frame, as_frame
from .reading import as_map

__all__ = ["RasterPlan", "duration_seconds", "plan_synthetic_raster"]


@dataclass(frozen=True)
class RasterPlan:
    """Which frame serves which column; what a dry run shows.

    Parameters
    ----------
    times : Time
        (N,) of the columns.
    positions : numpy.ndarray
        (N, 3) of the spacecraft meanwhile, metres, heliocentric inertial.
    names : tuple of str
        Of the F frames, in the order of time.
    frame_times : Time
        (F,).
    frame_positions : numpy.ndarray
        (F, 3).
    frames : numpy.ndarray
        (N, 2) int: indices of the frames that serve a column; twice the same one where one serves alone.
    weights : numpy.ndarray
        (N, 2), summing to 1.
    sources : tuple of Frame
        The frames in the same order.
    """

    times: Time
    positions: FloatArray
    names: tuple[str, ...]
    frame_times: Time
    frame_positions: FloatArray
    frames: NDArray[np.intp]
    weights: FloatArray
    sources: tuple[Frame, ...]

    @property
    def seconds(self) -> FloatArray:
        """(N, 2) seconds from each column to its frames."""
        relative = np.asarray((self.frame_times - self.times[0]).to_value(u.s))
        columns = np.asarray((self.times - self.times[0]).to_value(u.s))
        difference: FloatArray = relative[self.frames] - columns[:, None]
        return difference

    @property
    def used(self) -> tuple[int, ...]:
        """Indices of the frames that serve at all, in the order of time."""
        return tuple(np.unique(self.frames[self.weights > 0]).tolist())

    def to_table(self) -> QTable:
        """One row per column: its time, its frames, the seconds to them and their weights."""
        names = np.array(self.names)
        table = QTable({"column": np.arange(len(self.times)), "time": self.times.isot})
        for k, word in enumerate(("first", "second")):
            table[f"{word}_frame"] = names[self.frames[:, k]]
            table[f"{word}_after"] = self.seconds[:, k] * u.s
            table[f"{word}_weight"] = self.weights[:, k]
        return table

    def __str__(self) -> str:
        """One line per run of columns that the same frames serve."""
        lines = []
        starts = np.flatnonzero(np.r_[True, (np.diff(self.frames, axis=0) != 0).any(axis=1)])
        for start, stop in zip(starts, [*starts[1:], len(self.frames)], strict=True):
            chosen = dict.fromkeys(self.frames[start].tolist())
            far = np.abs(self.seconds[start:stop]).max()
            names = " and ".join(self.names[i] for i in chosen)
            span = f"{self.times[start].isot[:19]} to {self.times[stop - 1].isot[:19]}"
            lines.append(f"columns {start}-{stop - 1}, {span}: {names}, at most {far:.0f} s away")
        return "\n".join(lines)


def plan_synthetic_raster(
    raster: Any,
    frames: Sequence[Any],
    *,
    threshold_time: Any = None,
    method: str = "nearest",
    times: Any = None,
    observer: SkyCoord | None = None,
    on_bad_frame: str = "raise",
) -> RasterPlan:
    """Choose the frames of each column of a raster; only headers are read.

    Parameters
    ----------
    raster : GenericMap or path-like
        With the times of its columns, or with `times`.
    frames : sequence of GenericMap or path-like
        The imager's sequence.
    threshold_time, method, times, observer, on_bad_frame
        See `build_synthetic_raster`.

    Returns
    -------
    RasterPlan
        Times and frames of all columns.

    Examples
    --------
    >>> from stackalign import solar
    >>> seen = solar.create_test_observation((60, 24), n_frames=2)
    >>> plan = solar.plan_synthetic_raster(seen.raster, seen.frames)
    >>> plan.names, plan.used
    (('frame000.fits', 'frame001.fits'), (0, 1))
    """
    solar_map = as_map(raster)
    if method not in ("nearest", "linear"):
        msg = f"method must be nearest or linear, got {method!r}"
        raise ValueError(msg)
    if on_bad_frame not in ("raise", "skip"):
        msg = f"on_bad_frame must be raise or skip, got {on_bad_frame!r}"
        raise ValueError(msg)
    known = _known(frames, on_bad_frame)
    when = column_times(solar_map.meta, solar_map.data.shape) if times is None else as_times(times)
    if when.shape != (solar_map.data.shape[1],):
        msg = f"times must be one for each of the {solar_map.data.shape[1]} columns, got the shape {when.shape}"
        raise ValueError(msg)
    frame_times = Time([frame.time for frame in known])
    frame_positions = np.array([frame.position for frame in known])
    columns = np.asarray((when - when[0]).to_value(u.s))
    seconds = np.asarray((frame_times - when[0]).to_value(u.s))
    limit = duration_seconds(threshold_time)
    chosen, weights = _choose(columns, seconds, method, limit)
    distance = np.abs(seconds[chosen[:, 0]] - columns)
    if (distance > limit).any():
        worst = int(distance.argmax())
        msg = (
            f"{int((distance > limit).sum())} of {len(columns)} columns have no frame within {limit:g} s: "
            f"column {worst} at {when[worst].isot[:19]} is {distance[worst]:.0f} s from "
            f"{known[chosen[worst, 0]].name}; give more frames or a longer threshold_time"
        )
        raise DataError(msg)
    return RasterPlan(
        when,
        column_positions(solar_map, when, frame_times, frame_positions, observer),
        tuple(frame.name for frame in known),
        frame_times,
        frame_positions,
        chosen,
        weights,
        tuple(known),
    )


def _known(frames: Sequence[Any], on_bad_frame: str) -> list[Frame]:
    """The frames in the order of time."""
    dated = []
    for source in frames:
        try:
            frame = as_frame(source)
            dated.append((float(frame.time.utc.mjd), frame))
            _ = frame.position
        except DataError as error:
            if on_bad_frame == "raise":
                raise
            warnings.warn(f"left out: {error}", StackalignWarning, stacklevel=4)
    if not dated:
        msg = "no frame is left to build a raster from" if len(frames) else "no frames were given"
        raise DataError(msg)
    return [frame for _, frame in sorted(dated, key=lambda item: item[0])]


def duration_seconds(duration: Any) -> float:
    """Seconds of a duration in any of its forms; infinite for None."""
    if duration is None:
        return np.inf
    if isinstance(duration, np.timedelta64):
        value = duration / np.timedelta64(1, "s")
    elif hasattr(duration, "total_seconds"):
        value = duration.total_seconds()
    else:
        value = Quantity(duration, u.s).to_value(u.s)
    if not value >= 0:
        msg = f"threshold_time must not be negative, got {duration!r}"
        raise ValueError(msg)
    return float(value)


def _choose(columns: FloatArray, frames: FloatArray, method: str, limit: float) -> tuple[NDArray[np.intp], FloatArray]:
    nearest = np.abs(columns[:, None] - frames).argmin(axis=1)  # of two as near, the earlier one
    chosen = np.stack([nearest, nearest], axis=1)
    weights = np.tile([1.0, 0.0], (len(columns), 1))
    if method == "linear":
        other = np.clip(nearest + np.where(columns > frames[nearest], 1, -1), 0, len(frames) - 1)
        span = frames[other] - frames[nearest]
        share = np.divide(columns - frames[nearest], span, out=np.zeros_like(columns), where=span != 0)
        use = (share > 0) & (np.abs(frames[other] - columns) <= limit)
        chosen[use, 1] = other[use]
        weights[use] = np.stack([1.0 - share, share], axis=1)[use]
    return chosen, weights
