"""Refine a file into a file: step after step, each one kept as soon as it is done."""

import os
import time
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stackalign.errors import DataError, StackalignError, StackalignWarning, UnfitStateError
from stackalign.io._reader import damage_as_unfit_state
from stackalign.io.provenance import provenance
from stackalign.runs import Plan, Progress, ProgressCallback, Run, StopRequest
from stackalign.runs.executor import result_of
from stackalign.runs.portable import portable

from .coarse import CoarseRefine
from .config import Configuration, Step, load_config
from .orientation import find_orientation
from .result import RefinementResult

__all__ = ["FinishedStep", "Refined", "refine_file"]

Trials = tuple[tuple[str, float, float], ...]
STOPPED = "the refinement was stopped"
_COARSEST = 6.0
"""Pixels of the fine grid while eight orientations are compared: they differ by more than it shows."""


@dataclass(frozen=True, eq=False)
class FinishedStep:
    """One step, what was found, and the refiner that found it.

    Parameters
    ----------
    step : Step
    result : RefinementResult
    refiner : CoarseRefine
        With the frame that was found; ``refiner.disks(result)`` draws it.
    trials : tuple of (str, float, float)
        Of a search for the orientation: in words, score, thickness; the best first.
    seconds : float
    resumed : bool
        Whether an earlier run has found it.
    """

    step: Step
    result: RefinementResult
    refiner: CoarseRefine
    trials: Trials
    seconds: float
    resumed: bool = False


@dataclass(frozen=True, eq=False)
class Refined:
    """What `refine_file` has done: its steps, and the record that was written."""

    steps: tuple[FinishedStep, ...]
    record: Mapping[str, Any]

    @property
    def ok(self) -> bool:
        """Whether the last step can be trusted."""
        return self.steps[-1].result.ok


def refine_file(
    config: str | os.PathLike[str] | Configuration,
    output: str | os.PathLike[str],
    *,
    report: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    memory_limit: int | str | None = None,
    device: str | None = None,
    allow_external: bool = False,
    read_timeout: float | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
    on_step: Callable[[int, Step], None] | None = None,
    stop: StopRequest | None = None,
    executor: Executor | None = None,
    command: str | None = None,
) -> Refined:
    """Take the steps of a configuration in turn; each begins where the one before ended.

    Parameters
    ----------
    config : path-like or Configuration
        TOML, see `load_config`.
    output : path-like
        JSON of all steps, with what they follow from.
    report : path-like, optional
        HTML page with pictures; an existing one is replaced.
    workers, memory_limit, device, allow_external, read_timeout
        See `load_config`; not for a `Configuration`, which has them.
    resume : bool
        Keep the steps that an interrupted run of the same plan finished.
    overwrite : bool
        Replace an existing output.
    progress : callable, optional
    on_step : callable, optional
        Told the number of each step, from 0, and the step, before it is taken.
    stop : StopRequest, optional
        Looked at after each evaluation.
    executor : concurrent.futures.Executor, optional
        Where each step is taken, without `progress`; it finds the same. See `refine_files` for many patterns.
    command : str, optional
        Command line, for the provenance.

    Returns
    -------
    Refined

    Raises
    ------
    DataError
        The configuration, a file that it names, or the output cannot be used.
    OutputExistsError
        The output exists and `overwrite` is off.
    FinishedError
        With `resume`: a run of the same plan has finished this output.
    OutputLockedError
        Another run writes this output.
    Interrupted
        A stop was requested; ``resume=True`` goes on after the last step that was done.
    """
    if not isinstance(config, Configuration):
        config = load_config(
            config, workers=workers, memory_limit=memory_limit, device=device,
            allow_external=allow_external, read_timeout=read_timeout,
        )  # fmt: skip
    elif (workers, memory_limit, device, allow_external, read_timeout) != (None, None, None, False, None):
        msg = (
            "workers, memory_limit, device and how files are read are those of the configuration: "
            "give them to load_config"
        )
        raise ValueError(msg)
    final = Path(output)
    if final.suffix.lower() != ".json":
        msg = f"output {final} must end with .json"
        raise DataError(msg)
    with Run(
        final, plan_of(config), suffix="", resume=resume, overwrite=overwrite, readers=config.inputs
    ) as run:  # fmt: skip
        work = _Refinement(config, run, progress, on_step, stop, executor)
        finished = work.steps()
        facts = [{"path": os.path.abspath(one.path), "fingerprint": one.first} for one in (config.file, *config.inputs)]
        about = provenance(dict(config.table), facts, device=config.refiner.device, command=command)
        if report is not None:
            write_report(finished, Path(report), title=f"Refinement of {config.file.path.name}", about=about)
        steps = [
            {"title": done.step.title, "trials": [list(row) for row in done.trials], "result": done.result.to_dict()}
            for done in finished
        ]
        status = "done" if finished[-1].result.ok else "flagged"
        return Refined(finished, run.publish({"steps": steps, "provenance": about}, status=status))


