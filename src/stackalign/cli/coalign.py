"""`stackalign coalign`: correct the coordinates of solar maps by an imager's."""

import json
import logging
import os
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ._console import DONE, FAILED, SHORT, USAGE, fail, out, print_facts, say, user_log, worded
from ._options import AsJson, DeviceName, MemoryLimit, Overwrite, Quiet, Scheduler, Workers

if TYPE_CHECKING:
    from stackalign.solar.files import Outcome, Task

__all__ = ["coalign"]

_MODEL, _RUN, _INPUT, _OUTPUT = "Model", "Running", "Input", "Output"


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
    # One page would be no use for thousands of files, and a flag needs no name: each page stands beside its output.
    report: Annotated[
        bool, typer.Option("--report", help="A page with pictures beside each output.", rich_help_panel=_OUTPUT)
    ] = False,
    report_file: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="One page on all.", rich_help_panel=_OUTPUT)
    ] = None,
    table: Annotated[
        Path | None, typer.Option(metavar="FILE.csv|.ecsv", help="Table of all results.", rich_help_panel=_OUTPUT)
    ] = None,
    as_json: AsJson = False,
    write_flagged: Annotated[
        bool,
        typer.Option("--write-flagged", help="Write corrections that are not to be trusted.", rich_help_panel=_OUTPUT),
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Correct files that were corrected already.", rich_help_panel=_OUTPUT)
    ] = False,
    overwrite: Overwrite = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Leave out what an earlier run finished.", rich_help_panel=_RUN)
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say which frame serves which column, and stop.", rich_help_panel=_RUN)
    ] = False,
    memory_limit: MemoryLimit = None,
    workers: Workers = None,
    device: DeviceName = "auto",
    scheduler: Scheduler = None,
    quiet: Quiet = False,
) -> None:
    """Correct the coordinates of a solar map, or of many, by comparing it with an imager's.

    Into the folder go TARGET_coaligned.fits, a copy with new headers, and TARGET_coaligned.json with the parameters.
    Exit code: 0 done, 1 failed, 2 wrong usage, 3 done but a result is flagged: then no corrected file is written.
    """
    from stackalign.device import parse_bytes
    from stackalign.errors import StackalignError

    from ._frame import long_run
    from ._inputs import check_report

    if quiet:
        user_log.setLevel(logging.ERROR)
    if (target is None) == (batch is None):
        raise fail("give one TARGET, or a table of them with --batch", USAGE)
    if output is None and not dry_run:
        raise fail("give a folder with --output", USAGE)
    if model is not None and (scale or rotation):
        raise fail("give --model, or --scale and --rotation", USAGE)
    if scheduler is not None and (report or report_file is not None):
        raise fail("pages need the images, which stay with the workers: give --scheduler or a report, not both", USAGE)
    if device == "cuda:all":
        raise fail("--device cuda:all is for commands on stacks: name one device, or start one command for each", USAGE)
    if table is not None and table.suffix.lower() not in (".csv", ".ecsv"):
        raise fail(f"--table must end with .csv or .ecsv, got {table}", USAGE)
    try:
        most = None if memory_limit is None else parse_bytes(memory_limit)
    except ValueError as error:
        raise fail(str(error), USAGE) from error
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
    try:
        from stackalign.solar import files, manifest

        if report or report_file is not None:
            from stackalign.plot._canvas import new_figure

            new_figure()  # says now if matplotlib is missing, not after the work
        if report_file is not None:
            check_report(report_file, replace=overwrite or resume)
        folder = Path() if output is None else output
        if output is not None and not dry_run:
            output.mkdir(parents=True, exist_ok=True)
            if not os.access(output, os.W_OK):
                raise fail(f"{output} cannot be written: the folder is read-only", FAILED)
        listed = table or (folder / "coalign.ecsv" if batch is not None and not dry_run else None)
        if listed is not None and listed.exists() and not (overwrite or resume):
            raise fail(f"table {listed} exists; choose another one with --table, or --overwrite", FAILED)
        common: dict[str, Any] = {"frames_dir": fsi_dir, "time_window": time_window, "channel": channel}
        tasks: Iterable[Task]
        total = 1
        if batch is not None:
            tasks = manifest.read_manifest(batch, folder, settings, references=tuple(reference or ()), **common)
            total = manifest.count_rows(batch)
        else:
            path = Path(str(target))
            tasks = [files.Task(path, tuple(reference or ()), files.output_in(folder, path), settings, **common)]
        if dry_run:
            raise typer.Exit(_dry_run(tasks))
        said = _Saying(report, quiet or as_json, total)
        with long_run(scheduler) as (stop, executor):
            outcomes = files.run_tasks(
                tasks,
                device=device,
                workers=workers,
                memory_limit=most,
                resume=resume,
                overwrite=overwrite,
                again=again,
                write_flagged=write_flagged,
                command=" ".join(["stackalign", *sys.argv[1:]]),
                keep=batch is None,
                beside=(".html",) if report else (),
                each=said,
                stop=stop,
                executor=executor,
            )
        columns = manifest.table_columns(outcomes)
        if listed is not None:
            from stackalign.registration.table import write_table

            write_table(listed, columns, descriptions=manifest.DESCRIPTIONS)
        if report_file is not None:
            _write_page(outcomes, columns, report_file)
    except StackalignError as error:
        raise fail(worded(error), FAILED) from error
    except OSError as error:
        raise fail(f"{output} cannot be written: {error}", FAILED) from error
    if as_json:
        rows = [{"target": str(o.task.target), "status": o.status, "message": o.message, **o.record} for o in outcomes]
        out.print_json(json.dumps(rows))
    elif batch is not None and not quiet:
        counts = {name: sum(o.status == name for o in outcomes) for name in ("done", "flagged", "failed", "earlier")}
        seconds = time.monotonic() - said.began
        print_facts([(name, str(n)) for name, n in counts.items()] + [("seconds", f"{seconds:.1f}")])
    if len(outcomes) < total:
        left = total - len(outcomes)
        raise fail(f"interrupted with {left} of {total} left; the same command with --resume goes on from here", FAILED)
    states = {o.record.get("status", o.status) for o in outcomes}
    raise typer.Exit(FAILED if "failed" in states or said.lost else SHORT if "flagged" in states else DONE)


