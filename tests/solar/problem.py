"""A raster of SPICE's geometry that shows EUI's disc, with a header that is wrong by a known amount."""

import astropy.units as u
import numpy as np
import sunpy.map
from scipy.ndimage import gaussian_filter, map_coordinates, spline_filter

from solar.make import header
from stackalign import solar


def raster_of(scene, rng, *, shape=(400, 96), crval=(-300.0, 200.0), cdelt=(6.0, 1.098), roll=2.88, noise=0.05,
              blank=0.0, error=(0.0, 0.0), roll_error=0.0, scale=(1.0, 1.0), columns=None):  # fmt: skip
    """The raster with a wrong header, and the right header.

    The header puts the middle of the image `error` arcsec away, says `scale` times too long pixels and a roll that is
    `roll_error` degrees too large. Pixels are means over their area; `noise` is that share of the standard deviation.
    """
    ny, nx = shape
    place = {key: scene.meta[key] for key in ("dsun_obs", "rsun_ref", "hgln_obs", "hglt_obs", "date-avg", "date-obs")}
    middle = ((nx + 1) / 2, (ny + 1) / 2)
    right = header(shape, cdelt=cdelt, crval=crval, crpix=middle, roll=roll, **place | (columns or {}))
    wrong = header(
        shape, cdelt=(cdelt[0] * scale[0], cdelt[1] * scale[1]), crval=(crval[0] + error[0], crval[1] + error[1]),
        crpix=middle, roll=roll + roll_error, **place | (columns or {}),
    )  # fmt: skip
    true = sunpy.map.Map(np.zeros(shape), right)
    spline = spline_filter(scene.data.astype(float), order=3)
    y, x, dy, dx = np.meshgrid(np.arange(ny), np.arange(nx), [0.0], np.array([-1, 0, 1]) / 3, indexing="ij")
    sky = true.wcs.wcs_pix2world(np.stack([(x + dx).ravel(), (y + dy).ravel()], -1), 0)
    sky = (sky + 180) % 360 - 180
    at = scene.wcs.wcs_world2pix(sky, 0).reshape(*x.shape, 2)
    image = map_coordinates(spline, [at[..., 1], at[..., 0]], prefilter=False).mean((2, 3))
    image = image + noise * image.std() * rng.standard_normal(shape)
    if blank:
        image[gaussian_filter(rng.random(shape), 4) > np.quantile(gaussian_filter(rng.random(shape), 4), 1 - blank)] = (
            np.nan
        )
    return sunpy.map.Map(image, wrong), true


def error_arcsec(found, true):
    """Root mean square distance along x and y of the raster between two headers, in arcsec."""
    ny, nx = true.data.shape
    y, x = np.mgrid[0 : ny - 1 : 20j, 0 : nx - 1 : 20j]
    q = np.stack([x, y], -1).reshape(-1, 2)
    world = found.wcs.wcs_pix2world(q, 0)
    p = true.wcs.wcs_world2pix(world, 0)
    return np.sqrt(((p - q) ** 2).mean(0)) * solar.step_arcsec(true.wcs)


SPICE_CELL = (6.0, 1.098) * u.arcsec
