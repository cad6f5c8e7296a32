"""`stackalign mask`: a mask of good pixels from files of images that should be alike."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ._console import EXIT, USAGE, fail, out, print_facts, progress_reporter, say
from ._options import (
    AllowExternal,
    AsJson,
    DatasetName,
    DeviceName,
    Images,
    MemoryLimit,
    Overwrite,
    Quiet,
    ReadTimeout,
    Report,
    Resume,
    Scheduler,
    Workers,
)

if TYPE_CHECKING:
    from stackalign.diffraction.masks_file import MaskFile

__all__ = ["mask_command"]

FEW_VALID = 0.05


def mask_command(
    files: Images,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Output file: .npy .tif .h5.")] = None,
    limits: Annotated[
        str, typer.Option(metavar="LOW,HIGH|none", help="Values that are allowed, both included.")
    ] = "0,30000",
    max_std: Annotated[float | None, typer.Option(help="Largest standard deviation over all images.")] = None,
    dead: Annotated[bool, typer.Option("--dead", help="Refuse pixels that never change.")] = False,
    mask: Annotated[Path | None, typer.Option(help="Another mask to combine with (.npy .tif .h5).")] = None,
    dataset: DatasetName = None,
    allow_external: AllowExternal = False,
    read_timeout: ReadTimeout = None,
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
    """Find pixels that are outside limits, fluctuate or are dead, over all images of all files, in one pass.

    The mask is True, or 1, where a pixel is valid. Exit code: 0 done, 1 failed, 2 wrong usage, 3 done but less than
    5 % of the pixels are valid.
    """
    from stackalign.io.stacks import image_extensions

    from . import _diffraction as shared
    from . import _inputs as checks
    from ._frame import check_page, command_frame, memory_of, place_of, set_quiet

    set_quiet(quiet)
    if output is None:
        raise fail("give an output with --output", USAGE)
    limit = memory_of(memory_limit)
    place, device = place_of(scheduler, device)
    with command_frame():
        allowed: Any = None if limits == "none" else shared.numbers(limits, 2, "--limits")
        shared.check_output(output, image_extensions(), overwrite=overwrite or resume)
        check_page(report, replace=overwrite or resume)
        known = checks.load_mask(mask)
        made, summary, status = _made(
            shared.image_files(files), output, quiet, place, limits=allowed, max_std=max_std, dead=dead,
            mask=known, dataset=dataset, device=device, workers=workers, memory_limit=limit,
            open_options=shared.opening(allow_external, read_timeout), resume=resume,
            overwrite=overwrite, command=shared.command_line(),
        )  # fmt: skip
        if report is not None and made is not None:
            _report(report, output, made.found, made.valid)
    if as_json:
        out.print_json(json.dumps(summary))
    elif not quiet:
        print_facts([(name.replace("_", " "), str(value)) for name, value in summary.items()])
    share = summary["valid_share"]
    if share < FEW_VALID and not quiet:
        counts = {**summary["refused"], "by --mask": 0 if known is None else int(known.size - known.sum())}
        reasons = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in counts.items() if count)
        say(
            f"warning: only {share:.1%} of the pixels are valid, less than {FEW_VALID:.0%}; refused are {reasons}: "
            "look at --limits and the other options"
        )
    raise typer.Exit(EXIT[status])


def _made(
    files: list[Path], output: Path, quiet: bool, scheduler: str | None, **options: Any
) -> "tuple[MaskFile | None, dict[str, Any], str]":
    """The mask, if this run has made it, with its summary and status."""
    from stackalign.diffraction.masks_file import mask_file
    from stackalign.errors import FinishedError

    from ._frame import long_run

    try:
        with long_run(scheduler) as (stop, executor), progress_reporter(quiet, "images") as progress:
            made = mask_file(files, output, progress=progress, stop=stop, executor=executor, **options)
    except FinishedError as error:
        if not quiet:
            say(str(error))
        run = error.record["run"]
        return None, run["summary"], run["status"]
    return made, made.summary(), made.status


def _report(path: Path, output: Path, found: Any, valid: Any) -> None:
    from stackalign.plot._canvas import new_figure
    from stackalign.plot.diffraction import plot_mask, plot_pattern
    from stackalign.plot.diffraction_report import write_diffraction_report

    from ._diffraction import command_line

    figure = new_figure(13, 4.2)
    left, middle, right = figure.subplots(1, 3)
    plot_mask(found, ax=left)
    plot_pattern(found.mean, mask=valid, words="mean of the images", ax=middle)
    plot_pattern(found.std, mask=valid, words="standard deviation", ax=right)
    facts = {"output": output, "images": found.n_images, "command": command_line()}
    facts |= {f"refused, {reason.replace('_', ' ')}": count for reason, count in found.counts.items()}
    words = [(figure, "refused pixels, mean and deviation of the images")]
    write_diffraction_report(path, "Pixel mask", facts | found.provenance["parameters"], words)
