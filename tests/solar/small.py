"""Files of a small coalignment that takes some hundredths of a second: a texture, and a raster cut out of it."""

from pathlib import Path

import numpy as np
from astropy.io import fits
from scipy.ndimage import gaussian_filter, shift

__all__ = ["ARGUMENTS", "SETTINGS", "raster", "reference", "save"]

SIDE, STEP = 96, 4.0
SETTINGS = {"model": "shift", "max_shift": "40arcsec", "phases": ("full",)}
ARGUMENTS = ("--max-shift", "40arcsec", "--phases", "full")
"""The same for the command line."""


def _header(shape: tuple[int, int], name: str, date: str) -> fits.Header:
    head = fits.Header()
    head.update({
        "CTYPE1": "HPLN-TAN", "CTYPE2": "HPLT-TAN", "CUNIT1": "arcsec", "CUNIT2": "arcsec",
        "CRPIX1": (shape[1] + 1) / 2, "CRPIX2": (shape[0] + 1) / 2, "CRVAL1": 0.0, "CRVAL2": 0.0,
        "CDELT1": STEP, "CDELT2": STEP, "DATE-OBS": date, "DATE-AVG": date, "RSUN_REF": 695700000.0,
        "DSUN_OBS": 149597870700.0, "HGLN_OBS": 0.0, "HGLT_OBS": 0.0, "TELESCOP": "NONE", "FILENAME": name,
    })  # fmt: skip
    return head


def _texture(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return 100 + 20 * sum(s * gaussian_filter(rng.standard_normal((SIDE, SIDE)), s) for s in (1.5, 3.0, 6.0))


def save(path: Path, image: np.ndarray, date: str = "2022-04-01T12:00:00") -> Path:
    """Write an image whose header says that it shows the middle of the disc."""
    fits.PrimaryHDU(image.astype("f4"), _header(image.shape, path.name, date)).writeto(path, overwrite=True)
    return path


def reference(path: Path, **cards: str) -> Path:
    """The image to compare with."""
    return save(path, _texture(), **cards)


def raster(path: Path, dy: float = 1.5, dx: float = -2.0, *, seed: int = 1, noise: bool = False) -> Path:
    """The middle of the reference, `dy` and `dx` pixels off; or nothing but noise."""
    rng = np.random.default_rng(seed)
    image = shift(_texture(), (dy, dx), order=3)[16:-16, 20:-20] + 0.5 * rng.standard_normal((SIDE - 32, SIDE - 40))
    return save(path, rng.standard_normal(image.shape) if noise else image)
