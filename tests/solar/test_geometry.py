"""Directions and mappings against sunpy's frames, binning and resampling against plain definitions."""

import astropy.units as u
import numpy as np
import pytest
import sunpy.map
from astropy.coordinates import SkyCoord
from sunpy.coordinates import (
    Helioprojective,
    PlanarScreen,
    SphericalScreen,
    propagate_with_solar_surface,
    transform_with_sun_center,
)

from solar.make import TIME_AXIS, header, solar_map
from stackalign import solar
from stackalign.errors import DataError
from stackalign.solar import frames, geometry, mapping, sampling
from stackalign.solar.frames import ColumnMoments


def maps(hours=1.5, dlon=1.2):
    """Two maps of the disc, hours and degrees apart."""
    first = header((100, 100), cdelt=(42.0, 42.0), crval=(0.0, 0.0), roll=5.0)
    second = first.copy()
    second["HGLN_OBS"] += dlon
    second["HGLT_OBS"] -= 0.3
    second["DSUN_OBS"] *= 1.01
    second["DATE-AVG"] = f"2024-10-17T{1 + int(hours):02d}:{int(hours % 1 * 60):02d}:04.622"
    return [sunpy.map.Map(np.zeros((100, 100)), h) for h in (first, second)]


def by_sunpy(source, destination, points, *contexts):
    from contextlib import ExitStack

    world = source.pixel_to_world(*(points.T * u.pix))
    with ExitStack() as stack:
        for context in contexts:
            stack.enter_context(context)
        there = world.transform_to(destination.coordinate_frame)
    found = destination.wcs.wcs_world2pix(np.stack([there.Tx.deg, there.Ty.deg], axis=-1), 0)
    return found


def grid(n=100, step=7):
    x, y = np.meshgrid(np.arange(0, n, step, float), np.arange(0, n, step, float))
    return np.stack([x.ravel(), y.ravel()], axis=-1)


def test_mapping_without_rotation_agrees_with_sunpy() -> None:
    first, second = maps()
    expected = by_sunpy(first, second, grid(), transform_with_sun_center())
    found = solar.pixel_mapping(first, second)(grid())
    on_disc = np.isfinite(expected).all(axis=1) & np.isfinite(found).all(axis=1)
    assert 80 < on_disc.sum() < len(grid())
    # sunpy lets through what the limb hides; only what both see is compared
    assert np.abs(found - expected)[on_disc].max() * 42 < 0.01, "arcsec"


@pytest.mark.parametrize(("screen", "made"), [("sphere", SphericalScreen), ("plane", PlanarScreen)])
@pytest.mark.parametrize("dlon", [1.2, 25.0])
def test_screens_beyond_the_limb_agree_with_sunpy(screen, made, dlon) -> None:
    first, second = maps(hours=0.0, dlon=dlon)
    expected = by_sunpy(
        first, second, grid(), made(first.observer_coordinate, only_off_disk=True), transform_with_sun_center()
    )
    found = solar.pixel_mapping(first, second, screen=screen)(grid())
    world = first.pixel_to_world(*(grid().T * u.pix))
    off = np.hypot(world.Tx, world.Ty) > 1.02 * first.rsun_obs
    assert off.sum() > 50
    np.testing.assert_allclose(found[off], expected[off], atol=0.01 / 42)
    on = np.hypot(world.Tx, world.Ty) < 0.98 * first.rsun_obs
    nearest = solar.pixel_mapping(first, second)(grid())
    np.testing.assert_array_equal(found[on], nearest[on])
    assert np.nanmax(np.abs(found - nearest)[off]) * 42 > 0.2 * dlon, "arcsec: the screens are not the same"


