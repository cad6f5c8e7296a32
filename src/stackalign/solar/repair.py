"""Faults of headers that are known, and their correction."""

import re
from collections.abc import Mapping
from typing import Any

from sunpy.map import GenericMap
from sunpy.util import MetaDict

from .maps import new_map

__all__ = ["binning_mismatch", "repair_header", "repair_map"]

EIT_SIZE = 1024
"""Pixels of EIT's detector along a side, of 2.63 arcsec."""


def _full_disc(header: Mapping[str, Any]) -> bool:
    return "full" in str(header.get("object", "")).lower()


def binning_mismatch(header: Mapping[str, Any], shape: tuple[int, ...]) -> float | None:
    """Factor by which an image is binned though its CDELT is not, or None where header and image agree.

    Known of EIT, whose headers keep the scale and the disc's radius of the detector: an image that says "full FOV" but
    is narrower than the disc.
    """
    meta = MetaDict(header)
    if "EIT" not in f"{meta.get('instrume', '')} {meta.get('telescop', '')}" or not _full_disc(meta):
        return None
    radius = float(meta.get("solar_r") or 0)
    factor = EIT_SIZE / shape[-1]
    return factor if 2 * radius > max(shape) and factor > 1 else None


def repair_header(header: Mapping[str, Any], shape: tuple[int, ...]) -> tuple[MetaDict, tuple[str, ...]]:
    """Correct what is known to be wrong in headers.

    Parameters
    ----------
    header : mapping
    shape : tuple of int
        Of the image.

    Returns
    -------
    header : MetaDict
        A copy.
    notes : tuple of str
        What was changed; empty where nothing was.

    Notes
    -----
    EIT: CDELT and SOLAR_R of binned images are those of the detector; a roll that is in SC_ROLL alone becomes CROTA2.

    Examples
    --------
    >>> from stackalign import solar
    >>> header = {"INSTRUME": "EIT", "OBJECT": "full FOV", "SOLAR_R": 372.0, "CDELT1": 2.63, "CDELT2": 2.63}
    >>> repaired, notes = solar.repair_header(header, (128, 128))
    >>> repaired["cdelt1"], notes
    (21.04, ('CDELT multiplied and SOLAR_R divided by the binning, 8',))
    """
    meta, notes = MetaDict(header), []
    factor = binning_mismatch(meta, shape)
    if factor is not None:
        for key in ("cdelt1", "cdelt2"):
            meta[key] = float(meta[key]) * factor
        meta["solar_r"] = float(meta["solar_r"]) / factor
        notes.append(f"CDELT multiplied and SOLAR_R divided by the binning, {factor:g}")
    roll = float(meta.get("sc_roll") or 0)
    turned = any(re.fullmatch(r"(pc|cd)\d_\d|crota\d?", str(key)) for key in meta)
    if roll and not turned and "EIT" in f"{meta.get('instrume', '')} {meta.get('telescop', '')}":
        meta["crota2"] = roll
        notes.append(f"CROTA2 set to SC_ROLL, {roll:g} degrees")
    return meta, tuple(notes)


def repair_map(solar_map: GenericMap) -> GenericMap:
    """Map with the header of `repair_header`; the same map where there is nothing to repair.

    Parameters
    ----------
    solar_map : GenericMap
        The map.

    Returns
    -------
    GenericMap
        Another one, or the same.

    Examples
    --------
    >>> from stackalign import solar
    >>> seen = solar.create_test_observation((60, 24), n_frames=2)
    >>> solar.repair_map(seen.raster) is seen.raster  # nothing to repair
    True
    """
    header, notes = repair_header(solar_map.meta, solar_map.data.shape)
    return new_map(solar_map.data, header, solar_map) if notes else solar_map
