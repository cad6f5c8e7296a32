"""The corrected header says of every pixel what the truth is, whatever the roll, the scale and the projection."""

import re

import astropy.units as u
import numpy as np
import pytest
import sunpy.map
from astropy.io import fits

from solar.make import TIME_AXIS, header, solar_map, wcs_of
from stackalign import solar, transforms
from stackalign.errors import DataError, StackalignWarning
from stackalign.solar import PixelTransform

SHAPE = (120, 60)


def pixels(shape=SHAPE, n=5):
    ny, nx = shape
    x, y = np.meshgrid(np.linspace(0, nx - 1, n), np.linspace(0, ny - 1, n))
    return np.stack([x.ravel(), y.ravel()], axis=-1)


def correction(shape=SHAPE, *, dx=3.7, dy=-5.2, sx=1.02, sy=0.98, angle=0.0):
    c = (np.array(shape) - 1) / 2
    return PixelTransform.from_parameters([dy, dx, sy, sx, angle, 0.0], "affine", c)


def error_pixels(corrected, truth, change, points):
    """Distance in the truth's pixels between where a corrected map puts its pixels and where they are."""
    world = corrected.pixel_to_world(*(points.T * u.pix))
    found = np.stack([q.value for q in truth.world_to_pixel(world)], axis=-1)
    return np.abs(found - change(points)).max()


@pytest.mark.parametrize("roll", [0.0, 2.88, 16.58, 45.0, -120.0])
@pytest.mark.parametrize("crval", [(30.0, -20.0), (700.0, 100.0), (-2000.0, 900.0)])
@pytest.mark.parametrize("angle", [0.0, 0.7])
def test_round_trip(roll, crval, angle) -> None:
    old = solar_map(np.zeros(SHAPE, np.float32), roll=roll, crval=crval)
    change = correction(angle=angle)
    new = solar.correct_map(old, change)
    assert error_pixels(new, old, change, pixels()) < 1e-6
    assert new.data is old.data or (new.data.dtype == np.float32 and np.shares_memory(new.data, old.data))


@pytest.mark.parametrize("projection", ["TAN", "CAR", "ZPN", "SIN", "ARC"])
def test_round_trip_in_other_projections(projection) -> None:
    cards = {"CTYPE1": f"HPLN-{projection}", "CTYPE2": f"HPLT-{projection}"}
    cards |= {"PV2_1": 1.0, "PV2_3": -0.3} if projection == "ZPN" else {}
    old = header(SHAPE, roll=10.0, crval=(0.0, 0.0) if projection == "CAR" else (700.0, 200.0), **cards)
    change = correction(angle=1.0)
    new = solar.corrected_header(old, change)
    found = wcs_of(new).wcs_pix2world(pixels(), 0)
    assert np.abs(found - wcs_of(old).wcs_pix2world(change(pixels()), 0)).max() * 3600 < 1e-6


def test_the_shift_is_not_scaled() -> None:
    """The model is c + S(q - c) + d: with CD' d instead of CD d every pixel was off by (s - 1) d."""
    old = solar_map(np.zeros(SHAPE))
    change = correction(dx=20, dy=-60)
    new = solar.correct_map(old, change)
    wrong = correction(dx=20 * 1.02, dy=-60 * 0.98)
    assert error_pixels(new, old, change, pixels()) < 1e-6
    assert error_pixels(new, old, wrong, pixels()) > 1.0


def test_cdelt_stays_near_and_pc_stays_a_rotation() -> None:
    old = header(SHAPE, roll=16.58)
    new = solar.corrected_header(old, correction(angle=0.0))
    assert new["CDELT1"] == pytest.approx(4.0 * 1.02)
    assert new["CDELT2"] == pytest.approx(1.098 * 0.98)
    assert new["CROTA"] == pytest.approx(16.58, abs=1e-9)
    turned = solar.corrected_header(old, correction(sx=1, sy=1, angle=0.7))
    assert np.hypot(*np.array([turned["CDELT1"], turned["CDELT2"]]) / (4.0, 1.098)) == pytest.approx(
        np.sqrt(2), abs=0.02
    )


