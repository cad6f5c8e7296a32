"""Coalignments of files: what goes in, what comes out, one or thousands, resumable."""

import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from astropy import units as u
from astropy.io import fits
from sunpy.map import GenericMap

from stackalign.chunks import StopRequest
from stackalign.errors import DataError, OutputExistsError, StackalignError
from stackalign.io.atomic import write_text_atomic
from stackalign.io.provenance import dump_json, to_jsonable

from .archive import get_EUI_paths
from .coalign import Job, coalign_job, open_target, run_jobs
from .coalign_result import CoalignmentResult
from .columns import column_times, time_axis
from .fitsfile import check_first
from .frames import observation_time
from .framestore import as_frame
from .headers import UNREADABLE, quiet, read_map
from .leftovers import remove_leftovers
from .plan import RasterPlan, plan_synthetic_raster

__all__ = ["Outcome", "Task", "dry_run", "output_in", "run_tasks"]

WINDOW = "1 h"
"""How far from a raster frames are looked for by default."""

TOGETHER = 8
"""Jobs that are worked on in lock-step: enough to share the calls, few enough for their images to fit into memory."""

SHORT = (
    "status", "output", "model", "parameters", "sigma", "shift_arcsec", "sigma_arcsec", "score", "overlap", "flags",
    "ok",
)  # fmt: skip
"""Of a record what stays in memory when thousands are made; all of it stands in the file of the task."""


@dataclass(frozen=True)
class Task:
    """One file to coalign.

    Parameters
    ----------
    target : Path
    references : tuple of Path
        One image, or the frames of a sequence.
    output : Path
        Of the corrected file; beside it stands a ``.json`` of the same name.
    settings : dict
        For `coalign`.
    frames_dir : Path, optional
        Archive in which the frames are looked for.
    time_window : str, optional
        How far from the raster frames and references may be, such as "2 h". By default 1 h for frames that are looked
        for, and any time for references that are named.
    channel : str
    problem : str
        Why it cannot even begin.
    """

    target: Path
    references: tuple[Path, ...]
    output: Path
    settings: Mapping[str, Any] = field(default_factory=dict)
    frames_dir: Path | None = None
    time_window: str | None = None
    channel: str = "fsi174"
    problem: str = ""

    @property
    def record(self) -> Path:
        """File of the parameters."""
        return self.output.with_suffix(".json")

    def to_dict(self) -> dict[str, Any]:
        """What the result depends on, as JSON takes it."""
        plain: dict[str, Any] = to_jsonable(
            {
                "target": os.path.abspath(self.target),
                "references": [os.path.abspath(path) for path in self.references],
                "settings": {key: str(value) for key, value in sorted(self.settings.items()) if value is not None},
                **(
                    {}
                    if self.frames_dir is None
                    else {
                        "frames_dir": os.path.abspath(self.frames_dir),
                        "channel": self.channel,
                    }
                ),
                **({} if self.time_window is None else {"time_window": self.time_window}),
            }
        )
        return plain


def output_in(folder: Path, target: Path) -> Path:
    """Where the corrected copy of a file goes by default."""
    name = target.name
    for ending in (".gz", ".fits", ".fit"):
        name = name.removesuffix(ending)
    return folder / f"{name}_coaligned.fits"


@dataclass(frozen=True)
class Outcome:
    """What became of a task: "done", "flagged", "failed" or "earlier", with the record that was written."""

    task: Task
    status: str
    message: str
    record: Mapping[str, Any]
    result: CoalignmentResult | None = None


@lru_cache(maxsize=4)
def _cached(path: str, changed: float) -> GenericMap:
    return read_map(path)


def _reference(path: Path) -> GenericMap:
    """The map of a file; a batch against one image reads it once."""
    try:
        changed = path.stat().st_mtime
    except OSError:
        changed = 0.0
    return _cached(os.fspath(path), changed)