def plan_of(config: Configuration) -> Plan:
    """State what the results follow from: the files that the configuration names, and what it says of them."""
    table = {name: value for name, value in config.table.items() if name != "step"}
    table["matching"] = {name: value for name, value in table.get("matching", {}).items() if name != "device"}
    table["step"] = {
        str(k): {name: value for name, value in step.items() if name != "device"}
        for k, step in enumerate(config.table["step"], start=1)
    }
    return Plan("refine", [one.record() for one in config.inputs], table)


@dataclass
class _Refinement:
    """The steps of one run, kept in its journal."""

    config: Configuration
    run: Run
    progress: ProgressCallback | None
    on_step: Callable[[int, Step], None] | None
    stop: StopRequest | None
    executor: Executor | None

    def steps(self) -> tuple[FinishedStep, ...]:
        """All steps, those of an interrupted run among them."""
        kept = {int(note["step"]): note for note in self.run.journal.records() if "step" in note}
        refiner = self.config.refiner
        finished: list[FinishedStep] = []
        for k, step in enumerate(self.config.steps):
            now = refiner.with_(**step.settings) if step.settings else refiner
            known = self._kept(k, kept[k]) if k in kept else None
            result, trials, seconds = known or self._taken(k, now, step)
            now = now.with_(data=replace(now.data, frame=result.frame))
            finished.append(FinishedStep(step, result, now, trials, seconds, known is not None))
            refiner = refiner.with_result(result)  # settings of a step are its own; what was found goes on
        return tuple(finished)

    def _kept(self, k: int, note: Mapping[str, Any]) -> tuple[RefinementResult, Trials, float] | None:
        """A step of an interrupted run; None, with a warning, where its result is lost."""
        file = self.run.journal.folder / f"step-{k}.json"
        try:
            with damage_as_unfit_state(str(file), "the result"):
                result = RefinementResult.load(file)
        except UnfitStateError as error:
            warnings.warn(f"{error.args[0]}: step {k + 1} is taken once more", StackalignWarning, stacklevel=2)
            return None
        return result, tuple((str(words), score, value) for words, score, value in note["trials"]), note["seconds"]

    def _taken(self, k: int, now: CoarseRefine, step: Step) -> tuple[RefinementResult, Trials, float]:
        if self.on_step is not None:
            self.on_step(k, step)
        began = time.perf_counter()
        try:
            result, trials = self._take(now, step)
        except (ValueError, TypeError) as error:
            if k == 0 or isinstance(error, StackalignError):
                raise
            msg = f"step {k + 1}, {step.title}: {error}"  # what only shows now is no reason to lose the steps before
            raise DataError(msg) from error
        seconds = time.perf_counter() - began
        with self.run.checkpoint():
            result.save(self.run.journal.folder / f"step-{k}.json")
            self.run.note(step=k, trials=trials, seconds=seconds)
        return result, trials, seconds

    def _take(self, now: CoarseRefine, step: Step) -> tuple[RefinementResult, Trials]:
        """Take a step here or elsewhere."""
        if self.executor is None:
            return take(now, step, self.progress, self.stop)
        if self.stop is not None:
            self.stop.check(STOPPED)
        return result_of(
            self.executor, self.executor.submit(portable, take_alone, now, step), self.stop, stopped=STOPPED
        )


def take_alone(now: CoarseRefine, step: Step) -> tuple[RefinementResult, Trials]:
    """Take one step in a worker; the result does not bring the refiner back, which the client has."""
    result, trials = take(now, step, None, None)
    return replace(result, _refiner=None), trials


def take(
    now: CoarseRefine, step: Step, show: ProgressCallback | None, stop: StopRequest | None
) -> tuple[RefinementResult, Trials]:
    """Take one step, with its progress."""
    trial, stage_now, before = 0, "", 0
    began = last = time.perf_counter()

    def report(stage: str, done: int, total: int) -> None:
        nonlocal began, last, stage_now, before
        if stop is not None:
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

    fine = max(refiner.fine_grid, _COARSEST)
    trials = find_orientation(refiner, step.orientation, fine_grid=fine, on_trial=count)
    words = tuple(
        (f"{'mirrored' if t.flip else 'as it is'}, turned by {t.rotation:g}°", t.score, t.result.values["thickness"])
        for t in trials
    )
    return trials[0].result, words


def write_report(finished: tuple[FinishedStep, ...], report: Path, *, title: str, about: Mapping[str, Any]) -> None:
    """Write the page; the disks of the last step are simulated once more."""
    from stackalign.plot.refine_report import RefinedStep, write_refinement_report

    shown = []
    for k, done in enumerate(finished):
        last = k == len(finished) - 1
        disks = done.refiner.disks(done.result, _step_px(done)) if last or done.trials else None
        shown.append(RefinedStep(done.step.title, done.result, disks, done.trials))
    write_refinement_report(shown, report, title=title, provenance=about)


def _step_px(done: FinishedStep) -> float:
    """Pixels of the disks on the page: some hundred a side are enough."""
    top, left, bottom, right = done.refiner.roi.bounds
    return max(1.0, max(bottom - top, right - left) / 96)
