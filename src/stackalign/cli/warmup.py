"""`stackalign warmup`: compile the CPU kernels now instead of at first use."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ._console import USAGE, fail, say

__all__ = ["warmup"]


def warmup(
    dtype: Annotated[
        list[str] | None, typer.Option("--dtype", help="Pixel type to compile for; may be repeated. Default: all.")
    ] = None,
    pipeline: Annotated[
        list[str] | None,
        typer.Option(
            "--for",
            metavar="PIPELINE",
            help="Compile what crop, register, diffraction, solar or refine needs; may be repeated. Default: all.",
        ),
    ] = None,
) -> None:
    """Compile the CPU kernels into the cache, so that no later run waits for it; remove those of earlier versions."""
    from stackalign import backends, ops

    try:
        seconds = ops.warmup(dtype, pipeline)
    except ValueError as error:
        raise fail(str(error), USAGE) from error
    for name, took in seconds.items():
        say(f"{name}: {took:.1f} s")
    cpu: Any = backends.load("cpu")  # it alone compiles
    removed = cpu.remove_stale_kernels()
    if removed:
        folders = ", ".join(sorted({str(Path(path).parent) for path in removed}))
        say(f"removed {len(removed)} of earlier versions from {folders}")
    say(f"kept in {cpu.kernel_cache()}" if cpu.kernel_cache() else "nothing is kept: see above")
