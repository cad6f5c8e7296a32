"""Options that commands share: a field of one of these classes is an option, declared here once."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ._console import USAGE, fail, progress_reporter, user_log
from ._options import (
    AllowExternal,
    AsJson,
    Axes,
    ConfigFile,
    DatasetName,
    DeviceName,
    LayoutType,
    LogLevel,
    MaskFile,
    MemoryLimit,
    Offset,
    Overwrite,
    Quiet,
    ReadTimeout,
    Report,
    Resume,
    SaveConfig,
    ScanShape,
    Scheduler,
    Shape,
    SkipFrames,
    SkipPerRow,
    Workers,
)

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from stackalign._types import BoolArray
    from stackalign.runs import StopRequest

__all__ = ["Common", "Guarded", "Masked", "Reading", "Spread", "command_line", "long_run", "whole_numbers"]


@dataclass(frozen=True, kw_only=True)
class Common:
    """Options of every long command."""

    report: Report = None
    as_json: AsJson = False
    memory_limit: MemoryLimit = None
    workers: Workers = None
    device: DeviceName = "auto"
    resume: Resume = False
    overwrite: Overwrite = False
    quiet: Quiet = False
    log_level: LogLevel = "warning"
    config: ConfigFile = None
    save_config: SaveConfig = None

    @property
    def replace(self) -> bool:
        """Whether outputs may be there already."""
        return self.overwrite or self.resume

    @property
    def bytes(self) -> int | None:
        """Memory limit in bytes.

        Raises
        ------
        typer.Exit
            Wrong usage.
        """
        from stackalign.device import parse_bytes

        try:
            return None if self.memory_limit is None else parse_bytes(self.memory_limit)
        except ValueError as error:
            raise fail(str(error), USAGE) from error

    def check(self) -> None:
        """Refuse what cannot be, before the work: contradictions, a page that cannot be drawn or written."""
        from . import _inputs as checks

        _ = self.bytes
        self._set_log_level()
        if self.report is not None:
            checks.require_plots()
            checks.check_report(self.report, replace=self.replace)

    def _set_log_level(self) -> None:
        """Say as much as --log-level and --quiet ask for."""
        levels = {name: getattr(logging, name.upper()) for name in ("debug", "info", "warning", "error")}
        if self.log_level not in levels:
            raise fail(f"--log-level must be one of {', '.join(levels)}, got {self.log_level!r}", USAGE)
        if self.quiet and self.log_level in ("debug", "info"):
            raise fail(f"give --quiet or --log-level {self.log_level}, not both", USAGE)
        level = logging.ERROR if self.quiet else levels[self.log_level]
        user_log.setLevel(level)
        user_log.detailed = level <= logging.INFO
        logging.getLogger("stackalign").setLevel(level)

    @property
    def run_options(self) -> dict[str, Any]:
        """Arguments that every ``*_file`` function of the library takes."""
        return {
            "device": self.device,
            "workers": self.workers,
            "memory_limit": self.bytes,
            "resume": self.resume,
            "overwrite": self.overwrite,
            "command": command_line(),
        }


@dataclass(frozen=True, kw_only=True)
class Spread(Common):
    """Also where the work is done, here or on other machines."""

    scheduler: Scheduler = None

    @property
    def place(self) -> str | None:
        """Where chunks are worked on: --device cuda:all is a place, with one GPU per process."""
        return "cuda:all" if self.device == "cuda:all" else self.scheduler

    @property
    def device_there(self) -> str:
        """The device in that place."""
        return "cuda" if self.device == "cuda:all" else self.device

    def check(self) -> None:
        """See `Common.check`."""
        super().check()
        if self.device == "cuda:all" and self.scheduler is not None:
            raise fail("give --scheduler or --device cuda:all, not both", USAGE)

    @property
    def run_options(self) -> dict[str, Any]:
        """See `Common.run_options`."""
        return super().run_options | {"device": self.device_there}

    @contextmanager
    def running(self, unit: str = "images") -> Iterator[dict[str, Any]]:
        """Give the arguments ``progress``, ``stop`` and ``executor``; signals are requests to stop."""
        with long_run(self.place) as (stop, executor), progress_reporter(self.quiet, unit) as progress:
            yield {"progress": progress, "stop": stop, "executor": executor}


@dataclass(frozen=True, kw_only=True)
class Guarded(Spread):
    """Also what a file may make its reader do."""

    allow_external: AllowExternal = False
    read_timeout: ReadTimeout = None


@dataclass(frozen=True, kw_only=True)
class Reading(Guarded):
    """Also how files are read."""

    dataset: DatasetName = None
    shape: Shape = None
    dtype: LayoutType = None
    offset: Offset = 0
    scan_shape: ScanShape = None
    skip_frames: SkipFrames = 0
    skip_per_row: SkipPerRow = 0
    axes: Axes = None

    @property
    def open_options(self) -> dict[str, Any]:
        """Arguments of `stackalign.io.open` that were stated, without the dataset.

        Raises
        ------
        typer.Exit
            Wrong usage.
        """
        stated: dict[str, Any] = {
            "shape": whole_numbers(self.shape, "--shape"),
            "dtype": self.dtype,
            "offset": self.offset or None,
            "scan_shape": whole_numbers(self.scan_shape, "--scan-shape"),
            "skip_frames": self.skip_frames or None,
            "skip_per_row": self.skip_per_row or None,
            "axes": self.axes,
            "allow_external": self.allow_external or None,
            "read_timeout": self.read_timeout,
        }
        return {name: value for name, value in stated.items() if value is not None}

    def check(self) -> None:
        """See `Common.check`."""
        super().check()
        _ = self.open_options

    @property
    def run_options(self) -> dict[str, Any]:
        """See `Common.run_options`."""
        return super().run_options | {"dataset": self.dataset, "open_options": self.open_options}


@dataclass(frozen=True, kw_only=True)
class Masked(Reading):
    """Also a mask of valid pixels."""

    mask: MaskFile = None

    def valid(self) -> "BoolArray | None":
        """Read the mask."""
        from . import _inputs as checks

        return checks.load_mask(self.mask)


def command_line() -> str:
    """The command as it was given, for the provenance."""
    return " ".join(["stackalign", *sys.argv[1:]])


def whole_numbers(text: str | None, option: str) -> tuple[int, ...] | None:
    """Whole numbers that are separated by commas or x.

    Raises
    ------
    typer.Exit
        Wrong usage.
    """
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.replace("x", ",").split(","))
    except ValueError as error:
        raise fail(f"{option} must be whole numbers separated by commas, got {text!r}", USAGE) from error


@contextmanager
def long_run(scheduler: str | None = None) -> "Iterator[tuple[StopRequest, Executor | None]]":
    """Give a request to stop, which signals set, and where chunks are worked on."""
    from stackalign.runs import StopRequest, executor_for

    with StopRequest() as stop, executor_for(scheduler) as executor:
        yield stop, executor
