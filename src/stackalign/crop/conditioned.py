"""Patterns as a crop uses them: invalid pixels filled, blocks of pixels summed."""

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stackalign.errors import DataError
from stackalign.io import Calibration, StackInfo, StackReader, open_stack
from stackalign.io._reader import BaseReader

from .config import CroppingConfig
from .masks import automatic_mask_note, combine_masks

if TYPE_CHECKING:
    from scipy.sparse import csr_array

__all__ = ["Conditioning", "binned_points", "conditioned", "conditioning_notes", "open_conditioned"]

SCRATCH_BYTES = 8 * 2**20
"""Frames of the file that are in memory while they are binned."""

FARTHEST = 64
"""Half the side of the largest square in which valid neighbours of an invalid pixel are looked for."""


@dataclasses.dataclass(frozen=True)
class Conditioning:
    """What is done to every frame before it is measured and cut; picklable.

    Parameters
    ----------
    bin : int
        Blocks of ``bin x bin`` pixels become one, their sum. Rows and columns that fill no block are left out.
    gap : {"keep", "mask", "mean"}
        Invalid pixels stay as recorded, become 0 (NaN in floats), or the mean of their valid neighbours.
    mask : numpy.ndarray, optional
        (H, W) boolean of the file's frames, True = valid.
    """

    bin: int = 1
    gap: str = "keep"
    mask: NDArray[np.bool_] | None = None

    @property
    def idle(self) -> bool:
        """Whether frames stay what they are."""
        return self.bin == 1 and (self.gap == "keep" or self.mask is None or bool(self.mask.all()))


def conditioned(
    reader: StackReader, config: CroppingConfig, mask: NDArray[np.bool_] | str | None
) -> tuple[StackReader, NDArray[np.bool_] | None, Conditioning]:
    """Give a reader whose frames are filled and binned as the configuration asks, and their mask.

    Parameters
    ----------
    reader : StackReader
    config : CroppingConfig
    mask : numpy.ndarray or "auto", optional
        Of the frames of the file; combined with its own.

    Returns
    -------
    reader : StackReader
        The same where nothing is to be done.
    mask : numpy.ndarray or None
        (H, W) boolean of its frames, True = valid.
    conditioning : Conditioning
        What `open_conditioned` takes.

    Raises
    ------
    DataError
        The frames are smaller than a block, or the mask is none.
    """
    valid = combine_masks(reader, mask)
    what = Conditioning(config.bin, config.gap, valid)
    if what.idle:
        return reader, valid, what
    wrapped = _ConditionedReader(reader, what)
    return wrapped, wrapped.info.mask, what


def open_conditioned(path: Any, *, conditioning: Conditioning, options: Mapping[str, Any]) -> StackReader:
    """Open a file on a worker, as `conditioned` gave it."""
    reader = open_stack(path, **options)
    return reader if conditioning.idle else _ConditionedReader(reader, conditioning)


def conditioning_notes(
    reader: StackReader, config: CroppingConfig, mask: NDArray[np.bool_] | str | None, what: Conditioning
) -> tuple[str, ...]:
    """Say what an automatic mask leaves out, and what filling and binning did. `reader` is that of the file."""
    notes = list(automatic_mask_note(reader, mask, what.mask))
    count = 0 if what.mask is None else int((~what.mask).sum())
    if config.gap != "keep" and not count:
        notes.append(
            f"gap {config.gap}: there is no invalid pixel; the file states none, give a mask, or auto to look for some"
        )
    elif config.gap != "keep":
        done = "set to 0 or NaN" if config.gap == "mask" else "replaced by the mean of the nearest valid ones"
        notes.append(f"gap {config.gap}: {count} invalid pixel{'s are' if count > 1 else ' is'} {done}")
    if config.bin > 1:
        left = [f"{n} {axis}" for n, axis in zip(np.mod(reader.info.shape[1:], config.bin), "yx", strict=True) if n]
        lost = f"; pixels at the end that fill no block are left out ({', '.join(left)})" if left else ""
        notes.append(f"bin {config.bin}: blocks of {config.bin} x {config.bin} pixels are summed{lost}")
    return tuple(notes)


def binned_points(points: NDArray[np.float64], factor: int) -> NDArray[np.float64]:
    """Positions in pixel indices of the frame as positions in those of the binned frame."""
    return points if factor == 1 else (points + 0.5) / factor - 0.5


