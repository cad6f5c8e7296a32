"""Temporary files of runs that were killed while they wrote."""

import os
import re
import time
from pathlib import Path

__all__ = ["remove_leftovers"]

QUIET = 2.0
"""Seconds since a temporary file was last written to; on a shared disk its writer may be on another machine."""


def remove_leftovers(*finals: Path) -> list[Path]:
    """Remove temporary files of outputs whose writers are gone; those of processes that live are left alone.

    Parameters
    ----------
    *finals : Path
        Final names of the outputs; the temporary ones are those of `stackalign.io.atomic`.

    Returns
    -------
    list of Path
        What was removed.
    """
    removed = []
    for final in finals:
        name = re.compile(rf"\.{re.escape(final.stem)}\.(\d+)\.part{re.escape(final.suffix)}")
        if not final.parent.is_dir():
            continue
        for path in final.parent.iterdir():
            found = name.fullmatch(path.name)
            if found is not None and not _alive(int(found[1])) and _is_quiet(path):
                path.unlink(missing_ok=True)
                removed.append(path)
    return removed


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _is_quiet(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > QUIET
    except OSError:
        return False
