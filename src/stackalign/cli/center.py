"""`stackalign center`: the centres of diffraction patterns in files."""

import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ._console import EXIT, out, print_facts, progress_reporter, say
from ._options import (
    AllowExternal,
    AsJson,
    DatasetName,
    DeviceName,
    Images,
    MaskFile,
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
    from stackalign.diffraction.centers_file import CenterTable

__all__ = ["center"]

OUTPUTS = (".csv", ".json")


def center(
    files: Images,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Table of the centres: .csv or .json.")] = None,
    mask: MaskFile = None,
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
    """Find the centres of diffraction patterns of powders and crystals, beam visible or blocked.

    Without --output the centres are printed. Stacks are read in pieces; a file that fails is named and does not stop
    the others. The table is an input of crop, peaks, nfold and profile (--centers). Exit code: 0 done, 1 failed,
    2 wrong usage, 3 done but a centre is not certain.
    """
    from . import _diffraction as shared
    from . import _inputs as checks
    from ._frame import check_page, command_frame, memory_of, place_of, set_quiet

    set_quiet(quiet)
    limit = memory_of(memory_limit)
    place, device = place_of(scheduler, device)
    with command_frame(), tempfile.TemporaryDirectory() as folder:
        if output is not None:
            shared.check_output(output, OUTPUTS, overwrite=overwrite or resume)
        check_page(report, replace=overwrite or resume)
        valid = checks.load_mask(mask)
        table = _found(
            shared.image_files(files), output or Path(folder) / "centers.csv", quiet, place, mask=valid,
            dataset=dataset, device=device, workers=workers, memory_limit=limit,
            open_options=shared.opening(allow_external, read_timeout), resume=resume, overwrite=overwrite,
            command=shared.command_line(),
        )  # fmt: skip
        for file, text in table.failures.items():
            say(f"error: {shared.about_text(file, text)}")
        if report is not None:
            _report(report, table.rows, valid)
    _print(table, output, as_json=as_json, quiet=quiet)
    raise typer.Exit(EXIT[table.status])


def _found(files: list[Path], output: Path, quiet: bool, scheduler: str | None, **options: Any) -> "CenterTable":
    from stackalign.diffraction.centers_file import center_file, load_center_table
    from stackalign.errors import FinishedError

    from ._frame import long_run

    try:
        with long_run(scheduler) as (stop, executor), progress_reporter(quiet, "images") as progress:
            return center_file(files, output, progress=progress, stop=stop, executor=executor, **options)
    except FinishedError as error:
        if not quiet:
            say(str(error))
        return load_center_table(output, error.record)


def _print(table: "CenterTable", output: Path | None, *, as_json: bool, quiet: bool) -> None:
    from stackalign.io.provenance import dump_json

    if as_json:
        out.print_json(dump_json(table.rows))
    elif not quiet:
        for row in table.rows if output is None else []:
            error = f"+- {row['sigma']:.2g} px" if math.isfinite(row["sigma"]) else "without an error"
            words = f"{row['row']:.3f}, {row['col']:.3f} {error}  {row['kind']}, confidence {row['confidence']:.2f}"
            out.print(f"{row['file']} {row['frame']}: {words} {row['flags']}", markup=False)
        if output is not None:
            facts = {"output": output, "images": len(table.rows), "flagged": table.flagged}
            print_facts([(name, str(value)) for name, value in facts.items()])


def _report(path: Path, rows: list[dict[str, Any]], mask: Any) -> None:
    from stackalign.plot._canvas import new_figure
    from stackalign.plot.diffraction import plot_pattern
    from stackalign.plot.diffraction_report import write_diffraction_report

    from ._diffraction import first_image

    figures = []
    for row in [r for r in rows if r["frame"] == 0][:20]:
        figure = new_figure(5, 4.2)
        middle = (row["row"], row["col"])
        plot_pattern(
            first_image(Path(row["file"])), mask=mask, center=middle, words=row["kind"], ax=figure.add_subplot()
        )
        figures.append((figure, f"centre of {row['file']}"))
    head = list(rows[0])
    table = [[f"{value:.3f}" if isinstance(value, float) else value for value in row.values()] for row in rows]
    write_diffraction_report(path, "Centres", {"images": len(rows)}, figures, head=head, rows=table)
