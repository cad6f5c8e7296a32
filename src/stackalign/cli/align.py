"""`stackalign align`: register images and stacks in files with a reference."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ._common import Reading
from ._console import DONE, FAILED, SHORT, USAGE, fail, out, print_facts
from ._frame import command

__all__ = ["align"]

_MODEL, _INPUT, _OUTPUT = "Model", "Input", "Output"


@command
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
    order: Annotated[
        int, typer.Option(metavar="0|1|3", help="Interpolation of the output.", rich_help_panel=_OUTPUT)
    ] = 1,
    table: Annotated[
        Path | None, typer.Option(metavar="FILE.csv|.ecsv", help="Table of parameters.", rich_help_panel=_OUTPUT)
    ] = None,
    *,
    common: Reading,
) -> int:
    """Register images with a reference, with error bars, and write them resampled onto its pixels.

    Each MOVING may be an image or a stack; with REFERENCE alone, its frames are aligned with its own frame
    --reference-index. Beside each output stand the parameters (*_alignment.json), and a table of all of them.
    Exit code: 0 done, 1 failed, 2 wrong usage, 3 done but a result is flagged as not to be trusted.
    """
    from stackalign.io.stacks import image_extensions, writable_extensions

    from ._align_jobs import run_jobs, write_outputs
    from ._plan import check_outputs, plan_jobs

    if output is None:
        raise fail("give an output with --output", USAGE)
    if table is not None and table.suffix.lower() not in (".csv", ".ecsv"):
        raise fail(f"--table must end with .csv or .ecsv, got {table}", USAGE)
    settings = _settings(model, max_shift, smooth, min_overlap, background, order)
    masks = _masks(mask, reference_mask, moving_mask)
    writable = (*writable_extensions(), *image_extensions())
    planned = plan_jobs(moving or [reference], output, "aligned_", writable=writable)
    check_outputs(planned, writable)
    outcomes = run_jobs(
        planned, Path(reference) if moving else None, common, reference_index=reference_index, **masks, **settings
    )
    write_outputs(outcomes, table, common.report)
    rows = [outcome.summary() for outcome in outcomes]
    if common.as_json:
        out.print_json(json.dumps(rows))
    elif not common.quiet:
        _print([row for row, outcome in zip(rows, outcomes, strict=True) if outcome.columns])  # of others was said why
    flagged = any(row.get("flagged") for row in rows)
    return FAILED if any(not o.columns for o in outcomes) else SHORT if flagged else DONE


def _settings(
    model: str, max_shift: float | None, smooth: str, min_overlap: float, background: str | None, order: int
) -> dict[str, Any]:
    """Arguments of `align_file` that say how images are compared and resampled."""
    from stackalign import transforms

    if model not in transforms.MODELS:
        raise fail(f"--model must be one of {', '.join(transforms.MODELS)}, got {model!r}", USAGE)
    if order not in (0, 1, 3):
        raise fail(f"--order must be 0, 1 or 3, got {order}", USAGE)
    try:
        return {
            "model": model,
            "max_shift": max_shift,
            "smooth": "auto" if smooth == "auto" else float(smooth),
            "min_overlap": min_overlap,
            "background": True if background == "auto" else None if background is None else float(background),
            "order": order,
        }
    except ValueError as error:
        raise fail(str(error), USAGE) from error


def _masks(both: Path | None, reference: Path | None, moving: Path | None) -> dict[str, Any]:
    """Masks of --mask, or of --reference-mask and --moving-mask."""
    from ._inputs import load_mask

    if both is not None and (reference is not None or moving is not None):
        raise fail("give --mask for both images, or --reference-mask and --moving-mask", USAGE)
    return {"reference_mask": load_mask(reference or both), "moving_mask": load_mask(moving or both)}


def _print(rows: Sequence[dict[str, Any]]) -> None:
    for row in rows:
        facts = [(name.replace("_", " "), str(value)) for name, value in row.items() if value not in ("", None)]
        if remarks := row.get("remarks"):
            facts = [fact for fact in facts if fact[0] != "remarks"] + list(remarks.items())
        print_facts(facts)