def test_a_screen_goes_through_everything() -> None:
    """Columns with moments of their own, synthetic rasters and resampled maps take the same screen."""
    first, second = maps(hours=0.0, dlon=25.0)
    moments = ColumnMoments(
        solar.observation_time(first) + np.zeros(100) * u.s, np.tile(frames.map_position(first), (100, 1))
    )
    q = grid()
    for screen in geometry.SCREENS:
        expected = solar.pixel_mapping(first, second, screen=screen)(q)
        by_column = mapping.column_mapping(first, second, moments, screen=screen)(q, q[:, 0])
        np.testing.assert_allclose(by_column, expected, atol=1e-9)
        image = sunpy.map.Map(np.add.outer(np.arange(100.0), 2 * np.arange(100.0)), second.meta)
        made = solar.reproject_map(image, first, screen=screen)
        x, y = expected.T
        inside = np.isfinite(x) & (x > 0) & (x < 99) & (y > 0) & (y < 99)
        at = q[inside].astype(int)
        np.testing.assert_allclose(made.data[at[:, 1], at[:, 0]], (y + 2 * x)[inside], atol=1e-6)


@pytest.mark.parametrize("model", ["howard", "snodgrass"])
def test_mapping_with_rotation_agrees_with_sunpy(model) -> None:
    first, second = maps()
    expected = by_sunpy(first, second, grid(), propagate_with_solar_surface(rotation_model=model))
    found = solar.pixel_mapping(first, second, rotation=model)(grid())
    on_disc = np.isfinite(expected).all(axis=1) & np.isfinite(found).all(axis=1)
    assert on_disc.sum() > 80
    assert np.abs(found - expected)[on_disc].max() * 42 < 0.01, "arcsec"
    still = solar.pixel_mapping(first, second)(grid())
    assert np.abs(found - still)[on_disc].max() * 42 > 5, "the rotation of 1.5 hours is seen"


def test_beyond_the_limb_points_stay() -> None:
    """Every direction has its pixel off the disc, continuous at the limb, whether the surface turns or not."""
    first, second = maps()
    found = solar.pixel_mapping(first, second, rotation="howard")(grid())
    hidden = ~np.isfinite(found).all(axis=1)
    radius = np.hypot(*(grid() - (first.meta["crpix1"] - 1, first.meta["crpix2"] - 1)).T) * 42
    limb = np.rad2deg(np.arcsin(695.7e6 / first.meta["dsun_obs"])) * 3600
    assert not hidden[radius > limb].any()
    angle = np.linspace(0, 2 * np.pi, 17)[:, None]
    place = np.array([1e11, 3e10, 1e10])
    rho = np.arcsin(695.7e6 / np.linalg.norm(place)) * np.array([1 - 1e-9, 1 + 1e-9])
    points = geometry.solar_points(rho * np.cos(angle), rho * np.sin(angle), place, 695.7e6)
    gap = np.linalg.norm(np.diff(points.position, axis=1), axis=-1) / 695.7e6
    assert gap.max() < 1e-3


def test_what_turns_and_what_is_hidden() -> None:
    place = np.array([1e11, 0.0, 0.0])
    limb = np.arcsin(695.7e6 / 1e11)
    points = geometry.solar_points([0.0, 0.9 * limb, 1.1 * limb], [0.0, 0.0, 0.0], place, 695.7e6)
    assert points.on_disc.tolist() == [True, True, False]
    later = geometry.turned(points, np.deg2rad(40.0))
    lon, lat = geometry.on_sky(later, place)
    assert lon[0] == pytest.approx(
        np.arctan2(np.sin(np.deg2rad(40)) * 695.7e6, 1e11 - np.cos(np.deg2rad(40)) * 695.7e6)
    )
    assert np.isnan(lon[1]), "turned beyond the limb"
    assert np.isnan(lat[1])
    np.testing.assert_array_equal(later.position[2], points.position[2])
    assert lon[2] == pytest.approx(1.1 * limb)
    behind = geometry.SolarPoints(np.array([[-695.7e6, 0.0, 0.0]]), np.array([True]))
    assert np.isnan(geometry.on_sky(behind, place)[0]).all()


def test_there_and_back() -> None:
    first, second = maps()
    there = solar.pixel_mapping(first, second, rotation="howard")(grid())
    back = solar.pixel_mapping(second, first, rotation="howard")(there)
    radius = np.hypot(*(grid() - (first.meta["crpix1"] - 1, first.meta["crpix2"] - 1)).T) * 42
    inner = radius < 1900  # the disc has 2131 arcsec
    assert inner.sum() > 50
    assert np.abs(back - grid())[inner].max() < 1e-6


