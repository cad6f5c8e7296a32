"""A raster and the frames of an imager on one moving spacecraft, rendered from one scene by sunpy's own frames."""

import astropy.units as u
import numpy as np
import sunpy.map
from astropy.coordinates import SkyCoord
from astropy.time import Time
from scipy.ndimage import map_coordinates
from sunpy.coordinates import HeliographicStonyhurst, Helioprojective, propagate_with_solar_surface

from solar.make import header

START = Time("2022-04-01T00:00:50.248")
RATE = 6.2  # degrees of Stonyhurst longitude per day, at 0.30 AU


def observer_at(scene, time):
    """Where the spacecraft is: on a circle, faster than the Earth."""
    place = scene.observer_coordinate
    days = np.asarray((time - START).to_value(u.day))
    return HeliographicStonyhurst(
        place.lon + RATE * days * u.deg, np.broadcast_to(place.lat, days.shape, subok=True),
        np.broadcast_to(place.radius, days.shape, subok=True), obstime=time, rsun=scene.rsun_meters,
    )  # fmt: skip


def scene_pixels(scene, tx, ty, time):
    """Pixels of the scene that show, at its own time, what is in a direction at another time and place."""
    frame = Helioprojective(observer=observer_at(scene, time), obstime=time, rsun=scene.rsun_meters)
    with propagate_with_solar_surface(rotation_model="howard"):
        there = SkyCoord(tx, ty, frame=frame).transform_to(scene.coordinate_frame)
    return scene.wcs.wcs_world2pix(np.stack([there.Tx.deg.ravel(), there.Ty.deg.ravel()], -1), 0).reshape(*tx.shape, 2)


def render(scene, spline, wcs_map, time, columns=None):
    """Image of the scene on a map's grid as seen at a time, all of it or some of its columns."""
    ny, nx = wcs_map.data.shape
    x, y = np.meshgrid(np.arange(nx) if columns is None else columns, np.arange(ny))
    world = wcs_map.wcs.wcs_pix2world(np.stack([x.ravel(), y.ravel()], -1), 0).reshape(*x.shape, 2)
    world = (world + 180) % 360 - 180
    p = scene_pixels(scene, world[..., 0] * u.deg, world[..., 1] * u.deg, time)
    found = map_coordinates(
        spline, np.nan_to_num(p[..., ::-1], nan=-1).transpose(2, 0, 1), prefilter=False, cval=np.nan
    )
    return np.where(np.isfinite(p).all(-1), found, np.nan)


def raster_header(scene, shape=(140, 96), step=120.3, pc=-1.0, **cards):
    """A raster around the middle of the disc; with pc = -1 the last column is the first in time."""
    ny, nx = shape
    span = step * nx
    middle = START + span / 2 * u.s
    there = observer_at(scene, middle)
    made = header(shape, cdelt=(6.0, 4.4), crval=(-300.0, 200.0), roll=2.88, crpix=(nx / 2 + 0.5, ny / 2 + 0.5))
    made.update(
        {
            "DATE-OBS": START.isot, "DATE-BEG": START.isot, "DATE-AVG": middle.isot, "XPOSURE": 120.0,
            "DSUN_OBS": there.radius.to_value(u.m), "HGLN_OBS": there.lon.deg, "HGLT_OBS": there.lat.deg,
            "RSUN_REF": scene.rsun_meters.to_value(u.m), "WCSAXES": 3, "CTYPE3": "UTC", "CUNIT3": "s", "CRPIX3": 1.0,
            "CDELT3": 1.0, "CRVAL3": span / 2, "PC3_1": pc * step, "DATEREF": START.isot,
        }
        | cards
    )  # fmt: skip
    return made


def frame_map(scene, spline, time, index=0, shape=(420, 420)):
    """A frame of the imager, cropped around the middle of the disc."""
    there = observer_at(scene, time)
    made = header(shape, cdelt=(4.44, 4.44), crval=(-300.0, 200.0), roll=4.26)
    made.update(
        {
            "DATE-OBS": time.isot, "DATE-AVG": time.isot, "DATE-BEG": time.isot, "DSUN_OBS": there.radius.to_value(u.m),
            "HGLN_OBS": there.lon.deg, "HGLT_OBS": there.lat.deg, "TELESCOP": "SOLO/EUI/FSI",
            "RSUN_REF": scene.rsun_meters.to_value(u.m), "FILENAME": f"frame{index:02d}.fits",
            "WAVELNTH": 174, "BUNIT": "ct",
        }
    )  # fmt: skip
    empty = sunpy.map.Map(np.zeros(shape), made)
    return sunpy.map.Map(render(scene, spline, empty, time), made)


def truth(scene, spline, raster, times):
    """The raster itself: each column rendered at its own time from where the spacecraft was."""
    columns = [render(scene, spline, raster, time, [i])[:, 0] for i, time in enumerate(times)]
    return np.stack(columns, axis=1)
