"""Peaks of images by how far they stand above what surrounds them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stackalign._masks import check_mask
from stackalign.backends import Array
from stackalign.backends._persistence import merge_tree
from stackalign.errors import DataError

from .transfer import to_numpy

__all__ = ["PersistencePairs", "persistence_pairs"]


@dataclass(frozen=True)
class PersistencePairs:
    """Where peaks of an image are born and where they die as a level sinks through it, from the most persistent down.

    Parameters
    ----------
    birth_index, death_index : numpy.ndarray
        (N, 2) int64 (row, col) of the peak's highest pixel, and of the pixel at which it meets a higher peak; (-1, -1)
        for a peak that never does.
    birth, death : numpy.ndarray
        (N,) float64 values there; a peak that never dies ends at the lowest valid pixel.
    """

    birth_index: NDArray[np.int64]
    death_index: NDArray[np.int64]
    birth: NDArray[np.float64]
    death: NDArray[np.float64]

    @property
    def persistence(self) -> NDArray[np.float64]:
        """(N,) how far the level sinks from a peak's birth to its death."""
        return self.birth - self.death


def persistence_pairs(image: Array, *, mask: Array | None = None) -> PersistencePairs:
    """Pair each local maximum of an image with the saddle at which it joins a higher one.

    Parameters
    ----------
    image : (H, W) array
        Real; NaN and infinite pixels are not valid.
    mask : (H, W) array, optional
        Boolean, True = valid. Peaks do not meet through invalid pixels.

    Returns
    -------
    PersistencePairs
        On the host, where it is computed also for an image on a GPU: each pixel waits for all that are higher. Of equal
        pixels the first one is the higher.

    Raises
    ------
    DataError
        The shapes do not fit, or no pixel is valid.
    TypeError
        The image is complex, or the mask not boolean.

    Notes
    -----
    0-dimensional persistent homology of the superlevel sets with 8 neighbours, by union-find over sorted pixels, in
    O(n log n). Edelsbrunner, Letscher, Zomorodian (2002), Discrete Comput. Geom. 28, 511.

    Examples
    --------
    >>> import numpy as np
    >>> import stackalign as sa
    >>> image = np.array([[9.0, 2.0, 5.0, 1.0, 7.0]])
    >>> pairs = sa.persistence_pairs(image)
    >>> pairs.birth_index[:, 1], pairs.persistence  # columns of the maxima, and how far they stand out
    (array([0, 4, 2]), array([8., 6., 3.]))
    """
    pixels = to_numpy(image)
    if pixels.dtype.kind not in "buif":
        msg = f"image must hold real numbers, got {pixels.dtype}; take abs() of a complex image first"
        raise TypeError(msg)
    if pixels.ndim != 2 or not pixels.size:
        msg = f"image must have the shape (H, W), got {pixels.shape}; loop over the images of a stack"
        raise DataError(msg)
    values = pixels.astype(np.float64)
    valid = np.isfinite(values)
    if mask is not None:
        valid &= check_mask(to_numpy(mask), values.shape, of="the image")
    if not valid.any():
        msg = "no pixel of the image is valid; True means valid in a mask"
        raise DataError(msg)
    births, deaths = merge_tree(values, valid)
    flat = values.ravel()
    # Of a plateau each pixel without a neighbour before it is born, and dies at once.
    lasting = (deaths < 0) | (flat[births] > flat[np.maximum(deaths, 0)])
    births, deaths = births[lasting], deaths[lasting]
    birth = flat[births]
    death = np.where(deaths < 0, flat[valid.ravel()].min(), flat[deaths])
    order = np.argsort(-(birth - death), kind="stable")
    width = values.shape[1]
    places = [np.stack([i // width, i % width], axis=-1)[order] for i in (births, deaths)]
    places[1][deaths[order] < 0] = -1
    return PersistencePairs(places[0], places[1], birth[order], death[order])
