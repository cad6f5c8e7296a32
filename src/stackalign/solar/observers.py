"""Where a map was taken from, where its header does not say it in the keys that sunpy knows."""

import re
import warnings
from collections.abc import Mapping
from typing import Any

import astropy.units as u
import numpy as np
from astropy.coordinates import HeliocentricMeanEcliptic, SkyCoord
from sunpy.coordinates import (
    HeliocentricEarthEcliptic,
    HeliocentricInertial,
    HeliographicStonyhurst,
    get_earth,
)
from sunpy.map import GenericMap
from sunpy.util import MetaDict

from stackalign.errors import DataError, StackalignWarning

from .frames import name_of, observation_time
from .image_hdus import quiet
from .maps import new_map

__all__ = ["with_observer"]

_CARTESIAN: Mapping[str, Any] = {
    "hci": HeliocentricInertial,
    "hee": HeliocentricEarthEcliptic,
    "hae": HeliocentricMeanEcliptic,
    "heq": HeliographicStonyhurst,
}
"""Frames of keys such as HCIX_OBS (Thompson, A&A 449, 791, 2006)."""

_SEEN_FROM_EARTH = re.compile(
    "TRACE|SOHO|SDO|AIA|HMI|HINODE|IRIS|PROBA|YOHKOH|GOES|SUVI|XRT|EIS|SOT|GONG|KANZELHOEHE|RHESSI|DKIST|INOUYE|GREGOR|BBSO",
    re.IGNORECASE,
)
_FAR_FROM_EARTH = re.compile("SOLO|SOLAR.?ORBITER|STEREO|PSP|PARKER", re.IGNORECASE)


def with_observer(solar_map: GenericMap) -> GenericMap:
    """The map with an observer in its header; where none was there and the instrument flies near the Earth, the Earth.

    Raises
    ------
    DataError
        The instrument does not fly near the Earth.
    """
    for keys, _ in solar_map._supported_observer_coordinates:
        if all(solar_map.meta.get(key) not in (None, "") for key in keys):
            return solar_map
    if (place := _cartesian_observer(solar_map)) is not None:
        return _seen_from(solar_map, place)
    who = " ".join(str(solar_map.meta.get(key, "")) for key in ("telescop", "obsrvtry", "instrume"))
    name = name_of(solar_map)
    if _FAR_FROM_EARTH.search(who):
        msg = f"{name} has no observer: set HGLN_OBS, HGLT_OBS and DSUN_OBS in its header"
        raise DataError(msg)
    if not _SEEN_FROM_EARTH.search(who):
        warnings.warn(f"{name} has no observer; it is taken to be seen from the Earth", StackalignWarning, stacklevel=5)
    with quiet():
        return _seen_from(solar_map, get_earth(observation_time(solar_map)))


def _seen_from(solar_map: GenericMap, observer: SkyCoord) -> GenericMap:
    """The map with the keys of an observer whose Stonyhurst coordinates are known."""
    header = MetaDict(solar_map.meta)
    header["hgln_obs"], header["hglt_obs"] = observer.lon.to_value("deg"), observer.lat.to_value("deg")
    header["dsun_obs"] = observer.radius.to_value("m")
    header.setdefault("rsun_ref", 695700000.0)
    return new_map(solar_map.data, header, solar_map)


def _cartesian_observer(solar_map: GenericMap) -> SkyCoord | None:
    """Observer in Stonyhurst coordinates from one of the Cartesian triples of the FITS conventions, in metres."""
    for prefix, frame in _CARTESIAN.items():
        values = [solar_map.meta.get(f"{prefix}{axis}_obs") for axis in "xyz"]
        if not all(isinstance(value, (int, float)) and np.isfinite(value) for value in values) or not any(values):
            continue
        with quiet():
            time = observation_time(solar_map)
            there = SkyCoord(
                *(float(value) * u.m for value in values), frame=frame(obstime=time), representation_type="cartesian"
            )
            return there.transform_to(HeliographicStonyhurst(obstime=time))
    return None
