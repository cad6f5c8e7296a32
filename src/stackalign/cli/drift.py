"""`stackalign drift`: the frames of a series, registered together and aligned."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ._common import Masked
from ._console import EXIT, USAGE, fail, out, print_facts, say
from ._frame import command, run_or_load
from ._options import Images

if TYPE_CHECKING:
    from ._plan import Job

__all__ = ["drift"]


@command
def drift(
    files: Images,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Aligned frames (.npy .h5 .zarr .tif .fits).")
    ] = None,
    average: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Image of the mean of the aligned frames that are not flagged.")
    ] = None,
    table: Annotated[Path | None, typer.Option(metavar="FILE.csv|.ecsv", help="Table of shifts.")] = None,
    max_step: Annotated[
        float | None, typer.Option(metavar="PIXELS", help="Largest drift from a frame to the next along each axis.")
    ] = None,
    pairs: Annotated[int, typer.Option(metavar="N", help="Distances between paired frames: 1, 2, 3, 5, 8...")] = 8,
    reference_index: Annotated[int, typer.Option(metavar="N", help="Frame that stays where it is.")] = 0,
    order: Annotated[int, typer.Option(metavar="0|1|3", help="Interpolation of the output.")] = 3,
    *,
    common: Masked,
) -> int:
    """Find the drift of all frames of a stack together, with error bars, and write them aligned.

    Pairs of frames at several distances and the mean of all decide, so that a wrong pair, a damaged frame or a lattice
    that is a cell off closes no loop. Beside the output stand shifts, error bars and flags (*_drift.json).
    Exit code: 0 done, 1 failed, 2 wrong usage, 3 done but a frame is flagged as not to be trusted.
    """
    from stackalign.drift import drift_file, load_drift_file

    settings: dict[str, Any] = {"max_step": max_step, "pairs_per_frame": pairs, "order": order}
    job = _job(files, _check(output, table, **settings))
    settings |= {"reference": reference_index, "average": average, "mask": common.valid()}
    done = run_or_load(
        common,
        lambda **how: drift_file(job.source, job.output, **settings, **common.run_options, **how),
        lambda error: load_drift_file(error.record),
    )
    if table is not None:
        from stackalign.registration.table import write_table

        write_table(table, done.result.columns())
    if common.report is not None and done.average is None:
        say(f"note: {common.report} is not written: the pictures were not kept by the run that finished {job.output}")
    elif common.report is not None:
        from stackalign.plot.drift_report import write_drift_report

        write_drift_report([done], common.report)
    _print(done, common.as_json, common.quiet)
    return EXIT[done.status]


def _check(
    output: Path | None, table: Path | None, *, max_step: float | None, pairs_per_frame: int, order: int
) -> Path:
    """The output; wrong usage is refused."""
    if output is None:
        raise fail("give an output with --output", USAGE)
    if table is not None and table.suffix.lower() not in (".csv", ".ecsv"):
        raise fail(f"--table must end with .csv or .ecsv, got {table}", USAGE)
    if pairs_per_frame < 1:
        raise fail(f"--pairs must be 1 or more, got {pairs_per_frame}", USAGE)
    if order not in (0, 1, 3):
        raise fail(f"--order must be 0, 1 or 3, got {order}", USAGE)
    if max_step is not None and not 0 < max_step < float("inf"):
        raise fail(f"--max-step must be a positive number of pixels, got {max_step}", USAGE)
    return output


def _job(files: list[str], output: Path) -> "Job":
    """The only series, and where its aligned frames go."""
    from stackalign.io.stacks import image_extensions, readable_extensions, writable_extensions

    from ._plan import check_outputs, expand, plan_jobs

    series = expand(files, readable_extensions(pictures=False))
    if len(series) != 1:
        raise fail(f"drift takes one series of frames in one file, got {len(series)} files", USAGE)
    writable = (*writable_extensions(), *image_extensions())
    (job,) = plan_jobs(files, output, "aligned_", writable=writable)
    check_outputs([job], writable)
    return job


def _print(done: Any, as_json: bool, quiet: bool) -> None:
    from stackalign.io.provenance import dump_json

    result = done.result
    flags = sorted({flag for flags in result.flags for flag in flags})
    summary = {
        "input": str(done.source),
        "output": str(done.output),
        "average": None if done.average_path is None else str(done.average_path),
        "frames": len(result),
        "flagged": int((~result.ok).sum()),
        "flags": " ".join(flags),
        "dy": f"{result.shifts[:, 0].min():.5g} to {result.shifts[:, 0].max():.5g}",
        "dx": f"{result.shifts[:, 1].min():.5g} to {result.shifts[:, 1].max():.5g}",
        "seconds": round(done.seconds, 3),
    }
    if as_json:
        columns = {name: values.tolist() for name, values in result.columns().items()}
        out.print_json(dump_json({**summary, "drift": columns}))
        return
    if quiet:
        return
    print_facts([(name, str(value)) for name, value in summary.items() if value not in ("", None)])
    for flag in flags:
        k = next(k for k, remarks in enumerate(result.remarks) if flag in remarks)
        say(f"{flag}: frame {k}: {result.remarks[k][flag]}")
