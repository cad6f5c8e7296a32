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


def l2_header(shape, name, *, detector="SW", first_row=113, **cards):
    """Header of a window of SPICE L2 as its documents describe it: x, y, wavelength, time."""
    _, nl, ny, nx = shape
    made = header(
        (ny, nx), cdelt=(4.0, 1.098), crval=(359.98 * 3600, 41.0), roll=16.58, crpix=((nx + 1) / 2, (ny + 1) / 2)
    )
    made.update(
        {
            "EXTNAME": name, "LEVEL": "L2", "WCSAXES": 4, "CTYPE3": "WAVE", "CUNIT3": "nm", "CRPIX3": (nl + 1) / 2,
            "CRVAL3": 77.04, "CDELT3": 0.0098, "PC3_3": 1.0, "CTYPE4": "TIME", "CUNIT4": "s", "CRPIX4": 1.0,
            "CRVAL4": 60.3 * nx / 2, "CDELT4": 1.0, "PC4_1": -60.3, "PC4_4": 1.0, "DATEREF": "2024-10-17T00:00:50.215",
            "DETECTOR": detector, "NBIN2": 1, "PXBEG2": first_row, "DUMBBELL": 0, "STUDYTYP": "Raster", "XPOSURE": 60.0,
            "FILENAME": "solo_L2_spice-n-ras_20241017T000050_V01_1-000.fits", "VAR_KEYS": "VARIABLE_KEYWORDS;TEXPOSUR",
        }
        | cards
    )  # fmt: skip
    return made


def l2_file(path, rng, *, ny=800, nx=24, nl=32, dtype=np.float32, **cards):
    """Two windows of one raster, one of another grid with dumbbells, a table and a distortion: a file of SPICE L2.

    The line is a Gaussian of known intensity on a sloping continuum; returns that intensity (ny, nx).
    """
    intensity = 5 + rng.random((ny, nx)) * 10
    k = np.arange(nl)[:, None, None] - (nl - 1) / 2
    cube = intensity * np.exp(-(k**2) / 8) / np.sqrt(8 * np.pi) + 2 + 0.05 * k
    cube[:, :60] = cube[:, -60:] = np.nan
    first = cube[None].astype(dtype)
    exposures = np.rec.array([(np.arange(nx, dtype=float),)], formats=[f"{nx}f8"], names=["TEXPOSUR"])
    hdus = [
        fits.PrimaryHDU(first, l2_header(first.shape, "N IV 765 - Peak", **cards)),
        fits.ImageHDU(2 * first, l2_header(first.shape, "Ne VIII 770 - LW", **cards)),
        fits.ImageHDU(
            np.ones((1, 8, 100, nx), np.float32),
            l2_header((1, 8, 100, nx), "Dumbbell", DUMBBELL=1, first_row=20),
        ),
        fits.BinTableHDU(exposures, name="VARIABLE_KEYWORDS"),
        fits.ImageHDU(rng.random((nx, 4)).astype(np.float32), name="WCSDVARR"),
    ]  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fits.HDUList(hdus).writeto(path, checksum=True)
    return intensity
