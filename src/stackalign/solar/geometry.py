"""Directions seen from one place and time, turned into directions seen from another; plain arrays, no frames.

Positions are Cartesian, in metres, with the Sun in the origin, its rotation axis along z and axes that do not turn
(heliocentric inertial). Directions are helioprojective longitude and latitude in radians, west and north positive.
A direction that meets the Sun stands for the point of its surface, any other for a point on a screen, by default the
point of the line of sight that is nearest to the Sun: the two agree at the limb.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stackalign._types import FloatArray

__all__ = ["SCREENS", "SolarPoints", "on_sky", "solar_points", "turned", "wrapped"]


SCREENS = ("nearest", "sphere", "plane")
"""Where what is seen beyond the limb is taken to be: at the point of the line of sight that is nearest to the Sun, on
the sphere around the observer through the middle of the Sun, or on the plane through it that faces the observer."""


@dataclass(frozen=True)
class SolarPoints:
    """Points in space, and which of them lie on the solar surface."""

    position: FloatArray
    on_disc: NDArray[np.bool_]


def wrapped(angle: ArrayLike, period: float = 2 * np.pi) -> FloatArray:
    """Angles brought into [-period / 2, period / 2): 359.98 degrees are -0.02 degrees."""
    half = period / 2
    result: FloatArray = (np.asarray(angle, np.float64) + half) % period - half
    return result


def _axes(observer: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Distance of observers (..., 3), and unit vectors to the west, to the north and towards them."""
    distance = np.linalg.norm(observer, axis=-1)
    toward = observer / distance[..., None]
    north = np.array([0.0, 0.0, 1.0]) - toward[..., 2:] * toward
    north /= np.linalg.norm(north, axis=-1, keepdims=True)
    return distance, np.cross(north, toward), north, toward


def solar_points(
    longitude: ArrayLike, latitude: ArrayLike, observer: ArrayLike, radius: float, screen: str = "nearest"
) -> SolarPoints:
    """Find what directions point at.

    Parameters
    ----------
    longitude, latitude : array_like
        Of the directions.
    observer : array_like
        (..., 3) positions, one for all or of a shape that broadcasts with the directions.
    radius : float
        Of the surface in metres.
    screen : str
        One of `SCREENS`.
    """
    lon, lat = np.asarray(longitude, np.float64), np.asarray(latitude, np.float64)
    place = np.asarray(observer, np.float64)
    distance, west, north, toward = _axes(place)
    cos = np.cos(lat)
    sight = (cos * np.sin(lon))[..., None] * west + np.sin(lat)[..., None] * north
    ahead = cos * np.cos(lon)
    sight = sight - ahead[..., None] * toward
    nearest = distance * ahead  # from the observer to the point of the line of sight that is nearest to the Sun
    half_chord = radius**2 - distance**2 * (1.0 - ahead) * (1.0 + ahead)
    on_disc = (half_chord >= 0) & (ahead > 0)
    surface = nearest - np.sqrt(np.where(on_disc, half_chord, 0.0))
    length = surface if screen == "nearest" else np.where(on_disc, surface, _to_screen(distance, ahead, screen))
    return SolarPoints(place + length[..., None] * sight, np.asarray(on_disc))


def _to_screen(distance: FloatArray, ahead: FloatArray, screen: str) -> FloatArray:
    """Lengths of lines of sight to a screen; NaN where they go away from it."""
    if screen == "sphere":
        return np.broadcast_to(distance, ahead.shape)
    length: FloatArray = np.divide(distance, ahead, out=np.full(ahead.shape, np.nan), where=ahead > 0)
    return length


def turned(points: SolarPoints, angle: ArrayLike) -> SolarPoints:
    """Points of the surface turned about the rotation axis, by radians; those beyond the limb stay."""
    a = np.where(points.on_disc, np.asarray(angle, np.float64), 0.0)
    x, y, z = np.moveaxis(points.position, -1, 0)
    cos, sin = np.cos(a), np.sin(a)
    return SolarPoints(np.stack([cos * x - sin * y, sin * x + cos * y, z], axis=-1), points.on_disc)


def on_sky(points: SolarPoints, observer: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Directions in which points are seen; NaN where a point of the surface is on the far side.

    Returns
    -------
    longitude, latitude : numpy.ndarray
    """
    place = np.asarray(observer, np.float64)
    _, west, north, toward = _axes(place)
    line = points.position - place
    x, y, ahead = ((line * axis).sum(axis=-1) for axis in (west, north, -toward))
    # Seen where the observer stands above the horizon of the point; a hair of slack keeps the limb itself.
    height = (points.position * line).sum(axis=-1)
    hidden = points.on_disc & (height > 1e-9 * (points.position**2).sum(axis=-1))
    longitude = np.where(hidden, np.nan, np.arctan2(x, ahead))
    latitude = np.where(hidden, np.nan, np.arctan2(y, np.hypot(x, ahead)))
    return longitude, latitude
