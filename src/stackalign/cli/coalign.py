"""`stackalign coalign`: correct the coordinates of solar maps by an imager's."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from ._coalign_jobs import Saying, print_outcomes, print_plans, run, tasks_of, write_page
from ._common import Spread
from ._console import DONE, FAILED, SHORT, USAGE, fail
from ._frame import command, refuse_idle

__all__ = ["coalign"]

_MODEL, _RUN, _INPUT, _OUTPUT, _PIXELS = "Model", "Running", "Input", "Output", "Pixels"


@dataclass(frozen=True, kw_only=True)
class Coaligned(Spread):
    """Also which pixels are compared, and how the target is read."""

    mask: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Mask of the target's pixels, non-zero = compared.", rich_help_panel=_PIXELS),
    ] = None
    values: Annotated[
        str | None,
        typer.Option(metavar="MIN,MAX", help="Pixels that are compared, by value; one may be left out.",
                     rich_help_panel=_PIXELS),
    ] = None  # fmt: skip
    field: Annotated[
        str | None,
        typer.Option(metavar="X0,X1,Y0,Y1", help="Part that is compared, in arcsec.", rich_help_panel=_PIXELS),
    ] = None
    exclude: Annotated[
        list[str] | None,
        typer.Option(metavar="X0,X1,Y0,Y1", help="Box that is left out, in arcsec; repeat it for more.",
                     rich_help_panel=_PIXELS),
    ] = None  # fmt: skip
    background: Annotated[
        str,
        typer.Option(metavar="auto|none|ANGLE|PIXELS", help="Sigma of the smooth part that is taken off both.",
                     rich_help_panel=_PIXELS),
    ] = "auto"  # fmt: skip
    interval: Annotated[
        str | None,
        typer.Option(metavar="'LOW HIGH UNIT'", help="Wavelengths of a window that are summed up.",
                     rich_help_panel=_PIXELS),
    ] = None  # fmt: skip
    continuum: Annotated[
        str | None,
        typer.Option(metavar="ends|'LOW HIGH UNIT'", help="Continuum of a window that is taken off.",
                     rich_help_panel=_PIXELS),
    ] = None  # fmt: skip
    screen: Annotated[
        str,
        typer.Option(metavar="nearest|sphere|plane", help="Where what is seen beyond the limb is taken to be.",
                     rich_help_panel=_MODEL),
    ] = "nearest"  # fmt: skip
    repair: Annotated[
        bool, typer.Option("--repair", help="Correct known faults of headers.", rich_help_panel=_PIXELS)
    ] = False
    distortion: Annotated[
        bool,
        typer.Option(
            "--distortion",
            help="Apply the file's tables of distortions (WCSDVARR): jitter of the pointing.",
            rich_help_panel=_PIXELS,
        ),
    ] = False

    detectors: Annotated[
        str,
        typer.Option(
            metavar="together|apart",
            help="One correction for all windows, or one for those of each detector.",
            rich_help_panel=_MODEL,
        ),
    ] = "together"

    def settings(self) -> dict[str, Any]:
        """Arguments of `stackalign.solar.coalign` that were stated.

        Raises
        ------
        typer.Exit
            Wrong usage.
        """
        limits = self.values and _numbers(self.values, "--values", 2)
        box = self.field and _numbers(self.field, "--field", 4)
        boxes = [_numbers(text, "--exclude", 4) for text in self.exclude or ()]
        options: dict[str, Any] = {
            "mask": self.mask,
            "values": limits and tuple(limits),
            "field": box and ((box[0], box[1]), (box[2], box[3])),
            "exclude": tuple(((b[0], b[1]), (b[2], b[3])) for b in boxes),
            "interval": self.interval,
            "continuum": self.continuum,
            "repair": self.repair,
            "distortion": self.distortion,
        }
        options = {name: value for name, value in options.items() if value}
        if self.screen != "nearest":
            options["screen"] = self.screen
        if self.detectors not in ("together", "apart"):
            raise fail(f"--detectors must be together or apart, got {self.detectors!r}", USAGE)
        if self.detectors == "apart":
            options["detectors"] = self.detectors
        if self.background != "auto":
            options["background"] = None if self.background == "none" else self.background
        return options


@command
def coalign(
    target: Annotated[str | None, typer.Argument(metavar="TARGET", help="FITS file, of SPICE too.")] = None,
    reference: Annotated[
        list[Path] | None,
        typer.Argument(metavar="REF...", help="One image, or the frames of a sequence.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Folder of the corrected files.")
    ] = None,
    batch: Annotated[
        Path | None,
        typer.Option(
            metavar="MANIFEST.csv", help="Many: a row each, with target, reference, ...", rich_help_panel=_INPUT
        ),
    ] = None,
    window: Annotated[
        str | None, typer.Option(help="Spectral window, by number or name.", rich_help_panel=_INPUT)
    ] = None,
    fsi_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Archive in which frames are looked for.", rich_help_panel=_INPUT)
    ] = None,
    time_window: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="How far from the raster images may be: 2h.", rich_help_panel=_INPUT),
    ] = None,
    channel: Annotated[str, typer.Option(help="What names of frames contain.", rich_help_panel=_INPUT)] = "fsi174",
    threshold_time: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="Longest time from a column to its frame.", rich_help_panel=_INPUT),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="shift|shift+scale|rigid|similarity|shift+scale+angle|affine",
            help="What may be wrong in the header.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    scale: Annotated[
        bool, typer.Option("--scale", help="The lengths of the pixels may be wrong.", rich_help_panel=_MODEL)
    ] = False,
    rotation: Annotated[
        bool, typer.Option("--rotation", help="The roll may be wrong.", rich_help_panel=_MODEL)
    ] = False,
    max_shift: Annotated[
        str | None,
        typer.Option(metavar="ANGLE|PIXELS", help="How far off the pointing may be.", rich_help_panel=_MODEL),
    ] = None,
    phases: Annotated[
        str | None, typer.Option(metavar="binned,full,synthetic", help="Some of them.", rich_help_panel=_MODEL)
    ] = None,
    solar_rotation: Annotated[
        str, typer.Option(metavar="howard|snodgrass|allen|rigid|none", rich_help_panel=_MODEL)
    ] = "howard",
    height: Annotated[
        float, typer.Option(help="Radius of what is seen, in solar radii.", rich_help_panel=_MODEL)
    ] = 1.0,
    pages: Annotated[
        bool, typer.Option("--pages", help="A page with pictures beside each output.", rich_help_panel=_OUTPUT)
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report",
            "--report-file",
            metavar="FILE.html",
            help="One page with pictures; without FILE.html the same as --pages.",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    table: Annotated[
        Path | None, typer.Option(metavar="FILE.csv|.ecsv", help="Table of all results.", rich_help_panel=_OUTPUT)
    ] = None,
    write_flagged: Annotated[
        bool,
        typer.Option("--write-flagged", help="Write corrections that are not to be trusted.", rich_help_panel=_OUTPUT),
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Correct files that were corrected already.", rich_help_panel=_OUTPUT)
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say which frame serves which column, and stop.", rich_help_panel=_RUN)
    ] = False,
    *,
    common: Coaligned,
) -> int:
    """Correct the coordinates of a solar map, or of many, by comparing it with an imager's.

    Into the folder go TARGET_coaligned.fits, a copy with new headers, and TARGET_coaligned.json with the parameters.
    Exit code: 0 done, 1 failed, 2 wrong usage, 3 done but a result is flagged: then no corrected file is written.
    """
    from stackalign.solar import manifest

    from ._inputs import check_report
    from ._plan import input_names

    reference = [Path(name) for name in input_names([str(name) for name in reference or ()])]
    _check(target, batch, output, dry_run, table, pages or report is not None, common)
    archive = fsi_dir is not None or batch is not None
    refuse_idle("channel", archive, "without --fsi-dir")
    refuse_idle("time_window", archive or bool(reference), "without --fsi-dir or references")
    for option in ("pages", "report", "table", "write_flagged", "again"):
        refuse_idle(option, not dry_run, "with --dry-run, which writes nothing")
    settings = _settings(model, scale, rotation, max_shift, phases, solar_rotation, height, window, threshold_time)
    settings |= common.settings()
    if report is not None:
        check_report(report, replace=common.replace)
    if output is not None and not dry_run:
        _make_folder(output)
    folder = Path() if output is None else output
    listed = table or (folder / "coalign.ecsv" if batch is not None and not dry_run else None)
    if listed is not None and listed.exists() and not common.replace:
        raise fail(f"table {listed} exists; choose another one with --table, or --overwrite", FAILED)
    where: dict[str, Any] = {"frames_dir": fsi_dir, "time_window": time_window, "channel": channel}
    tasks, total = tasks_of(target, batch, folder, tuple(reference or ()), settings, where)
    if dry_run:
        return print_plans(tasks)
    said = Saying(pages, common.quiet or common.as_json, total)
    outcomes = run(tasks, said, common, again=again, write_flagged=write_flagged, keep=batch is None)
    columns = manifest.table_columns(outcomes)
    if listed is not None:
        from stackalign.registration.table import write_table

        write_table(listed, columns, descriptions=manifest.DESCRIPTIONS)
    if report is not None:
        write_page(outcomes, columns, report)
    print_outcomes(outcomes, said, common, many=batch is not None)
    if len(outcomes) < total:
        left = total - len(outcomes)
        raise fail(f"interrupted with {left} of {total} left; the same command with --resume goes on from here", FAILED)
    states = {o.record.get("status", o.status) for o in outcomes}
    return FAILED if "failed" in states or said.lost else SHORT if "flagged" in states else DONE


def _check(
    target: str | None, batch: Path | None, output: Path | None, dry_run: bool, table: Path | None, pages: bool,
    common: Spread,
) -> None:  # fmt: skip
    """Refuse what contradicts, before the work."""
    if (target is None) == (batch is None):
        raise fail("give one TARGET, or a table of them with --batch", USAGE)
    if output is None and not dry_run:
        raise fail("give a folder with --output", USAGE)
    if common.scheduler is not None and pages:
        raise fail("pages need the images, which stay with the workers: give --scheduler or a report, not both", USAGE)
    if common.device == "cuda:all":
        raise fail("--device cuda:all is for commands on stacks: name one device, or start one command for each", USAGE)
    if table is not None and table.suffix.lower() not in (".csv", ".ecsv"):
        raise fail(f"--table must end with .csv or .ecsv, got {table}", USAGE)
    if pages:
        from ._inputs import require_plots

        require_plots()


def _settings(
    model: str | None, scale: bool, rotation: bool, max_shift: str | None, phases: str | None, solar_rotation: str,
    height: float, window: str | None, threshold_time: float | None,
) -> dict[str, Any]:  # fmt: skip
    """Arguments of `stackalign.solar.coalign`."""
    if model is not None and (scale or rotation):
        raise fail("give --model, or --scale and --rotation", USAGE)
    chosen = {(False, False): "shift", (True, False): "shift+scale", (False, True): "rigid"}
    settings: dict[str, Any] = {
        "model": model or chosen.get((scale, rotation), "shift+scale+angle"),
        "max_shift": max_shift,
        "phases": None if phases is None else tuple(part.strip() for part in phases.split(",")),
        "rotation": None if solar_rotation == "none" else solar_rotation,
        "height": height,
    }
    if window is not None:
        settings["window"] = int(window) if window.isdigit() else window
    if threshold_time is not None:
        settings["threshold_time"] = threshold_time
    return settings


def _numbers(text: str, option: str, count: int) -> list[float | None]:
    """Numbers that are separated by commas; one that is left out is None."""
    parts = [part.strip() for part in text.split(",")]
    try:
        values = [float(part) if part else None for part in parts]
    except ValueError:
        values = []
    if len(values) != count:
        raise fail(f"{option} must be {count} numbers separated by commas, got {text!r}", USAGE)
    return values


def _make_folder(output: Path) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise fail(f"{output} cannot be written: {error}", FAILED) from error
    if not os.access(output, os.W_OK):
        raise fail(f"{output} cannot be written: the folder is read-only", FAILED)
