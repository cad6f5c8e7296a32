"""Headers as the documentation of instruments has them: read, understood, aligned and written."""

import warnings

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from scipy.ndimage import gaussian_filter

from stackalign import solar
from stackalign.errors import StackalignWarning

SHAPE = (72, 84)
SOLAR_X = {"CTYPE1": "SOLAR-X", "CTYPE2": "SOLAR-Y", "CUNIT1": "arcsec", "CUNIT2": "arcsec"}
HPLN = {"CTYPE1": "HPLN-TAN", "CTYPE2": "HPLT-TAN", "CUNIT1": "arcsec", "CUNIT2": "arcsec"}
SDO = {
    "DSUN_OBS": 147724815128.0, "HGLN_OBS": 0.0, "HGLT_OBS": -6.82, "CRLN_OBS": 22.8, "CRLT_OBS": -6.82,
    "RSUN_REF": 696000000.0, "RSUN_OBS": 971.8, "DSUN_REF": 149597870691.0,
}  # fmt: skip

CARDS = {
    "AIA level 1": HPLN | SDO | {
        "TELESCOP": "SDO/AIA", "INSTRUME": "AIA_3", "WAVELNTH": 171, "WAVEUNIT": "angstrom", "LVL_NUM": 1.0,
        "DATE-OBS": "2011-02-15T00:00:00.34", "T_OBS": "2011-02-15T00:00:01.34Z", "EXPTIME": 1.999601,
        "CDELT1": 0.599489, "CDELT2": 0.599489, "CROTA2": -0.14, "BUNIT": "ct",
    },
    "AIA level 1.5": HPLN | SDO | {
        "TELESCOP": "SDO/AIA", "INSTRUME": "AIA_3", "WAVELNTH": 171, "WAVEUNIT": "angstrom", "LVL_NUM": 1.5,
        "DATE-OBS": "2011-02-15T00:00:00.34", "T_OBS": "2011-02-15T00:00:01.34Z", "EXPTIME": 1.999601,
        "CDELT1": 0.6, "CDELT2": 0.6, "CROTA2": 0.0, "PC1_1": 1.0, "PC2_2": 1.0,
    },
    "HMI": HPLN | SDO | {
        "TELESCOP": "SDO/HMI", "INSTRUME": "HMI_SIDE1", "CONTENT": "MAGNETOGRAM", "WAVELNTH": 6173.0,
        "DATE-OBS": "2011-02-14T23:59:54.60", "T_OBS": "2011.02.15_00:00:27_TAI", "CDELT1": 0.504, "CDELT2": 0.504,
        "CROTA2": 180.08, "BUNIT": "Gauss",
    },
    "LASCO": SOLAR_X | {
        "TELESCOP": "SOHO", "INSTRUME": "LASCO", "DETECTOR": "C2", "DATE-OBS": "2011/02/15", "TIME-OBS": "00:00:07.123",
        "CDELT1": 11.9, "CDELT2": 11.9, "CROTA": 0.0, "CROTA1": 0.0, "CROTA2": 0.0, "FILTER": "Orange",
    },
    "EUI HRI": HPLN | {
        "OBSRVTRY": "Solar Orbiter", "TELESCOP": "SOLO/EUI/HRI_EUV", "INSTRUME": "EUI", "DETECTOR": "HRI_EUV",
        "LEVEL": "L2", "WAVELNTH": 174, "WAVEUNIT": "Angstrom", "DATE-OBS": "2022-03-30T00:03:00.2",
        "DATE-BEG": "2022-03-30T00:03:00.2", "DATE-AVG": "2022-03-30T00:03:01.0", "DATE-END": "2022-03-30T00:03:01.8",
        "CDELT1": 0.492, "CDELT2": 0.492, "PC1_1": 0.9986, "PC1_2": -0.0523, "PC2_1": 0.0523, "PC2_2": 0.9986,
        "DSUN_OBS": 49826000000.0, "HGLN_OBS": 92.4, "HGLT_OBS": 2.5, "RSUN_REF": 695700000.0, "XPOSURE": 1.65,
    },
    "EIS": HPLN | {
        "TELESCOP": "Hinode", "INSTRUME": "EIS", "LINE_ID": "Fe XII 195.119", "MEASRMNT": "intensity",
        "DATE_OBS": "2019-04-04T13:15:13.000", "DATE_END": "2019-04-04T14:15:13.000", "CDELT1": 1.9968, "CDELT2": 1.0,
        "BUNIT": "erg / (cm2 s sr)",
    },
    "IRIS raster": HPLN | {
        "TELESCOP": "IRIS", "INSTRUME": "SPEC", "DATE_OBS": "2014-02-04T15:05:00.000",
        "DATE_END": "2014-02-04T15:10:00",
        "CDELT1": 0.3327, "CDELT2": 0.16635, "PC1_1": 1.0, "PC2_2": 1.0,
    },
    "SOT": SOLAR_X | {
        "TELESCOP": "HINODE", "INSTRUME": "SOT/WB", "OBS_TYPE": "FG (simple)", "WAVE": "G band 4305", "ORIGIN": "JAXA",
        "DATE_OBS": "2006-12-13T02:04:33.123", "CDELT1": 0.10896, "CDELT2": 0.10896, "CROTA1": 0.3, "CROTA2": 0.3,
    },
    "DKIST VBI": HPLN | {
        "TELESCOP": "Daniel K. Inouye Solar Telescope", "INSTRUME": "VBI", "OBSRVTRY": "DKIST", "WAVELNTH": 430.52,
        "DATE-BEG": "2022-06-02T17:44:00.0", "DATE-AVG": "2022-06-02T17:44:01.5", "DATE-END": "2022-06-02T17:44:03.0",
        "CDELT1": 0.011, "CDELT2": 0.011, "PC1_1": 0.98, "PC1_2": 0.199, "PC2_1": -0.199, "PC2_2": 0.98,
        "OBSGEO-X": -5466045.2, "OBSGEO-Y": -2404388.7, "OBSGEO-Z": 2242133.9,
    },
}  # fmt: skip

