# SPDX-License-Identifier: BSD-3-Clause
"""Earlier name of `stackalign.backends.cuda.masked_ncc`, which scripts that watch its launches import."""

from .cuda.masked_ncc import masked_ncc, masked_peaks

__all__ = ["masked_ncc", "masked_peaks"]
