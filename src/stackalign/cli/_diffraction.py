"""What the commands on diffraction images share: inputs in chunks, masks, reports."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign.diffraction.files import PICTURES, open_frames
from stackalign.errors import DataError, OutputExistsError
from stackalign.io import StackReader
from stackalign.io.images import FITS_EXTENSIONS
from stackalign.io.stacks import readable_extensions

from ._console import worded
from ._plan import expand

__all__ = [
    "CHUNK_BYTES",
    "UNCERTAIN",
    "about",
    "check_output",
    "chunks_of",
    "first_image",
    "image_files",
    "numbers",
    "opened",
]

CHUNK_BYTES = 1 << 27
UNCERTAIN = "the centres of {} of {} images are not certain; `stackalign center` shows them, --center states them"


def image_files(sources: Sequence[str]) -> list[Path]:
    """Files of images that were named, or lie in folders, or match globs, in order."""
    return expand(sources, (*readable_extensions(), *FITS_EXTENSIONS, *PICTURES))


def opened(files: Sequence[Path], dataset: str | None) -> Iterator[tuple[Path, StackReader]]:
    """Open one file after the other and close it again."""
    for file in files:
        reader = open_frames(file, dataset=dataset)
        try:
            yield file, reader
        finally:
            reader.close()


def chunks_of(reader: StackReader) -> Iterator[tuple[int, NDArray[Any]]]:
    """Frames in chunks of bounded size, with the number of the first; all share one buffer."""
    n, height, width = reader.info.shape
    size = max(1, min(n, CHUNK_BYTES // max(1, reader.info.pattern_bytes)))
    buffer = np.empty((size, height, width), reader.info.dtype)
    for first in range(0, n, size):
        stop = min(n, first + size)
        reader.read(first, stop, buffer[: stop - first])
        yield first, buffer[: stop - first]


def check_output(path: Path, known: Sequence[str], *, overwrite: bool) -> None:
    """Refuse an output that cannot be written, before the work.

    Raises
    ------
    ValueError
        The extension is of no format that the command writes: wrong usage.
    DataError
        It is a folder, or its folder does not exist.
    OutputExistsError
    """
    if path.is_dir():
        msg = f"output {path} is a folder; give a file name, as {path / ('result' + known[0])}"
        raise DataError(msg)
    if path.suffix.lower() not in known:
        msg = f"output {path} has no known extension; known are {' '.join(known)}"
        raise ValueError(msg)
    if not path.parent.is_dir():
        msg = f"the folder {path.parent} of the output does not exist; create it first"
        raise DataError(msg)
    if path.exists() and not overwrite:
        msg = f"output {path} exists; choose another name or allow it to be replaced"
        raise OutputExistsError(msg).with_hint("overwrite")


def about(file: Path, error: Exception) -> str:
    """What went wrong with a file, which is named once."""
    text = worded(error)
    return text if str(file) in text else f"{file}: {text}"


def numbers(text: str | None, count: int, option: str) -> tuple[float, ...] | None:
    """Numbers that are separated by commas."""
    if text is None:
        return None
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        found = ()
    if len(found) != count:
        msg = f"{option} must be {count} numbers separated by commas, got {text!r}"
        raise ValueError(msg)
    return found


def first_image(file: Path) -> NDArray[Any]:
    """First image of a file, for a picture."""
    reader = open_frames(file)
    try:
        _, height, width = reader.info.shape
        block = np.empty((1, height, width), reader.info.dtype)
        reader.read(0, 1, block)
    finally:
        reader.close()
    return np.asarray(block[0])