EXPECTED = {
    # moment, arcsec along each axis, roll in degrees, distance in au
    "AIA level 1": ("2011-02-15T00:00:01.34", (0.599489, 0.599489), -0.14, 0.9875),
    "AIA level 1.5": ("2011-02-15T00:00:01.34", (0.6, 0.6), 0.0, 0.9875),
    "HMI": ("2011-02-14T23:59:53.00", (0.504, 0.504), 180.08, 0.9875),
    "LASCO": ("2011-02-15T00:00:07.12", (11.9, 11.9), 0.0, 0.987),
    "EUI HRI": ("2022-03-30T00:03:01.00", (0.492, 0.492), 2.998, 0.3331),
    "EIS": ("2019-04-04T13:15:13.00", (1.9968, 1.0), 0.0, 1.0),
    "IRIS raster": ("2014-02-04T15:05:00.00", (0.3327, 0.16635), 0.0, 0.986),
    "SOT": ("2006-12-13T02:04:33.12", (0.10896, 0.10896), 0.3, 0.984),
    "DKIST VBI": ("2022-06-02T17:44:01.50", (0.011, 0.011), -11.48, 1.014),
}
RASTERS = ("EIS", "IRIS raster")


def made(name, shape, x0, y0, **cards):
    header = fits.Header()
    header.update(CARDS[name] | {"CRPIX1": 60.5 - x0, "CRPIX2": 50.5 - y0, "CRVAL1": 0.0, "CRVAL2": 0.0} | cards)
    header["FILENAME"] = f"{name}.fits"
    header.setdefault("BSCALE", 1.0)
    return header


@pytest.mark.parametrize("name", CARDS)
def test_headers_are_understood(name, tmp_path) -> None:
    moment, steps, roll, distance = EXPECTED[name]
    data = np.ones(SHAPE, np.float32)
    fits.PrimaryHDU(data, made(name, SHAPE, 0, 0)).writeto(tmp_path / "a.fits", output_verify="silentfix")
    with warnings.catch_warnings():
        warnings.simplefilter("error", StackalignWarning)
        found = solar.read_map(tmp_path / "a.fits")
    when = solar.observation_time(found)
    assert abs((when - type(when)(moment)).to_value(u.s)) < 0.02
    np.testing.assert_allclose(solar.step_arcsec(found.wcs), steps, rtol=1e-4)
    matrix = solar.arcsec_per_pixel(found.wcs)
    angle = np.rad2deg(np.arctan2(matrix[1, 0], matrix[0, 0]))
    assert (angle - roll + 180) % 360 - 180 == pytest.approx(0, abs=0.02)
    assert found.observer_coordinate.radius.to_value(u.au) == pytest.approx(distance, abs=0.012)


