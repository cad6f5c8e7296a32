"""`stackalign peaks`: Bragg peaks of diffraction images in files."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ._console import EXIT, USAGE, fail, out, print_facts, progress_reporter, say
from ._options import (
    AllowExternal,
    AsJson,
    Centers,
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
    from stackalign.diffraction.bragg_file import PeakTable

__all__ = ["peaks"]

_FIND = "Finding"
_SHOWN = 12


def peaks(
    files: Images,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Table: .csv.")] = None,
    method: Annotated[
        str, typer.Option(metavar="matched|persistence", help="How peaks are found.", rich_help_panel=_FIND)
    ] = "matched",
    min_snr: Annotated[float, typer.Option(help="Smallest signal-to-noise ratio.", rich_help_panel=_FIND)] = 6.0,
    width: Annotated[
        float | None, typer.Option(help="Sigma of a spot in pixels; found by default.", rich_help_panel=_FIND)
    ] = None,
    prominence: Annotated[
        float, typer.Option(help="Least persistence, as a share of an image's range.", rich_help_panel=_FIND)
    ] = 0.01,
    min_distance: Annotated[
        float | None, typer.Option(metavar="PIXELS", help="Of two peaks, keep one.", rich_help_panel=_FIND)
    ] = None,
    centers: Centers = None,
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
    """Find the Bragg peaks of diffraction images.

    All peaks go into one table: file, frame, row, col, intensity, snr, and with --centers the radius. Stacks are
    read in pieces. A file that fails is named and does not stop the others. Exit code: 0 done, 1 failed, 2 wrong usage.
    """
    from . import _diffraction as shared
    from . import _inputs as checks
    from ._frame import check_page, command_frame, memory_of, set_quiet

    set_quiet(quiet)
    if output is None:
        raise fail("give an output with --output", USAGE)
    if method not in ("matched", "persistence"):
        raise fail(f"--method must be matched or persistence, got {method!r}", USAGE)
    if device not in ("auto", "cpu"):
        raise fail(f"--device {device}: peaks are found on the CPU; leave it out", USAGE)
    limit = memory_of(memory_limit)
    settings: dict[str, Any] = {"min_distance": min_distance}
    settings |= {"min_snr": min_snr, "width": width} if method == "matched" else {"prominence": prominence}
    with command_frame():
        shared.check_output(output, (".csv",), overwrite=overwrite or resume)
        check_page(report, replace=overwrite or resume)
        valid = checks.load_mask(mask)
        table = _found(
            shared.image_files(files), output, quiet, scheduler, method=method,
            center=None if centers is None else lambda path: shared.centers_of(centers, path, None), mask=valid,
            dataset=dataset,
            workers=workers, memory_limit=limit,
            open_options=shared.opening(allow_external, read_timeout),
            resume=resume, overwrite=overwrite, command=shared.command_line(),
            **settings,
        )  # fmt: skip
        for row in table.files:
            if row["message"]:
                say(f"error: {shared.about_text(Path(row['input']), row['message'])}")
        for file, frame in [] if quiet else table.blind:
            say(f"note: frame {frame} of {file} has no valid pixel, and so no peaks")
        if report is not None:
            _report(report, table, method, settings, valid, dataset)
    summary = {
        "output": str(output),
        "images": sum(row.get("images", 0) for row in table.files),
        "peaks": sum(row.get("peaks", 0) for row in table.files),
        "files": table.files,
    }
    if as_json:
        out.print_json(json.dumps(summary))
    elif not quiet:
        print_facts([(name, str(value)) for name, value in summary.items() if name != "files"])
    raise typer.Exit(EXIT[table.status])


def _found(files: list[Path], output: Path, quiet: bool, scheduler: str | None, **options: Any) -> "PeakTable":
    from stackalign.diffraction.bragg_file import PeakTable, peaks_file
    from stackalign.errors import FinishedError

    from ._frame import long_run

    try:
        with long_run(scheduler) as (stop, executor), progress_reporter(quiet, "images") as progress:
            return peaks_file(files, output, progress=progress, stop=stop, executor=executor, **options)
    except FinishedError as error:
        if not quiet:
            say(str(error))
        return PeakTable(output, error.record["files"], [(file, frame) for file, frame in error.record["blind"]])


def _report(
    path: Path, table: "PeakTable", method: str, settings: dict[str, Any], valid: Any, dataset: str | None
) -> None:
    from stackalign.plot._canvas import new_figure
    from stackalign.plot.diffraction import plot_peaks
    from stackalign.plot.diffraction_report import write_diffraction_report

    from ._diffraction import command_line

    figures = []
    for words, image, found in _shown(table, method, settings, valid, dataset):
        figure = new_figure(7, 6)
        plot_peaks(image, found, ax=figure.add_subplot())
        figures.append((figure, f"peaks of {words}"))
    facts = {"output": table.output, "command": command_line(), "method": method, **settings}
    lines = [
        [Path(row["input"]).name, row.get("images", 0), row.get("peaks", 0), row["message"]] for row in table.files
    ]
    head = ["file", "images", "peaks", "message"]
    write_diffraction_report(path, "Bragg peaks", facts, figures, head=head, rows=lines)


def _shown(
    table: "PeakTable", method: str, settings: dict[str, Any], valid: Any, dataset: str | None
) -> list[tuple[str, Any, Any]]:
    """The first images with their peaks, which are found once more for the page."""
    import numpy as np

    from stackalign import diffraction
    from stackalign.diffraction._file_inputs import combined_mask
    from stackalign.diffraction.bragg_file import is_blind
    from stackalign.diffraction.files import open_frames

    shown: list[tuple[str, Any, Any]] = []
    for row in [row for row in table.files if not row["message"]]:
        reader = open_frames(row["input"], dataset=dataset)
        try:
            mask = combined_mask(valid, reader)
            for frame in range(min(row["images"], _SHOWN - len(shown))):
                block = np.empty((1, *reader.info.shape[1:]), reader.info.dtype)
                reader.read(frame, frame + 1, block)
                if is_blind(block[0], mask):
                    continue
                if method == "matched":
                    found = diffraction.bragg_peaks(block[0], mask=mask, **settings)
                else:
                    found = diffraction.bragg_peaks_persistence(block[0], mask=mask, relative=True, **settings)
                shown.append((f"{Path(row['input']).name}, frame {frame}", block[0], found))
        finally:
            reader.close()
    return shown
