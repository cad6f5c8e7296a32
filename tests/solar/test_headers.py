"""Maps in all their forms, headers with gaps, and headers that are wrong."""

import re
import sys
from types import SimpleNamespace

import astropy.units as u
import numpy as np
import pytest
import sunpy.map
from astropy.io import fits

from solar.make import header
from stackalign import solar
from stackalign.errors import DataError, MissingDependencyError, StackalignWarning
from stackalign.solar import PixelTransform


@pytest.fixture
def image(rng):
    return rng.random((12, 8)).astype(np.float32)


def test_every_form_is_the_same_map(image, tmp_path) -> None:
    head = header(image.shape, roll=5.0)
    fits.PrimaryHDU(image, head).writeto(tmp_path / "a.fits")
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(image, head)]).writeto(tmp_path / "b.fits")
    whole = sunpy.map.Map(image, head)
    cube = SimpleNamespace(data=image, wcs=whole.wcs, meta=dict(head), unit=u.ct, mask=np.zeros(image.shape, bool))
    forms = [whole, (image, head), (image, dict(head)), tmp_path / "a.fits", str(tmp_path / "b.fits"), cube]
    forms += [fits.ImageHDU(image, head), (image, whole.wcs)]
    for form in forms:
        found = solar.as_map(form)
        np.testing.assert_allclose(found.data, image, atol=1e-2 if "b.fits" in str(form) else 0)
        points = np.array([[0.0, 0.0], [7.0, 11.0]])
        np.testing.assert_allclose(found.wcs.wcs_pix2world(points, 0), whole.wcs.wcs_pix2world(points, 0), atol=1e-12)
        assert solar.observation_time(found) == solar.observation_time(whole)
    assert solar.as_map(cube).unit == u.ct


def test_a_cut_through_a_cube(rng) -> None:
    """What an NDCube of a spectral window is after cube[0, 5, 10:90, 3:]: a sliced WCS of four axes."""
    from astropy.wcs.wcsapi import SlicedLowLevelWCS

    from solar.make import l2_header, wcs_of

    cube = rng.random((1, 8, 100, 12))
    head = l2_header(cube.shape, "made")
    cut = (0, 5, slice(10, 90), slice(3, None))
    sliced = SimpleNamespace(low_level_wcs=SlicedLowLevelWCS(wcs_of(head), cut))
    found = solar.as_map(SimpleNamespace(data=cube[cut], wcs=sliced, meta=dict(head), unit=None, mask=None))
    points = np.array([[0.0, 0.0], [8.0, 79.0]])
    world = wcs_of(head).wcs_pix2world(np.c_[np.add(points, (3, 10)), np.zeros((2, 2))], 0)
    np.testing.assert_allclose(found.wcs.wcs_pix2world(points, 0), world[:, :2], atol=1e-12)
    times = solar.column_times(found.meta, found.data.shape), solar.column_times(solar.collapse_window(
        cube, head, rows=None).map.meta, (100, 12))[3:]  # fmt: skip
    np.testing.assert_allclose((times[0] - times[1]).to_value(u.s), 0, atol=1e-6)
    whole = SimpleNamespace(low_level_wcs=SlicedLowLevelWCS(wcs_of(head), (0, slice(None), 5)))
    for wcs, words in ((whole, "a cut through the cube along x and y"), (7, "only FITS WCS")):
        with pytest.raises(DataError, match=words):
            solar.as_map(SimpleNamespace(data=cube[0, 5], wcs=wcs, meta=dict(head)))


def test_files_with_several_images(image, tmp_path) -> None:
    hdus = [fits.PrimaryHDU(image, header(image.shape)), fits.ImageHDU(image * 2, header(image.shape))]
    hdus.append(fits.ImageHDU(np.zeros((2, 3)), name="WCSDVARR"))
    fits.HDUList(hdus).writeto(tmp_path / "two.fits")
    assert len(solar.read_maps(tmp_path / "two.fits")) == 2
    np.testing.assert_array_equal(solar.read_map(tmp_path / "two.fits", index=1).data, image * 2)
    with pytest.raises(DataError, match="holds 2 images; there is no number 2"):
        solar.read_map(tmp_path / "two.fits", index=2)


def without(image, *keys, **cards):
    head = header(image.shape)
    for key in keys:
        del head[key]
    head.update(cards)
    return image, head