def _write_page(outcomes: "Sequence[Outcome]", columns: dict[str, Any], path: Path) -> None:
    """Write one page: that of the one file that was given, or an overview that leads to the pages of many."""
    from stackalign.plot.solar_batch_report import write_batch_report
    from stackalign.plot.solar_report import write_coalignment_report

    if len(outcomes) == 1 and outcomes[0].result is not None:
        write_coalignment_report(outcomes[0].result, path)
        return
    pages = [outcome.task.output.with_suffix(".html") for outcome in outcomes]
    write_batch_report(columns, path, pages=[page if page.exists() else None for page in pages])


class _Saying:
    """Say what became of each file, and draw its page."""

    def __init__(self, report: bool, quiet: bool, total: int) -> None:
        self.report, self.quiet, self.total = report, quiet, total
        self.began, self.count, self.lost = time.monotonic(), 0, 0

    def __call__(self, outcome: "Outcome") -> None:
        self.count += 1
        name = outcome.task.target.name
        if self.report and outcome.result is not None:
            self._draw(outcome)
        if outcome.status == "failed":
            hinted = "" if outcome.error is None else worded(outcome.error).removeprefix(str(outcome.error))
            known = outcome.message.startswith((name, str(outcome.task.target)))
            say(f"error: {'' if known else f'{name}: '}{outcome.message}{hinted}")
        elif not self.quiet:
            text = outcome.message if outcome.result is None else str(outcome.result)
            left = (time.monotonic() - self.began) / self.count * (self.total - self.count)
            where = f"{self.count}/{self.total}: " if self.total > 1 else ""
            say(f"{where}{name}: {outcome.status}: {text}" + (f"; {left:.0f} s left" if left >= 1 else ""))

    def _draw(self, outcome: "Outcome") -> None:
        from stackalign.plot.solar_report import write_coalignment_report

        assert outcome.result is not None
        try:
            write_coalignment_report(outcome.result, outcome.task.output.with_suffix(".html"))
        except Exception as error:  # a page that cannot be drawn is no reason to lose what was found
            self.lost += 1
            say(f"error: {outcome.task.target.name}: its page was not written: {type(error).__name__}: {error}")


def _dry_run(tasks: "Iterable[Task]") -> int:
    from stackalign.errors import StackalignError
    from stackalign.solar.files import dry_run

    code = DONE
    for task in tasks:
        out.print(f"{task.target} -> {task.output}", markup=False)
        try:
            plan = dry_run(task)
        except (StackalignError, ValueError, OSError) as error:
            say(f"error: {task.target.name}: {worded(error)}")
            code = FAILED
            continue
        out.print("no synthetic raster: one reference image" if plan is None else str(plan), markup=False)
    return code
