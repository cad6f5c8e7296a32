# SPDX-License-Identifier: BSD-3-Clause
"""Earlier name of `stackalign.backends.cuda._compilation`, which scripts that check the compilation import."""

from .cuda._compilation import OPTIONS, architecture_option, compile_kernels

__all__ = ["OPTIONS", "architecture_option", "compile_kernels"]
