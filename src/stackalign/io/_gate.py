"""What a path may be before anything is opened: an ordinary file, where the caller expects it, with data in it."""

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from stackalign.errors import DataError

__all__ = ["Confinement", "is_sidecar", "refuse_special", "require_file", "require_written"]

_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_SIDECARS = (".hdr", ".xml", ".mdoc")
_DATA_BESIDE = {".hdr": (".mib",), ".xml": (".raw",), ".mdoc": (".mrc",)}
_WRITTEN_SHARE = 1000
"""A chunked store of which less than one chunk in so many was ever written is refused."""
_SPARSE_FROM = 16 << 20


def require_file(path: Path, name: str | None = None, *, directory: bool = False) -> None:
    """Raise unless a path is an ordinary file, without opening it: a named pipe would block for ever.

    Parameters
    ----------
    path : Path
    name : str, optional
        How the message names it, default ``"input PATH"``.
    directory : bool
        A directory will do as well.

    Raises
    ------
    DataError
    """
    name = name or f"input {path}"
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        if path.is_symlink():
            msg = f"{name} is a link to {os.readlink(path)}, which does not exist; check the link"
        else:
            msg = f"{name} does not exist; check the path"
        raise DataError(msg) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        msg = f"{name} cannot be looked at ({reason}); check the path and its permissions"
        raise DataError(msg) from error
    if stat.S_ISREG(mode) or (directory and stat.S_ISDIR(mode)):
        return
    kind = next((word for test, word in _KINDS if test(mode)), "no ordinary file")
    msg = f"{name} is {kind}; expected {'a file or a directory' if directory else 'a file'}"
    raise DataError(msg)


def refuse_special(path: str | os.PathLike[str]) -> None:
    """Raise for a pipe, a device, a socket or a directory; what is missing is left to who opens it."""
    if os.path.exists(path):
        require_file(Path(path), str(path))


@dataclass(frozen=True)
class Confinement:
    """The folders that a file may lead a reader to: its own, and those inside it.

    A file that a caller names may be a symbolic link, and both its folders count. What the file itself names may not
    lead out of them, neither by ``..`` nor by an absolute path nor through a symbolic link.

    Parameters
    ----------
    source : Path
        The file that the caller named.
    allow_external : bool
        Nothing is out of bounds.
    """

    source: Path
    allow_external: bool = False

    def resolve(self, name: str | os.PathLike[str], holder: Path | None = None) -> Path:
        """Return the ordinary file that `holder`, default the source, refers to by a name.

        Raises
        ------
        DataError
            It is missing, no ordinary file, or lies outside.
        """
        holder = holder or self.source
        target = holder.parent / name
        self.require_inside(target, f"{holder} refers to {os.fspath(name)!r}")
        if not os.path.lexists(target):
            msg = f"{holder} refers to the part {os.fspath(name)}, which is missing; copy it beside the file"
            raise DataError(msg)
        require_file(target, f"the part {os.fspath(name)} of {holder}")
        return target

    def require_inside(self, target: Path, what: str) -> None:
        """Raise where a path, with all links followed, is not within the folder of the source."""
        if self.allow_external:
            return
        real = os.path.realpath(target)
        for folder in {os.path.realpath(self.source.parent), os.path.dirname(os.path.realpath(self.source))}:
            if os.path.commonpath((folder, real)) == folder:
                return
        msg = (
            f"{what}, which lies outside the folder of {self.source}; copy it into that folder, or state that files "
            "outside may be read (allow_external)"
        )
        raise DataError(msg).with_hint("external")


def is_sidecar(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file only describes another one beside it, so that a list of inputs can leave it out.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    bool
        True for the text beside a Merlin file (.hdr) or an MRC file (.mdoc), and for an .xml file beside an EMPAD file
        of the same stem. An .xml file alone is an input: it names its data.

    Examples
    --------
    >>> from stackalign.io import is_sidecar
    >>> is_sidecar("scan.hdr"), is_sidecar("scan.mib")
    (True, False)
    """
    file = Path(path)
    extension = file.suffix.lower()
    if extension not in _SIDECARS:
        return False
    if extension in (".hdr", ".mdoc"):
        return True
    return any(file.with_suffix(s).exists() for e in _DATA_BESIDE[extension] for s in (e, e.upper()))


def require_written(fd: int, start: int, name: str) -> None:
    """Raise where a sparse file has nothing behind a position: its header claims data that nobody wrote.

    A file system that knows no holes says that everything is data, and nothing is refused there.
    """
    size = os.fstat(fd).st_size
    if size - start < _SPARSE_FROM or not hasattr(os, "SEEK_DATA"):
        return
    # The block that holds the end of the header is data in any case.
    position = -(-start // 65536) * 65536
    try:
        os.lseek(fd, position, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            refuse_unwritten(name, "none")


def refuse_unwritten(name: str, how_much: str) -> None:
    """Raise for data that a header promises and that were never written."""
    msg = f"{name} was never written: its header promises data of which {how_much} exist; copy or record it again"
    raise DataError(msg)


def require_share(written: int, promised: int, what: str, name: str) -> None:
    """Raise where less than one part in a thousand was written; what an interrupted acquisition has is enough."""
    if promised and written * _WRITTEN_SHARE < promised:
        refuse_unwritten(name, f"{written} of {promised} {what}")
