"""`stackalign warmup`: compile the CPU kernels now instead of at first use."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from ._console import USAGE, fail, say

__all__ = ["warmup"]


def warmup(
    dtype: Annotated[
        list[str] | None, typer.Option("--dtype", help="Pixel type to compile for; may be repeated. Default: all.")
    ] = None,
) -> None:
    """Compile the CPU kernels into the cache, so that no later run waits for it; remove those of earlier versions."""
    import numpy as np

    from stackalign import backends, ops
    from stackalign.backends._protocol import KERNEL_DTYPES

    for name in dtype or KERNEL_DTYPES:
        if name not in KERNEL_DTYPES:
            raise fail(f"there are no kernels for {name!r}; choose from {', '.join(KERNEL_DTYPES)}", USAGE)
        began = time.perf_counter()
        patterns = np.ones((2, 16, 16), name)
        ops.pattern_summary(patterns, 0.9, workers=1)
        ops.crop_windows(patterns, (0, 0), (4, 4), workers=1)
        ops.radial_cumulative(patterns, (0, 0), workers=1)
        ops.stack_statistics(patterns, workers=1)
        ops.bin_mean(patterns, 2, workers=1)
        for split in (False, True):
            ops.azimuthal_average(patterns, (8, 8), split=split, workers=1)
        ops.prepare_pair(patterns, patterns, workers=1)
        if name in ("float32", "float64"):  # all others become float32
            ops.rotational_average(patterns, None, 3, workers=1)
            ops.resample_affine(patterns, [[1, 0.1, 0], [-0.1, 1, 0]], workers=1)
        if name == "float32":  # planes of image pairs have this type
            pair = ops.prepare_pair(patterns, patterns, smooth=1.0, workers=1)
            diagonal, turned = [[1, 0, 0], [0, 1, 0]], [[1, 0.1, 0], [-0.1, 1, 0]]
            ops.score_affine(pair, np.array([diagonal, turned], np.float64), workers=1)
            ops.linearize_affine(pair, diagonal, "shift", workers=1)
            ops.linearize_affine(pair, diagonal, "affine", workers=1)
        if name.startswith("float"):  # the others become one of these
            ops.masked_shift(patterns, patterns, workers=1)
            ops.match_template(patterns, patterns, workers=1)
        say(f"{name}: {time.perf_counter() - began:.1f} s")
    cpu: Any = backends.load("cpu")  # it alone compiles
    removed = cpu.remove_stale_kernels()
    if removed:
        folders = ", ".join(sorted({str(Path(path).parent) for path in removed}))
        say(f"removed {len(removed)} of earlier versions from {folders}")
    say(f"kept in {cpu.kernel_cache()}" if cpu.kernel_cache() else "nothing is kept: see above")