@pytest.mark.parametrize("name", CARDS)
def test_images_of_the_instrument_are_aligned(name, tmp_path) -> None:
    texture = gaussian_filter(np.random.default_rng(3).standard_normal((100, 120)), 2.0)
    texture = (1000 + 500 * texture / texture.std()).astype(np.float32)
    part = texture[12 : 12 + SHAPE[0], 15 : 15 + SHAPE[1]].copy()
    # The header of the part puts it 3 pixels to the right of and 2 below where it is.
    wrong = made(name, SHAPE, 18, 10)
    fits.PrimaryHDU(part, wrong).writeto(tmp_path / "target.fits", output_verify="silentfix")
    fits.PrimaryHDU(texture, made(name, texture.shape, 0, 0)).writeto(tmp_path / "ref.fits", output_verify="silentfix")
    with warnings.catch_warnings():
        warnings.simplefilter("error", StackalignWarning)
        # Rasters without the times of their columns, of which that is said.
        warnings.filterwarnings("default" if name in RASTERS else "error", "(?s).*was scanned over", StackalignWarning)
        result = solar.coalign(tmp_path / "target.fits", tmp_path / "ref.fits", max_shift=8.0)
    assert result.ok, result.flags
    np.testing.assert_allclose(result.parameters, [-3.0, 2.0], atol=0.02)
    path = result.write(tmp_path / "corrected.fits")
    old, new = fits.getheader(tmp_path / "target.fits"), fits.getheader(path)
    kept = [key for key in CARDS[name] if not key.startswith(("CDELT", "PC", "CROTA"))]
    assert [new[key] for key in kept] == [old[key] for key in kept]
    np.testing.assert_array_equal(fits.getdata(path), part)


@pytest.mark.parametrize(
    "cards",
    [
        {"TELESCOP": "IRIS", "INSTRUME": "SJI", "TDESC1": "SJI_1400", "CTYPE3": "Time", "CUNIT3": "s", "CRPIX3": 1.0,
         "CRVAL3": 0.0, "CDELT3": 10.0, "PC3_3": 1.0, "DATE_OBS": "2014-02-04T15:05:00.000",
         "STARTOBS": "2014-02-04T15:05:00"},
        {"TELESCOP": "Daniel K. Inouye Solar Telescope", "INSTRUME": "VBI", "OBSRVTRY": "DKIST", "CTYPE3": "TIME",
         "CUNIT3": "s", "CRPIX3": 1.0, "CRVAL3": 0.0, "CDELT3": 10.0, "DATE-BEG": "2014-02-04T15:05:00",
         "DATE-AVG": "2014-02-04T15:05:10", "DATEREF": "2014-02-04T15:05:00"},
    ],
    ids=["IRIS SJI", "DKIST"],
)  # fmt: skip
def test_cubes_in_time_are_sequences(cards, tmp_path) -> None:
    header = fits.Header()
    header.update(
        HPLN | {"CRPIX1": 20.0, "CRPIX2": 15.0, "CRVAL1": 5.0, "CRVAL2": -7.0, "CDELT1": 0.33, "CDELT2": 0.33}
    )
    header.update(cards)
    fits.PrimaryHDU(np.arange(3 * 30 * 40, dtype=np.int16).reshape(3, 30, 40), header).writeto(tmp_path / "cube.fits")
    found = solar.read_maps(tmp_path / "cube.fits")
    assert [one.data[0, 0] for one in found] == [0, 1200, 2400]
    times = [solar.observation_time(one) for one in found]
    np.testing.assert_allclose([(t - times[0]).to_value(u.s) for t in times], [0, 10, 20], atol=1e-3)
    assert times[0].isot[:19] == "2014-02-04T15:05:00"
    np.testing.assert_allclose(solar.step_arcsec(found[1].wcs), 0.33)
