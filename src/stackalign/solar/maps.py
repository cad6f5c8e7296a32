"""Maps from arrays and headers."""

import copy
from collections.abc import MutableMapping
from typing import Any

import sunpy.map
from numpy.typing import NDArray
from sunpy.map import GenericMap
from sunpy.util import MetaDict

from stackalign.errors import DataError

from .image_hdus import one_line, quiet

__all__ = ["make_map", "new_map"]


def make_map(data: NDArray[Any], header: MutableMapping[str, Any], **settings: Any) -> GenericMap:
    """Map of an image (ny, nx) and its header.

    Raises
    ------
    DataError
        The array is no image, or the header does not describe one of the Sun.
    """
    if data.ndim != 2 or not data.size:
        msg = f"a two-dimensional image is needed, got the shape {data.shape}; collapse a spectral window first"
        raise DataError(msg)
    try:
        with quiet():
            made = sunpy.map.Map(data, header, **settings)
    except Exception as error:
        msg = f"this header does not describe a solar image: {one_line(error)}"
        raise DataError(msg) from error
    if not isinstance(made, GenericMap):
        msg = f"one map is needed, got a {type(made).__name__}"
        raise DataError(msg)
    return made


def new_map(data: NDArray[Any], header: MutableMapping[str, Any], like: GenericMap) -> GenericMap:
    """Map of new data or header with the mask and uncertainty, where the shape allows, and plot settings of another."""
    same = data.shape == like.data.shape
    settings = {
        "mask": None if like.mask is None or not same else like.mask.copy(),
        "uncertainty": like.uncertainty if same else None,
        "plot_settings": {key: copy.copy(value) for key, value in like.plot_settings.items()},
    }
    return make_map(data, MetaDict(header), **settings)
