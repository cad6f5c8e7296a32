"""Several files of frames under one plan: opened one after the other, described by content, failures collected."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign import runs
from stackalign._carriers import plain_array
from stackalign._masks import file_mask
from stackalign.errors import DataError, InputChangedError, Interrupted, OutputError, OutputExistsError, StackalignError
from stackalign.io import StackReader, open_stack

from ._inputs import check_center

__all__ = ["FrameFiles", "check_centers", "combined_mask", "paths_of", "plain_center", "stated_centers"]

OneFile = Callable[[int, Path, StackReader, runs.Source], None]
"""Takes the number of a file, its name, its reader, and how a worker opens it."""


def paths_of(sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> list[Path]:
    """One path or several as a list."""
    if isinstance(sources, (str, os.PathLike)):
        return [Path(sources)]
    return [Path(source) for source in sources]


class FrameFiles:
    """Files whose frames are worked on under one plan; one that cannot be used does not stop the others.

    Parameters
    ----------
    paths : iterable of Path
    dataset : str, optional
        Which dataset, series or HDU.
    memory_limit : int, optional
        Bytes that a reader may hold.
    open_options : mapping, optional
        More options of `stackalign.io.open`.

    Attributes
    ----------
    described : list of dict
        For the plan: the content of each file, or that it cannot be read.
    failures : dict of Path to str
        Why a file could not be used.
    """

    def __init__(
        self,
        paths: Iterable[Path],
        dataset: str | None,
        memory_limit: int | None = None,
        open_options: Mapping[str, Any] | None = None,
    ) -> None:
        self.paths = list(paths)
        self._options = {"dataset": dataset, "memory_limit": memory_limit, **(open_options or {})}
        self.failures: dict[Path, str] = {}
        self._hint: str | None = None
        self.described: list[dict[str, Any]] = []
        if not self.paths:
            msg = "give at least one file of images"
            raise DataError(msg)
        for path in self.paths:
            try:
                with open_stack(path, **self._options) as reader:  # type: ignore[attr-defined]
                    self.described.append(runs.input_record(reader, **self._options) | {"name": path.name})
            except StackalignError as error:
                self._failed(path, error)
                self.described.append({"name": path.name, "fingerprint": None, "problem": type(error).__name__})

    def each(self, run: runs.Run, work: OneFile, failed: Callable[[int], None]) -> None:
        """Open one file after the other and work on it; `failed` is told the number of one that could not be used.

        Raises
        ------
        DataError
            None of the files could be used, one changed while it was read, or the output cannot be written.
        """
        for k, path in enumerate(self.paths):
            if path in self.failures:
                continue
            opener = partial(open_stack, path, **self._options)
            try:
                reader = opener()
                try:
                    with run.watching(reader, k):
                        work(k, path, reader, runs.Source.of(opener, self.described[k]["fingerprint"]))
                finally:
                    reader.close()
            except (Interrupted, OutputError, OutputExistsError, InputChangedError):
                raise
            except StackalignError as error:
                self._failed(path, error)
                failed(k)
        if len(self.failures) == len(self.paths):
            path, first = next(iter(self.failures.items()))
            first = first if str(path) in first else f"{path}: {first}"
            msg = first if len(self.paths) == 1 else f"none of the {len(self.paths)} files could be used; {first}"
            raise DataError(msg) if self._hint is None else DataError(msg).with_hint(self._hint)

    def _failed(self, path: Path, error: StackalignError) -> None:
        """Take note of a file that cannot be used; the first one's remedy is that of a run without any other."""
        if not self.failures:
            self._hint = error.hint
        self.failures[path] = str(error)


def combined_mask(mask: NDArray[np.bool_] | None, reader: StackReader) -> NDArray[np.bool_] | None:
    """The mask that was given and that of the file; True = valid in both."""
    valid: NDArray[np.bool_] | None = file_mask(mask, reader.info.mask, reader.info.shape[1:], of="the images")
    return valid


def check_centers(center: Any, shape: tuple[int, int, int], name: str) -> Any:
    """One centre, or one for each image, inside the frame."""
    if center is None or np.ndim(center) == 1:
        check_center(center, shape[1:], name)
        return None if center is None else (float(center[0]), float(center[1]))
    centers = plain_array(center, np.float64, "center")
    if centers.shape != (shape[0], 2):
        msg = f"centers of {name} must have the shape ({shape[0]}, 2), got {centers.shape}"
        raise DataError(msg)
    if not np.isfinite(centers).all():
        msg = f"the centre of image {int((~np.isfinite(centers)).any(axis=1).argmax())} of {name} is not a number"
        raise DataError(msg)
    for middle in centers:
        check_center((float(middle[0]), float(middle[1])), shape[1:], name)
    return centers


def stated_centers(center: Any, files: FrameFiles) -> dict[Path, Any]:
    """Centres of each file: the same for all, or what a function says for its path."""
    return {path: center(path) if callable(center) else center for path in files.paths}


def plain_center(center: Any) -> Any:
    """One centre, or many, as a plan states them."""
    if center is None or np.ndim(center) == 1:
        return None if center is None else [float(c) for c in center]
    return runs.array_digest(plain_array(center, np.float64, "center"))