def _frames(task: Task, image: GenericMap) -> list[Path]:
    """Files of the sequence, given or found."""
    if task.frames_dir is None and task.time_window is None:
        return list(task.references) if len(task.references) > 1 else []
    times = observation_time(image)[None]
    if time_axis(image.meta) is not None:
        times = column_times(image.meta, image.data.shape)
    window = task.time_window or WINDOW
    try:
        margin = u.Quantity(window).to(u.s)
    except (TypeError, ValueError) as error:
        msg = f'the time window must be a duration such as "2 h", got {window!r}'
        raise ValueError(msg) from error
    if task.time_window is not None:
        for path in task.references:
            taken = as_frame(path).time
            far = max((times.min() - taken).to(u.s), (taken - times.max()).to(u.s))
            if far > margin:
                msg = f"{path.name} was taken {far.to_value(u.h):.1f} h from {task.target.name}, outside {window}"
                raise DataError(msg)
    if task.frames_dir is None:
        return list(task.references) if len(task.references) > 1 else []
    found = get_EUI_paths(times.min() - margin, times.max() + margin, task.frames_dir, channel=task.channel)
    if not found:
        msg = f"{task.frames_dir} has no file of {task.channel} within {window} of {task.target.name}"
        raise DataError(msg)
    return found


def _job(task: Task, again: bool) -> Job:
    opened = open_target(task.target, task.settings.get("window"))
    check_first({name.upper(): value for name, value in opened.map.meta.items()}, task.target.name, again)
    frames = _frames(task, opened.map)
    one = task.references[0] if len(task.references) == 1 else None
    if one is None and not frames:
        msg = f"{task.target} has no reference: give one image, several frames, or the folder of an archive"
        raise DataError(msg)
    reference = None if one is None else _reference(one)
    return coalign_job(opened, reference, frames=frames or None, **task.settings)


def dry_run(task: Task) -> RasterPlan | None:
    """Which frame would serve which column; None without a sequence. Images are not read."""
    if task.problem:
        raise DataError(task.problem)
    image = open_target(task.target, task.settings.get("window")).map
    frames = _frames(task, image)
    for path in task.references:
        _reference(path)
    if not frames:
        return None
    chosen = {key: task.settings[key] for key in ("threshold_time", "method") if key in task.settings}
    return plan_synthetic_raster(image, frames, **chosen)


def run_tasks(
    tasks: Iterable[Task],
    *,
    device: str = "auto",
    workers: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    again: bool = False,
    write_flagged: bool = False,
    command: str | None = None,
    together: int = TOGETHER,
    keep: bool = False,
    each: Callable[[Outcome], None] | None = None,
    stop: StopRequest | None = None,
) -> list[Outcome]:
    """Coalign files, a few at a time in lock-step; one that fails does not stop the others.

    Parameters
    ----------
    tasks : iterable of Task
        Read as they are needed.
    device, workers
        See `stackalign.register`.
    resume : bool
        Leave out what an earlier run finished with the same settings, flagged ones included.
    overwrite, again, write_flagged : bool
        See `CoalignmentResult.write`.
    command : str, optional
        For the records.
    together : int
        Tasks in lock-step.
    keep : bool
        Keep the results with their images and whole records; else what a table needs stays in memory.
    each : callable, optional
        Is given each outcome as soon as it is there, with its result.
    stop : StopRequest, optional
        When it is set, the tasks that are being worked on are finished, and no others begun.

    Returns
    -------
    list of Outcome
        In the order of the tasks.
    """
    outcomes: list[Outcome] = []
    taken: dict[Path, Path] = {}
    stream = iter(tasks)
    while not stop and (some := list(islice(stream, max(1, together)))):
        finished: dict[int, Outcome] = {}
        jobs: list[tuple[int, Job]] = []
        for number, task in enumerate(some):
            try:
                _check(task, taken)
                earlier = _earlier(task, overwrite, write_flagged) if resume else None
                if earlier is not None:
                    finished[number] = earlier
                    continue
                if not (overwrite or resume) and (task.output.exists() or task.record.exists()):
                    msg = f"output {task.output} exists; choose another folder or allow it to be replaced (--overwrite)"
                    raise OutputExistsError(msg)
                jobs.append((number, _job(task, again)))
            except Exception as error:  # whatever is wrong with one file is no reason to lose the others
                finished[number] = _failed(task, error)
        found = run_jobs([job for _, job in jobs], device=device, workers=workers)
        for (number, _), result in zip(jobs, found, strict=True):
            finished[number] = _finished(some[number], result, overwrite or resume, again, write_flagged, command)
        for number in range(len(some)):
            if each is not None:
                each(finished[number])
            outcome = finished[number]
            if not keep:
                short = {key: outcome.record[key] for key in SHORT if key in outcome.record}
                outcome = Outcome(outcome.task, outcome.status, outcome.message, short)
            outcomes.append(outcome)
    return outcomes


