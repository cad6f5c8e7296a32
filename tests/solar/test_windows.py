"""One correction for all images of an observation: they stay where they are relative to each other."""

import warnings

import numpy as np
import pytest
from astropy.io import fits

from solar.make import header, wcs_of
from stackalign import solar
from stackalign.errors import StackalignWarning

SHAPE = (120, 90)
CHANGE = solar.PixelTransform.about([44.5, 59.5], [[1.003, 0.004], [-0.002, 0.998]], (14.0, -9.0))
SHIFT = solar.PixelTransform(np.eye(2), np.array([14.0, -9.0]))


def window(name, shape, cdelt, crval=(30.0, -20.0), roll=4.0, **cards):
    made = header(shape, cdelt=cdelt, crval=crval, roll=roll, EXTNAME=name, **cards)
    return np.random.default_rng(1).random(shape).astype(np.float32), made


OTHERS = {
    "binned along the slit": {"shape": (60, 90), "cdelt": (4.0, 2.196)},
    "another pointing": {"shape": (100, 80), "cdelt": (4.0, 1.098), "crval": (55.0, -43.0)},
    "another roll and scale": {"shape": (100, 80), "cdelt": (3.7, 1.2), "roll": 4.4},
    "degrees": {
        "shape": (60, 90), "cdelt": (4.0 / 3600, 2.196 / 3600), "crval": (30.0 / 3600, -20.0 / 3600),
        "CUNIT1": "deg", "CUNIT2": "deg",
    },
}  # fmt: skip


def in_first(first, second, points):
    """Pixels of the first image that show what pixels of the second show."""
    return wcs_of(first).wcs_world2pix(wcs_of(second).wcs_pix2world(points, 0), 0)


@pytest.mark.parametrize("correction", [SHIFT, CHANGE], ids=["shift", "affine"])
@pytest.mark.parametrize("other", OTHERS)
def test_windows_stay_together(tmp_path, other, correction) -> None:
    """What two windows show in common before, they show in common after, to a hundredth of a pixel."""
    pair = [window("ONE", SHAPE, (4.0, 1.098)), window("TWO", **OTHERS[other])]
    fits.HDUList([fits.PrimaryHDU(*pair[0]), fits.ImageHDU(*pair[1])]).writeto(tmp_path / "raster.fits")
    done = solar.write_corrected(tmp_path / "raster.fits", tmp_path / "out.fits", correction, hdu=0)
    assert done.corrected == ("ONE", "TWO")
    assert done.transferred == ("TWO",)
    before, after = ([fits.getheader(path, k) for k in (0, 1)] for path in (tmp_path / "raster.fits", done.path))
    points = np.array([[0.0, 0.0], [40.0, 30.0], [79.0, 59.0]])
    np.testing.assert_allclose(in_first(*after, points), in_first(*before, points), atol=0.01)
    moved = wcs_of(before[1]).wcs_world2pix(wcs_of(after[1]).wcs_pix2world(points, 0), 0) - points
    assert np.abs(moved).max() > 3


@pytest.mark.parametrize(
    ("cards", "reason"),
    [
        ({"INSTRUME": "EUI"}, "INSTRUME is EUI"),
        ({"DATE-BEG": "2024-10-17T05:00:00", "DATE-OBS": "2024-10-17T05:00:00"}, "it was taken 17950 s from the other"),
    ],
)
def test_what_is_of_another_observation_is_left_and_named(tmp_path, cards, reason) -> None:
    pair = [window("ONE", SHAPE, (4.0, 1.098)), window("TWO", (60, 90), (4.0, 2.196), **cards)]
    fits.HDUList([fits.PrimaryHDU(*pair[0]), fits.ImageHDU(*pair[1])]).writeto(tmp_path / "raster.fits")
    with pytest.warns(StackalignWarning, match=rf"left uncorrected: TWO \({reason}"):
        done = solar.write_corrected(tmp_path / "raster.fits", tmp_path / "out.fits", SHIFT)
    assert done.corrected == ("ONE",)
    assert len(done.left) == 1
    old, new = (fits.getheader(path, 1) for path in (tmp_path / "raster.fits", done.path))
    assert new.tostring() == old.tostring()


def test_error_bars_are_in_the_pixels_of_each_window(tmp_path) -> None:
    pair = [window("ONE", SHAPE, (4.0, 1.098)), window("TWO", (60, 90), (4.0, 2.196))]
    fits.HDUList([fits.PrimaryHDU(*pair[0]), fits.ImageHDU(*pair[1])]).writeto(tmp_path / "raster.fits")
    facts = {"sigma_x": 0.02, "sigma_y": 0.04}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        done = solar.write_corrected(tmp_path / "raster.fits", tmp_path / "out.fits", SHIFT, provenance=facts)
    made = fits.getheader(done.path, 1)
    assert made["XC_SIGX"] == pytest.approx(0.02, rel=1e-3)
    assert made["XC_SIGY"] == pytest.approx(0.02, rel=1e-3)
