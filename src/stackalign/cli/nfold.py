"""`stackalign nfold`: diffraction patterns in files, averaged by their symmetry."""

import json
import logging
from pathlib import Path
from typing import Annotated, Any

import typer

from ._console import DONE, FAILED, SHORT, USAGE, fail, out, print_facts, progress_reporter, say, user_log, worded
from ._options import (
    AsJson,
    DatasetName,
    DeviceName,
    Images,
    MaskFile,
    MemoryLimit,
    Overwrite,
    Quiet,
    Report,
    Resume,
    Workers,
)

__all__ = ["nfold"]


def nfold(
    files: Images,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Output file (.npy .h5 .zarr .tif), or a folder for several.")
    ] = None,
    fold: Annotated[str, typer.Option("--fold", "-n", metavar="N", help="Parts of a turn.")] = "",
    center: Annotated[
        str, typer.Option(metavar="ROW,COL|auto", help="Centre in pixels; auto finds that of each image.")
    ] = "auto",
    fill: Annotated[float, typer.Option(metavar="VALUE", help="Where nothing is seen.")] = float("nan"),
    mask: MaskFile = None,
    dataset: DatasetName = None,
    report: Report = None,
    as_json: AsJson = False,
    memory_limit: MemoryLimit = None,
    workers: Workers = None,
    device: DeviceName = "auto",
    resume: Resume = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Average patterns with themselves, turned by all multiples of 360 degrees / N; masked pixels are filled.

    Stacks are read and written in pieces. A file that fails is named and does not stop the others.
    Exit code: 0 done, 1 failed, 2 wrong usage, 3 done
    but a centre that was found is not certain.
    """
    from stackalign.device import parse_bytes
    from stackalign.diffraction.symmetry_file import nfold_file
    from stackalign.errors import Interrupted, StackalignError
    from stackalign.io.images import FITS_EXTENSIONS, image_extensions
    from stackalign.io.stacks import readable_extensions, writable_extensions
    from stackalign.runs import StopRequest

    from . import _crop_jobs as jobs
    from . import _diffraction as shared
    from ._plan import check_outputs, plan_jobs

    if quiet:
        user_log.setLevel(logging.ERROR)
    if output is None:
        raise fail("give an output with --output", USAGE)
    if not fold.isdigit() or int(fold) < 1:
        raise fail(f"--fold must be a whole number of parts of a turn, as 6, got {fold or 'nothing'}", USAGE)
    try:
        middle: Any = None if center == "auto" else shared.numbers(center, 2, "--center")
        limit = None if memory_limit is None else parse_bytes(memory_limit)
    except ValueError as error:
        raise fail(str(error), USAGE) from error
    rows: list[dict[str, Any]] = []
    try:
        if report is not None:
            jobs.require_plots()
            jobs.check_report(report, replace=overwrite or resume)
        valid = jobs.load_mask(mask)
        writable = (*writable_extensions(), *image_extensions())
        planned = plan_jobs(
            files,
            output,
            "nfold_",
            readable=(*readable_extensions(), *FITS_EXTENSIONS),
            writable=writable,
        )
        check_outputs(planned, writable)
        with StopRequest() as stop:
            for job in planned:
                row: dict[str, Any] = {"input": str(job.source), "output": str(job.output), "images": 0, "message": ""}
                rows.append(row)
                if resume and job.output.exists() and not job.output.with_name(job.output.name + ".partial").exists():
                    row["message"] = "finished by an earlier run"
                    continue
                try:
                    with progress_reporter(quiet, "images") as progress:
                        done = nfold_file(
                            job.source, job.output, int(fold), center=middle, mask=valid, fill_value=fill,
                            dataset=dataset, device=device, workers=workers, memory_limit=limit, resume=resume,
                            overwrite=overwrite, progress=progress, stop=stop,
                        )  # fmt: skip
                    row["images"] = done.images
                    if done.uncertain:
                        row["uncertain"] = done.uncertain
                    if done.uncertain and not quiet:
                        say(f"{job.source}: {shared.UNCERTAIN.format(done.uncertain, done.images)}")
                except Interrupted as error:
                    say(f"{error}; the same command with --resume goes on from here")
                    raise fail("interrupted", FAILED) from error
                except StackalignError as error:
                    say(f"error: {shared.about(job.source, error)}")
                    row["output"], row["message"], row["failed"] = None, str(error), True
        if report is not None:
            _report(report, rows, fold, valid)
    except StackalignError as error:
        raise fail(worded(error), FAILED) from error
    except ValueError as error:  # a setting that only shows to be wrong with the images at hand
        raise fail(str(error), USAGE) from error
    failed = any(row.pop("failed", False) for row in rows)
    if as_json:
        out.print_json(json.dumps(rows))
    elif not quiet:
        for row in rows:
            if row["output"] is None:  # why was said
                continue
            print_facts([(name, str(value)) for name, value in row.items() if value not in ("", None)])
    raise typer.Exit(FAILED if failed else SHORT if any(row.get("uncertain") for row in rows) else DONE)


def _report(path: Path, rows: list[dict[str, Any]], fold: str, mask: Any) -> None:
    from stackalign.plot._canvas import new_figure
    from stackalign.plot.diffraction import plot_pattern
    from stackalign.plot.diffraction_report import write_diffraction_report

    from ._diffraction import first_image

    figures = []
    for row in [r for r in rows if r["output"] is not None][:20]:
        figure = new_figure(9, 4.2)
        before, after = figure.subplots(1, 2)
        plot_pattern(first_image(Path(row["input"])), mask=mask, words="as it was", ax=before)
        plot_pattern(first_image(Path(row["output"])), words=f"{fold}-fold average", ax=after)
        figures.append((figure, f"average of {row['input']}"))
    table = [[str(r["input"]), str(r["output"]), r["images"], r["message"]] for r in rows]
    head = ["file", "output", "images", "message"]
    write_diffraction_report(path, f"{fold}-fold averages", {"fold": fold}, figures, head=head, rows=table)