def test_rotation_updates_crota() -> None:
    """Square pixels: a content turned from +x towards +y is a header turned by the same angle."""
    for roll, sign in ((16.58, 1.0), (16.58, -1.0)):
        old = header(SHAPE, roll=roll, cdelt=(2.0, 2.0))
        old["CROTA"] = sign * roll
        change = PixelTransform.about((10, 10), [[np.cos(0.01), -np.sin(0.01)], [np.sin(0.01), np.cos(0.01)]])
        new = solar.corrected_header(old, change)
        assert new["CROTA"] == pytest.approx(sign * (roll + np.rad2deg(0.01)), abs=1e-9)
        assert new["PC1_1"] == pytest.approx(np.cos(np.deg2rad(roll) + 0.01))


def test_a_foreign_crota_is_left_with_a_warning() -> None:
    old = header(SHAPE, roll=10.0, cdelt=(2.0, 2.0))
    old["CROTA"] = 77.0
    with pytest.warns(StackalignWarning, match="CROTA = 77 is not the angle"):
        new = solar.corrected_header(old, correction(angle=1.0))
    assert new["CROTA"] == 77.0


@pytest.mark.parametrize("form", ["cd", "cd and cdelt", "crota2", "none"])
def test_other_forms_of_the_matrix(form) -> None:
    old = header(SHAPE, roll=0.0 if form == "none" else 20.0)
    cd = wcs_of(old).wcs.cdelt[:, None] * wcs_of(old).wcs.pc * 3600
    for key in ("PC1_1", "PC1_2", "PC2_1", "PC2_2", "CROTA"):
        del old[key]
    if form.startswith("cd"):
        for i in (1, 2):
            for j in (1, 2):
                old[f"CD{i}_{j}"] = cd[i - 1, j - 1]
        if form == "cd":
            del old["CDELT1"], old["CDELT2"]
    elif form == "crota2":
        old["CROTA2"] = 20.0
    change = correction(angle=0.4)
    truth = wcs_of(old)
    new = solar.corrected_header(old, change)
    assert not [key for key in new if re.fullmatch(r"CD\d_\d", key)]
    assert np.abs(wcs_of(new).wcs_pix2world(pixels(), 0) - truth.wcs_pix2world(change(pixels()), 0)).max() * 3600 < 1e-6
    made = sunpy.map.Map(np.zeros(SHAPE), new)
    assert np.abs(made.wcs.wcs_pix2world(pixels(), 0) - wcs_of(new).wcs_pix2world(pixels(), 0)).max() * 3600 < 1e-6


def test_every_other_key_stays() -> None:
    old = header(SHAPE, roll=5.0, **TIME_AXIS, SLIT_WID=4.0, PRPROC1="kept")
    old["CRVAL1"] = (old["CRVAL1"], "a comment")
    old.add_history("once upon a time")
    new = solar.corrected_header(old, correction())
    changed = {"CRPIX1", "CRPIX2", "CDELT1", "CDELT2", "PC1_1", "PC1_2", "PC2_1", "PC2_2", "CROTA", "CRVAL3"}
    assert list(new) == list(old)
    for key in set(old) - changed:
        assert str(new[key]) == str(old[key])
        assert new.comments[key] == old.comments[key]
    assert new["CRVAL1"] == old["CRVAL1"]
    assert old["CRPIX1"] == SHAPE[1] / 2 + 3.25, "the input is not changed"


