"""Statistics over the frames of a stack, as the protocol specifies them."""

import numpy as np

from stackalign.backends._protocol import Array, StackSums

from ._valid import valid_pixels

__all__ = ["stack_statistics"]


def stack_statistics(stack: Array, mask: Array | None, workers: int, /) -> StackSums:
    """See `Backend.stack_statistics`."""
    valid = valid_pixels(stack, mask)
    count = valid.sum(axis=0, dtype=np.int64)
    values = np.where(valid, stack, 0).astype(np.float64)
    total = np.zeros(stack.shape[1:])
    for frame in values:
        total = total + frame
    mean = np.divide(total, count, out=np.zeros_like(total), where=count > 0)
    deviation = np.where(valid, values - mean, 0.0)
    none = count == 0
    return StackSums(
        count,
        np.where(none, np.nan, np.where(valid, values, np.inf).min(axis=0)),
        np.where(none, np.nan, np.where(valid, values, -np.inf).max(axis=0)),
        mean,
        (deviation * deviation).sum(axis=0),
    )
