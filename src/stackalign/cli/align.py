"""`stackalign align`: register images and stacks in files with a reference."""

import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ._console import DONE, FAILED, SHORT, USAGE, fail, out, print_facts, user_log, worded
from ._options import (
    AllowExternal,
    AsJson,
    DatasetName,
    DeviceName,
    MemoryLimit,
    Overwrite,
    Quiet,
    ReadTimeout,
    Report,
    Resume,
    Scheduler,
    Workers,
)

__all__ = ["align"]

_MODEL, _INPUT, _OUTPUT = "Model", "Input", "Output"


def align(
    reference: Annotated[str, typer.Argument(metavar="REFERENCE", help="File of the reference, or the only stack.")],
    moving: Annotated[
        list[str] | None, typer.Argument(metavar="MOVING...", help="Files, folders or globs.", show_default=False)
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Output file (.npy .h5 .zarr .tif .fits), or a folder for several."),
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            metavar="shift|shift+scale|rigid|similarity|shift+scale+angle|affine",
            help="What may differ between the images.",
            rich_help_panel=_MODEL,
        ),
    ] = "shift",
    max_shift: Annotated[
        float | None, typer.Option(metavar="PIXELS", help="Longest shift along each axis.", rich_help_panel=_MODEL)
    ] = None,
    smooth: Annotated[
        str, typer.Option(metavar="auto|SIGMA", help="Gaussian over both images, in pixels.", rich_help_panel=_MODEL)
    ] = "auto",
    background: Annotated[
        str | None,
        typer.Option(
            metavar="auto|SIGMA",
            help="Compare without the Gaussian mean of SIGMA pixels, as that of a diffuse halo.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    min_overlap: Annotated[
        float, typer.Option(help="Share of the reference that both images must have.", rich_help_panel=_MODEL)
    ] = 0.3,
    mask: Annotated[
        Path | None,
        typer.Option(help="Valid pixels of both (.npy .tif .h5): True or non-zero = valid.", rich_help_panel=_INPUT),
    ] = None,
    reference_mask: Annotated[
        Path | None, typer.Option(help="Valid pixels of the reference alone.", rich_help_panel=_INPUT)
    ] = None,
    moving_mask: Annotated[
        Path | None, typer.Option(help="Valid pixels of the moving images alone.", rich_help_panel=_INPUT)
    ] = None,
    reference_index: Annotated[
        int, typer.Option(metavar="N", help="Frame of the reference in its file.", rich_help_panel=_INPUT)
    ] = 0,
    dataset: DatasetName = None,
    allow_external: AllowExternal = False,
    read_timeout: ReadTimeout = None,
    order: Annotated[
        int, typer.Option(metavar="0|1|3", help="Interpolation of the output.", rich_help_panel=_OUTPUT)
    ] = 1,
    table: Annotated[
        Path | None, typer.Option(metavar="FILE.csv|.ecsv", help="Table of parameters.", rich_help_panel=_OUTPUT)
    ] = None,
    report: Report = None,
    as_json: AsJson = False,
    memory_limit: MemoryLimit = None,
    workers: Workers = None,
    device: DeviceName = "auto",
    scheduler: Scheduler = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Register images with a reference, with error bars, and write them resampled onto its pixels.

    Each MOVING may be an image or a stack; with REFERENCE alone, its frames are aligned with its own frame
    --reference-index. Beside each output stand the parameters (*_alignment.json), and a table of all of them.
    Exit code: 0 done, 1 failed, 2 wrong usage, 3 done but a result is flagged as not to be trusted.
    """
    from stackalign import transforms
    from stackalign.device import parse_bytes
    from stackalign.errors import StackalignError
    from stackalign.io.stacks import image_extensions, writable_extensions

    from . import _inputs as checks
    from ._align_jobs import run_jobs, write_outputs
    from ._frame import place_of
    from ._plan import check_outputs, plan_jobs

    if quiet:
        user_log.setLevel(logging.ERROR)
    place, device = place_of(scheduler, device)
    if output is None:
        raise fail("give an output with --output", USAGE)
    if model not in transforms.MODELS:
        raise fail(f"--model must be one of {', '.join(transforms.MODELS)}, got {model!r}", USAGE)
    if order not in (0, 1, 3):
        raise fail(f"--order must be 0, 1 or 3, got {order}", USAGE)
    if mask is not None and (reference_mask is not None or moving_mask is not None):
        raise fail("give --mask for both images, or --reference-mask and --moving-mask", USAGE)
    if table is not None and table.suffix.lower() not in (".csv", ".ecsv"):
        raise fail(f"--table must end with .csv or .ecsv, got {table}", USAGE)
    try:
        settings: dict[str, Any] = {
            "model": model,
            "max_shift": max_shift,
            "smooth": "auto" if smooth == "auto" else float(smooth),
            "min_overlap": min_overlap,
            "background": True if background == "auto" else None if background is None else float(background),
        }
        limit = None if memory_limit is None else parse_bytes(memory_limit)
    except ValueError as error:
        raise fail(str(error), USAGE) from error
    try:
        if report is not None:
            checks.require_plots()
            checks.check_report(report, replace=overwrite or resume)
        writable = (*writable_extensions(), *image_extensions())
        planned = plan_jobs(moving or [reference], output, "aligned_", writable=writable)
        check_outputs(planned, writable)
        outcomes = run_jobs(
            planned,
            Path(reference) if moving else None,
            settings,
            reference_index=reference_index,
            reference_mask=checks.load_mask(reference_mask or mask),
            moving_mask=checks.load_mask(moving_mask or mask),
            dataset=dataset,
            order=order,
            device=device,
            workers=workers,
            memory_limit=limit,
            open_options={"allow_external": allow_external, "read_timeout": read_timeout},
            scheduler=place,
            resume=resume,
            overwrite=overwrite,
            quiet=quiet,
            command=" ".join(["stackalign", *sys.argv[1:]]),
        )
        failed = [outcome for outcome in outcomes if not outcome.columns]
        write_outputs(outcomes, table, report)
    except StackalignError as error:
        raise fail(worded(error), FAILED) from error
    except ValueError as error:  # a setting that only shows to be wrong with the images at hand
        raise fail(str(error), USAGE) from error
    rows = [outcome.summary() for outcome in outcomes]
    if as_json:
        out.print_json(json.dumps(rows))
    elif not quiet:
        _print([row for row, outcome in zip(rows, outcomes, strict=True) if outcome.columns])  # of others was said why
    flagged = any(row.get("flagged") for row in rows)
    raise typer.Exit(FAILED if failed else SHORT if flagged else DONE)


def _print(rows: Sequence[dict[str, Any]]) -> None:
    for row in rows:
        print_facts([(name.replace("_", " "), str(value)) for name, value in row.items() if value not in ("", None)])
