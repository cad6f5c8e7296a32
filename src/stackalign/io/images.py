"""Whole images of files: read one, write one or a stack of them."""

import contextlib
import importlib
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign._carriers import plain_array
from stackalign.errors import DataError, OutputExistsError
from stackalign.io._reader import damage_as_data_error
from stackalign.io._writer import full_disk_as_data_error
from stackalign.io.atomic import atomic_path
from stackalign.io.stacks import FITS_EXTENSIONS, image_extensions, is_fits, open_stack, writer_of

__all__ = ["FITS_EXTENSIONS", "image_extensions", "is_fits", "open_images", "read_image", "write_images"]

open_images = open_stack
"""The one door, `stackalign.io.open`, under the name that it had for files of images."""


def read_image(
    path: str | os.PathLike[str],
    *,
    dataset: str | None = None,
    allow_external: bool = False,
    read_timeout: float | None = None,
) -> NDArray[Any]:
    """Read the one image of a file, a mask for example.

    Parameters
    ----------
    path : path-like
        See `stackalign.io.open`, as for the other parameters.
    dataset : str, optional
    allow_external : bool
    read_timeout : float, optional

    Returns
    -------
    numpy.ndarray
        (H, W); booleans come as 0 and 1.

    Raises
    ------
    DataError
        The file cannot be read, or holds more than one image.

    Examples
    --------
    >>> import numpy as np
    >>> from stackalign.io import read_image
    >>> np.save("image.npy", np.eye(2))
    >>> read_image("image.npy")
    array([[1., 0.],
           [0., 1.]])
    """
    reader = open_stack(path, dataset=dataset, allow_external=allow_external, read_timeout=read_timeout)
    with contextlib.closing(reader):
        if reader.info.shape[0] != 1:
            msg = f"{path} holds {reader.info.shape[0]} images; expected one of (H, W)"
            raise DataError(msg)
        with damage_as_data_error(str(path), "the image"):
            image = np.empty(reader.info.shape, reader.info.dtype)
        reader.read(0, 1, image)
    only: NDArray[Any] = image[0]
    return only


def write_images(
    path: str | os.PathLike[str], images: NDArray[Any], *, fits_header: str | None = None, overwrite: bool = False
) -> None:
    """Write one image (H, W) or a stack (N, H, W), which may be a memory map; the file appears complete or not at all.

    Parameters
    ----------
    path : path-like
        .npy, .tif, .h5, .zarr or .fits.
    images : numpy.ndarray
    fits_header : str, optional
        Cards, one a line, for FITS: those of the grid that the images are on.
    overwrite : bool
        Replace an existing file.

    Raises
    ------
    DataError
        The extension is not known, or the file cannot be written.
    OutputExistsError
        It exists and may not be replaced.

    Examples
    --------
    >>> import tempfile, pathlib, numpy as np
    >>> from stackalign.io import read_image, write_images
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "image.tif"
    >>> write_images(file, np.arange(6, dtype=np.uint16).reshape(2, 3))
    >>> read_image(file)
    array([[0, 1, 2],
           [3, 4, 5]], dtype=uint16)
    """
    images = plain_array(images, None, "images")
    final = Path(path)
    if final.exists() and not overwrite:
        msg = f"output {final} exists; choose another name or allow it to be replaced"
        raise OutputExistsError(msg).with_hint("overwrite")
    module = importlib.import_module(f"stackalign.io.{writer_of(final, images=True).module}")
    with full_disk_as_data_error(final, str(final), images.nbytes), atomic_path(final) as partial:
        module.write_images(partial, images, fits_header)
