"""Coalignments of files: what goes in, what comes out, one or thousands, resumable."""

import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from astropy.io import fits

from stackalign.backends._threads import governed
from stackalign.errors import DataError, FinishedError, OutputExistsError, StackalignError
from stackalign.runs import Run, StopRequest, find_leftovers, remove_leftovers
from stackalign.runs.portable import portable

from .coalign import run_jobs
from .coalign_result import CoalignmentResult
from .framestore import image_budget
from .image_hdus import UNREADABLE, quiet
from .job import Job
from .plan import RasterPlan, plan_synthetic_raster
from .remote import RemoteResult, absolute, coalign_remotely, in_turn
from .tasks import SUFFIX, Prepared, Task, frames_of, opened, output_in, prepare

__all__ = ["Outcome", "Task", "dry_run", "output_in", "run_tasks"]

TOGETHER = 8
"""Jobs that are worked on in lock-step: enough to share the calls, few enough for their images to fit into memory."""

PIXEL_BYTES = 100
"""Of a target's pixel while it is worked on: both images and what is made of them, in double precision."""

SHORT = (
    "status", "output", "model", "parameters", "sigma", "shift_arcsec", "sigma_arcsec", "score", "overlap", "flags",
    "ok",
)  # fmt: skip
"""Of a record what stays in memory when thousands are made; all of it stands in the file of the task."""


@dataclass(frozen=True)
class Outcome:
    """What became of a task: "done", "flagged", "failed" or "earlier", with the record that was written."""

    task: Task
    status: str
    message: str
    record: Mapping[str, Any]
    result: CoalignmentResult | None = None
    error: Exception | None = None

    def short(self) -> "Outcome":
        """Without what thousands of them would fill the memory with."""
        kept = {key: self.record[key] for key in SHORT if key in self.record}
        return Outcome(self.task, self.status, self.message, kept)


def dry_run(task: Task) -> RasterPlan | None:
    """Which frame would serve which column; None without a sequence. Images are not read."""
    if task.problem:
        raise DataError(task.problem)
    prepared = prepare(task)
    image = (prepared.opened or opened(task)).map
    frames = frames_of(task, image)
    prepared.reference()
    if not frames:
        return None
    chosen = {key: task.settings[key] for key in ("threshold_time", "method") if key in task.settings}
    return plan_synthetic_raster(image, frames, **chosen)


@governed
def run_tasks(
    tasks: Iterable[Task],
    *,
    device: str = "auto",
    workers: int | None = None,
    memory_limit: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    again: bool = False,
    write_flagged: bool = False,
    command: str | None = None,
    together: int = TOGETHER,
    keep: bool = False,
    beside: Iterable[str] = (),
    each: Callable[[Outcome], None] | None = None,
    stop: StopRequest | None = None,
    executor: Executor | None = None,
) -> list[Outcome]:
    """Coalign files, a few at a time in lock-step; one that fails does not stop the others.

    Parameters
    ----------
    tasks : iterable of Task
        Read as they are needed.
    device, workers
        See `stackalign.register`.
    memory_limit : int, optional
        Bytes of images: fewer tasks are worked on together, and fewer frames kept for the next task, where they would
        take more. One task is always worked on.
    resume : bool
        Leave out what an earlier run of the same plan finished, flagged ones included.
    overwrite : bool
        Replace existing outputs.
    again, write_flagged : bool
        See `CoalignmentResult.write`.
    command : str, optional
        For the records.
    together : int
        Tasks in lock-step.
    keep : bool
        Keep the results with their images and whole records; else what a table needs stays in memory.
    beside : iterable of str
        Extensions of more files that `each` writes beside the outputs, such as ".html"; refused where they exist.
    each : callable, optional
        Is given each outcome as soon as it is there, with its result.
    stop : StopRequest, optional
        When it is set, the tasks that are being worked on are finished, and no others begun.
    executor : concurrent.futures.Executor, optional
        Where the tasks are worked on, one by one; its workers write the corrected files, and outcomes come without the
        images of their results. `together` and `memory_limit` have no meaning then.

    Returns
    -------
    list of Outcome
        In the order of the tasks.
    """
    outcomes: list[Outcome] = []
    options = _Options(resume, overwrite, again, write_flagged, command, tuple(beside))
    most = None if memory_limit is None else memory_limit // 2
    stream = iter(tasks)
    if executor is not None:
        for outcome in _remote_outcomes(stream, options, executor, device, workers, stop):
            if each is not None:
                each(outcome)
            outcomes.append(outcome)
        return outcomes
    with _Batch(options) as batch, image_budget(most):
        while not stop and (group := list(batch.begin(stream, max(1, together), most))):
            jobs = [one.job for one in group if isinstance(one, _Working) and one.job is not None]
            results = iter(run_jobs(jobs, device=device, workers=workers))
            for one in group:
                outcome = batch.finish(one, next(results)) if isinstance(one, _Working) else one
                if each is not None:
                    each(outcome)
                outcomes.append(outcome if keep else outcome.short())
    return outcomes


