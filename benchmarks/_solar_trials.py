"""What trust rows of coalign share: headers of made rasters, and how far a result is from the truth."""

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from _trust import Trial
from stackalign import solar

__all__ = ["header", "trial_of"]


def header(shape: tuple[int, int], steps: tuple[float, float], center: tuple[float, float], roll: float) -> fits.Header:
    turn, ratio = np.deg2rad(roll), steps[1] / steps[0]
    made = fits.Header()
    made.update(
        {
            "CTYPE1": "HPLN-TAN", "CTYPE2": "HPLT-TAN", "CUNIT1": "arcsec", "CUNIT2": "arcsec",
            "CRPIX1": (shape[1] + 1) / 2, "CRPIX2": (shape[0] + 1) / 2, "CRVAL1": center[0], "CRVAL2": center[1],
            "CDELT1": steps[0], "CDELT2": steps[1], "PC1_1": np.cos(turn), "PC1_2": -ratio * np.sin(turn),
            "PC2_1": np.sin(turn) / ratio, "PC2_2": np.cos(turn), "DATE-OBS": "2014-09-10T17:30:00",
            "RSUN_REF": 695700000.0, "DSUN_OBS": 1.5e11, "HGLN_OBS": 0.0, "HGLT_OBS": 7.2, "TELESCOP": "NONE",
            "FILENAME": "held_out.fits",
        }
    )  # fmt: skip
    return made


def trial_of(
    result: solar.CoalignmentResult,
    truth: fits.Header,
    shape: tuple[int, int],
    tolerance: float,
    *,
    wrong: tuple[tuple[float, float], float] | None,
    answer: bool,
) -> Trial:
    """Compare the middle of the corrected raster with the truth, in its pixels.

    Where the header is `wrong` by scales and a roll that were held, the result must say which ones the images want.
    """
    middle = [[(shape[1] - 1) / 2, (shape[0] - 1) / 2]]
    world = WCS(result.corrected_map.fits_header).wcs_pix2world(middle, 0)
    error = WCS(truth).wcs_world2pix(world, 0)[0] - middle[0] if answer else np.full(2, np.nan)
    remedy = None if wrong is None else _gives_values(result, *wrong)
    return Trial(error, result.sigma[:2], tolerance, result.flags, ("dx", "dy"), remedy)


def _gives_values(result: solar.CoalignmentResult, scales: tuple[float, float], roll: float) -> bool:
    if result.wanted is None:
        return False
    said = dict(zip(result.wanted.names, zip(result.wanted.values, result.wanted.sigma, strict=True), strict=True))
    truth = {"sx": (1 / scales[0], 0.01), "sy": (1 / scales[1], 0.01), "angle": (-roll, 0.4)}
    return all(abs(said[name][0] - true) < max(near, 3 * said[name][1]) for name, (true, near) in truth.items())