def test_the_date_is_the_average(image) -> None:
    assert solar.observation_time(solar.as_map((image, header(image.shape)))).isot == "2024-10-17T01:37:04.622"
    early = solar.as_map(without(image, "DATE-AVG"))
    assert solar.observation_time(early).isot == "2024-10-17T00:00:50.215"
    with pytest.raises(DataError, match="has no date: set DATE-AVG"):
        solar.as_map(without(image, "DATE-AVG", "DATE-OBS", "DATE-BEG"))


def test_observers(image) -> None:
    keys = ("HGLN_OBS", "HGLT_OBS", "DSUN_OBS")
    with pytest.raises(DataError, match=r"made\.fits has no observer: set HGLN_OBS"):
        solar.as_map(without(image, *keys))
    with pytest.raises(DataError, match="has no observer"):
        solar.as_map(without(image, "HGLN_OBS"))
    near = solar.as_map(without(image, *keys, TELESCOP="TRACE-LIKE", INSTRUME="TRACER", WAVE_LEN="171"))
    assert near.observer_coordinate.radius.to_value(u.AU) == pytest.approx(1, abs=0.02)
    with pytest.warns(StackalignWarning, match="taken to be seen from the Earth"):
        solar.as_map(without(image, *keys, TELESCOP="NEW", INSTRUME="NEW"))
    carrington = solar.as_map(without(image, "HGLN_OBS", CRLN_OBS=329.2, CRLT_OBS=7.47))
    assert carrington.observer_coordinate.radius.to_value(u.m) == pytest.approx(67325530118.5)


def test_what_is_no_map(image, tmp_path) -> None:
    (tmp_path / "text.fits").write_text("nothing")
    fits.PrimaryHDU().writeto(tmp_path / "empty.fits")
    fits.PrimaryHDU(np.zeros((2, 3, 4, 5))).writeto(tmp_path / "four.fits")
    for source, words in [
        (tmp_path / "missing.fits", "missing.fits cannot be read as FITS"),
        (tmp_path / "text.fits", "text.fits cannot be read as FITS"),
        (tmp_path / "empty.fits", "holds no two-dimensional image"),
        (tmp_path / "four.fits", "choose a window of a spectral file"),
        ((np.zeros((2, 3, 4)), header((3, 4))), "two-dimensional image is needed, got the shape (2, 3, 4)"),
        ((image, header(image.shape, CUNIT1="kg", CUNIT2="kg")), "does not describe a solar image"),
        ((image, 3), "must be a header or a WCS, got a int"),
        (7, "got a int"),
    ]:
        with pytest.raises(DataError, match=re.escape(words)):
            solar.as_map(source)


def test_truncated_file(image, tmp_path) -> None:
    fits.PrimaryHDU(np.zeros((100, 100)), header((100, 100))).writeto(tmp_path / "a.fits")
    content = (tmp_path / "a.fits").read_bytes()
    (tmp_path / "cut.fits").write_bytes(content[:20000])
    with pytest.raises(DataError, match=r"cut\.fits cannot be read"):
        solar.read_map(tmp_path / "cut.fits")


def test_valid_pixels(image) -> None:
    image[0, 0], image[1, 1], image[2, 2] = np.nan, np.inf, -9999
    mask = np.zeros(image.shape, bool)
    mask[3, 3] = True
    found = solar.valid_mask(sunpy.map.Map(image, header(image.shape, ANA_MISS=-9999.0), mask=mask))
    assert [tuple(p) for p in np.argwhere(~found)] == [(0, 0), (1, 1), (2, 2), (3, 3)]


