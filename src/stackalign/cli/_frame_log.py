"""What a command has found frame by frame, kept beside its table until that is finished, so that it can be resumed."""

import hashlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from stackalign import __version__
from stackalign.errors import DataError, StackalignError
from stackalign.io import StackReader
from stackalign.runs import Progress, ProgressCallback, StopRequest
from stackalign.runs.journal import Journal

from ._diffraction import chunks_of

__all__ = ["FrameLog"]

SAVED_EVERY = 2.0
"""Seconds; what was found since is found again by a resumed run."""


class FrameLog:
    """Rows of the frames that are done; a file is known by its content, whatever its name.

    As a context manager it goes away where the run ends by settings that no run accepts, or before it held anything:
    then there is nothing to resume. It stays where a run was interrupted or failed otherwise, as on a full disk.

    Parameters
    ----------
    output : Path, optional
        The table; without one nothing is kept.
    command : str
    settings : dict
        All that the rows follow from but the files and the mask.
    mask : numpy.ndarray, optional
    resume : bool
        Take over what an interrupted run with the same settings has left.
    stop : StopRequest

    Raises
    ------
    DataError
        What is left belongs to a run with other settings.
    """

    def __init__(
        self,
        output: Path | None,
        command: str,
        settings: Mapping[str, Any],
        mask: NDArray[np.bool_] | None,
        *,
        resume: bool,
        stop: StopRequest,
    ) -> None:
        self._journal = None if output is None else Journal(output.with_name(output.name + ".partial"))
        self._stop = stop
        self._interrupted = False
        self._rows: dict[tuple[str, int], list[Any]] = {}
        self._new: list[list[Any]] = []
        self._saved_any = False
        self._saved = time.monotonic()
        if self._journal is None:
            return
        digest = None if mask is None else hashlib.sha256(np.ascontiguousarray(mask).tobytes()).hexdigest()
        plan = {"command": command, "version": __version__, "settings": dict(settings), "mask": digest}
        if not (resume and self._journal.exists()):
            self._journal.create(plan)
            return
        differences = self._journal.matches(plan)
        if differences:
            msg = (
                f"{self._journal.folder} belongs to another run ({'; '.join(differences[:3])}); "
                "repeat the options of that run, or start anew without --resume"
            )
            raise DataError(msg)
        for record in self._journal.records():
            self._rows |= {(file, frame): rows for file, frame, rows in record["frames"]}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is None or self._interrupted or not isinstance(error, Exception):
            return
        hopeless = isinstance(error, (ValueError, TypeError)) and not isinstance(error, StackalignError)
        if hopeless or not (self._rows or self._new or self._saved_any):
            self.discard()
        else:
            self._save()

    def frames(
        self, reader: StackReader, progress: ProgressCallback | None
    ) -> Iterator[tuple[int, NDArray[Any], list[Any] | None]]:
        """Number and image of each frame of a file, and its rows where an earlier run found them; stops when asked.

        Raises
        ------
        Interrupted
            What was found until then is kept.
        """
        began, n = time.perf_counter(), reader.info.shape[0]
        name = "" if reader.path is None else Path(reader.path).name
        self._file = reader.fingerprint() if self._journal is not None else ""
        for first, images in chunks_of(reader):
            for k, image in enumerate(images, first):
                if self._stop:
                    self._interrupted = True
                    self._save()
                    self._stop.check(f"stopped at frame {k} of {name}")
                yield k, image, self._rows.get((self._file, k))
                if progress is not None:
                    seconds = time.perf_counter() - began
                    progress(Progress(name, k + 1, n, (k + 1) * reader.info.pattern_bytes, seconds))

    def add(self, frame: int, rows: list[Any]) -> None:
        """Keep the rows of a frame of the file that is read."""
        if self._journal is None:
            return
        self._new.append([self._file, frame, rows])
        if time.monotonic() - self._saved > SAVED_EVERY:
            self._save()

    def _save(self) -> None:
        if self._journal is not None and self._new:
            self._journal.append({"frames": self._new})
            self._saved_any = True
        self._new = []
        self._saved = time.monotonic()

    def discard(self) -> None:
        """Forget everything: the table is written."""
        if self._journal is not None:
            self._journal.discard()
            self._journal = None
