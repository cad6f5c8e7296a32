"""Unfinished files that killed processes left beside outputs."""

import re
from collections.abc import Iterable
from pathlib import Path

from stackalign.io._writer import full_disk_as_data_error

from .lock import OutputLock, is_running

__all__ = ["find_leftovers", "remove_leftovers"]

_PART = re.compile(r"\.(?P<stem>.+)\.(?P<pid>\d+)\.part(?P<suffix>\.[^.]+)?")
"""Names that `stackalign.io.atomic.atomic_path` gives to what is being written."""


def find_leftovers(folder: Path) -> dict[str, list[Path]]:
    """Look for unfinished files of processes that have ended, by the names that they would have got.

    A process of another machine cannot be told from one that has ended: remove a file only while holding the lock of
    its output, as `remove_leftovers` does.
    """
    found: dict[str, list[Path]] = {}
    if not folder.is_dir():
        return found
    for path in folder.iterdir():
        named = _PART.fullmatch(path.name)
        if named and not is_running(int(named["pid"])):
            found.setdefault(named["stem"] + (named["suffix"] or ""), []).append(path)
    return found


def remove_leftovers(output: Path, paths: Iterable[Path]) -> None:
    """Delete unfinished files of an output that nobody is writing.

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
