"""Inputs of a run that are compared as whole files, whatever they contain."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from stackalign.errors import DataError, InputChangedError, StackalignError
from stackalign.io._reader import fingerprint_files

__all__ = ["FileInput", "Fingerprinted", "InputWatch"]


class Fingerprinted(Protocol):
    """Whatever can say which content it has now, as every `StackReader` can."""

    def fingerprint(self) -> str:
        """Identify the content."""
        ...


class FileInput:
    """A file, or a folder such as a zarr store, as an input of a `Plan`.

    Make it before the file is read: it notes the content that the file has then, so that a change during the run is
    noticed when the output is published.

    Parameters
    ----------
    path : path-like

    Raises
    ------
    DataError
        It cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.first = self.fingerprint()
        """Content when this was made."""

    def record(self, **more: Any) -> dict[str, Any]:
        """Describe it for a `Plan`; more facts, such as its role, are added.

        Parameters
        ----------
        **more
            Facts such as its role.

        Returns
        -------
        dict
            For a `Plan`.
        """
        return {"name": self.path.name, "fingerprint": self.first, **more}

    def fingerprint(self) -> str:
        """Identify the content that the file has now, see `stackalign.io.StackReader.fingerprint`."""
        try:
            if self.path.is_dir():
                return fingerprint_files(sorted(p for p in self.path.rglob("*") if p.is_file()))
            state = self.path.stat()
            # Thousands of rasters are compared with one image: as long as nothing about it changes, it is read once.
            return _fingerprint(self.path, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
        except OSError as error:
            msg = f"{self.path} cannot be read ({error.strerror or error}); check its name"
            raise DataError(msg) from error


@lru_cache(maxsize=4096)
def _fingerprint(path: Path, *state: int) -> str:
    return fingerprint_files([path])


@dataclass
class InputWatch:
    """Inputs of a run, whose content is compared again while they are read.

    Parameters
    ----------
    described : sequence of mapping
        The inputs of the plan.
    readers : dict
        Those that are watched, by their number.
    """

    described: Sequence[Mapping[str, Any]]
    readers: dict[int, Fingerprinted]

    def changed(self) -> InputChangedError | None:
        """Return what to raise where an input has no longer the content of the plan."""
        for k, reader in self.readers.items():
            stated = self.described[k]
            try:
                same = reader.fingerprint() == stated["fingerprint"]
            except StackalignError:
                same = False
            if not same:
                return InputChangedError(
                    f"the input {stated['name']} changed while it was read; "
                    "nothing was written, start again when it is complete"
                )
        return None
