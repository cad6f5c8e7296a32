"""What a coalignment of files is asked to do, and what its output follows from."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from astropy import units as u
from sunpy.map import GenericMap

from stackalign.errors import DataError
from stackalign.io.provenance import to_jsonable
from stackalign.runs import FileInput, Plan, record_path

from .archive import get_EUI_paths
from .coalign import DEFAULTS, coalign_job
from .columns import column_times, time_axis
from .fitsfile import check_first
from .frames import observation_time
from .framestore import as_frame
from .job import Job
from .observation import Observation
from .reading import read_map

__all__ = ["SUFFIX", "Prepared", "Task", "output_in", "prepare"]

WINDOW = "1 h"
"""How far from a raster frames are looked for by default."""

SUFFIX = ".json"
"""Of the record beside a corrected file."""


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
        return record_path(self.output, SUFFIX)

    def to_dict(self) -> dict[str, Any]:
        """What was asked for, as JSON takes it."""
        archive = {} if self.frames_dir is None else {"frames_dir": self.frames_dir.absolute(), "channel": self.channel}
        window = {} if self.time_window is None else {"time_window": self.time_window}
        plain: dict[str, Any] = to_jsonable(
            {
                "target": os.path.abspath(self.target),
                "references": [os.path.abspath(path) for path in self.references],
                "settings": {key: str(value) for key, value in sorted(self.settings.items()) if value is not None},
                **archive,
                **window,
            }
        )
        return plain


def output_in(folder: Path, target: Path) -> Path:
    """Where the corrected copy of a file goes by default."""
    name = target.name
    for ending in (".gz", ".fits", ".fit", ".jp2"):
        name = name.removesuffix(ending)
    return folder / f"{name}_coaligned.fits"


@dataclass(frozen=True)
class Prepared:
    """A task with its files found, and their contents noted before any of them is read.

    Parameters
    ----------
    task : Task
    inputs : tuple of FileInput
        The target, the references, and the frames that were found in the archive.
    opened : Observation or None
        The target, where it had to be read to know the frames.
    mask : FileInput or None
        The mask, where it is a file.
    """

    task: Task
    inputs: tuple[FileInput, ...]
    opened: Observation | None = None
    mask: FileInput | None = None

    @property
    def files(self) -> tuple[FileInput, ...]:
        """All files that are read."""
        return self.inputs if self.mask is None else (*self.inputs, self.mask)

    @property
    def plan(self) -> Plan:
        """Everything that the corrected file follows from."""
        task = self.task
        stated = {**DEFAULTS, **task.settings}  # a default that is stated is no change
        settings = {name: _plain(value) for name, value in stated.items() if name != "frames"}
        window = task.time_window
        if task.frames_dir is not None:
            settings |= {"archive": task.frames_dir.name, "channel": task.channel}
            window = window or WINDOW
        roles = ["target", *["reference"] * len(task.references)]
        roles += ["frame"] * (len(self.inputs) - len(roles))
        inputs = [one.record(role=role) for one, role in zip(self.inputs, roles, strict=True)]
        if self.mask is not None:
            inputs.append(self.mask.record(role="mask"))
            del settings["mask"]  # its content counts, not where it lies
        return Plan("coalign", inputs, {**settings, "time_window": window})

    def job(self, again: bool) -> tuple[Job, int]:
        """Read the files and return the work, with the number of pixels of the target."""
        task = self.task
        target = self.opened or opened(task)
        check_first({name.upper(): value for name, value in target.map.meta.items()}, task.target.name, again)
        frames = self._frames(target)
        reference = self.reference()
        if reference is None and not frames:
            msg = f"{task.target} has no reference: give one image, several frames, or the folder of an archive"
            raise DataError(msg)
        job = coalign_job(target, reference, frames=frames or None, **task.settings)
        return job, int(target.map.data.size)

    def reference(self) -> GenericMap | None:
        """Read the image that was named, where it was one."""
        if len(self.task.references) != 1:
            return None
        return _reference(self.inputs[1].path, self.inputs[1].first, bool(self.task.settings.get("repair")))

    def _frames(self, target: Observation) -> list[Path]:
        if self.task.frames_dir is None:
            return frames_of(self.task, target.map)
        return [one.path for one in self.inputs[1 + len(self.task.references) :]]


def opened(task: Task) -> Observation:
    """Read the target of a task."""
    how = {name: task.settings[name] for name in ("window", "interval", "continuum", "repair") if name in task.settings}
    return Observation.read(task.target, **how)


def prepare(task: Task) -> Prepared:
    """Find the files of a task.

    Raises
    ------
    DataError
        One of them cannot be read, or the archive has none that fits.
    """
    inputs = [FileInput(path) for path in (task.target, *task.references)]
    mask = task.settings.get("mask")
    mask = FileInput(mask) if isinstance(mask, (str, os.PathLike)) else None
    if task.frames_dir is None:
        return Prepared(task, tuple(inputs), mask=mask)
    target = opened(task)
    inputs += [FileInput(path) for path in frames_of(task, target.map)]
    return Prepared(task, tuple(inputs), target, mask)


def frames_of(task: Task, image: GenericMap) -> list[Path]:
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
    paths = get_EUI_paths(times.min() - margin, times.max() + margin, task.frames_dir, channel=task.channel)
    if not paths:
        msg = f"{task.frames_dir} has no file of {task.channel} within {window} of {task.target.name}"
        raise DataError(msg)
    return paths


def _plain(value: Any) -> Any:
    """A setting as JSON takes it; quantities and transforms in words."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else str(value)


@lru_cache(maxsize=4)
def _reference(path: Path, fingerprint: str, repair: bool) -> GenericMap:
    """The map of a file; a batch against one image reads it once."""
    return read_map(path, repair=repair)
