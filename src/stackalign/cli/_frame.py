"""What every command on files does around its own work: shared options, checks, stop requests, errors, exit codes."""

import dataclasses
import errno
import functools
import inspect
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from ._config import save_config
from ._console import FAILED, USAGE, fail, progress_reporter, say, user_log, worded
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
    from stackalign.errors import FinishedError
    from stackalign.runs import StopRequest

__all__ = [
    "Common",
    "Guarded",
    "Masked",
    "Reading",
    "Spread",
    "command",
    "command_frame",
    "command_line",
    "long_run",
    "refuse_idle",
    "run_or_load",
    "stated",
    "whole_numbers",
]

Made = TypeVar("Made")

_context: ContextVar[typer.Context] = ContextVar("context")
"""That of the command that runs."""


@dataclass(frozen=True, kw_only=True)
class Common:
    """Options of every long command; a field is an option, declared here once."""

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


def command(function: Callable[..., int]) -> Callable[..., None]:
    """Make a function a command: with its own options, those of its argument ``common``, and the frame of all commands.

    Parameters
    ----------
    function : callable
        Its keyword-only argument ``common`` is annotated with `Common` or a class derived from it, whose fields become
        options. It returns the exit code.

    Returns
    -------
    callable
        For `typer.Typer.command`.
    """
    signature = inspect.signature(function)
    shared: type[Common] = signature.parameters["common"].annotation
    inherited = {
        f.name
        for base in (Common, Spread, Guarded, Reading, Masked)
        if base is not shared
        for f in dataclasses.fields(base)
    }
    fields = sorted(dataclasses.fields(shared), key=lambda field: field.name in inherited)
    own = [p for p in signature.parameters.values() if p.name != "common"]
    taken = {p.name for p in own}
    options = [
        inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=f.type)
        for f in fields
        if f.name not in taken
    ]

    @functools.wraps(function)
    def framed(context: typer.Context, **values: Any) -> None:
        _context.set(context)
        common = shared(**{f.name: values.pop(f.name) for f in fields if f.name in values and f.name not in taken})
        with command_frame(), _log_level_kept():
            common.check()
            if common.save_config is not None:
                save_config(context, common.save_config, replace=common.replace)
            code = function(**values, common=common)
        raise typer.Exit(code)

    context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    parameters = [context, *(p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own), *options]
    framed.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    framed.__annotations__ = {p.name: p.annotation for p in parameters}
    del framed.__wrapped__  # typer would follow it to the signature of the function
    return framed


@contextmanager
def _log_level_kept() -> Iterator[None]:
    """Whoever runs a command within a process of its own keeps its log levels."""
    logger = logging.getLogger("stackalign")
    before = logger.level, user_log.level, user_log.detailed
    try:
        yield
    finally:
        logger.setLevel(before[0])
        user_log.setLevel(before[1])
        user_log.detailed = before[2]


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


def stated(option: str) -> bool:
    """Tell whether an option (by the name of its argument) was given, on the command line or in --config."""
    source = _context.get().get_parameter_source(option)
    return source is not None and source.name != "DEFAULT"


def refuse_idle(option: str, effective: bool, reason: str) -> None:
    """Refuse an option that was given where it has no effect.

    Raises
    ------
    typer.Exit
        Wrong usage.
    """
    if not effective and stated(option):
        raise fail(f"--{option.replace('_', '-')} has no effect {reason}; leave it out", USAGE)


def run_or_load(
    common: Spread, work: "Callable[..., Made]", load: "Callable[[FinishedError], Made]", unit: str = "images"
) -> "Made":
    """Do the work of a command, or load what an earlier run of the same plan has made.

    Parameters
    ----------
    common : Spread
    work : callable
        Takes ``progress``, ``stop`` and ``executor``.
    load : callable
        Takes the error of a run that has nothing to do, with its record.
    unit : str
        What the progress counts.
    """
    from stackalign.errors import FinishedError

    try:
        with common.running(unit) as how:
            return work(**how)
    except FinishedError as error:
        if not common.quiet:
            say(str(error))
        return load(error)


@contextmanager
def command_frame(resumable: str = "from here") -> Iterator[None]:
    """Turn the errors of the library into one line and an exit code.

    Parameters
    ----------
    resumable : str
        Where --resume goes on after an interruption.
    """
    from stackalign.errors import Interrupted, StackalignError

    try:
        yield
    except Interrupted as error:
        say(f"{error}; the same command with --resume goes on {resumable}")
        raise fail("interrupted", FAILED) from error
    except (StackalignError, MemoryError) as error:
        raise fail(worded(error), FAILED) from error
    except ImportError as error:
        from .info import extra_of

        missing = extra_of(error)
        if missing is None:
            raise
        raise fail(missing, FAILED) from error
    except OSError as error:
        if error.errno == errno.EPIPE:  # whoever reads the output wants no more of it
            raise
        place = f" ({error.filename})" if error.filename else ""
        raise fail(f"the system refuses: {error.strerror or error}{place}", FAILED) from error
    except ValueError as error:  # a setting that only shows to be wrong with the images at hand
        raise fail(str(error), USAGE) from error


@contextmanager
def long_run(scheduler: str | None = None) -> "Iterator[tuple[StopRequest, Executor | None]]":
    """Give a request to stop, which signals set, and where chunks are worked on."""
    from stackalign.runs import StopRequest, executor_for

    with StopRequest() as stop, executor_for(scheduler) as executor:
        yield stop, executor