def _check(task: Task, taken: dict[Path, Path]) -> None:
    """Refuse what would destroy something."""
    if task.problem:
        raise DataError(task.problem)
    first = taken.setdefault(task.output.absolute(), task.target)
    if first is not task.target:
        msg = f"{task.output} would be written twice, for {first} too; give one of them another output"
        raise DataError(msg)
    for path in (task.target, *task.references):
        if task.output.exists() and path.exists() and task.output.samefile(path):
            msg = f"the corrected file must be another one than {path}"
            raise DataError(msg)


def _earlier(task: Task, overwrite: bool, write_flagged: bool) -> Outcome | None:
    """What an earlier run finished; None if there is something left to do."""
    if not task.record.exists():
        if task.output.exists() and not overwrite and not _is_corrected(task.output):
            msg = f"output {task.output} exists and was not written by an earlier run (--overwrite replaces it)"
            raise OutputExistsError(msg)
        return None
    try:
        record = json.loads(task.record.read_text())
        same = record["task"] == task.to_dict()
    except (OSError, ValueError, KeyError, TypeError):
        record, same = {}, False
    if not same:
        if overwrite:
            return None
        msg = f"{task.record} is of an earlier run with other settings (--overwrite replaces it)"
        raise OutputExistsError(msg)
    written = record["status"] == "done" or write_flagged
    if written and not task.output.exists():
        return None
    return Outcome(task, "earlier", "finished by an earlier run", record)


def _is_corrected(path: Path) -> bool:
    try:
        with quiet(), fits.open(path, disable_image_compression=True) as hdus:
            return any("XC_VERS" in one.header for one in hdus)
    except UNREADABLE:
        return False


def _failed(task: Task, error: BaseException) -> Outcome:
    said = str(error) or type(error).__name__
    if not isinstance(error, (StackalignError, ValueError, TypeError, OSError, MemoryError)):
        said = f"unexpected {type(error).__name__}: {said}"
        logging.getLogger(__name__).debug("%s", task.target, exc_info=error)
    return Outcome(task, "failed", said, {})


def _finished(
    task: Task, result: Any, overwrite: bool, again: bool, write_flagged: bool, command: str | None
) -> Outcome:
    """Write what a task found."""
    if not isinstance(result, CoalignmentResult):
        return _failed(task, result)
    record = result.to_dict()
    record["provenance"]["command"] = command
    record["task"] = task.to_dict()
    record["status"] = "done" if result.ok else "flagged"
    try:
        remove_leftovers(task.output, task.record)
        if result.ok or write_flagged:
            written = result.write_file(task.output, overwrite=overwrite, again=again, flagged=write_flagged)
            record["output"] = str(task.output)
            record["corrected_hdus"], record["uncorrected_hdus"] = list(written.corrected), list(written.left)
        elif task.output.exists() and _is_corrected(task.output):
            task.output.unlink()  # of an earlier run, and not what this one says
        write_text_atomic(task.record, dump_json(record))
    except Exception as error:
        return _failed(task, error)
    message = "" if result.ok else "not to be trusted: " + "; ".join(record["flags"].values())
    return Outcome(task, record["status"], message, record, result)
