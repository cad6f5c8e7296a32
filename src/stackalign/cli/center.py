"""`stackalign center`: the centres of diffraction patterns in files."""

import csv
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ._console import DONE, FAILED, SHORT, USAGE, fail, out, print_facts, progress_reporter, say, user_log, worded
from ._options import AsJson, DatasetName, DeviceName, Images, MaskFile, Overwrite, Quiet, Report, Resume, Workers

if TYPE_CHECKING:
    from ._frame_log import FrameLog

__all__ = ["center"]

OUTPUTS = (".csv", ".json")
COLUMNS = ("file", "frame", "row", "col", "confidence", "kind", "flags")


def center(
    files: Images,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Table of the centres: .csv or .json.")] = None,
    mask: MaskFile = None,
    dataset: DatasetName = None,
    report: Report = None,
    as_json: AsJson = False,
    workers: Workers = None,
    device: DeviceName = "auto",
    resume: Resume = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Find the centres of diffraction patterns of powders and crystals, beam visible or blocked.

    Without --output the centres are printed. Stacks are read in pieces; a file that fails is named and does not stop
    the others. Exit code: 0 done, 1 failed, 2 wrong usage, 3 done but a centre is not certain.
    """
    from stackalign.errors import Interrupted, StackalignError
    from stackalign.runs import StopRequest

    from . import _crop_jobs as jobs
    from . import _diffraction as shared
    from ._frame_log import FrameLog

    if quiet:
        user_log.setLevel(logging.ERROR)
    rows: list[dict[str, Any]] = []
    failed = False
    try:
        if output is not None:
            shared.check_output(output, OUTPUTS, overwrite=overwrite)
        if report is not None:
            jobs.require_plots()
            jobs.check_report(report, replace=overwrite)
        valid = jobs.load_mask(mask)
        named = shared.image_files(files)
        with (
            StopRequest() as stop,
            FrameLog(output, "center", {"dataset": dataset}, valid, resume=resume, stop=stop) as log,
        ):
            for file in named:
                try:
                    rows += _of_file(file, dataset, valid, device, workers, quiet, log)
                except Interrupted as error:
                    again = "" if output is None else "; the same command with --resume goes on from here"
                    say(f"{error}{again}")
                    raise fail("interrupted", FAILED) from error
                except StackalignError as error:
                    say(f"error: {shared.about(file, error)}")
                    failed = True
            if output is not None and rows:
                _write(output, rows)
            log.discard()
        if report is not None and rows:
            _report(report, rows, valid)
    except StackalignError as error:
        raise fail(worded(error), FAILED) from error
    except ValueError as error:  # a setting that only shows to be wrong with the images at hand
        raise fail(str(error), USAGE) from error
    if as_json:
        out.print_json(json.dumps(rows))
    elif not quiet:
        for row in rows if output is None else rows[:0]:
            words = f"{row['row']:.3f}, {row['col']:.3f}  {row['kind']}, confidence {row['confidence']:.2f}"
            out.print(f"{row['file']} {row['frame']}: {words} {row['flags']}", markup=False)
        if output is not None:
            flagged = sum(bool(row["flags"]) for row in rows)
            print_facts([("output", str(output)), ("images", str(len(rows))), ("flagged", str(flagged))])
    raise typer.Exit(FAILED if failed else SHORT if any(row["flags"] for row in rows) else DONE)


def _of_file(
    file: Path, dataset: str | None, mask: Any, device: str, workers: int | None, quiet: bool, log: "FrameLog"
) -> list[dict[str, Any]]:
    from stackalign.diffraction import autocenter
    from stackalign.diffraction.files import open_frames

    rows: list[dict[str, Any]] = []
    reader = open_frames(file, dataset=dataset)
    try:
        own = reader.info.mask
        valid = mask if own is None else own if mask is None else own & mask
        with progress_reporter(quiet, "images") as progress:
            for frame, image, known in log.frames(reader, progress):
                values = known
                if values is None:
                    found = autocenter(image, mask=valid, device=device, workers=workers)
                    values = [
                        *map(float, found.center),
                        float(found.confidence),
                        found.kind[0],
                        " ".join(found.flags[0]),
                    ]
                    log.add(frame, values)
                rows.append(dict(zip(COLUMNS, [str(file), frame, *values], strict=True)))
    finally:
        reader.close()
    return rows


def _write(output: Path, rows: list[dict[str, Any]]) -> None:
    from stackalign.io.atomic import atomic_path, write_text_atomic

    if output.suffix.lower() == ".json":
        write_text_atomic(output, json.dumps(rows, indent=1) + "\n")
        return
    with (
        atomic_path(output) as partial,
        partial.open("w", newline="", encoding="utf-8", errors="surrogateescape") as stream,
    ):
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


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
    table = [[r[name] if not isinstance(r[name], float) else f"{r[name]:.3f}" for name in COLUMNS] for r in rows]
    write_diffraction_report(path, "Centres", {"images": len(rows)}, figures, head=list(COLUMNS), rows=table)
