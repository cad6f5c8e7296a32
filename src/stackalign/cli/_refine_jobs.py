"""The work behind `stackalign refine`: step after step, each one kept as soon as it is done."""

import json
import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stackalign.errors import DataError, StackalignWarning
from stackalign.io._reader import fingerprint_files
from stackalign.io.atomic import write_text_atomic
from stackalign.io.provenance import dump_json, provenance
from stackalign.runs import Progress, StopRequest
from stackalign.runs.journal import Journal

from ._console import progress_reporter, say
from ._refine_config import Plan, Step

if TYPE_CHECKING:
    from stackalign.refine import CoarseRefine, RefinementResult

__all__ = ["Finished", "finished_earlier", "journal_of", "run_steps", "write_results"]

Trials = tuple[tuple[str, float, float], ...]
STOPPED = "the refinement was stopped"


@dataclass(frozen=True, eq=False)
class Finished:
    """One step, what was found, and the refiner that found it."""

    step: Step
    result: "RefinementResult"
    refiner: "CoarseRefine"
    trials: Trials
    seconds: float
    resumed: bool = False


def journal_of(output: Path) -> Journal:
    """Where an interrupted run is kept: a folder beside the output."""
    return Journal(output.with_name(f".{output.name}.journal"))


def run_steps(plan: Plan, output: Path, *, resume: bool, quiet: bool) -> list[Finished]:
    """Take the steps in turn; each begins where the one before ended."""
    from stackalign.refine import RefinementResult

    journal, refiner, finished = journal_of(output), plan.refiner, list[Finished]()
    facts = {"configuration": dict(plan.table), "inputs": [_fingerprint(path) for path in plan.inputs]}
    kept: dict[int, tuple[Trials, float]] = {}
    if resume and journal.exists():
        different = journal.matches(facts)
        if different:
            msg = f"{journal.folder} is of another run ({'; '.join(different)}): repeat the command without --resume"
            raise DataError(msg)
        kept = {
            int(record["step"]): (tuple(map(tuple, record["trials"])), float(record["seconds"]))
            for record in journal.records()
        }
    else:
        journal.create(facts)
    with StopRequest() as stop:
        for k, step in enumerate(plan.steps):
            now = refiner.with_(**step.settings) if step.settings else refiner
            file = journal.folder / f"step-{k}.json"
            if k in kept:
                result, (trials, seconds) = RefinementResult.load(file), kept[k]
            else:
                if not quiet and len(plan.steps) > 1:
                    say(f"step {k + 1} of {len(plan.steps)}: {step.title}")
                began = time.perf_counter()
                with progress_reporter(quiet, "evaluations") as show, warnings.catch_warnings(record=True) as said:
                    warnings.simplefilter("always", StackalignWarning)
                    result, trials = _take(now, step, show, stop)
                for text in dict.fromkeys(str(item.message) for item in said if item.category is StackalignWarning):
                    say(f"warning: {text}")
                seconds = time.perf_counter() - began
                result.save(file)
                journal.append({"step": k, "trials": trials, "seconds": seconds})
            now = now.with_(data=replace(now.data, frame=result.frame))
            done = Finished(step, result, now, trials, seconds, k in kept)
            finished.append(done)
            # Settings of a step are its own; what was found goes on.
            refiner = refiner.with_result(result)
    return finished


def _take(now: "CoarseRefine", step: Step, show: Any, stop: StopRequest) -> "tuple[RefinementResult, Trials]":
    """One step, with its progress on the screen."""
    from stackalign.refine import find_orientation

    trial, stage_now, before = 0, "", 0
    began = last = time.perf_counter()

    def report(stage: str, done: int, total: int) -> None:
        nonlocal began, last, stage_now, before
        stop.check(STOPPED)
        if step.orientation is not None:  # the time left is that of all eight
            stage, done, total = "orientations", trial, 8
        elif stage != stage_now or done < before:
            began, stage_now = last, stage  # what is reported first was begun when the stage before ended
        before, last = done, time.perf_counter()
        if show is not None:
            show(Progress(stage, done, total, 0, last - began))

    refiner = now.with_(progress=report)
    if step.orientation is None:
        return refiner.optimize(step.parameters, **step.options), ()

    def count(_: Any) -> None:
        nonlocal trial
        trial += 1
        report("", 0, 0)

    trials = find_orientation(refiner, step.orientation, fine_grid=max(refiner.fine_grid, 6.0), on_trial=count)
    words = tuple(
        (f"{'mirrored' if t.flip else 'as it is'}, turned by {t.rotation:g}°", t.score, t.result.values["thickness"])
        for t in trials
    )
    return trials[0].result, words


def finished_earlier(plan: Plan, output: Path) -> dict[str, Any] | None:
    """What an earlier run of the same configuration has written; None where there is something left to do."""
    if not output.exists() or journal_of(output).exists():
        return None
    try:
        written: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
        inputs = [entry["fingerprint"] for entry in written["provenance"]["inputs"]]
        same = written["provenance"]["parameters"] == json.loads(dump_json(dict(plan.table)))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return written if same and inputs == [_fingerprint(path) for path in plan.inputs] else None


def write_results(
    finished: list[Finished], plan: Plan, output: Path, report: Path | None, command: str, title: str, *, quiet: bool
) -> dict[str, Any]:
    """Write the page, then the results, and let go of the journal."""
    inputs = [{"path": str(path), "fingerprint": _fingerprint(path)} for path in plan.inputs]
    record = provenance(dict(plan.table), inputs, device=plan.refiner.device, command=command)
    if report is not None:
        from stackalign.plot.refine_report import RefinedStep, write_refinement_report

        if not quiet:
            say(f"drawing {report}: the disks are simulated once more")
        shown = []
        for k, done in enumerate(finished):
            last = k == len(finished) - 1
            disks = done.refiner.disks(done.result, _step_px(done)) if last or done.trials else None
            shown.append(RefinedStep(done.step.title, done.result, disks, done.trials))
        write_refinement_report(shown, report, title=title, provenance=record)
    steps = [
        {"title": done.step.title, "trials": [list(row) for row in done.trials], "result": done.result.to_dict()}
        for done in finished
    ]
    written: dict[str, Any] = json.loads(dump_json({"steps": steps, "provenance": record}))
    write_text_atomic(output, dump_json(written) + "\n")
    journal_of(output).discard()
    return written


def _step_px(done: Finished) -> float:
    """Pixels of the disks on the page: some hundred a side are enough."""
    top, left, bottom, right = done.refiner.roi.bounds
    return max(1.0, max(bottom - top, right - left) / 96)


def _fingerprint(path: Path) -> str:
    """Of a file, or of all files of a folder such as a zarr store."""
    return fingerprint_files(sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path])
