"""Cropped patterns as a data set of PyTorch."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stackalign.errors import DataError, MissingDependencyError
from stackalign.io import StackInfo, StackReader, open_stack

try:
    import torch
except ImportError as missing:
    _words = 'stackalign.torch needs PyTorch: pip install "stackalign[torch]"'
    raise MissingDependencyError(_words) from missing

__all__ = ["CroppedDataset"]

_TYPES = ("float16", "float32", "float64", "uint8", "int8", "int16", "int32", "int64")
_SCALES = (None, "max", "sum", "standard")


class CroppedDataset(torch.utils.data.Dataset[Any]):  # type: ignore[misc] # torch is optional, and then Any
    """Patterns of a file by their number, read when they are asked for.

    Parameters
    ----------
    path : path-like
        What `stackalign.crop.crop_file` has written (.npy, .h5, .zarr, .pt), or any file that `open_stack` reads.
    dtype : str
        Type of the tensors: "float32" by default; integers must hold every value of the file's type.
    normalize : {None, "max", "sum", "standard"}
        Divide each pattern by its maximum, by its sum, or subtract its mean and divide by its standard deviation;
        patterns for which that is 0 are left as they are. Needs a float type. NaN count as missing.
    channel_axis : bool
        Give (1, h, w) instead of (h, w).
    transform : callable, optional
        Applied to each tensor.
    dataset : str, optional
        Which dataset, where a file holds several.

    Notes
    -----
    The file is opened anew in each process that reads it, so that a `DataLoader` may have workers by fork or spawn.
    A batch is read by runs of consecutive patterns. Stores with chunks decode a whole chunk for each pattern that is
    asked for alone: shuffle such files by blocks, or train from .npy or .pt.

    Examples
    --------
    >>> from torch.utils.data import DataLoader  # doctest: +SKIP
    >>> loader = DataLoader(CroppedDataset("cropped.npy", normalize="max"), batch_size=64, shuffle=True, num_workers=4)
    ... # doctest: +SKIP
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        dtype: str = "float32",
        normalize: Literal["max", "sum", "standard"] | None = None,
        channel_axis: bool = True,
        transform: Callable[[torch.Tensor], Any] | None = None,
        dataset: str | None = None,
    ) -> None:
        self._path = Path(path).absolute()
        self._dtype = np.dtype(dtype)
        self._normalize = normalize
        self._channel_axis = channel_axis
        self._transform = transform
        self._dataset = dataset
        self._opened: tuple[int, StackReader] | None = None
        if self._dtype.name not in _TYPES:
            msg = f"dtype must be one of {', '.join(_TYPES)}, got {dtype!r}"
            raise ValueError(msg)
        if normalize not in _SCALES:
            msg = f"normalize must be None, max, sum or standard, got {normalize!r}"
            raise ValueError(msg)
        if normalize is not None and self._dtype.kind != "f":
            msg = f"normalize={normalize!r} gives fractions, which {dtype} cannot hold; choose a float dtype"
            raise ValueError(msg)
        self._info = self._reader().info
        if self._dtype.kind in "iu" and not np.can_cast(self._info.dtype, self._dtype, "safe"):
            msg = f"{self._path} has {self._info.dtype.name}, not all of whose values {dtype} can hold; choose another"
            raise DataError(msg)

    @property
    def info(self) -> StackInfo:
        """Shape, type, scan shape and calibration of the file."""
        return self._info

    def __len__(self) -> int:
        return self._info.shape[0]

    def __getitem__(self, index: int) -> Any:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Several patterns; `DataLoader` asks for whole batches in this way."""
        numbers = np.array([self._number(index) for index in indices], np.int64)
        patterns = np.empty((len(numbers), *self._info.shape[1:]), self._info.dtype)
        reader = self._reader()
        breaks = np.flatnonzero(np.diff(numbers) != 1) + 1
        for run in np.split(np.arange(len(numbers)), breaks):
            if run.size:
                first, last = int(run[0]), int(run[-1]) + 1
                reader.read(int(numbers[first]), int(numbers[last - 1]) + 1, patterns[first:last])
        values = torch.from_numpy(self._scaled(patterns))
        tensors = list(values[:, None] if self._channel_axis else values)
        return tensors if self._transform is None else [self._transform(tensor) for tensor in tensors]

    def close(self) -> None:
        """Release the file; it is opened again when a pattern is asked for."""
        if self._opened is not None and self._opened[0] == os.getpid():
            self._opened[1].close()
        self._opened = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}

    def _reader(self) -> StackReader:
        """The file, opened in this process."""
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = (os.getpid(), open_stack(self._path, dataset=self._dataset))
        return self._opened[1]

    def _number(self, index: int) -> int:
        n = self._info.shape[0]
        number = int(index) + n if index < 0 else int(index)
        if not 0 <= number < n:
            msg = f"pattern {index} is not among the {n} of {self._path}"
            raise IndexError(msg)
        return number

    def _scaled(self, patterns: NDArray[Any]) -> NDArray[Any]:
        """Patterns in the wanted type, each scaled by itself; sums are taken in float64."""
        if self._normalize is None:
            return patterns.astype(self._dtype)
        values = patterns.astype(np.float64)
        each = values.reshape(len(values), -1)
        counted = np.where(np.isfinite(each), each, 0.0)
        number = np.maximum(np.isfinite(each).sum(axis=1), 1)
        offset = np.zeros(len(each))
        if self._normalize == "max":
            scale = np.where(np.isfinite(each), each, -np.inf).max(axis=1)
        elif self._normalize == "sum":
            scale = counted.sum(axis=1)
        else:
            offset = counted.sum(axis=1) / number
            deviation = np.where(np.isfinite(each), each - offset[:, None], 0.0)
            scale = np.sqrt((deviation**2).sum(axis=1) / number)
        usable = np.isfinite(scale) & (scale > 0)
        scale = np.where(usable, scale, 1.0)[:, None, None]
        return ((values - np.where(usable, offset, 0.0)[:, None, None]) / scale).astype(self._dtype)
