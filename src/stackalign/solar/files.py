"""Coalignments of files: what goes in, what comes out, one or thousands, resumable."""

import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units as u
from sunpy.map import GenericMap

from stackalign.errors import DataError, OutputExistsError, StackalignError
from stackalign.io.atomic import write_text_atomic
from stackalign.io.provenance import dump_json

from .archive import get_EUI_paths
from .coalign import Job, coalign_job, open_target, run_jobs
from .coalign_result import CoalignmentResult
from .columns import column_times, time_axis
from .frames import observation_time
from .headers import read_map
from .plan import RasterPlan, plan_synthetic_raster

__all__ = ["Outcome", "Task", "dry_run", "read_manifest", "run_tasks", "table_columns"]

TOGETHER = 8
"""Jobs that are worked on in lock-step: enough to share the calls, few enough for their images to fit into memory."""

MANIFEST = ("target", "reference", "output", "window", "model", "max_shift", "frames_dir", "time_window")
"""Columns of a manifest; all but the target may be missing or empty. Several references are separated by ``;``."""


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
    time_window : str
        How far from the raster, such as "2 h".
    channel : str
    """

    target: Path
    references: tuple[Path, ...]
    output: Path
    settings: Mapping[str, Any] = field(default_factory=dict)
    frames_dir: Path | None = None
    time_window: str = "1 h"
    channel: str = "fsi174"

    @property
    def record(self) -> Path:
        """File of the parameters."""
        return self.output.with_suffix(".json")


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


def _frames(task: Task) -> list[Path]:
    """Files of the sequence, given or found."""
    if task.frames_dir is None:
        return list(task.references) if len(task.references) > 1 else []
    image, *_ = open_target(task.target, task.settings.get("window"))
    times = observation_time(image)[None]
    if time_axis(image.meta) is not None:
        times = column_times(image.meta, image.data.shape)
    try:
        margin = u.Quantity(task.time_window).to(u.s)
    except (TypeError, ValueError) as error:
        msg = f'the time window must be a duration such as "2 h", got {task.time_window!r}'
        raise ValueError(msg) from error
    found = get_EUI_paths(times.min() - margin, times.max() + margin, task.frames_dir, channel=task.channel)
    if not found:
        msg = f"{task.frames_dir} has no file of {task.channel} within {task.time_window} of {task.target.name}"
        raise DataError(msg)
    return found


def _job(task: Task) -> Job:
    frames = _frames(task)
    one = task.references[0] if len(task.references) == 1 else None
    if one is None and not frames:
        msg = f"{task.target} has no reference: give one image, several frames, or the folder of an archive"
        raise DataError(msg)
    reference = None if one is None else _reference(one)
    return coalign_job(task.target, reference, frames=frames or None, **task.settings)


def dry_run(task: Task) -> RasterPlan | None:
    """Which frame would serve which column; None without a sequence. Images are not read."""
    frames = _frames(task)
    image, *_ = open_target(task.target, task.settings.get("window"))
    for path in task.references:
        _reference(path)
    if not frames:
        return None
    chosen = {key: task.settings[key] for key in ("threshold_time", "method") if key in task.settings}
    return plan_synthetic_raster(image, frames, **chosen)


def read_manifest(
    path: str | os.PathLike[str], folder: Path, settings: Mapping[str, Any], **common: Any
) -> Iterator[Task]:
    """Read tasks from a table, one row at a time.

    Parameters
    ----------
    path : path-like
        CSV with the columns of `MANIFEST`; paths are relative to it.
    folder : Path
        Where outputs go that the table does not name.
    settings : mapping
        Of all tasks; a row's own come first.
    **common
        Fields of `Task` for rows that say nothing.

    Raises
    ------
    DataError
        The table cannot be read or has an unknown column.
    """
    file = Path(path)
    try:
        with file.open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream)
            names = reader.fieldnames or []
            unknown = [name for name in names if name not in MANIFEST]
            if "target" not in names or unknown:
                msg = f"{file} must have the column target, and may have {', '.join(MANIFEST[1:])}; it has {names}"
                raise DataError(msg)
            for row in reader:
                yield _task(
                    file, {key: (value or "").strip() for key, value in row.items() if key}, folder, settings, common
                )
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        msg = f"{file} cannot be read: {error}"
        raise DataError(msg) from error


def _task(
    file: Path, row: Mapping[str, str], folder: Path, settings: Mapping[str, Any], common: Mapping[str, Any]
) -> Task:
    base = file.parent
    target = base / row["target"]
    own: dict[str, Any] = {key: row[key] for key in ("window", "model", "max_shift") if row.get(key)}
    fields = dict(common)
    if row.get("frames_dir"):
        fields["frames_dir"] = base / row["frames_dir"]
    if row.get("time_window"):
        fields["time_window"] = row["time_window"]
    references = tuple(base / name.strip() for name in row.get("reference", "").split(";") if name.strip())
    if references:
        fields["references"] = references
    output = (
        base / row["output"] if row.get("output") else folder / f"{target.stem.removesuffix('.fits')}_coaligned.fits"
    )
    return Task(target=target, output=output, settings={**settings, **own}, **{"references": (), **fields})


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
) -> list[Outcome]:
    """Coalign files, a few at a time in lock-step; one that fails does not stop the others.

    Parameters
    ----------
    tasks : iterable of Task
        Read as they are needed.
    device, workers
        See `stackalign.register`.
    resume : bool
        Leave out what an earlier run finished, flagged ones included.
    overwrite, again, write_flagged : bool
        See `CoalignmentResult.write`.
    command : str, optional
        For the records.
    together : int
        Tasks in lock-step.
    keep : bool
        Keep the results with their images; else only their records stay in memory.
    each : callable, optional
        Is given each outcome as soon as it is there, with its result.

    Returns
    -------
    list of Outcome
        In the order of the tasks.
    """
    outcomes: list[Outcome] = []
    stream = iter(tasks)
    while some := list(islice(stream, max(1, together))):
        finished: dict[int, Outcome] = {}
        jobs: list[tuple[int, Job]] = []
        for number, task in enumerate(some):
            try:
                if resume and task.record.exists():
                    record = json.loads(task.record.read_text())
                    finished[number] = Outcome(task, "earlier", "finished by an earlier run", record)
                    continue
                if not overwrite and (task.output.exists() or task.record.exists()):
                    msg = f"output {task.output} exists; choose another folder or allow it to be replaced (--overwrite)"
                    raise OutputExistsError(msg)
                jobs.append((number, _job(task)))
            except (StackalignError, ValueError, TypeError, OSError) as error:
                finished[number] = Outcome(task, "failed", str(error), {})
        found = run_jobs([job for _, job in jobs], device=device, workers=workers)
        for (number, _), result in zip(jobs, found, strict=True):
            finished[number] = _finished(some[number], result, overwrite, again, write_flagged, command)
        for number in range(len(some)):
            if each is not None:
                each(finished[number])
            outcome = finished[number]
            outcomes.append(outcome if keep else Outcome(outcome.task, outcome.status, outcome.message, outcome.record))
    return outcomes


def _finished(
    task: Task, result: Any, overwrite: bool, again: bool, write_flagged: bool, command: str | None
) -> Outcome:
    """Write what a task found."""
    if not isinstance(result, CoalignmentResult):
        if isinstance(result, (StackalignError, ValueError, TypeError, OSError, MemoryError)):
            return Outcome(task, "failed", str(result) or type(result).__name__, {})
        raise result
    record = result.to_dict()
    record["provenance"]["command"] = command
    record["status"] = "done" if result.ok else "flagged"
    try:
        if result.ok or write_flagged:
            result.write(task.output, overwrite=overwrite, again=again, flagged=write_flagged)
            record["output"] = str(task.output)
        write_text_atomic(task.record, dump_json(record))
    except (StackalignError, OSError) as error:
        return Outcome(task, "failed", str(error), {})
    message = "" if result.ok else "not to be trusted: " + "; ".join(record["flags"].values())
    return Outcome(task, record["status"], message, record, result)


def table_columns(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The outcomes as a table by columns, one row a task; NaN where there is no number."""
    names = ("dx", "dy", "sx", "sy", "scale", "angle", "shear")
    used = [name for name in names if any(name in o.record.get("parameters", {}) for o in outcomes)]

    def numbers(key: str, part: str | int | None = None) -> Any:
        values: list[float] = []
        for outcome in outcomes:
            value = outcome.record.get(key)
            if value is not None and part is not None:
                value = value.get(part) if isinstance(part, str) else value[part]
            values.append(np.nan if value is None else float(value))
        return np.array(values)

    columns: dict[str, Any] = {
        "target": np.array([str(o.task.target) for o in outcomes]),
        "status": np.array([o.record.get("status", o.status) for o in outcomes]),
        "model": np.array([str(o.record.get("model", "")) for o in outcomes]),
    }
    for name in used:
        columns[name] = numbers("parameters", name)
        columns[f"sigma_{name}"] = numbers("sigma", name)
    for k, name in enumerate(("tx", "ty")):
        columns[name] = numbers("shift_arcsec", k)
        columns[f"sigma_{name}"] = numbers("sigma_arcsec", k)
    columns |= {"score": numbers("score"), "overlap": numbers("overlap")}
    columns["flags"] = np.array([" ".join(o.record.get("flags", {})) for o in outcomes])
    columns["message"] = np.array([o.message for o in outcomes])
    return columns
