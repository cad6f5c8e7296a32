"""`stackalign peaks`: Bragg peaks of diffraction images in files."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ._common import Masked, command_line
from ._console import EXIT, USAGE, fail, out, print_facts, say
from ._frame import command, refuse_idle, run_or_load
from ._options import Centers, Images

if TYPE_CHECKING:
    from stackalign.diffraction.bragg_file import PeakTable

__all__ = ["peaks"]

_FIND = "Finding"
_SHOWN = 12


@command
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
    *,
    common: Masked,
) -> int:
    """Find the Bragg peaks of diffraction images.

    All peaks go into one table: file, frame, row, col, intensity, snr, and with --centers the radius. Stacks are
    read in pieces. A file that fails is named and does not stop the others. Exit code: 0 done, 1 failed, 2 wrong usage,
    3 done but a file shows no pattern.
    """
    from . import _diffraction as shared

    if output is None:
        raise fail("give an output with --output", USAGE)
    if common.device not in ("auto", "cpu"):
        raise fail(f"--device {common.device}: peaks are found on the CPU; leave it out", USAGE)
    settings = _settings(method, min_snr, width, prominence) | {"min_distance": min_distance}
    shared.check_output(output, (".csv",), overwrite=common.replace)
    valid = common.valid()
    table = _peak_table(shared.image_files(files), output, method, settings, centers, valid, common)
    for row in table.files:
        if row["message"]:
            say(f"error: {shared.about_text(Path(row['input']), row['message'])}")
        shared.say_doubts(row["input"], row.get("flags", {}), quiet=common.quiet)
    for file, frame in [] if common.quiet else table.blind:
        say(f"note: frame {frame} of {file} has no valid pixel, and so no peaks")
    if common.report is not None:
        _report(common.report, table, method, settings, valid, common)
    summary = {
        "output": str(output),
        "images": sum(row.get("images", 0) for row in table.files),
        "peaks": sum(row.get("peaks", 0) for row in table.files),
        "files": table.files,
    }
    if common.as_json:
        out.print_json(json.dumps(summary))
    elif not common.quiet:
        print_facts([(name, str(value)) for name, value in summary.items() if name != "files"])
    return EXIT[table.status]


def _settings(method: str, min_snr: float, width: float | None, prominence: float) -> dict[str, Any]:
    """Options of the method; those of the other one are refused."""
    if method not in ("matched", "persistence"):
        raise fail(f"--method must be matched or persistence, got {method!r}", USAGE)
    for option in ("min_snr", "width"):
        refuse_idle(option, method == "matched", "with --method persistence")
    refuse_idle("prominence", method == "persistence", "with --method matched")
    return {"min_snr": min_snr, "width": width} if method == "matched" else {"prominence": prominence}


def _peak_table(
    files: list[Path],
    output: Path,
    method: str,
    settings: dict[str, Any],
    centers: Path | None,
    valid: Any,
    common: Masked,
) -> "PeakTable":
    from stackalign.diffraction.bragg_file import PeakTable, peaks_file

    from ._diffraction import centers_of

    options = common.run_options
    del options["device"]
    center = None if centers is None else lambda path: centers_of(centers, path, None)
    return run_or_load(
        common,
        lambda **how: peaks_file(files, output, method=method, center=center, mask=valid, **settings, **options, **how),
        lambda error: PeakTable(output, error.record["files"], [(file, k) for file, k in error.record["blind"]]),
    )


def _report(path: Path, table: "PeakTable", method: str, settings: dict[str, Any], valid: Any, common: Masked) -> None:
    from stackalign.plot._canvas import new_figure
    from stackalign.plot.diffraction import plot_peaks
    from stackalign.plot.diffraction_report import write_diffraction_report

    figures = []
    for words, image, peaks in _shown(table, method, settings, valid, common):
        figure = new_figure(7, 6)
        plot_peaks(image, peaks, ax=figure.add_subplot())
        figures.append((figure, f"peaks of {words}"))
    facts = {"output": table.output, "command": command_line(), "method": method, **settings}
    lines = [
        [Path(row["input"]).name, row.get("images", 0), row.get("peaks", 0), row["message"]] for row in table.files
    ]
    head = ["file", "images", "peaks", "message"]
    write_diffraction_report(path, "Bragg peaks", facts, figures, head=head, rows=lines)


def _shown(
    table: "PeakTable", method: str, settings: dict[str, Any], valid: Any, common: Masked
) -> list[tuple[str, Any, Any]]:
    """The first images with their peaks, which are found once more for the page."""
    import numpy as np

    from stackalign import diffraction
    from stackalign.diffraction._file_inputs import combined_mask
    from stackalign.diffraction.bragg_file import is_blind
    from stackalign.io import open_stack

    shown: list[tuple[str, Any, Any]] = []
    for row in [row for row in table.files if not row["message"]]:
        reader = open_stack(row["input"], dataset=common.dataset, **common.open_options)
        try:
            mask = combined_mask(valid, reader)
            for frame in range(min(row["images"], _SHOWN - len(shown))):
                block = np.empty((1, *reader.info.shape[1:]), reader.info.dtype)
                reader.read(frame, frame + 1, block)
                if is_blind(block[0], mask):
                    continue
                if method == "matched":
                    peaks = diffraction.bragg_peaks(block[0], mask=mask, **settings)
                else:
                    peaks = diffraction.bragg_peaks_persistence(block[0], mask=mask, relative=True, **settings)
                shown.append((f"{Path(row['input']).name}, frame {frame}", block[0], peaks))
        finally:
            reader.close()
    return shown