def test_longitudes_are_wrapped() -> None:
    """SPICE writes CRVAL1 = 359.98 degrees for a pointing to the east of the centre."""
    cards = {"CUNIT1": "deg", "CUNIT2": "deg"}
    wide = sunpy.map.Map(np.zeros((30, 30)), header((30, 30), crval=(359.98, 0.01), cdelt=(1e-3, 1e-3), **cards))
    near = sunpy.map.Map(np.zeros((30, 30)), header((30, 30), crval=(-0.02, 0.01), cdelt=(1e-3, 1e-3), **cards))
    np.testing.assert_allclose(solar.pixel_mapping(wide, near)(grid(30)), grid(30), atol=1e-9)
    np.testing.assert_allclose(geometry.wrapped([359.98, -180.0, 180.0], 360.0), [-0.02, -180.0, -180.0])


def test_the_frame_of_sunpy_is_the_frame_of_the_geometry() -> None:
    """A direction, an observer: the point on the sphere has sunpy's Stonyhurst coordinates."""
    (first, _), tx, ty = maps(), 500.0, -800.0
    from sunpy.coordinates import HeliocentricInertial

    from stackalign.solar.frames import map_position

    point = geometry.solar_points(*np.deg2rad([tx / 3600, ty / 3600]), map_position(first), 695.7e6)
    sky = SkyCoord(tx * u.arcsec, ty * u.arcsec, frame=first.coordinate_frame)
    expected = sky.make_3d().transform_to(HeliocentricInertial(obstime=first.reference_date)).cartesian.xyz
    np.testing.assert_allclose(point.position, expected.to_value(u.m), rtol=0, atol=1e3)
    assert isinstance(sky.frame, Helioprojective)


def test_arcsec_per_pixel() -> None:
    rolled = solar_map(np.zeros((40, 30)), roll=16.58, crval=(0.0, 0.0))
    step = rolled.pixel_to_world([15, 16, 15] * u.pix, [12, 12, 13] * u.pix)
    world = np.stack([step.Tx.to_value(u.arcsec), step.Ty.to_value(u.arcsec)])
    difference = world[:, 1:] - world[:, :1]
    np.testing.assert_allclose(solar.arcsec_per_pixel(rolled.wcs), difference, rtol=1e-4)


# --- reprojecting ----------------------------------------


def test_reprojection_agrees_with_sunpys(rng) -> None:
    first, second = maps(hours=0, dlon=0.5)
    smooth = rng.random((100, 100)).cumsum(0).cumsum(1)
    smooth[40:44, 50:55] = np.nan
    source = sunpy.map.Map(smooth, first.meta)
    found = solar.reproject_map_to_reference(source, second)
    with SphericalScreen(source.observer_coordinate, only_off_disk=True), transform_with_sun_center():
        expected = source.reproject_to(second.wcs)
    both = np.isfinite(found.data) & np.isfinite(expected.data)
    assert both.sum() > 4000
    assert np.nanmax(np.abs(found.data - expected.data)[both]) < 2e-3 * np.nanmax(smooth)
    assert found.coordinate_frame.observer.lon == second.observer_coordinate.lon
    assert np.isnan(found.data).sum() > 20


@pytest.mark.parametrize("algorithm", ["adaptive", "exact"])
def test_other_algorithms_average(rng, algorithm) -> None:
    fine = solar_map(rng.random((120, 120)), cdelt=(2.0, 2.0), roll=3.0)
    coarse = solar_map(np.zeros((40, 40)), cdelt=(8.0, 8.0), roll=3.0, crval=(30.0, -20.0))
    found = solar.reproject_map(fine, coarse, algorithm=algorithm)
    inner = found.data[np.isfinite(found.data)]
    assert inner.std() < 0.6 * 0.2887, "the noise of single pixels is averaged"
    assert inner.mean() == pytest.approx(0.5, abs=0.02)


def test_maps_without_overlap_are_refused() -> None:
    first = solar_map(np.ones((20, 20)), crval=(-500.0, 0.0))
    second = solar_map(np.ones((20, 20)), crval=(500.0, 0.0))
    with pytest.raises(DataError, match="do not overlap"):
        solar.reproject_map_to_reference(first, second)
    with pytest.raises(ValueError, match="algorithm must be"):
        solar.reproject_map(first, first, algorithm="magic")


