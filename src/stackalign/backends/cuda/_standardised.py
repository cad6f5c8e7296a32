# SPDX-License-Identifier: BSD-3-Clause
"""Images with mean 0 and variance 1 over their valid pixels, for the masked correlation."""

from typing import NamedTuple

import numpy as np

from stackalign.backends._protocol import Array

from ._runtime import Runtime

__all__ = ["Stack", "standardised"]


class Stack(NamedTuple):
    """Standardised images (N, D, H, W), their validity, and their numbers of valid pixels (N,)."""

    values: Array
    valid: Array
    count: Array


def standardised(rt: Runtime, images: Array, mask: Array | None) -> Stack:
    xp = rt.xp
    values = images.astype(np.float64)
    valid = xp.isfinite(values)
    if mask is not None:
        valid = valid & mask
    axes = (1, 2, 3)
    total = valid.sum(axis=axes, keepdims=True)
    count = xp.maximum(total, 1)
    mean = xp.where(valid, values, 0.0).sum(axis=axes, keepdims=True) / count
    values = xp.where(valid, values - mean, 0.0)
    deviation = xp.sqrt((values * values).sum(axis=axes, keepdims=True) / count)
    constant = deviation <= 1e-12 * xp.abs(mean)
    values = xp.where(constant, 0.0, values / xp.where(constant, 1.0, deviation)).astype(np.float32)
    return Stack(values, valid, total.reshape(-1))
