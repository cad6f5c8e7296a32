"""`stackalign nfold`: diffraction patterns in files, averaged by their symmetry."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ._common import Masked, long_run
from ._console import DONE, FAILED, SHORT, USAGE, fail, out, print_facts, progress_reporter, say, worded
from ._frame import command
from ._options import Centers, Images

if TYPE_CHECKING:
    from ._plan import Job

__all__ = ["nfold"]


@command
def nfold(
    files: Images,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Output file (.npy .h5 .zarr .tif), or a folder for several.")
    ] = None,
    fold: Annotated[str, typer.Option("--fold", "-n", metavar="N", help="Parts of a turn.")] = "",
    center: Annotated[
        str, typer.Option(metavar="ROW,COL|auto", help="Centre in pixels; auto finds that of each image.")
    ] = "auto",
    centers: Centers = None,
    fill: Annotated[float, typer.Option(metavar="VALUE", help="Where nothing is seen.")] = float("nan"),
    *,
    common: Masked,
) -> int:
    """Average patterns with themselves, turned by all multiples of 360 degrees / N; masked pixels are filled.

    Stacks are read and written in pieces. A file that fails is named and does not stop the others.
    Exit code: 0 done, 1 failed, 2 wrong usage, 3 done but a centre that was found is not certain, or
    no pattern is seen.
    """
    from stackalign.io.stacks import image_extensions, writable_extensions

    from . import _diffraction as shared
    from ._plan import check_outputs, plan_jobs

    if output is None:
        raise fail("give an output with --output", USAGE)
    if not fold.isdigit() or int(fold) < 1:
        raise fail(f"--fold must be a whole number of parts of a turn, as 6, got {fold or 'nothing'}", USAGE)
    if centers is not None and center != "auto":
        raise fail("give --center or --centers, not both", USAGE)
    middle: Any = None if center == "auto" else shared.numbers(center, 2, "--center")
    valid = common.valid()
    writable = (*writable_extensions(), *image_extensions())
    planned = plan_jobs(files, output, "nfold_", writable=writable)
    check_outputs(planned, writable)
    options = common.run_options | {"mask": valid, "fill_value": fill}
    with long_run(common.place) as (stop, executor):
        options |= {"stop": stop, "executor": executor}
        rows = [_of_file(job, common.quiet, int(fold), centers, middle, **options) for job in planned]
    if common.report is not None:
        _report(common.report, rows, fold, valid, common)
    failed = any(row.pop("failed", False) for row in rows)
    if common.as_json:
        out.print_json(json.dumps(rows))
    elif not common.quiet:
        for row in rows:
            if row["output"] is None:  # why was said
                continue
            print_facts([(name, str(value)) for name, value in row.items() if value not in ("", None)])
    return FAILED if failed else SHORT if any(row.get("uncertain") or row.get("flags") for row in rows) else DONE


def _of_file(job: "Job", quiet: bool, fold: int, centers: Path | None, middle: Any, **options: Any) -> dict[str, Any]:
    """Average one file; what became of it as a row of the summary."""
    from stackalign.diffraction.symmetry_file import nfold_file
    from stackalign.errors import FinishedError, Interrupted, StackalignError

    from . import _diffraction as shared

    row: dict[str, Any] = {"input": str(job.source), "output": str(job.output), "images": 0, "message": ""}
    try:
        stated = shared.centers_of(centers, job.source, middle)
        with progress_reporter(quiet, "images") as progress:
            done = nfold_file(job.source, job.output, fold, center=stated, progress=progress, **options)
        row["images"], uncertain, doubts = done.images, done.uncertain, done.flags
    except FinishedError as error:
        row["message"], uncertain = "finished by an earlier run", error.record["uncertain"]
        doubts = error.record.get("flags", {})
        row["images"] = error.record["images"]
    except Interrupted:
        raise
    except StackalignError as error:
        say(f"error: {shared.about(job.source, error)}")
        return row | {"output": None, "message": worded(error), "failed": True}
    if uncertain:
        row["uncertain"] = uncertain
        if not quiet:
            say(f"{job.source}: {shared.UNCERTAIN.format(uncertain, row['images'])}")
    if doubts:
        row["flags"] = " ".join(doubts)
        shared.say_doubts(job.source, doubts, quiet=quiet)
    return row


def _report(path: Path, rows: list[dict[str, Any]], fold: str, mask: Any, common: Masked) -> None:
    from stackalign.plot._canvas import new_figure
    from stackalign.plot.diffraction import plot_pattern
    from stackalign.plot.diffraction_report import write_diffraction_report

    from ._diffraction import first_image

    figures = []
    for row in [r for r in rows if r["output"] is not None][:20]:
        figure = new_figure(9, 4.2)
        before, after = figure.subplots(1, 2)
        image = first_image(Path(row["input"]), dataset=common.dataset, **common.open_options)
        plot_pattern(image, mask=mask, words="as it was", ax=before)
        plot_pattern(first_image(Path(row["output"])), words=f"{fold}-fold average", ax=after)
        figures.append((figure, f"average of {row['input']}"))
    table = [[str(r["input"]), str(r["output"]), r["images"], r["message"]] for r in rows]
    head = ["file", "output", "images", "message"]
    write_diffraction_report(path, f"{fold}-fold averages", {"fold": fold}, figures, head=head, rows=table)
