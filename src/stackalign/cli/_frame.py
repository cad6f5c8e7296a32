"""What every long command does around its own work: checks, stop requests, errors, exit codes."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ._console import FAILED, USAGE, fail, say, user_log, worded

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from stackalign.runs import StopRequest

__all__ = ["check_page", "command_frame", "long_run", "memory_of", "place_of", "set_quiet"]


def set_quiet(quiet: bool) -> None:
    """Let only errors through where the user asked for that."""
    if quiet:
        user_log.setLevel(logging.ERROR)


def memory_of(text: str | None) -> int | None:
    """Bytes of --memory-limit.

    Raises
    ------
    typer.Exit
        Wrong usage.
    """
    from stackalign.device import parse_bytes

    try:
        return None if text is None else parse_bytes(text)
    except ValueError as error:
        raise fail(str(error), USAGE) from error


def check_page(report: Path | None, *, replace: bool) -> None:
    """Refuse a page that cannot be drawn or written, before the work."""
    from . import _inputs as checks

    if report is not None:
        checks.require_plots()
        checks.check_report(report, replace=replace)


def place_of(scheduler: str | None, device: str) -> tuple[str | None, str]:
    """Where chunks are worked on, and on which device there: --device cuda:all is a place, with one GPU per process."""
    if device != "cuda:all":
        return scheduler, device
    if scheduler is not None:
        raise fail("give --scheduler or --device cuda:all, not both", USAGE)
    return device, "cuda"


@contextmanager
def command_frame() -> Iterator[None]:
    """Turn the errors of the library into one line and an exit code."""
    from stackalign.errors import Interrupted, StackalignError

    try:
        yield
    except Interrupted as error:
        say(f"{error}; the same command with --resume goes on from here")
        raise fail("interrupted", FAILED) from error
    except (StackalignError, MemoryError) as error:
        raise fail(worded(error), FAILED) from error
    except ValueError as error:  # a setting that only shows to be wrong with the images at hand
        raise fail(str(error), USAGE) from error


@contextmanager
def long_run(scheduler: str | None = None) -> "Iterator[tuple[StopRequest, Executor | None]]":
    """Give a request to stop, which signals set, and where chunks are worked on."""
    from stackalign.runs import StopRequest, executor_for

    with StopRequest() as stop, executor_for(scheduler) as executor:
        yield stop, executor