class _ConditionedReader(BaseReader):
    """Frames of another reader, filled and binned."""

    def __init__(self, base: StackReader, what: Conditioning) -> None:
        super().__init__(base.path, _info(base, what), None if base.path is not None else "the array")
        self._base = base
        self._bin = what.bin
        dtype = base.info.dtype
        invalid = None if what.mask is None or what.mask.all() else ~what.mask
        self._invalid = invalid if what.gap == "mask" else None
        self._neighbours = _neighbours(~invalid) if what.gap == "mean" and invalid is not None else None
        self._blank = np.array(np.nan if dtype.kind == "f" else 0, dtype)
        self._cleared = None if self._invalid is None or self._info.mask is None else ~self._info.mask

    def _read(self, start: int, stop: int, out: NDArray[Any]) -> None:
        if self._bin == 1:
            self._base.read(start, stop, out)
            self._fill(out)
            return
        frame = self._base.info.shape[1:]
        step = max(1, SCRATCH_BYTES // self._base.info.pattern_bytes)
        scratch = np.empty((min(step, stop - start), *frame), self._base.info.dtype)
        for first in range(start, stop, step):
            last = min(stop, first + step)
            frames = scratch[: last - first]
            self._base.read(first, last, frames)
            self._fill(frames)
            self._check_range(frames)
            _sum_blocks(frames, self._bin, out[first - start : last - start])
        if self._cleared is not None:  # blocks of which some pixels are valid
            out[:, self._cleared] = self._blank

    def _fill(self, frames: NDArray[Any]) -> None:
        """Replace the invalid pixels, in place."""
        if self._invalid is not None:
            frames[:, self._invalid] = self._blank
        elif self._neighbours is not None:
            places, weights = self._neighbours
            flat = frames.reshape(len(frames), -1)
            values = np.asarray(flat, np.float64)
            finite = np.isfinite(values)
            total = (weights @ np.where(finite, values, 0.0).T).T
            with np.errstate(invalid="ignore"):
                mean = total / (weights @ finite.T.astype(np.float64)).T
            flat[:, places] = mean if frames.dtype.kind == "f" else np.rint(np.nan_to_num(mean))

    def _check_range(self, frames: NDArray[Any]) -> None:
        """Refuse integers of 64 bits whose sums could wrap."""
        if frames.dtype.kind in "iu" and frames.dtype.itemsize == 8:
            low = 0 if frames.dtype.kind == "u" else frames.min()
            if max(int(frames.max()), -int(low)) >= 2**50:
                msg = f"{self._name} has integers beyond 2^50, whose sums may not fit 64 bits; convert it to float64"
                raise DataError(msg)

    def fingerprint(self) -> str:
        """Identify the content: that of the file."""
        return self._base.fingerprint()

    def close(self) -> None:
        """Release the file."""
        self._base.close()
        super().close()


def _info(base: StackReader, what: Conditioning) -> StackInfo:
    """What is known of the conditioned frames."""
    info, factor = base.info, what.bin
    if factor == 1:
        return dataclasses.replace(info, mask=what.mask)
    n, height, width = info.shape
    if min(height, width) < factor:
        msg = f"frames of {height} x {width} pixels have no block of {factor} x {factor}; choose a smaller bin"
        raise DataError(msg)
    shape = (n, height // factor, width // factor)
    mask = None if what.mask is None else _binned_mask(what, shape[1:])
    calibration = None if info.calibration is None else _binned_calibration(info.calibration, factor)
    metadata = {**info.metadata, "binned": factor, "input_bytes": info.nbytes}
    dtype = _sum_type(info.dtype, factor)
    return dataclasses.replace(info, shape=shape, dtype=dtype, mask=mask, calibration=calibration, metadata=metadata)


def _sum_type(dtype: np.dtype[Any], factor: int) -> np.dtype[Any]:
    """Type that holds the sum of a block: the next that is wide enough; floats of 16 bits become 32."""
    if dtype.kind == "f":
        return np.dtype(np.float32) if dtype.itemsize < 4 else dtype
    bits = 8 * dtype.itemsize + math.ceil(2 * math.log2(factor))
    wide = next((b for b in (8, 16, 32, 64) if b >= bits), 64)
    return np.dtype(f"{dtype.kind}{wide // 8}")


def _binned_mask(what: Conditioning, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Blocks that count: without invalid pixels, or filled ones in less than half of it."""
    assert what.mask is not None
    valid = np.empty((1, *shape), np.int64)
    _sum_blocks(what.mask[None].astype(np.int64), what.bin, valid)
    least = what.bin**2 / 2 if what.gap == "mean" else what.bin**2
    counts: NDArray[np.bool_] = valid[0] >= least
    return counts


def _binned_calibration(calibration: Calibration, factor: int) -> Calibration:
    y, x = calibration.pixel_size
    origin = binned_points(np.array(calibration.origin), factor)
    return dataclasses.replace(
        calibration, pixel_size=(y * factor, x * factor), origin=(float(origin[0]), float(origin[1]))
    )


def _sum_blocks(frames: NDArray[Any], factor: int, out: NDArray[Any]) -> None:
    """Sum blocks of pixels of (n, H, W) into (n, H // factor, W // factor)."""
    height, width = out.shape[1] * factor, out.shape[2] * factor
    out[:] = 0
    for y in range(factor):
        for x in range(factor):
            out += frames[:, y:height:factor, x:width:factor]


def _neighbours(valid: NDArray[np.bool_]) -> "tuple[NDArray[np.intp], csr_array]":
    """Places of the invalid pixels in the flat frame, and a matrix with 1 for each of their neighbours that count.

    These are the valid pixels of the smallest square about each that holds some; a pixel without any within
    `FARTHEST` stays what it is.
    """
    from scipy.sparse import csr_array

    height, width = valid.shape
    places: list[int] = []
    rows: list[int] = []
    columns: list[int] = []
    for y, x in np.argwhere(~valid).tolist():
        for reach in range(1, FARTHEST + 1):
            top, left = max(0, y - reach), max(0, x - reach)
            around = np.argwhere(valid[top : y + reach + 1, left : x + reach + 1])
            if len(around):
                columns += ((around[:, 0] + top) * width + around[:, 1] + left).tolist()
                rows += [len(places)] * len(around)
                places.append(y * width + x)
                break
    weights = csr_array((np.ones(len(rows)), (rows, columns)), shape=(len(places), height * width))
    return np.array(places, np.intp), weights
