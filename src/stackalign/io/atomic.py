"""Files that appear complete or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stackalign.errors import OutputExistsError
from stackalign.io._writer import fsync_path, full_disk_as_data_error

__all__ = ["atomic_path", "fsync_path", "replace_path", "write_bytes_atomic", "write_text_atomic"]


@contextmanager
def atomic_path(final: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary name beside the final one; on success it is made durable and renamed, on failure deleted.

    Parameters
    ----------
    final : path-like
        An existing file is replaced.

    Yields
    ------
    Path
        Where to write; it keeps the extension, by which libraries choose formats.
    """
    target = Path(final)
    partial = target.with_name(f".{target.stem}.{os.getpid()}.part{target.suffix}")
    try:
        yield partial
        with full_disk_as_data_error(partial, str(target)):
            fsync_path(partial)
            partial.replace(target)
            fsync_path(target.parent)
    finally:
        partial.unlink(missing_ok=True)


def write_bytes_atomic(final: str | os.PathLike[str], content: bytes) -> None:
    """Write a small file so that it is there complete or not at all."""
    target = Path(final)
    with atomic_path(target) as partial, full_disk_as_data_error(partial, str(target), len(content)):
        partial.write_bytes(content)


def write_text_atomic(final: str | os.PathLike[str], text: str) -> None:
    """Write a small text file (UTF-8) so that it is there complete or not at all."""
    write_bytes_atomic(final, text.encode())


def replace_path(source: str | os.PathLike[str], target: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Give a finished file or directory its final name, in the same folder or at least on the same file system.

    Parameters
    ----------
    source, target : path-like
    overwrite : bool
        Replace an existing target. A file is replaced in one step; a directory cannot be: the old one is moved aside,
        and deleted when the new one is in place.
    """
    old, new = Path(source), Path(target)
    if not overwrite and (new.exists() or new.is_symlink()):
        msg = f"output {new} exists; choose another name or allow it to be replaced (--overwrite)"
        raise OutputExistsError(msg)
    with full_disk_as_data_error(new, str(new)):
        fsync_path(old)
        aside: Path | None = None
        if new.exists() and (new.is_dir() or old.is_dir()):
            aside = new.with_name(f".{new.name}.{os.getpid()}.old")
            new.rename(aside)
        try:
            old.replace(new)
        except OSError:
            if aside is not None:
                aside.rename(new)
            raise
        fsync_path(new.parent)
        if aside is not None:
            if aside.is_dir():
                shutil.rmtree(aside)
            else:
                aside.unlink()
