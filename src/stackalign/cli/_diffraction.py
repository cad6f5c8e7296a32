"""What the commands on diffraction images share: inputs in chunks, masks, reports."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign.errors import DataError, OutputExistsError
from stackalign.io import open_stack
from stackalign.io.stacks import readable_extensions

from ._console import say, worded
from ._plan import expand

__all__ = [
    "UNCERTAIN",
    "about",
    "about_text",
    "centers_of",
    "check_output",
    "first_image",
    "image_files",
    "numbers",
    "say_doubts",
]

UNCERTAIN = "the centres of {} of {} images are not certain; `stackalign center` shows them, --center states them"


def say_doubts(file: str | Path, doubts: Mapping[str, str], *, quiet: bool) -> None:
    """Say why the images of a file show no pattern, where they show none."""
    for sentence in [] if quiet else doubts.values():
        say(f"{file}: no diffraction pattern is seen: {sentence}")


def image_files(sources: Sequence[str]) -> list[Path]:
    """Files of images that were named, or lie in folders, or match globs, in order."""
    return expand(sources, readable_extensions())


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
    if not path.name.lower().endswith(tuple(known)):
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
    return about_text(file, worded(error))


def about_text(file: Path, text: str) -> str:
    """A message about a file, which is named once."""
    return text if str(file) in text else f"{file}: {text}"


def centers_of(table: Path | None, file: Path, stated: Any, *, n_images: int | None = None) -> Any:
    """The centres of a file's images from --centers, or the one of --center."""
    from stackalign.diffraction.centers_file import read_centers

    return stated if table is None else read_centers(table, file, n_images=n_images)


def numbers(text: str | None, count: int, option: str) -> tuple[float, ...] | None:
    """Numbers that are separated by commas."""
    if text is None:
        return None
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != count:
        msg = f"{option} must be {count} numbers separated by commas, got {text!r}"
        raise ValueError(msg)
    return values


def first_image(file: Path, **options: Any) -> NDArray[Any]:
    """First image of a file, for a picture; options are those of `stackalign.io.open`."""
    reader = open_stack(file, **options)
    try:
        _, height, width = reader.info.shape
        block = np.empty((1, height, width), reader.info.dtype)
        reader.read(0, 1, block)
    finally:
        reader.close()
    return np.asarray(block[0])
