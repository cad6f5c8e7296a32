"""What every command does around its own work: checks, an earlier run's results, errors, exit codes."""

import dataclasses
import errno
import functools
import inspect
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from ._common import Common, Guarded, Masked, Reading, Spread
from ._config import save_config
from ._console import FAILED, USAGE, fail, say, user_log, worded

if TYPE_CHECKING:
    from stackalign.errors import FinishedError

__all__ = ["command", "command_frame", "refuse_idle", "run_or_load", "stated"]

Made = TypeVar("Made")

_context: ContextVar[typer.Context] = ContextVar("context")
"""That of the command that runs."""


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
