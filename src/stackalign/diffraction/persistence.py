"""Peaks by topological persistence."""

from typing import Any

import numpy as np

from stackalign.backends._threads import governed
from stackalign.io.provenance import provenance
from stackalign.ops import persistence_pairs
from stackalign.ops._peaks import offsets

from ._inputs import one_image
from ._peak_places import check_distance, kept, neighbourhoods
from .peaks import BraggPeaks

__all__ = ["bragg_peaks_persistence"]


@governed
def bragg_peaks_persistence(
    image: Any,
    *,
    mask: Any = None,
    prominence: float = 0.0,
    relative: bool = False,
    min_distance: float | None = None,
    subpixel: bool = True,
) -> BraggPeaks:
    """Find peaks by how far each stands above the saddle to a higher one.

    Suits spots of any size and shape without noise: each maximum of noise is a peak too, of low prominence.

    Parameters
    ----------
    image : (H, W) array
        Real; NaN is invalid. An image on a GPU is brought to the host.
    mask : (H, W) array, optional
        Boolean, True = valid; what is not valid takes no part, and peaks do not meet through it.
    prominence : float
        Peaks are kept whose persistence is above this, in the image's units.
    relative : bool
        The prominence is a share of the range between the lowest and the highest valid pixel.
    min_distance : float, optional
        Of two peaks nearer than this, in pixels, the more persistent one is kept.
    subpixel : bool
        Refine positions by a paraboloid through the neighbours.

    Returns
    -------
    BraggPeaks

    Raises
    ------
    DataError
        The shapes do not fit, or no pixel is valid.
    ValueError
        A setting makes no sense.

    See Also
    --------
    stackalign.persistence_pairs : births and deaths, and the reference.

    Examples
    --------
    >>> import numpy as np
    >>> from stackalign import diffraction
    >>> image = np.zeros((20, 30))
    >>> image[5, 8], image[12, 20] = 3.0, 7.0
    >>> diffraction.bragg_peaks_persistence(image, subpixel=False).position.tolist()
    [[12.0, 20.0], [5.0, 8.0]]
    """
    if not (np.isfinite(prominence) and prominence >= 0):
        msg = f"prominence must not be negative, got {prominence}"
        raise ValueError(msg)
    check_distance(min_distance)
    pixels, valid = one_image(image, mask)
    pairs = persistence_pairs(pixels, mask=valid)
    span = float(np.ptp(pixels[valid]))
    height = pairs.persistence
    high = height > (prominence * span if relative else prominence)
    places, height = pairs.birth_index[high], height[high]
    if min_distance is not None:
        apart = kept(places, float(min_distance))
        places, height = places[apart], height[apart]
    position = places.astype(np.float64)
    if subpixel and len(places):
        position = places + offsets(neighbourhoods(np.where(valid, pixels, np.nan), places, 2))
    settings = {"prominence": prominence, "relative": relative, "min_distance": min_distance, "subpixel": subpixel}
    share = height / span if span > 0 else np.zeros_like(height)
    return BraggPeaks(position, height, share, float("nan"), provenance(settings, [], device="cpu"))