def test_map_keeps_mask_unit_uncertainty_and_settings() -> None:
    from astropy.nddata import StdDevUncertainty

    data = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    mask = data % 7 == 0
    old = sunpy.map.Map(data, header(SHAPE), mask=mask, uncertainty=StdDevUncertainty(np.ones(SHAPE)))
    old.plot_settings["vmax"] = 3
    new = solar.correct_map(old, correction())
    assert new.data.dtype == np.int16
    np.testing.assert_array_equal(new.mask, mask)
    assert new.unit == old.unit
    assert new.plot_settings["vmax"] == 3
    new.plot_settings["vmax"] = 4
    assert old.plot_settings["vmax"] == 3
    np.testing.assert_array_equal(new.uncertainty.array, 1)


@pytest.mark.parametrize("pc", [-120.3, 90.3])
def test_the_time_of_a_column_does_not_move(pc) -> None:
    old = header(SHAPE, roll=16.58, **TIME_AXIS)
    old["PC3_1"] = pc
    new = solar.corrected_header(old, correction(angle=0.5))
    assert abs(new["CRPIX1"] - old["CRPIX1"]) > 1
    column = np.arange(SHAPE[1])
    times = [h["CRVAL3"] + h["CDELT3"] * h["PC3_1"] * (column + 1 - h["CRPIX1"]) for h in (old, new)]
    np.testing.assert_allclose(times[1], times[0], atol=1e-8)


def test_a_binned_column_has_the_mean_time() -> None:
    old = header(SHAPE, roll=16.58, **TIME_AXIS)
    grid = PixelTransform(np.diag([3.0, 4.0]), np.array([1.0, 1.5]))
    new = solar.regridded_header(old, grid, shape=(30, 20))
    times = [
        h["CRVAL3"] + h["CDELT3"] * h["PC3_1"] * (np.arange(n) + 1 - h["CRPIX1"]) for h, n in ((old, 60), (new, 20))
    ]
    np.testing.assert_allclose(times[1], times[0].reshape(20, 3).mean(axis=1), atol=1e-8)
    q = pixels((30, 20))
    found, truth = (wcs_of(h).wcs_pix2world(np.insert(p, 2, 0, axis=1), 0) for h, p in ((new, q), (old, grid(q))))
    assert np.abs(found - truth)[:, :2].max() * 3600 < 1e-6
    assert (new["NAXIS1"], new["NAXIS2"]) == (20, 30)


def test_four_axes() -> None:
    """SPICE L2: time on the fourth axis is coupled to x, the wavelength to nothing."""
    cards = {"WCSAXES": 4, "CTYPE3": "WAVE", "CUNIT3": "nm", "CRPIX3": 16.5, "CDELT3": 0.0098, "CRVAL3": 77.04}
    cards |= {"CTYPE4": "TIME", "CUNIT4": "s", "CRPIX4": 1.0, "CDELT4": 1.0, "CRVAL4": 450.0, "PC4_1": -5.2}
    old = header(SHAPE, roll=7.0, **cards)
    new = solar.corrected_header(old, correction())
    points = np.concatenate([pixels(), np.full((25, 2), 4.0)], axis=1)
    moved = np.concatenate([correction()(pixels()), np.full((25, 2), 4.0)], axis=1)
    found, there, here = (wcs_of(h).wcs_pix2world(p, 0) for h, p in ((new, points), (old, moved), (old, points)))
    np.testing.assert_allclose(found[:, :2], there[:, :2], atol=1e-10)
    np.testing.assert_allclose(found[:, 2:], here[:, 2:], atol=1e-8)


def test_nothing_changes_without_a_correction() -> None:
    old = header(SHAPE, roll=16.58, **TIME_AXIS, XCEN=1.0, YCEN=2.0)
    new = solar.corrected_header(old, PixelTransform.identity(), shape=SHAPE)
    for key in old:
        assert new[key] == pytest.approx(old[key], rel=1e-14) if isinstance(old[key], float) else new[key] == old[key]


def test_xcen_follows() -> None:
    old = header(SHAPE, roll=0.0, crpix=(30.5, 60.5), crval=(100.0, 50.0), XCEN=100.0, YCEN=50.0)
    new = solar.corrected_header(old, correction(dx=2, dy=3, sx=1, sy=1), shape=SHAPE)
    assert (new["XCEN"], new["YCEN"]) == pytest.approx((108.0, 50 + 3 * 1.098))


