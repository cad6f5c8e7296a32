"""What a run has made, on its way from the journal's folder to its final names."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from stackalign.errors import DataError
from stackalign.io._portable import CLOEXEC
from stackalign.io._writer import full_disk_as_data_error
from stackalign.io.atomic import one_folder_sync, replace_path

from .record import content_fingerprint, load_record, record_digest

__all__ = ["RECORD", "Publication"]

RECORD = "record.json"
"""Name of the record in the journal's folder."""

_NOTE = "publish.json"

Moves = Sequence[Sequence[str]]
"""Pairs: a name in the journal's folder, and the final name beside the output; the record is the last."""


class Publication:
    """Renames that a run was killed among are completed when it is resumed, as long as what they move is intact.

    Parameters
    ----------
    folder : Path
        Of the journal.
    output : Path
        Final name of the output.
    """

    def __init__(self, folder: Path, output: Path) -> None:
        self._folder, self._output = folder, output

    def exists(self) -> bool:
        """Tell whether one was begun."""
        return (self._folder / _NOTE).exists()

    def begin(self, plan: Mapping[str, Any], text: str, moves: Moves) -> None:
        """Note what is to be moved, so that the renames can be completed from now on.

        Parameters
        ----------
        plan : mapping
            Of the run.
        text : str
            The record.
        moves : sequence of pairs of str
            See `Moves`.
        """
        _write_durably(self._folder / RECORD, text)
        sizes = {name: _size(self._folder / name) for name, _ in moves}
        note = {"plan": plan, "moves": [list(move) for move in moves], "sizes": sizes}
        _write_durably(self._folder / _NOTE, json.dumps(note))

    def carry_out(self, moves: Moves, may_replace: Callable[[Path], bool]) -> None:
        """Do what is left of it; what has no source any more was moved before.

        Parameters
        ----------
        moves : sequence of pairs of str
        may_replace : callable
            Tells whether a file that has a final name may be replaced.
        """
        with one_folder_sync():
            for name, target_name in moves:
                source, target = self._folder / name, self._output.with_name(target_name)
                if source.exists():
                    replace_path(source, target, overwrite=may_replace(target))

    def interrupted(self, differences: Callable[[Mapping[str, Any]], Sequence[str]]) -> Moves | None:
        """Return the renames of a run of the same plan that was killed among them; None where they cannot be completed.

        Parameters
        ----------
        differences : callable
            Says in what a plan differs from that of this run.

        Returns
        -------
        sequence of pairs of str, or None
            See `Moves`.
        """
        note = load_record(self._folder / _NOTE)
        if note is None or differences(note["plan"]):
            return None
        moves: Moves = note["moves"]
        for name, target in moves:
            source = self._folder / name
            if not (source.exists() or self._output.with_name(target).exists()):
                return None
            if source.exists() and _size(source) != note.get("sizes", {}).get(name, _size(source)):
                return None
        return moves if self._is_what_the_record_says(moves) else None

    def _is_what_the_record_says(self, moves: Moves) -> bool:
        """Whether record and output, wherever they are by now, are those of one run."""
        *_, (name, target) = moves
        record = load_record(self._folder / name) or load_record(self._output.with_name(target))
        about = None if record is None else record.get("run")
        if record is None or not isinstance(about, dict) or about.get("digest") != record_digest(record):
            return False
        sources = [self._folder / name for name, target in moves if target == self._output.name]
        made = [path for path in (*sources, self._output) if path.exists()]
        try:
            return about.get("content") is None or content_fingerprint(made[0]) == about["content"]
        except DataError:
            return False


def _size(path: Path) -> int:
    """Bytes of a file; of a folder nothing is said here."""
    return path.stat().st_size if path.is_file() else 0


def _write_durably(path: Path, text: str) -> None:
    """Write a small file and wait for the disk; a torn one is recognised, since it is no JSON."""
    with full_disk_as_data_error(path, str(path), len(text)):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | CLOEXEC, 0o666)
        with os.fdopen(fd, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
