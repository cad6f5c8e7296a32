"""Cubes of one image or of many in time, values for missing pixels, observers by position, masks in files."""

from types import SimpleNamespace

import astropy.units as u
import numpy as np
import pytest
import sunpy.map
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import StdDevUncertainty
from astropy.time import Time
from astropy.wcs.wcsapi import SlicedLowLevelWCS
from sunpy.coordinates import HeliocentricEarthEcliptic, HeliocentricInertial, HeliographicStonyhurst

from solar.make import header, wcs_of
from stackalign import solar
from stackalign.errors import DataError

TIME = {"CTYPE3": "Time", "CUNIT3": "s", "CRPIX3": 1.0, "CRVAL3": 5.0, "CDELT3": 60.0}


@pytest.fixture
def image(rng):
    return rng.random((24, 16)).astype(np.float32)


@pytest.mark.parametrize(
    ("leading", "cards"),
    [((1,), {}), ((1,), TIME), ((1, 1), {"CTYPE3": "WAVE", "CTYPE4": "STOKES"})],
    ids=["plain", "time", "four axes"],
)
def test_a_cube_of_one_image_is_that_image(tmp_path, image, leading, cards) -> None:
    fits.PrimaryHDU(image.reshape(*leading, *image.shape), header(image.shape, **cards)).writeto(tmp_path / "one.fits")
    read = solar.read_map(tmp_path / "one.fits")
    flat = solar.as_map((image, header(image.shape)))
    np.testing.assert_array_equal(read.data, image)
    q = np.array([[3.0, 5.0], [15.0, 20.0]])
    np.testing.assert_allclose(read.wcs.wcs_pix2world(q, 0), flat.wcs.wcs_pix2world(q, 0), atol=1e-12)
    assert len(solar.build_synthetic_raster(_raster(image), [tmp_path / "one.fits"], rotation=None).plan.names) == 1


def _raster(image):
    cards = {"CTYPE3": "UTC", "CUNIT3": "s", "CRPIX3": 1.0, "CDELT3": 1.0, "CRVAL3": 20.0, "PC3_1": 2.0,
             "DATEREF": "2024-10-17T00:00:50.215", "WCSAXES": 3, "DATE-AVG": "2024-10-17T00:01:10"}  # fmt: skip
    return solar.as_map((image, header(image.shape, **cards)))


def sequence(path, image, **cards):
    cube = np.stack([image, 2 * image, 3 * image])
    fits.PrimaryHDU(cube, header(image.shape, **TIME | cards)).writeto(path)
    return cube


def test_a_cube_in_time_is_a_sequence(tmp_path, image) -> None:
    cube = sequence(tmp_path / "sji.fits", image)
    maps = solar.read_maps(tmp_path / "sji.fits")
    assert len(maps) == 3
    start = Time("2024-10-17T00:00:50.215")
    for k, one in enumerate(maps):
        np.testing.assert_array_equal(one.data, cube[k])
        assert (solar.observation_time(one) - start).to_value("s") == pytest.approx(5 + 60 * k, abs=1e-3)
    assert solar.read_map(tmp_path / "sji.fits", index=2).data[0, 0] == cube[2, 0, 0]


