"""Replace a directory such that a kill at any moment neither loses the old one nor hides it for ever."""

import ctypes
import errno
import functools
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stackalign.errors import DataError
from stackalign.io._owner import is_left_behind, owner_token
from stackalign.io._writer import fsync_path

__all__ = ["recover_path", "swap_paths"]


def swap_paths(source: Path, target: Path) -> None:
    """Put `source` in the place of `target`, which is deleted.

    A note beside the target, ``.<name>.swap``, says what is on its way, so that `recover_path` can clean up after a
    kill.
    """
    record = {
        "owner": owner_token(),
        "source": os.path.relpath(source, target.parent),
        "new": source.lstat().st_ino,
        "old": target.lstat().st_ino,
        "old_time": target.lstat().st_mtime_ns,
    }
    _write_note(_note_path(target), record)
    aside = _aside_path(target)
    try:
        if _exchange(source, target):
            source.rename(aside)
        else:
            target.rename(aside)
            source.rename(target)
    finally:
        _settle(target, record)


def recover_path(target: str | os.PathLike[str]) -> None:
    """Finish or undo a replacement of an output that was killed on its way; do nothing where there is none.

    Where the new output had its name already, the old one is deleted. Otherwise the old one gets its name back and the
    new one is where it was written. To be called before a run looks at what is there.
    """
    final = Path(target)
    try:
        text = _note_path(final).read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        record = json.loads(text)
        owner = str(record["owner"])
    except (
        ValueError,
        TypeError,
        KeyError,
    ):  # a note that was torn by the kill: nothing was moved before it was durable
        _note_path(final).unlink(missing_ok=True)
        return
    if not is_left_behind(owner):
        msg = (
            f"output {final} is being replaced by another process ({owner}); wait for it, or delete "
            f"{_note_path(final)} where that process is gone"
        )
        raise DataError(msg)
    _settle(final, record)


def _settle(final: Path, record: dict[str, Any]) -> None:
    """Delete the old output where the new one has the name; else give the old one its name back."""
    source, aside = final.parent / str(record["source"]), _aside_path(final)
    if _inode(final) == record["new"]:
        fsync_path(final.parent)
        # The number alone may have been given to a new directory since.
        if _inode(source) == record["old"] and source.lstat().st_mtime_ns == record["old_time"]:
            source.rename(aside)
        if _inode(aside) == record["old"]:
            _delete(aside)
    elif _inode(final) is None and _inode(aside) == record["old"]:
        aside.rename(final)
        fsync_path(final.parent)
    _note_path(final).unlink(missing_ok=True)


def _note_path(target: Path) -> Path:
    return target.with_name(f".{target.name}.swap")


def _aside_path(target: Path) -> Path:
    return target.with_name(f".{target.name}.old")


def _write_note(note: Path, record: dict[str, Any]) -> None:
    try:
        with note.open("x", encoding="utf-8") as stream:
            stream.write(json.dumps(record))
            stream.flush()
            os.fsync(stream.fileno())
    except FileExistsError as error:
        msg = f"another process replaces this output at the moment ({note} exists); wait for it"
        raise DataError(msg) from error
    except OSError:
        note.unlink(missing_ok=True)
        raise


def _inode(path: Path) -> int | None:
    try:
        return path.lstat().st_ino
    except OSError:
        return None


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _exchange(first: Path, second: Path) -> bool:
    """Exchange two names in one step; False where the system or the file system cannot."""
    function = _renameat2()
    if function is None:
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    if function(here, os.fsencode(first), here, os.fsencode(second), exchange) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
        return False
    raise OSError(code, os.strerror(code), str(first))


@functools.cache
def _renameat2() -> Callable[..., int] | None:
    try:
        function = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return None
    function.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
    function.restype = ctypes.c_int
    return function