# --- sampling ----------------------------------------


def test_sampling_is_interpolation(rng) -> None:
    """At pixels the pixels' values come back: splines without a prefilter do not give them."""
    image = rng.random((40, 50))
    y, x = np.mgrid[:40, :50].astype(float)
    for order in (1, 3):
        found = sampling.sample(image, np.ones(image.shape, bool), np.stack([x, y], -1), order=order)
        np.testing.assert_allclose(found, image, atol=1e-12)
    scene = lambda x, y: np.sin(x / 4) * np.cos(y / 5)  # noqa: E731
    points = rng.uniform(5, 34, (500, 2))
    found = sampling.sample(scene(x, y), np.ones(image.shape, bool), points, order=3)
    assert np.abs(found - scene(*points.T)).max() < 1e-3


def test_samples_know_holes_and_edges() -> None:
    image = np.ones((10, 12))
    valid = np.ones(image.shape, bool)
    valid[4, 5] = False
    image[4, 5] = 1e9
    points = [
        [5.0, 4.0],
        [4.5, 4.0],
        [4.0, 4.0],
        [6.0, 4.0],
        [5.0, 3.0],
        [5.0, 3.5],
        [11.0, 9.0],
        [11.01, 9.0],
        [-0.01, 3],
        [np.nan, 1],
    ]
    aside = [[3.5, 4.0], [6.5, 4.5], [3.7, 2.6]]
    for order in (1, 3):
        np.testing.assert_allclose(
            sampling.sample(image, valid, aside, order=order), 1.0, err_msg="a hole does not ring"
        )
        found = sampling.sample(image, valid, points, order=order)
        np.testing.assert_array_equal(np.isnan(found), [1, 1, 0, 0, 0, 1, 0, 1, 1, 1])
        np.testing.assert_allclose(found[np.isfinite(found)], 1.0)


# --- binning ----------------------------------------


def test_binning_is_the_mean_of_the_valid_pixels(rng) -> None:
    data = rng.random((50, 33))
    data[rng.random(data.shape) < 0.2] = np.nan
    old = sunpy.map.Map(data, header((50, 33), roll=16.58, **TIME_AXIS))
    new = solar.bin_map(old, (4, 3), min_valid=0.4)
    assert new.data.shape == (13, 11)
    for i, j in ((0, 0), (5, 7), (12, 10)):
        block = data[4 * i : 4 * i + 4, 3 * j : 3 * j + 3]
        expected = np.nanmean(block) if np.isfinite(block).sum() >= 0.4 * 12 else np.nan
        np.testing.assert_allclose(new.data[i, j], expected)
    center = old.wcs.wcs_pix2world([[3 * 7 + 1, 4 * 5 + 1.5]], 0)
    np.testing.assert_allclose(new.wcs.wcs_pix2world([[7, 5]], 0), center, atol=1e-12)
    assert new.meta["bunit"] == old.meta["bunit"]


def test_binning_in_arcsec_uses_the_length_of_a_pixel() -> None:
    """PC may hold the scale: CDELT of 1 and pixels of 4 by 1.1 arcsec."""
    plain = solar_map(np.zeros((400, 100)), roll=45.0)
    assert solar.bin_factors(plain, 49 * u.arcsec) == (45, 12)
    cd = plain.wcs.pixel_scale_matrix * 3600
    cards = {f"PC{i}_{j}": cd[i - 1, j - 1] for i in (1, 2) for j in (1, 2)}
    odd = sunpy.map.Map(np.zeros((400, 100)), header((400, 100), cdelt=(1.0, 1.0), **cards))
    assert solar.bin_factors(odd, 49 * u.arcsec) == (45, 12)
    assert solar.bin_map(odd, 49 * u.arcsec).data.shape == (9, 9)
    assert solar.bin_factors(plain, 0.1 * u.arcsec) == (1, 1)


def test_binning_refuses() -> None:
    plain = solar_map(np.zeros((40, 10)))
    with pytest.raises(ValueError, match="whole numbers"):
        solar.bin_map(plain, (0, 2))
    with pytest.raises(ValueError, match="positive angle"):
        solar.bin_map(plain, -1 * u.arcsec)