def _remote_outcomes(
    stream: Iterator[Task],
    options: "_Options",
    executor: Executor,
    device: str,
    workers: int | None,
    stop: StopRequest | None,
) -> Iterator[Outcome]:
    """Outcomes of tasks that the workers of an executor work on, in order."""

    def submit(one: "_Working | Outcome") -> "Future[RemoteResult] | None":
        if isinstance(one, Outcome):
            return None
        task, path = absolute(one.prepared.task), one.run.data.absolute()
        chosen = {"again": options.again, "write_flagged": options.write_flagged}
        return executor.submit(portable, coalign_remotely, task, path, **chosen, device=device, workers=workers)

    with _Batch(options, remote=True) as batch:
        begun = (one for task in stream for one in batch.begin(iter([task]), 1, None))
        for one, result in in_turn(executor, begun, submit, stop):
            yield batch.finish(one, result) if isinstance(one, _Working) else one


@dataclass(frozen=True)
class _Options:
    """What all tasks have in common; see `run_tasks`."""

    resume: bool
    overwrite: bool
    again: bool
    write_flagged: bool
    command: str | None
    beside: tuple[str, ...]


@dataclass(frozen=True)
class _Working:
    """A task that was begun: its output is locked."""

    prepared: Prepared
    run: Run
    job: Job | None
    nbytes: int


