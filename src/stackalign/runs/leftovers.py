"""Unfinished files that killed processes left beside outputs."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

from stackalign.io._writer import full_disk_as_data_error

from .lock import OutputLock

__all__ = ["find_leftovers", "remove_leftovers"]

_PART = re.compile(r"\.(?P<stem>.+)\.(?P<pid>\d+)\.part(?P<suffix>\.[^.]+)?")
"""Names that files had while they were written, with the number of the process."""


def find_leftovers(folder: Path) -> dict[str, list[Path]]:
    """Look for unfinished files of processes that have ended, by the names that they would have got.

    A process of another machine cannot be told from one that has ended: remove a file only while holding the lock of
    its output, as `remove_leftovers` does.

    Parameters
    ----------
    folder : Path
        Where outputs are written.

    Returns
    -------
    dict
        Name of an output to its unfinished files.
    """
    leftovers: dict[str, list[Path]] = {}
    if not folder.is_dir():
        return leftovers
    for path in folder.iterdir():
        named = _PART.fullmatch(path.name)
        if named and not _is_running(int(named["pid"])):
            leftovers.setdefault(named["stem"] + (named["suffix"] or ""), []).append(path)
    return leftovers


def remove_leftovers(output: Path, paths: Iterable[Path]) -> None:
    """Delete unfinished files of an output that nobody is writing.

    Parameters
    ----------
    output : Path
        Name of the output.
    paths : iterable of Path
        Its unfinished files.

    Raises
    ------
    OutputLockedError
        Another run writes this output.
    """
    lock = OutputLock(output)
    lock.acquire()
    try:
        for path in paths:
            with full_disk_as_data_error(path, str(path)):
                path.unlink(missing_ok=True)
    finally:
        lock.release()


def _is_running(pid: int) -> bool:
    """Tell whether this host has a process of that number; where it cannot be asked, yes."""
    if os.name != "posix":
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True
