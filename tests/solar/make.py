"""Headers and maps that the solar tests share."""

import warnings

import numpy as np
import sunpy.map
from astropy.io import fits
from astropy.wcs import WCS

SPICE = {
    "CTYPE1": "HPLN-TAN", "CTYPE2": "HPLT-TAN", "CUNIT1": "arcsec", "CUNIT2": "arcsec",
    "DATE-OBS": "2024-10-17T00:00:50.215", "DATE-AVG": "2024-10-17T01:37:04.622", "DATE-BEG": "2024-10-17T00:00:50.215",
    "RSUN_REF": 695700000.0, "DSUN_OBS": 67325530118.5, "HGLN_OBS": -28.2598753434, "HGLT_OBS": 7.46648576597,
    "TELESCOP": "SOLO/SPICE", "INSTRUME": "SPICE", "FILENAME": "made.fits", "BUNIT": "W/(m2 sr nm)", "LEVEL": "L2.5",
    "XPOSURE": 120.0, "TIMESYS": "UTC",
}  # fmt: skip


def pc_cards(roll: float, cdelt: tuple[float, float]) -> dict[str, float]:
    """PC of a grid turned by `roll` degrees whose pixels are `cdelt` long."""
    angle, ratio = np.deg2rad(roll), cdelt[1] / cdelt[0]
    return {
        "PC1_1": np.cos(angle),
        "PC1_2": -ratio * np.sin(angle),
        "PC2_1": np.sin(angle) / ratio,
        "PC2_2": np.cos(angle),
    }


def header(shape, *, cdelt=(4.0, 1.098), crval=(30.0, -20.0), crpix=None, roll=0.0, **cards):
    """Header of a map whose reference pixel is by default not quite the middle."""
    ny, nx = shape
    crpix = (nx / 2 + 3.25, ny / 2 - 7.75) if crpix is None else crpix
    made = fits.Header()
    made.update(
        SPICE
        | {"CRPIX1": crpix[0], "CRPIX2": crpix[1], "CRVAL1": crval[0], "CRVAL2": crval[1]}
        | {"CDELT1": cdelt[0], "CDELT2": cdelt[1], "CROTA": roll}
        | pc_cards(roll, cdelt)
        | cards
    )
    return made


TIME_AXIS = {
    "WCSAXES": 3, "CTYPE3": "UTC", "CUNIT3": "s", "CRPIX3": 1.0, "CDELT3": 1.0, "CRVAL3": 5774.25, "PC3_1": -120.3,
    "DATEREF": "2024-10-17T00:00:50.215",
}  # fmt: skip


def solar_map(data, **settings):
    return sunpy.map.Map(data, header(data.shape, **settings))


def wcs_of(any_header):
    """WCS by astropy alone, without its remarks on keys of the Sun."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return WCS(any_header)