@dataclass
class _Batch:
    """The tasks that are being worked on; as a context manager it lets go of those that were not finished."""

    options: _Options
    remote: bool = False
    open: dict[Path, Run] = field(default_factory=dict)
    taken: dict[Path, Path] = field(default_factory=dict)
    left: dict[Path, dict[str, list[Path]]] = field(default_factory=dict)

    def __enter__(self) -> "_Batch":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self.open:
            _, run = self.open.popitem()
            run.__exit__(kind, error, trace)

    def begin(self, stream: Iterator[Task], most: int, limit: int | None) -> Iterator[_Working | Outcome]:
        """Begin the next tasks, as many as fit."""
        held = 0
        for number, task in enumerate(stream, start=1):
            try:
                one = self._begin(task)
            except Exception as error:  # whatever is wrong with one file is no reason to lose the others
                one = _failed(task, error)
            yield one
            held += one.nbytes if isinstance(one, _Working) else 0
            if number == most or (limit is not None and held >= limit):
                return

    def _begin(self, task: Task) -> _Working | Outcome:
        self._check(task)
        self._clean(task)
        prepared = prepare(task)
        try:
            run = self._run(prepared, resume=self.options.resume, overwrite=self.options.overwrite)
        except FinishedError as error:
            if not self._written_now(task, error.record):
                return Outcome(task, "earlier", "finished by an earlier run", error.record)
            run = self._run(prepared, overwrite=True)
        run.data = run.journal.folder / task.output.name  # the file states its own name in its header
        if self.remote:
            self.open[task.output] = run
            return _Working(prepared, run, None, 0)
        try:
            job, pixels = prepared.job(self.options.again)
        except BaseException as error:
            run.__exit__(type(error), error, error.__traceback__)
            raise
        self.open[task.output] = run
        return _Working(prepared, run, job, PIXEL_BYTES * pixels)

    def _run(self, prepared: Prepared, **options: Any) -> Run:
        output = prepared.task.output
        pages = [output.with_suffix(extension) for extension in self.options.beside]
        return Run(output, prepared.plan, suffix=SUFFIX, readers=prepared.files, beside=pages, **options)

    def _written_now(self, task: Task, record: Mapping[str, Any]) -> bool:
        """Tell whether a correction that an earlier run held back is to be written by this one."""
        if record["run"]["content"] is not None:
            return False
        if task.output.exists() and not self.options.overwrite:
            msg = f"output {task.output} exists and was not written by an earlier run; choose another folder"
            raise OutputExistsError(msg).with_hint("overwrite")
        return self.options.write_flagged

    def _check(self, task: Task) -> None:
        """Refuse what would destroy something."""
        if task.problem:
            raise DataError(task.problem)
        first = self.taken.setdefault(task.output.absolute(), task.target)
        if first is not task.target:
            msg = f"{task.output} would be written twice, for {first} too; give one of them another output"
            raise DataError(msg)
        if task.output.suffix in (SUFFIX, *self.options.beside):
            msg = f"{task.output} would be the corrected file and another one; give it the extension .fits"
            raise DataError(msg)
        for path in (task.target, *task.references):
            if task.output.exists() and path.exists() and task.output.samefile(path):
                msg = f"the corrected file must be another one than {path}"
                raise DataError(msg)

    def _clean(self, task: Task) -> None:
        """Delete what a run that was killed has left of this output; each folder is looked at once."""
        folder = task.output.parent
        if folder not in self.left:
            self.left[folder] = find_leftovers(folder)
        names = [task.output.name, *(task.output.with_suffix(ext).name for ext in (SUFFIX, ".html"))]
        paths = [path for name in names for path in self.left[folder].pop(name, ())]
        if paths:
            remove_leftovers(task.output, paths)

    def finish(self, one: _Working, result: Any) -> Outcome:
        """Write what a task found."""
        task, options = one.prepared.task, self.options
        run = self.open.pop(task.output)
        try:
            with run:
                if isinstance(result, BaseException):
                    raise result
                record = self._record(one, result)
                written = result.ok or options.write_flagged
                if written:
                    with _named(run):
                        record["corrected_hdus"], record["uncorrected_hdus"] = self._file(result, run)
                elif task.output.exists() and _is_corrected(task.output):
                    task.output.unlink()  # of an earlier run, and not what this one says
                record = run.publish(record, status=record["status"], written=written)
        except Exception as error:
            return _failed(task, error)
        message = "" if result.ok else "not to be trusted: " + "; ".join(record["flags"].values())
        if isinstance(result, RemoteResult):
            return Outcome(task, record["status"], message or result.text, record).short()
        return Outcome(task, record["status"], message, record, result)

    def _file(self, result: CoalignmentResult | RemoteResult, run: Run) -> tuple[list[Any], list[Any]]:
        """Write the corrected file, unless a worker has; gives its corrected and uncorrected HDUs."""
        if isinstance(result, RemoteResult):
            return result.hdus or ([], [])
        made = result.write_file(run.data, again=self.options.again, flagged=self.options.write_flagged)
        return list(made.corrected), list(made.left)

    def _record(self, one: _Working, result: CoalignmentResult | RemoteResult) -> dict[str, Any]:
        task = one.prepared.task
        record = result.record if isinstance(result, RemoteResult) else result.to_dict()
        described = record["provenance"]["inputs"]
        inputs = [{"path": os.path.abspath(each.path), "fingerprint": each.first} for each in one.prepared.inputs]
        for facts, more in zip(inputs, described, strict=False):
            facts |= {key: value for key, value in more.items() if key not in facts}
        record["provenance"] |= {"inputs": inputs, "command": self.options.command}
        record["task"] = task.to_dict()
        record["status"] = "done" if result.ok else "flagged"
        if result.ok or self.options.write_flagged:
            record["output"] = str(task.output)
        return record


@contextmanager
def _named(run: Run) -> Iterator[None]:
    """Let errors name the output, not where it is made."""
    try:
        yield
    except DataError as error:
        msg = re.sub(r"\[Errno \d+\] ", "", str(error).replace(str(run.data), str(run.output)))
        raise DataError(msg) from error


def _is_corrected(path: Path) -> bool:
    try:
        with quiet(), fits.open(path, disable_image_compression=True) as hdus:
            return any("XC_VERS" in one.header for one in hdus)
    except UNREADABLE:
        return False


def _failed(task: Task, error: Exception) -> Outcome:
    said = str(error) or type(error).__name__
    if not isinstance(error, (StackalignError, ValueError, TypeError, OSError, MemoryError)):
        said = f"unexpected {type(error).__name__}: {said}"
        logging.getLogger(__name__).debug("%s", task.target, exc_info=error)
    return Outcome(task, "failed", said, {}, error=error)
