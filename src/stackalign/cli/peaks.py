"""`stackalign peaks`: Bragg peaks of diffraction images in files."""

import csv
import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ._console import DONE, FAILED, USAGE, fail, out, print_facts, progress_reporter, say, user_log, worded
from ._options import AsJson, DatasetName, Images, MaskFile, Overwrite, Quiet, Report, Resume

if TYPE_CHECKING:
    from stackalign.diffraction import BraggPeaks

    from ._frame_log import FrameLog

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
    mask: MaskFile = None,
    dataset: DatasetName = None,
    report: Report = None,
    as_json: AsJson = False,
    resume: Resume = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Find the Bragg peaks of diffraction images.

    All peaks go into one table: file, frame, row, col, intensity, snr. Stacks are read in pieces. A file that fails is
    named and does not stop the others. Exit code: 0 done, 1 failed, 2 wrong usage.
    """
    from stackalign.errors import Interrupted, StackalignError
    from stackalign.runs import StopRequest

    from . import _crop_jobs as jobs
    from . import _diffraction as shared
    from ._frame_log import FrameLog

    if quiet:
        user_log.setLevel(logging.ERROR)
    if output is None:
        raise fail("give an output with --output", USAGE)
    if method not in ("matched", "persistence"):
        raise fail(f"--method must be matched or persistence, got {method!r}", USAGE)
    settings: dict[str, Any] = {"min_distance": min_distance}
    settings |= {"min_snr": min_snr, "width": width} if method == "matched" else {"prominence": prominence}
    rows: list[dict[str, Any]] = []
    pictures: list[tuple[str, Any, BraggPeaks]] = []
    try:
        shared.check_output(output, (".csv",), overwrite=overwrite)
        if report is not None:
            jobs.require_plots()
            jobs.check_report(report, replace=overwrite)
        valid = jobs.load_mask(mask)
        named = shared.image_files(files)
        from stackalign.io.atomic import atomic_path

        with (
            StopRequest() as stop,
            FrameLog(
                output, "peaks", {"dataset": dataset, "method": method, **settings}, valid, resume=resume, stop=stop
            ) as log,
            atomic_path(output) as partial,
            partial.open("w", newline="", encoding="utf-8", errors="surrogateescape") as stream,
        ):
            table = csv.writer(stream)
            table.writerow(["file", "frame", "row", "col", "intensity", "snr"])
            for file in named:
                try:
                    count, images = _of_file(file, dataset, valid, method, settings, quiet, table, pictures, log)
                except Interrupted as error:
                    say(f"{error}; the same command with --resume goes on from here")
                    raise fail("interrupted", FAILED) from error
                except StackalignError as error:
                    say(f"error: {shared.about(file, error)}")
                    rows.append({"input": str(file), "message": str(error)})
                    continue
                rows.append({"input": str(file), "images": images, "peaks": count, "message": ""})
            if not any("peaks" in row for row in rows):
                log.discard()
                raise fail("no file could be used", FAILED)
        log.discard()
        if report is not None:
            _report(report, output, pictures, rows, {"method": method, **settings})
    except StackalignError as error:
        raise fail(worded(error), FAILED) from error
    except ValueError as error:  # a setting that only shows to be wrong with the images at hand
        raise fail(str(error), USAGE) from error
    summary = {
        "output": str(output),
        "images": sum(row.get("images", 0) for row in rows),
        "peaks": sum(row.get("peaks", 0) for row in rows),
        "files": rows,
    }
    if as_json:
        out.print_json(json.dumps(summary))
    elif not quiet:
        print_facts([(name, str(value)) for name, value in summary.items() if name != "files"])
    raise typer.Exit(FAILED if any(row["message"] for row in rows) else DONE)


def _of_file(
    file: Path, dataset: str | None, valid: Any, method: str, settings: dict[str, Any], quiet: bool, table: Any,
    pictures: "list[tuple[str, Any, BraggPeaks]]", log: "FrameLog",
) -> tuple[int, int]:  # fmt: skip
    """Write the peaks of one file's images into the table; gives how many of both."""
    from stackalign import diffraction
    from stackalign.diffraction.files import open_frames

    reader = open_frames(file, dataset=dataset)
    count, done = 0, 0
    lines = []
    try:
        mask = valid
        if reader.info.mask is not None:
            mask = diffraction.combine_masks(*([reader.info.mask] if valid is None else [reader.info.mask, valid]))
        with progress_reporter(quiet, "images") as progress:
            for frame, image, known in log.frames(reader, progress):
                rows = known
                if rows is None and _is_blind(image, mask):
                    # As of a detector that dropped out: that frame has no peaks, the others do.
                    if not quiet:
                        say(f"note: frame {frame} of {file} has no valid pixel, and so no peaks")
                    rows = []
                # The pictures of the page need the image; they are the first ones.
                elif rows is None or (len(pictures) < _SHOWN and not _is_blind(image, mask)):
                    if method == "matched":
                        found = diffraction.bragg_peaks(image, mask=mask, **settings)
                    else:
                        found = diffraction.bragg_peaks_persistence(image, mask=mask, relative=True, **settings)
                    if len(pictures) < _SHOWN:
                        pictures.append((f"{file.name}, frame {frame}", image.copy(), found))
                    rows = [
                        [f"{row:.4f}", f"{col:.4f}", f"{intensity:.8g}", f"{snr:.6g}"]
                        for (row, col), intensity, snr in zip(found.position, found.intensity, found.snr, strict=True)
                    ]
                if known is None:
                    log.add(frame, rows)
                lines += [[str(file), frame, *row] for row in rows]
                count, done = count + len(rows), done + 1
    finally:
        reader.close()
    table.writerows(lines)
    return count, done


def _is_blind(image: Any, mask: Any) -> bool:
    """Tell whether no pixel is a number where a mask has valid ones; one that has none is an error of its own."""
    import numpy as np

    seen = np.isfinite(image)
    if mask is None or mask.shape != seen.shape or not mask.any():
        return not seen.any()
    return not (seen & mask).any()


def _report(
    path: Path, output: Path, pictures: "list[tuple[str, Any, BraggPeaks]]", rows: list[dict[str, Any]],
    settings: dict[str, Any],
) -> None:  # fmt: skip
    from stackalign.plot._canvas import new_figure
    from stackalign.plot.diffraction_peaks import plot_peaks
    from stackalign.plot.diffraction_report import write_diffraction_report

    figures = []
    for words, image, found in pictures:
        figure = new_figure(7, 6)
        plot_peaks(image, found, ax=figure.add_subplot())
        figures.append((figure, f"peaks of {words}"))
    facts = {"output": output, "command": " ".join(["stackalign", *sys.argv[1:]]), **settings}
    lines = [[Path(row["input"]).name, row.get("images", 0), row.get("peaks", 0), row["message"]] for row in rows]
    head = ["file", "images", "peaks", "message"]
    write_diffraction_report(path, "Bragg peaks", facts, figures, head=head, rows=lines)
