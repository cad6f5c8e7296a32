"""Pictures: PNG, JPEG and what else Pillow reads; colours become their luminance."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign.errors import DataError, MissingDependencyError
from stackalign.io._protocol import StackReader
from stackalign.io._reader import OpenOptions, make_info
from stackalign.io._shapes import interpret_shape
from stackalign.io.memory import ArrayReader

__all__ = ["grey_reader", "open_reader"]

PICTURE_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "WEBP", "JPEG2000")
"""Those of the extensions in `stacks`, as Pillow names them."""
LUMINANCE = (0.2125, 0.7154, 0.0721)
"""Shares of red, green and blue in what scikit-image calls grey."""


def open_reader(path: Path, options: OpenOptions) -> StackReader:
    """Open a picture as a stack of one image."""
    return grey_reader(_decoded(path), path, options)


def grey_reader(image: NDArray[Any], path: Path, options: OpenOptions) -> StackReader:
    """Make a stack of one of the pixels (H, W) or (H, W, samples) of a file; colours become their luminance."""
    if image.ndim == 3 and image.shape[2] in (3, 4):
        image = image[..., :3] @ np.array(LUMINANCE)
    elif image.ndim == 3 and image.shape[2] in (1, 2):
        image = image[..., 0]
    if image.ndim != 2:
        msg = f"{path} is no image of two axes, it has the shape {image.shape}"
        raise DataError(msg)
    image = np.ascontiguousarray(image)
    layout = interpret_shape(image.shape, str(path), scan_shape=options.scan_shape, single=True)
    info = make_info(layout, image.dtype, str(path), metadata={"single": True})
    return ArrayReader(image[None], interpret_shape((1, *image.shape), str(path)), info, path=path)


def _decoded(file: Path) -> NDArray[Any]:
    try:
        from PIL import Image  # what scikit-image itself reads pictures with
    except ImportError as error:
        msg = f'{file} needs Pillow to be read ({error}): pip install "stackalign[image]"'
        raise MissingDependencyError(msg) from error
    try:
        # By name: what begins like PostScript would be handed to another program.
        with warnings.catch_warnings(), Image.open(file, formats=PICTURE_FORMATS) as picture:
            warnings.simplefilter("ignore")  # of sizes, for instance; twice the size that it warns of is an error
            if picture.mode in ("P", "1", "CMYK", "YCbCr", "PA"):
                picture = picture.convert("L" if picture.mode == "1" else "RGB")
            return np.asarray(picture)
    except Exception as error:  # decoders raise classes of their own, which have no common base
        detail = (str(error).strip().splitlines() or [""])[0][:200]
        msg = f"{file} cannot be read ({type(error).__name__}: {detail}); check or copy the file again"
        raise DataError(msg) from error