def test_pixel_transforms() -> None:
    """Between (x, y) here and the pull matrices (y, x) of the engine."""
    from stackalign import transforms

    pull = transforms.matrices_from_parameters([1.5, -2.5, 1.02, 0.97, 3.0, 0.01], "affine", (10.0, 20.0))
    change = PixelTransform.from_pull(pull)
    np.testing.assert_allclose(change.to_pull(), pull, atol=1e-12)
    reference = np.array([[3.0, 4.0], [50.0, 7.0]])  # (y, x)
    moving = transforms.apply(pull, reference)
    np.testing.assert_allclose(change(moving[:, ::-1]), reference[:, ::-1], atol=1e-12)
    np.testing.assert_allclose(change.inverse()(reference[:, ::-1]), moving[:, ::-1], atol=1e-12)
    both = change.after(change.inverse())
    np.testing.assert_allclose([*both.matrix.ravel(), *both.offset], [1, 0, 0, 1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(change.shift_at((20.0, 10.0)), (-2.5, 1.5), atol=1e-12)


def test_missing_packages_name_the_extra(monkeypatch) -> None:
    import importlib

    for name in [name for name in sys.modules if name.startswith("stackalign.solar")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sunpy.map", None)
    fresh = importlib.import_module("stackalign.solar")
    with pytest.raises(MissingDependencyError, match=r'needs sunpy: pip install "stackalign\[solar\]"'):
        fresh.read_map  # noqa: B018
    with pytest.raises(AttributeError):
        fresh.nonsense  # noqa: B018


# --- real files ---


def test_real_files(shared_data) -> None:
    folder = shared_data / "solar"
    spice = solar.read_map(folder / "SPICE_706_20241017.fits")
    assert spice.data.shape == (830, 96)
    assert solar.valid_mask(spice).mean() == pytest.approx(0.72, abs=0.01)
    np.testing.assert_allclose(solar.step_arcsec(spice.wcs), [6.068, 1.096], atol=0.1)
    fsi = solar.read_map(folder / "eui_fsi174_20220401_crop.fits")
    assert fsi.data.dtype == np.uint8
    assert solar.observation_time(fsi).isot == "2022-04-01T00:00:50.248"
    trace = solar.read_map(folder / "trace_19980519_171.fits")
    assert trace.observer_coordinate.radius.to_value(u.AU) == pytest.approx(1.0118, abs=1e-3)
    assert trace.coordinate_system.axis1 == "HPLN-TAN"


def test_eit_is_repaired(shared_data) -> None:
    file = shared_data / "solar" / "eit_20040301_0000.fits"
    with pytest.warns(StackalignWarning, match="the image is binned by 8"):
        raw = solar.read_map(file)
    eit = solar.read_map(file, repair=True)
    assert eit.meta["cdelt1"] == eit.meta["cdelt2"] == pytest.approx(21.04)
    assert eit.rsun_obs.to_value(u.arcsec) == pytest.approx(979.07, abs=0.01)
    np.testing.assert_allclose(eit.rotation_matrix, -np.eye(2), atol=1e-12)
    assert raw.meta["cdelt1"] == 2.63
    assert solar.repair_map(eit) is eit, "a second repair finds nothing"
    # The disc is as wide in the image as the header says now: half of the light of the limb lies at its radius.
    from stackalign.solar.frames import map_position

    limb = np.rad2deg(np.arcsin(695.7e6 / np.linalg.norm(map_position(eit)))) * 3600 / 21.04
    y, x = np.mgrid[:128, :128] - 63.5
    r = np.hypot(x, y)
    profile = np.array([np.median(eit.data[(r > i) & (r <= i + 1)]) for i in range(60)])
    steepest = np.argmin(np.diff(profile[30:])) + 30
    assert steepest == pytest.approx(limb, abs=5)  # the corona shines beyond it


def test_eit_pair_follows_the_rotation_model(shared_data) -> None:
    """An hour of rotation is half a pixel; with the wrong roll it would be seen the other way round."""
    from scipy.optimize import minimize

    from stackalign.solar.sampling import masked_blur, sample

    folder = shared_data / "solar"
    first, second = (solar.read_map(folder / f"eit_20040301_{hour}.fits", repair=True) for hour in ("0000", "0100"))
    images = []
    for eit in (first, second):
        valid = eit.data > 500  # blocks that were lost are 0; the pedestal is 844
        image = np.log(np.clip(eit.data - 835, 1, None))
        images.append(masked_blur(image, valid, (0.7, 0.7)) - masked_blur(image, valid, (5, 5)))
    y, x = np.mgrid[:128, :128].astype(float)
    still = np.stack([x, y], -1)
    turn = solar.pixel_mapping(second, first, rotation="howard")(still) - still
    inner = np.hypot(x - 63.5, y - 63.5) < 38

    def score(points):
        values = sample(images[0], np.isfinite(images[0]), points)
        both = inner & np.isfinite(values) & np.isfinite(images[1])
        return np.corrcoef(values[both], images[1][both])[0, 1]

    scores = [score(still + share * turn) for share in (1, 0, -1)]
    assert scores[0] > scores[1] > scores[2]
    found = minimize(lambda shift: -score(still + turn + shift), [0.0, 0.0], method="Nelder-Mead")
    assert np.hypot(*found.x) * 21.04 < 2.0, "arcsec; 195 and 171 Angstrom are not the same scene"