def test_frames_may_be_one_file(tmp_path) -> None:
    made = solar.create_test_observation((80, 40), n_frames=3, column_seconds=20.0)
    cards = made.frames[0].fits_header
    cards.update(TIME | {"CRVAL3": 0.0, "CDELT3": 400.0, "DATEREF": made.frames[0].meta["date-obs"]})
    fits.PrimaryHDU(np.stack([frame.data for frame in made.frames]), cards).writeto(tmp_path / "frames.fits")
    settings = {"max_shift": 60 * u.arcsec}
    one = solar.coalign(made.raster, frames=[tmp_path / "frames.fits"], **settings)
    many = solar.coalign(made.raster, frames=made.frames, **settings)
    assert len(one.plan.names) == 3
    np.testing.assert_allclose(one.parameters, many.parameters, atol=1e-3)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_an_image_cut_out_of_a_cube_in_time_has_its_own_date(image, number) -> None:
    """What an NDCube is after cube[number]: a sliced WCS, and the cards of the whole."""
    cards = header(image.shape, **TIME | {"WCSAXES": 3, "DATEREF": "2024-10-17T00:00:50.215"})
    cut = SlicedLowLevelWCS(wcs_of(cards), (number, slice(2, None), slice(None)))
    cube = SimpleNamespace(data=image[2:], wcs=SimpleNamespace(low_level_wcs=cut), meta=dict(cards), unit=u.ct)
    found = solar.as_map(cube)
    assert (solar.observation_time(found) - Time("2024-10-17T00:00:50.215")).to_value("s") == pytest.approx(
        5 + 60 * number, abs=1e-3
    )
    assert found.meta["crpix2"] == cards["CRPIX2"] - 2


def test_a_sequence_is_no_target(tmp_path, image) -> None:
    sequence(tmp_path / "sji.fits", image)
    with pytest.raises(DataError, match=r"holds a sequence of 3 images: give it as frames, or one of them"):
        solar.coalign(tmp_path / "sji.fits", solar.as_map((image, header(image.shape))))
    sequence(tmp_path / "cube.fits", image, CTYPE3="WAVE")
    with pytest.raises(DataError, match=r"a cube \(3, 24, 16\) whose third axis is not time"):
        solar.read_map(tmp_path / "cube.fits")


@pytest.mark.parametrize(("dtype", "blank"), [("i2", -32768), ("i4", 99), ("f4", -200)])
def test_blank_is_no_data(image, dtype, blank) -> None:
    data = (100 * image).astype(dtype)
    data[3, 4] = blank
    found = solar.valid_mask(solar.as_map((data, header(image.shape, BLANK=blank))))
    assert not found[3, 4]
    others = data != blank
    assert found[others].all()


def test_fractions_are_not_blank(image) -> None:
    """Of scaled data the missing ones are NaN; the number that BLANK says may be a measurement."""
    image[3, 4] = 0.0
    assert solar.valid_mask(solar.as_map((image, header(image.shape, BLANK=0)))).all()


@pytest.mark.parametrize(
    ("prefix", "frame"),
    [("HCI", HeliocentricInertial), ("HEE", HeliocentricEarthEcliptic), ("HEQ", HeliographicStonyhurst)],
)
def test_observers_by_their_position(image, prefix, frame) -> None:
    made = header(image.shape, TELESCOP="NONE", INSTRUME="NONE")
    whole = solar.as_map((image, made))
    place = whole.observer_coordinate.transform_to(frame(obstime=solar.observation_time(whole))).cartesian.xyz
    for key in ("HGLN_OBS", "HGLT_OBS", "DSUN_OBS"):
        del made[key]
    made.update({f"{prefix}{axis}_OBS": value for axis, value in zip("XYZ", place.to_value(u.m), strict=True)})
    found = solar.as_map((image, made)).observer_coordinate
    assert found.separation_3d(SkyCoord(whole.observer_coordinate)).to_value(u.km) < 10


def test_mask_and_uncertainty_are_written_and_read(tmp_path, image) -> None:
    mask = image > 0.9
    given = sunpy.map.Map(image, header(image.shape), mask=mask, uncertainty=StdDevUncertainty(0.1 * image))
    solar.write_map(given, tmp_path / "out.fits")
    read = solar.read_map(tmp_path / "out.fits")
    assert len(solar.read_maps(tmp_path / "out.fits")) == 1
    np.testing.assert_array_equal(read.mask, mask)
    np.testing.assert_allclose(read.uncertainty.array, 0.1 * image)
    assert read.uncertainty.uncertainty_type == "std"
    np.testing.assert_array_equal(solar.valid_mask(read), ~mask)
    solar.write_map(sunpy.map.Map(image, header(image.shape)), tmp_path / "plain.fits")
    with fits.open(tmp_path / "plain.fits") as hdus:
        assert len(hdus) == 1
