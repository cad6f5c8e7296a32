"""Launches of the kernels of sums over bins."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign.backends._bins import BinTable
from stackalign.backends._protocol import Array, BinSums
from stackalign.backends._threads import run
from stackalign.backends.cpu._arguments import mask_or_dummy, read_only

__all__ = ["bin_sums", "first_calls"]

MOST_BANDS = 8
LEAST_BAND = 65536
"""Pixels of a band, the work of one thread: their number depends on the table alone, and with it the order of sums."""
SCRATCH_BYTES = 1 << 26


FRAMES = 8
"""Images that a thread takes together, block by block."""


def _labels(table: BinTable) -> NDArray[np.generic]:
    """Labels of tables with one entry per pixel, in 16 bits where that is enough: less to read for every image."""
    if "cpu" not in table.at_home:
        column = table.labels[:, 0]
        table.at_home["cpu"] = read_only(
            column.astype(np.uint16) if table.n_bins < 65535 else np.ascontiguousarray(column)
        )
    labels: NDArray[np.generic] = table.at_home["cpu"]
    return labels


def _n_bands(n_pixels: int, n_bins: int) -> int:
    return max(1, min(MOST_BANDS, n_pixels // max(LEAST_BAND, 8 * n_bins)))


def _integers(images: NDArray[np.generic], table: BinTable, bands: int, workers: int, out: BinSums) -> None:
    """Exact sums of integers that are all valid."""
    from stackalign_kernels.cpu import bins

    n, pixels = images.shape
    sums = np.zeros((bands, n, 2, table.n_bins + 1, 2), np.int64)
    labels = _labels(table)

    def task(start: int, stop: int) -> None:
        for item in range(start, stop):
            part, band = divmod(item, bands)
            ends = pixels * band // bands, pixels * (band + 1) // bands
            first = part * FRAMES
            bins.add_integers(images, labels, first, min(n, first + FRAMES), *ends, sums[band])

    run(task, -(-n // FRAMES) * bands, workers)
    total = sums.sum(axis=(0, 2))[:, :-1]
    count = table.totals[:-1].astype(np.int64)
    some = np.maximum(count, 1)
    # About the whole number next to the mean everything is small, and still exact.
    middle = total[..., 0] // some
    rest = total[..., 0] - count * middle
    squares = total[..., 1] - 2 * middle * total[..., 0] + count * middle**2
    out.bin_weight[...] = count
    out.bin_mean[...] = np.where(count > 0, middle + rest / some, np.nan)
    out.bin_m2[...] = np.maximum(squares - rest * (rest / some), 0.0)


def bin_sums(images: Array, mask: Array | None, table: BinTable, workers: int, /) -> BinSums:
    """See `Backend.bin_sums`."""
    n, b = len(images), table.n_bins
    pixels = table.labels.shape[0]
    flat = images.reshape(n, pixels)
    valid, use_mask = mask_or_dummy(None if mask is None else mask.reshape(len(mask), pixels), (pixels,))
    result = BinSums(*(np.empty((n, b)) for _ in range(3)))
    bands = _n_bands(pixels, b)
    group = max(1, SCRATCH_BYTES // (bands * (b + 1) * 32))
    plain = table.weights is None and table.labels.shape[1] == 1
    # Sums of squares stay below 2**63 for 2**31 pixels, which an image never has.
    exact = plain and mask is None and images.dtype.kind in "iu" and images.dtype.itemsize <= 2
    for first in range(0, n, group):
        some = slice(first, min(n, first + group))
        part = BinSums(*(a[some] for a in result))
        if exact:
            _integers(flat[some], table, bands, workers, part)
            continue
        _group(flat[some], valid[some] if len(valid) > 1 else valid, use_mask, table, bands, workers, part)
    return result


def _group(
    images: NDArray[np.generic],
    valid: NDArray[np.bool_],
    use_mask: bool,
    table: BinTable,
    bands: int,
    workers: int,
    out: BinSums,
) -> None:
    from stackalign_kernels.cpu import bins

    n, pixels = images.shape
    pivots = np.zeros((n, table.n_bins + 1))
    bins.pivot_values(images, valid, use_mask, read_only(table.pivots), pivots)
    sums = np.zeros((bands, n, table.n_bins + 1, 3))

    labels = _labels(table)
    entries = read_only(table.labels)
    plain = table.weights is None and table.labels.shape[1] == 1
    together = FRAMES if plain else 1
    parts = -(-n // together)

    def task(start: int, stop: int) -> None:
        for item in range(start, stop):
            part, band = divmod(item, bands)
            ends = pixels * band // bands, pixels * (band + 1) // bands
            if plain:
                first = part * together
                bins.add(images, valid, use_mask, labels, pivots, first, min(n, first + together), *ends, sums[band])
                continue
            row = valid[part if len(valid) > 1 else 0]
            weights = read_only(np.ones((1, 1), np.float32) if table.weights is None else table.weights)
            weighted = table.weights is not None
            bins.add_weighted(
                images[part], row, use_mask, entries, weights, weighted, pivots[part], *ends, sums[band, part]
            )

    run(task, parts * bands, workers)
    total = sums[0, :, :-1]
    for band in range(1, bands):
        total += sums[band, :, :-1]
    out.bin_weight[...] = table.totals[:-1] - total[..., 0]
    some = out.bin_weight > 0
    shift = np.divide(total[..., 1], out.bin_weight, out=np.full(some.shape, np.nan), where=some)
    out.bin_mean[...] = pivots[:, :-1] + shift
    out.bin_m2[...] = np.where(some, np.maximum(total[..., 2] - total[..., 1] * shift, 0.0), 0.0)


def first_calls(dtype: np.dtype[Any]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Calls, without `workers`, for which all kernels of this file are compiled for a type of pixels."""
    images, mask = np.ones((1, 8, 8), dtype), np.ones((1, 8, 8), np.bool_)
    labels = np.zeros((64, 1), np.int32)
    yield "bin_sums", (images, None, BinTable(labels, None, 1))
    yield "bin_sums", (images, mask, BinTable(labels, None, 1))
    yield "bin_sums", (images, None, BinTable(labels, np.ones(labels.shape, np.float32), 1))
