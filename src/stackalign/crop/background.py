"""A background that is taken off for the measurement only: the data that are written keep it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .advice import border_level
from .config import CroppingConfig

__all__ = ["measured"]


def measured(block: NDArray[Any], config: CroppingConfig, mask: NDArray[np.bool_] | None) -> NDArray[Any]:
    """Return the patterns as they are measured: themselves, or a copy without their background.

    Parameters
    ----------
    block : numpy.ndarray
        (n, H, W).
    config : CroppingConfig
    mask : numpy.ndarray, optional
        (H, W) boolean, True = valid: other pixels do not decide on the level.
    """
    if config.background is None:
        return block
    wide = block.dtype.itemsize > 2 and block.dtype != np.float32
    out = block.astype(np.float64 if wide else np.float32)
    for pattern in out:
        pattern -= out.dtype.type(_level(pattern, config.background, mask))
    return out


def _level(pattern: NDArray[Any], background: str | float, mask: NDArray[np.bool_] | None) -> float:
    if not isinstance(background, str):
        return background
    if background == "corner":
        return border_level(pattern, mask)
    valid = np.isfinite(pattern) if mask is None else np.isfinite(pattern) & mask
    return float(np.percentile(pattern[valid], float(background[:-1]))) if valid.any() else 0.0