def test_sip() -> None:
    cards = {
        "CTYPE1": "HPLN-TAN-SIP",
        "CTYPE2": "HPLT-TAN-SIP",
        "A_ORDER": 2,
        "B_ORDER": 2,
        "A_2_0": 1e-4,
        "B_1_1": -2e-4,
    }
    old = header(SHAPE, roll=3.0, **cards)
    shift = PixelTransform(np.eye(2), np.array([3.5, -2.25]))
    found = wcs_of(solar.corrected_header(old, shift)).all_pix2world(pixels(), 0)
    assert np.abs(found - wcs_of(old).all_pix2world(shift(pixels()), 0)).max() * 3600 < 1e-6, (
        "a shift carries them exactly"
    )
    with pytest.raises(DataError, match="SIP distortions, which hold"):
        solar.corrected_header(old, correction())


def test_tables_of_distortions_are_carried_with_a_warning() -> None:
    old = header(SHAPE)
    old["CPDIS1"] = "LOOKUP"
    with pytest.warns(StackalignWarning, match="tables of distortions"):
        assert solar.corrected_header(old, correction())["CPDIS1"] == "LOOKUP"


def test_alternate_coordinates_are_left_alone() -> None:
    old = header(SHAPE, CRVAL1A=5.0, CRPIX1A=6.0)
    with pytest.warns(StackalignWarning, match=r"alternate coordinates \(A\)"):
        new = solar.corrected_header(old, correction())
    assert (new["CRVAL1A"], new["CRPIX1A"]) == (5.0, 6.0)


def test_what_cannot_be_corrected() -> None:
    with pytest.raises(DataError, match="solar longitude and latitude, got CTYPE1 = 'WAVE'"):
        solar.corrected_header(header(SHAPE, CTYPE1="WAVE"), correction())
    with pytest.raises(DataError, match="singular"):
        solar.corrected_header(header(SHAPE, PC1_1=0.0, PC1_2=0.0), correction())
    cards = TIME_AXIS | {"CTYPE3": "UTC -TAB"}
    with pytest.raises(DataError, match="not linear"):
        solar.corrected_header(header(SHAPE, **cards), correction())
    with pytest.raises(ValueError, match="singular"):
        PixelTransform(np.zeros((2, 2)), np.zeros(2))


# --- the seeds' names ----------------------------------------


def test_seed_functions_use_the_optimisers_centre() -> None:
    old = solar_map(np.zeros(SHAPE), roll=12.0)
    best = {"dx": 3.7, "dy": -5.2, "squeeze_x": 1.02, "squeeze_y": 0.98, "corr": 0.9}
    new = solar.make_corrected_wcs_map(old, best, verbose=0)
    assert error_pixels(new, old, correction(), pixels()) < 1e-6
    meta = solar.build_corrected_wcs_meta_scale_shift(old, 3.7, -5.2, 1.02, 0.98)
    assert dict(meta) == dict(new.meta)
    about = solar.make_corrected_wcs_map(old, best, center=(10.0, 20.0))
    c = transforms.matrices_from_parameters([-5.2, 3.7, 0.98, 1.02], "shift+scale", (10.0, 20.0))
    assert error_pixels(about, old, PixelTransform.from_pull(c), pixels()) < 1e-6


