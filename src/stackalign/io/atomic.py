"""Files that appear complete or not at all."""

import hashlib
import math
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from time import monotonic as _now

from stackalign.errors import OutputExistsError
from stackalign.io._owner import is_left_behind, owner_token
from stackalign.io._swap import recover_path, swap_paths
from stackalign.io._writer import fsync_path, full_disk_as_data_error

__all__ = [
    "atomic_path",
    "fsync_path",
    "one_folder_sync",
    "recover_path",
    "replace_path",
    "write_bytes_atomic",
    "write_text_atomic",
]

_waiting_folders: ContextVar[set[Path] | None] = ContextVar("folders to make durable later", default=None)


@contextmanager
def one_folder_sync() -> Iterator[None]:
    """Make the folders of all files that get their names in this context durable once, at its end.

    The files themselves are made durable before they get their names, as always. What relies on the names, for example
    the removal of a journal, belongs behind the context.
    """
    if _waiting_folders.get() is not None:  # an outer context does it
        yield
        return
    folders: set[Path] = set()
    token = _waiting_folders.set(folders)
    try:
        yield
    finally:
        _waiting_folders.reset(token)
    for folder in sorted(folders):
        with full_disk_as_data_error(folder, str(folder)):
            fsync_path(folder)


def _sync_folder(folder: Path) -> None:
    folders = _waiting_folders.get()
    if folders is None:
        fsync_path(folder)
    else:
        folders.add(folder)


@contextmanager
def atomic_path(final: str | os.PathLike[str], *, durable: bool = True) -> Iterator[Path]:
    """Give a temporary name near the final one; on success it is made durable and renamed, on failure deleted.

    What a process of this host that was killed left of the same output is deleted.

    Parameters
    ----------
    final : path-like
        An existing file is replaced, and a directory where a directory was written.
    durable : bool
        Wait for the disk. Off is for files that may be lost in a power cut, which can leave them empty.

    Yields
    ------
    Path
        Where to write; it keeps the extension, by which libraries choose formats.
    """
    target = Path(final)
    with full_disk_as_data_error(target, str(target)):
        recover_path(target)
        _sweep(target.parent)
    partial = target.with_name(f".{_short(target.stem)}.{owner_token()}.part{target.suffix}")
    try:
        yield partial
        with full_disk_as_data_error(partial, str(target)):
            if partial.is_dir():
                for item in (*partial.rglob("*"), partial) if durable else ():
                    fsync_path(item)
                replace_path(partial, target, overwrite=True)
                return
            if durable:
                fsync_path(partial)
            partial.replace(target)
            if durable:
                _sync_folder(target.parent)
    finally:
        with suppress(OSError):  # where it cannot be deleted now, a later run does so
            _delete(partial)


_PARTIAL = re.compile(r"\..+\.([0-9a-f]{8}-\d+-\d+-\d+)\.part")
_last_sweep: dict[Path, tuple[float, float]] = {}  # when a folder was looked through, and how long it took


def _sweep(folder: Path) -> None:
    """Delete temporary files of processes that are gone.

    In a folder of very many files this is not done for each new one: it takes at most a fiftieth of the time.
    """
    began = _now()
    last, cost = _last_sweep.get(folder, (-math.inf, 0.0))
    if began - last < 50 * cost:
        return
    for name in os.listdir(folder):
        if name[0] == "." and (match := _PARTIAL.match(name)) and is_left_behind(match[1]):
            _delete(folder / name)
    now = _now()
    if now - began > 1e-3:
        _last_sweep[folder] = now, now - began


def _short(stem: str) -> str:
    """Shorten a name that would become too long with what is added to it."""
    raw = os.fsencode(stem)
    return stem if len(raw) <= 150 else hashlib.sha256(raw).hexdigest()[:16]


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_bytes_atomic(final: str | os.PathLike[str], content: bytes, *, durable: bool = True) -> None:
    """Write a small file so that it is there complete or not at all."""
    target = Path(final)
    with (
        atomic_path(target, durable=durable) as partial,
        full_disk_as_data_error(partial, str(target), len(content)),
    ):
        partial.write_bytes(content)


def write_text_atomic(final: str | os.PathLike[str], text: str, *, durable: bool = True) -> None:
    """Write a small text file (UTF-8) so that it is there complete or not at all."""
    write_bytes_atomic(final, text.encode(), durable=durable)


def replace_path(source: str | os.PathLike[str], target: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Give a finished file or directory its final name, in the same folder or at least on the same file system.

    Parameters
    ----------
    source, target : path-like
        A file is made durable first; what is in a directory is so already, as after `StackWriter.finish`.
    overwrite : bool
        Replace an existing target, in one step where the file system can do it. Where it cannot exchange directories,
        the old one is moved aside first; `recover_path` brings it back after a kill at that moment.
    """
    old, new = Path(source), Path(target)
    with full_disk_as_data_error(new, str(new)):
        recover_path(new)
    if not overwrite and (new.exists() or new.is_symlink()):
        msg = f"output {new} exists; choose another name or allow it to be replaced"
        raise OutputExistsError(msg).with_hint("overwrite")
    with full_disk_as_data_error(new, str(new)):
        if not old.is_dir():
            fsync_path(old)
        if new.exists() and (new.is_dir() or old.is_dir()):
            swap_paths(old, new)
        else:
            old.replace(new)
            _sync_folder(new.parent)
