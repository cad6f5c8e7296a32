"""The folder beside an output in which a long run notes what is done, so that it can be resumed."""

import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign.errors import UnfitStateError
from stackalign.io._portable import CLOEXEC, pwrite, remove_tree
from stackalign.io._reader import damage_as_unfit_state
from stackalign.io._writer import full_disk_as_data_error
from stackalign.io.atomic import atomic_path, fsync_path, write_text_atomic
from stackalign.io.provenance import dump_json, to_jsonable

from .plan import value_differences

__all__ = ["Journal", "journal_folder"]


def journal_folder(output: Path) -> Path:
    """Folder beside an output in which its unfinished run lies.

    Parameters
    ----------
    output : Path
        Name of the output.

    Returns
    -------
    Path
        ``OUTPUT.partial``.
    """
    return output.with_name(output.name + ".partial")


class Journal:
    """Plan, arrays and log of one run.

    The plan and the arrays are written atomically. The log grows by one line per record, each with its CRC-32 and made
    durable before `append` returns; a line that was torn by a crash is ignored and cut off by the next `append`.

    Parameters
    ----------
    folder : path-like
        Created by `create`.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder = Path(folder)
        self._log = self._folder / "log.jsonl"
        self._end: int | None = None  # where the next record goes; parsed once, then counted

    @property
    def folder(self) -> Path:
        """Where the journal lies."""
        return self._folder

    def exists(self) -> bool:
        """Tell whether there is a plan to resume from."""
        return (self._folder / "plan.json").is_file()

    def create(self, plan: Mapping[str, Any], *, fresh: bool = True) -> None:
        """Store the plan; from now on the run can be resumed.

        Parameters
        ----------
        plan : mapping
            What the run is.
        fresh : bool
            Remove what an earlier run has left.
        """
        if fresh:
            self.discard()
        with full_disk_as_data_error(self._folder, str(self._folder)):
            self._folder.mkdir(exist_ok=True)
            write_text_atomic(self._folder / "plan.json", dump_json(plan))
            fsync_path(self._folder.parent)

    @property
    def plan(self) -> dict[str, Any]:
        """The stored plan."""
        file = self._folder / "plan.json"
        with damage_as_unfit_state(str(file), "the plan"):
            plan = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(plan, dict):
            msg = f"{file} holds no plan"
            raise UnfitStateError(msg)
        return plan

    def matches(self, plan: Mapping[str, Any]) -> list[str]:
        """Say in words what differs between the stored plan and this one; empty where nothing does.

        Parameters
        ----------
        plan : mapping
            That of the run that would go on.

        Returns
        -------
        list of str
            What differs.
        """
        return value_differences(self.plan, json.loads(dump_json(plan)), "")

    def save_arrays(self, name: str, **arrays: NDArray[Any]) -> None:
        """Store arrays under a name, atomically.

        Parameters
        ----------
        name : str
            Name of the set.
        **arrays
            Arrays by name.
        """
        target = self._folder / f"{name}.npz"
        needed = sum(array.nbytes for array in arrays.values())
        with atomic_path(target) as partial, full_disk_as_data_error(partial, str(target), needed):
            np.savez(partial, **arrays)  # type: ignore[arg-type]  # a name may not be allow_pickle; ours are not

    def has_arrays(self, name: str) -> bool:
        """Tell whether arrays were stored under a name.

        Parameters
        ----------
        name : str
            Name of the set.

        Returns
        -------
        bool
            Whether it is there.
        """
        return (self._folder / f"{name}.npz").is_file()

    def load_arrays(self, name: str) -> dict[str, NDArray[Any]]:
        """Load the arrays that were stored under a name.

        Parameters
        ----------
        name : str
            Name of the set.

        Returns
        -------
        dict
            Arrays by name.
        """
        file = self._folder / f"{name}.npz"
        with damage_as_unfit_state(str(file), "the saved arrays"), np.load(file, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a record to the log; it is durable when this returns.

        Parameters
        ----------
        record : mapping
            Plain values.
        """
        text = json.dumps(to_jsonable(record), allow_nan=False, separators=(",", ":"))
        line = f"{zlib.crc32(text.encode()):08x} {text}\n".encode()
        with full_disk_as_data_error(self._log, str(self._log), len(line)):
            fd = os.open(self._log, os.O_RDWR | os.O_CREAT | CLOEXEC, 0o666)
            try:
                end = self._intact_length() if self._end is None else self._end
                os.ftruncate(fd, end)
                written = 0
                while written < len(line):
                    written += pwrite(fd, line[written:], end + written)
                os.fsync(fd)
                self._end = end + len(line)
            finally:
                os.close(fd)

    def records(self) -> list[dict[str, Any]]:
        """Return the records of the log in order, without a torn last line."""
        return [record for record, _ in self._parse()]

    def _intact_length(self) -> int:
        return sum(length for _, length in self._parse())

    def _parse(self) -> list[tuple[dict[str, Any], int]]:
        if not self._log.exists():
            return []
        with damage_as_unfit_state(str(self._log), "the log"):
            lines = self._log.read_bytes().splitlines(keepends=True)
        parsed: list[tuple[dict[str, Any], int]] = []
        for number, line in enumerate(lines):
            record = _parse_line(line)
            if record is None:
                if number == len(lines) - 1:
                    break
                msg = f"line {number + 1} of {self._log} is damaged"
                raise UnfitStateError(msg)
            parsed.append((record, len(line)))
        return parsed

    def discard(self) -> None:
        """Delete the journal."""
        self._end = None
        if self._folder.exists():
            with full_disk_as_data_error(self._folder, str(self._folder)):
                # Without the plan the rest is of no use to anybody, should this be interrupted.
                (self._folder / "plan.json").unlink(missing_ok=True)
                remove_tree(self._folder)


def _parse_line(line: bytes) -> dict[str, Any] | None:
    checksum, _, text = line.rstrip(b"\n").partition(b" ")
    if not line.endswith(b"\n") or checksum != f"{zlib.crc32(text):08x}".encode():
        return None
    record = json.loads(text)
    return record if isinstance(record, dict) else None
