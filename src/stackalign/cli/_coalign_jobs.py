"""What `stackalign coalign` does with each target: the work, what is said of it, tables and pages."""

import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._common import Spread, command_line, long_run
from ._console import DONE, FAILED, fail, out, print_facts, say, worded

if TYPE_CHECKING:
    from stackalign.solar.files import Outcome, Task

__all__ = ["Saying", "print_outcomes", "print_plans", "run", "tasks_of", "write_page"]


def tasks_of(
    target: str | None, batch: Path | None, folder: Path, references: tuple[Path, ...], settings: dict[str, Any],
    where: dict[str, Any],
) -> "tuple[Iterable[Task], int]":  # fmt: skip
    """What is to be done, and how many there are."""
    from stackalign.solar import files, manifest

    if batch is not None:
        tasks = manifest.read_manifest(batch, folder, settings, references=references, **where)
        return tasks, manifest.count_rows(batch)
    path = Path(str(target))
    return [files.Task(path, references, files.output_in(folder, path), settings, **where)], 1


def run(tasks: "Iterable[Task]", said: "Saying", common: Spread, **options: Any) -> "list[Outcome]":
    from stackalign.solar.files import run_tasks
    from stackalign.solar.remote import local_processes

    # Pages are drawn here, of results with their images.
    total = 1 if said.report else said.total
    try:
        with (
            long_run(common.scheduler) as (stop, executor),
            local_processes(1 if executor is not None else total, common.workers, common.device) as pool,
        ):
            executor = executor or pool
            return run_tasks(
                tasks,
                device=common.device if pool is None else "cpu",
                workers=common.workers if pool is None else 1,
                memory_limit=common.bytes,
                resume=common.resume,
                overwrite=common.overwrite,
                command=command_line(),
                beside=(".html",) if said.report else (),
                each=said,
                stop=stop,
                executor=executor,
                **options,
            )
    except OSError as error:
        raise fail(f"the folder of the outputs cannot be written: {error}", FAILED) from error


def print_outcomes(outcomes: "Sequence[Outcome]", said: "Saying", common: Spread, *, many: bool) -> None:
    if common.as_json:
        rows = [{"target": str(o.task.target), "status": o.status, "message": o.message, **o.record} for o in outcomes]
        out.print_json(json.dumps(rows))
    elif many and not common.quiet:
        counts = {name: sum(o.status == name for o in outcomes) for name in ("done", "flagged", "failed", "earlier")}
        seconds = time.monotonic() - said.began
        print_facts([(name, str(n)) for name, n in counts.items()] + [("seconds", f"{seconds:.1f}")])


def write_page(outcomes: "Sequence[Outcome]", columns: dict[str, Any], path: Path) -> None:
    """Write one page: that of the one file that was given, or an overview that leads to the pages of many."""
    from stackalign.plot.solar_batch_report import write_batch_report
    from stackalign.plot.solar_report import write_coalignment_report

    if len(outcomes) == 1 and outcomes[0].result is not None:
        write_coalignment_report(outcomes[0].result, path)
        return
    pages = [outcome.task.output.with_suffix(".html") for outcome in outcomes]
    write_batch_report(columns, path, pages=[page if page.exists() else None for page in pages])


class Saying:
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


def print_plans(tasks: "Iterable[Task]") -> int:
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
