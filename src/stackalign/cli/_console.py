"""What the commands print and where: data on stdout, everything else on stderr."""

import logging
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from stackalign.device import format_bytes
from stackalign.errors import MaskWarning, StackalignWarning

if TYPE_CHECKING:
    from stackalign.runs import Progress, ProgressCallback

__all__ = [
    "DONE",
    "EXIT",
    "FAILED",
    "SHORT",
    "USAGE",
    "fail",
    "out",
    "plain_warnings",
    "print_facts",
    "progress_reporter",
    "say",
    "user_log",
    "worded",
]

DONE, FAILED, USAGE, SHORT = 0, 1, 2, 3
"""Exit codes: done, failed, wrong usage, done but a quality target was missed."""

EXIT = {"done": DONE, "failed": FAILED, "short": SHORT, "flagged": SHORT}
"""Exit code of what a run says of itself."""

out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200)
_err = Console(stderr=True, highlight=False, soft_wrap=True)

PLAIN_SECONDS = 5.0
"""Time between two lines of progress where stderr is not a terminal."""


def say(text: str) -> None:
    """Print a line for the user on stderr."""
    _err.print(text, markup=False)


def fail(text: str, code: int = FAILED) -> typer.Exit:
    """Print an error and return the exception that ends the command."""
    say(f"error: {text}")
    return typer.Exit(code)


HINTS = {
    "overwrite": "--overwrite",
    "resume": "--resume",
    "restart": "leave out --resume",
    "external": "--allow-external",
    "scan_shape": "--scan-shape",
    "dataset": "--dataset",
    "shape": "--shape and --dtype",
    "negative": "--negative keep or clip",
    "nan": "--nan mask",
    "read_timeout": "--read-timeout",
    "memory_limit": "--memory-limit",
    "centers": "--centers",
}
"""What errors of the library call a choice of the caller, in terms of this command line."""


def worded(error: BaseException) -> str:
    """Text of an error, with the option that its remedy is."""
    if isinstance(error, MemoryError):
        return f"memory does not suffice ({str(error) or 'out of memory'}); free some, or choose another --device"
    hint = getattr(error, "hint", None)
    return f"{error} ({HINTS[hint]})" if hint in HINTS else str(error)


class UserLog(logging.Handler):
    """Print what the library has to say to the user, as one line each; with its origin where details are asked for."""

    detailed = False

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler.emit`."""
        origin = f"{record.levelname.lower()} {record.name}: " if self.detailed else ""
        say(origin + record.getMessage())


user_log = UserLog(logging.WARNING)
"""The one handler of the package's messages; --quiet raises its level."""


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Print each of the package's warnings as one line, once, and none with --quiet; others stay what they are."""
    with warnings.catch_warnings():
        others, said = warnings.showwarning, set[str]()

        def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if not issubclass(category, StackalignWarning):
                others(message, category, *place, **more)
                return
            text = str(message)
            # A command doubts a mask by its name when it is read; the library doubts it again wherever it is used.
            again = text in said or (issubclass(category, MaskWarning) and any("mask" in one for one in said))
            said.add(text)
            if not again and user_log.level <= logging.WARNING:
                say(f"warning: {text}")

        warnings.showwarning = show
        warnings.simplefilter("always", StackalignWarning)
        yield


def print_facts(facts: Iterable[tuple[str, str]]) -> None:
    """Print names and values in two columns on stdout."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(name, Text(value))  # Text: brackets in it are not markup
    out.print(table)


@contextmanager
def progress_reporter(quiet: bool, unit: str = "patterns") -> "Iterator[ProgressCallback | None]":
    """Give a progress callback: a bar on a terminal, a line every few seconds elsewhere, none when quiet."""
    if quiet:
        yield None
    elif not sys.stderr.isatty():
        yield _PlainLines(unit)
    else:
        from rich import progress as bars

        columns = (
            bars.TextColumn("{task.description}"),
            bars.BarColumn(),
            bars.MofNCompleteColumn(),
            bars.TextColumn("{task.fields[rate]}"),
            bars.TimeRemainingColumn(),
        )
        with bars.Progress(*columns, console=_err, transient=True) as display:
            tasks: dict[str, bars.TaskID] = {}

            def show(state: "Progress") -> None:
                if state.stage not in tasks:
                    tasks[state.stage] = display.add_task(state.stage, total=state.total, rate="")
                display.update(tasks[state.stage], completed=state.done, total=state.total, rate=_rate(state, unit))

            yield show


def _rate(state: "Progress", unit: str) -> str:
    if not state.bytes_done:  # searches, that read nothing
        return f"{state.seconds:,.0f} s"
    return f"{state.rate:,.0f} {unit}/s, {format_bytes(state.bytes_done / max(state.seconds, 1e-9))}/s"


class _PlainLines:
    """Progress as plain lines: the first after a while, the last of each stage always."""

    def __init__(self, unit: str) -> None:
        self._last, self._unit = time.monotonic(), unit

    def __call__(self, state: "Progress") -> None:
        now = time.monotonic()
        if state.done < state.total and now - self._last < PLAIN_SECONDS:
            return
        self._last = now
        left = "" if state.done in (0, state.total) else f", {state.remaining:,.0f} s left"
        say(f"{state.stage}: {state.done}/{state.total} {self._unit}, {_rate(state, self._unit)}{left}")