@pytest.mark.parametrize("roll", [0.0, 16.58, 45.0])
def test_find_original_correction(roll) -> None:
    """A rolled raster with oblong pixels, and an imager with square ones at another time and place of the orbit."""
    rng = np.random.default_rng(0)
    raster = solar_map(rng.random((400, 96)), roll=roll, crval=(200.0, 150.0))
    truth = correction((400, 96), dx=4.0, dy=-9.0, sx=1.012, sy=0.991)
    imager = header((300, 300), cdelt=(4.4, 4.4), crval=(150.0, 100.0), roll=4.26)
    imager["HGLN_OBS"] += 0.02
    imager["DATE-AVG"] = "2024-10-17T01:40:00"
    uncorrected = sunpy.map.Map(np.zeros((300, 300)), imager)
    # The truth on the imager's grid, by the mapping of the uncorrected headers.
    to_grid = solar.local_transform(solar.pixel_mapping(raster, uncorrected), (400, 96))
    on_imager = to_grid.after(truth).after(to_grid.inverse())
    corrected = solar.correct_map(uncorrected, on_imager)
    found = solar.find_original_correction(corrected, uncorrected, raster)
    assert error_pixels(found, raster, truth, pixels((400, 96))) < 0.01
    assert found.observer_coordinate.lon == raster.observer_coordinate.lon
    assert found.meta["date-avg"] == raster.meta["date-avg"]


def test_a_scale_of_the_imagers_axes_is_a_shear_on_a_rolled_raster() -> None:
    raster = solar_map(np.zeros((400, 96)), roll=45.0, cdelt=(2.0, 2.0), crval=(0.0, 0.0))
    uncorrected = solar_map(np.zeros((300, 300)), roll=0.0, cdelt=(4.4, 4.4), crval=(0.0, 0.0))
    corrected = solar.make_corrected_wcs_map(uncorrected, {"squeeze_x": 1.04, "squeeze_y": 0.96})
    found = solar.find_original_correction(corrected, uncorrected, raster)
    change = np.linalg.inv(raster.wcs.pixel_scale_matrix) @ found.wcs.pixel_scale_matrix
    np.testing.assert_allclose(change, [[1.0, -0.04], [-0.04, 1.0]], atol=1e-5)


def test_maps_that_do_not_meet() -> None:
    raster = solar_map(np.zeros(SHAPE))
    elsewhere = header(SHAPE)
    elsewhere["HGLN_OBS"] += 180
    behind = sunpy.map.Map(np.zeros(SHAPE), elsewhere)
    with pytest.raises(DataError, match="do not see the same part of the Sun"):
        solar.find_original_correction(behind, behind, raster)


def test_fits_header_survives_a_file(tmp_path) -> None:
    old = header(SHAPE, roll=16.58, **TIME_AXIS)
    new = solar.corrected_header(old, correction())
    fits.PrimaryHDU(np.zeros(SHAPE), new).writeto(tmp_path / "a.fits")
    read = solar.read_map(tmp_path / "a.fits")
    assert error_pixels(read, sunpy.map.Map(np.zeros(SHAPE), old), correction(), pixels()) < 1e-6


def test_angles_that_only_the_instruments_class_reads() -> None:
    """RHESSI's maps turn by CROTA, which is no key of the standard: the matrix that was used is written out."""
    head = header(SHAPE, cdelt=(4.0, 4.0), CTYPE1="arcsec", CTYPE2="arcsec", CUNIT1="arcsec", CUNIT2="arcsec")
    for key in ("PC1_1", "PC1_2", "PC2_1", "PC2_2"):
        del head[key]
    head.update({"INSTRUME": "RHESSI", "TELESCOP": "RHESSI", "CTYPE1": "HPLN-TAN", "CTYPE2": "HPLT-TAN", "CROTA": 12.0})
    head["ENERGY_L"], head["ENERGY_H"], head["ORIGIN"] = 12.0, 25.0, "RHESSI"
    old = sunpy.map.Map(np.zeros(SHAPE), dict(head) | {"keycomments": {"DATE_OBS": "", "TIMESYS": ""}})
    assert old.rotation_matrix[1, 0] == pytest.approx(np.sin(np.deg2rad(12)))
    new = solar.correct_map(old, correction(angle=0.5))
    assert error_pixels(new, old, correction(angle=0.5), pixels()) < 1e-6
