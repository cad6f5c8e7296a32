"""Windows of SPICE collapsed, and files with corrected headers around the same bytes."""

import re
import warnings

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from astropy.time import Time

from solar.make import header, l2_file, l2_header
from stackalign import solar
from stackalign.errors import DataError, OutputExistsError, StackalignWarning
from stackalign.solar import PixelTransform


def read(path, index=0, **settings):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with fits.open(path, memmap=False, **settings) as hdus:
            return hdus[index].data, hdus[index].header


@pytest.fixture
def l2(tmp_path, rng):
    return tmp_path / "solo_L2.fits", l2_file(tmp_path / "solo_L2.fits", rng)


def test_windows_are_listed(l2) -> None:
    infos = solar.spectral_windows(l2[0])
    assert [info.name for info in infos] == ["N IV 765 - Peak", "Ne VIII 770 - LW", "Dumbbell"]
    assert infos[0].shape == (1, 32, 800, 24)
    assert [info.dumbbell for info in infos] == [False, False, True]
    assert infos[0].wavelengths.to_value(u.nm) == pytest.approx([77.04 - 15.5 * 0.0098, 77.04 + 15.5 * 0.0098])


def test_a_window_becomes_a_map(l2) -> None:
    """The line's intensity comes back: continuum off, rows of the slit, NaN where nothing is."""
    path, intensity = l2
    found = solar.read_window(path, continuum="ends", statistic="sum")
    image = found.map.data
    rows = np.flatnonzero(np.isfinite(image).all(axis=1))
    # The slit lights rows 212-811 of the detector (from 0), 20 are left out at each end, the window begins at 112.
    assert (rows[0], rows[-1]) == (212 + 20 - 112, 812 - 20 - 112 - 1)
    assert len(rows) == 560
    np.testing.assert_allclose(image[rows], intensity[rows], rtol=2e-3)
    assert np.isnan(image[: rows[0]]).all()
    assert found.channels == 32
    assert (found.count[rows] == 32).all()
    assert (found.count[:60] == 0).all()


def test_the_maps_coordinates_are_those_of_the_window(l2) -> None:
    found = solar.read_window(l2[0]).map
    data, head = read(l2[0])
    from solar.make import wcs_of

    points = np.array([[0.0, 0.0], [23.0, 799.0], [5.0, 300.0]])
    world = wcs_of(head).wcs_pix2world(np.c_[points, np.zeros((3, 2))], 0)
    np.testing.assert_allclose(found.wcs.wcs_pix2world(points, 0), world[:, :2], atol=1e-12)
    seconds = (solar.column_times(found.meta, found.data.shape) - Time(head["DATEREF"])).to_value(u.s)
    np.testing.assert_allclose(seconds, wcs_of(head).wcs_pix2world(np.c_[np.arange(24), np.zeros((24, 3))], 0)[:, 3])
    for key in ("DETECTOR", "LEVEL", "XPOSURE", "FILENAME", "VAR_KEYS", "BUNIT"):
        assert found.meta[key] == head[key]
    assert found.meta["ctype3"] == "UTC"
    assert "pc4_1" not in found.meta
    middle = found.pixel_to_world(11.5 * u.pix, 399.5 * u.pix)
    assert middle.Tx.to_value(u.arcsec) == pytest.approx(-72.0), "359.98 degrees"
    assert data.shape == (1, 32, 800, 24)


def test_windows_are_chosen(l2) -> None:
    path, _ = l2
    first = solar.read_window(path).map.data
    for window in (1, "Ne VIII 770 - LW", "ne viii"):
        np.testing.assert_allclose(solar.read_window(path, window).map.data, 2 * first, rtol=1e-6)
    for window in (3, -1, "7", "He"):
        with pytest.raises(DataError, match="its windows are 0: N IV 765"):
            solar.read_window(path, window)


def test_intervals_and_continua(l2) -> None:
    path, _ = l2
    data, _ = read(path)
    rows = slice(150, 600)
    step, middle = 0.0098, 77.04
    for interval in ([middle - 3.1 * step, middle + 3.1 * step] * u.nm, [770.4 - 0.31, 770.4 + 0.31] * u.AA):
        found = solar.read_window(path, interval=interval)
        assert found.channels == 6
        np.testing.assert_allclose(found.map.data[rows], data[0, 13:19, rows].mean(axis=0), rtol=1e-6)
    ends = solar.read_window(path, continuum="ends").map.data
    upper = solar.read_window(path, interval=[middle, middle + 20 * step] * u.nm, continuum="ends", statistic="sum")
    np.testing.assert_allclose(upper.map.data[rows], l2[1][rows] / 2, rtol=3e-3, err_msg="half of the line")
    parts = [[middle - 15.6 * step, middle - 12.4 * step] * u.nm, [middle + 12.4 * step, middle + 15.6 * step] * u.nm]
    np.testing.assert_allclose(solar.read_window(path, continuum=parts).map.data, ends, atol=1e-2)
    with pytest.raises(DataError, match=r"has no channel between 80 and 81 nm; it has 76\.88"):
        solar.read_window(path, interval=[80, 81] * u.nm)


def test_missing_channels_are_not_dark(rng) -> None:
    """nansum made 0 of an empty spectrum and a fainter pixel of one with gaps."""
    cube = np.full((1, 10, 4, 5), 3.0)
    cube[0, :4, 1, 1] = np.nan
    cube[0, :6, 2, 2] = np.nan
    cube[0, :, 3, 3] = np.nan
    head = l2_header(cube.shape, "made")
    found = solar.collapse_window(cube, head, statistic="sum", rows=None)
    assert found.map.data[1, 1] == pytest.approx(30.0)
    assert np.isnan(found.map.data[[2, 3], [2, 3]]).all()
    assert found.count[1, 1] == 6
    assert np.isnan(solar.collapse_window(cube, head, rows=slice(0, 2)).map.data[2:]).all()


def test_what_cannot_be_collapsed() -> None:
    cube = np.ones((1, 10, 4, 5))
    head = l2_header(cube.shape, "made")
    for bad, words in [
        ({"cube": np.full(cube.shape, np.nan)}, "made has no valid pixel"),
        ({"cube": np.ones((5, 10, 4, 1))}, "made is a sit-and-stare"),
        ({"cube": cube[0]}, "a window (t, wavelength, y, x) is needed"),
        ({"cube": cube, "repeat": 1}, "made has 1 repetitions"),
    ]:
        with pytest.raises(DataError, match=re.escape(words)):
            solar.collapse_window(header=head, rows=None, **bad)
    with pytest.raises(DataError, match="no row of the window lies on the slit"):
        solar.collapse_window(cube, l2_header(cube.shape, "made", first_row=1))


def test_a_flat_file_is_its_map(shared_data) -> None:
    found = solar.read_window(shared_data / "solar" / "SPICE_706_20241017.fits")
    assert found.map.data.shape == (830, 96)
    assert found.count.sum() == np.isfinite(found.map.data).sum()


# --- writing ---


def change(shape=(800, 24)):
    c = np.array(shape[::-1]) / 2 - 0.5
    return PixelTransform.about(c, [[1.012, 0.002], [-0.003, 0.991]], (4.0, -9.0))


def test_all_windows_of_the_raster_are_corrected(l2, tmp_path) -> None:
    path, _ = l2
    facts = {"score": 0.91, "sigma_x": 0.02, "sigma_y": 0.03, "reference": "fsi.fits", "phase": "two"}
    done = solar.write_corrected(path, tmp_path / "out.fits", change(), provenance=facts)
    assert done.corrected == ("N IV 765 - Peak", "Ne VIII 770 - LW", "Dumbbell")
    assert done.transferred == ("Dumbbell",)
    assert done.left == ()
    for index in range(5):
        (old, before), (new, after) = read(path, index), read(done.path, index)
        assert new.tobytes() == old.tobytes()
        assert new.dtype == old.dtype
        if index > 2:
            assert after.tostring() == before.tostring()
            continue
        if index == 2:
            assert after["XC_REF"] == "fsi.fits"
            continue
        expected = solar.corrected_header(before, change(), shape=(800, 24))
        for key in set(before) - {"CHECKSUM", "DATASUM", "FILENAME", "HISTORY", "COMMENT", ""}:
            assert after[key] == expected[key], key
        assert after["XC_CORR"] == 0.91
        assert (after["XC_DX"], after["XC_DY"]) == pytest.approx((4.0, -9.0))
        assert after["XC_REF"] == "fsi.fits"
        assert after["PARENT"] == before["FILENAME"]
        assert after["FILENAME"] == "out.fits"
        assert any("phase = two" in line for line in after["HISTORY"])
        assert "CRPIX1 = 12.5" in "".join(after["HISTORY"])
        assert max(len(key) for key in after) <= 8
    with fits.open(done.path, checksum=True) as hdus, warnings.catch_warnings():
        warnings.simplefilter("error")  # a wrong checksum warns
        for hdu in hdus:
            assert hdu.verify_checksum() == 1
            assert hdu.verify_datasum() == 1


def test_the_corrected_file_is_where_the_truth_is(l2, tmp_path) -> None:
    before = solar.read_window(l2[0]).map
    solar.write_corrected(l2[0], tmp_path / "out.fits", change())
    after = solar.read_window(tmp_path / "out.fits", 1).map
    points = np.array([[0.0, 0.0], [23.0, 799.0], [5.0, 300.0]])
    truth = before.wcs.wcs_pix2world(change()(points), 0)
    assert np.abs(after.wcs.wcs_pix2world(points, 0) - truth).max() * 3600 < 1e-6
    np.testing.assert_array_equal(
        solar.column_times(after.meta, (800, 24)).isot, solar.column_times(before.meta, (800, 24)).isot
    )


@pytest.mark.parametrize("dtype", [">i2", "u2", ">f8", "f4", "u1"])
def test_data_keep_their_type(tmp_path, rng, dtype) -> None:
    image = rng.integers(0, 200, (30, 20)).astype(dtype)
    fits.PrimaryHDU(image, header((30, 20))).writeto(tmp_path / "a.fits")
    solar.write_corrected(tmp_path / "a.fits", tmp_path / "b.fits", change((30, 20)))
    raw = [read(tmp_path / name, do_not_scale_image_data=True) for name in ("a.fits", "b.fits")]
    assert raw[0][0].dtype == raw[1][0].dtype
    np.testing.assert_array_equal(raw[1][0], raw[0][0])
    for key in ("BITPIX", "BZERO", "BSCALE", "BLANK"):
        assert raw[0][1].get(key) == raw[1][1].get(key)
    np.testing.assert_array_equal(read(tmp_path / "b.fits")[0], image)


@pytest.mark.parametrize("kind", ["RICE_1", "GZIP_2", "quantised"])
def test_compressed_images_stay_as_they_are(tmp_path, rng, kind) -> None:
    image = rng.normal(100, 10, (60, 40)).astype(np.float32 if kind == "quantised" else np.int16)
    settings = (
        {"compression_type": "RICE_1", "quantize_level": 4} if kind == "quantised" else {"compression_type": kind}
    )
    compressed = fits.CompImageHDU(image, header((60, 40)), name="FSI", **settings)
    fits.HDUList([fits.PrimaryHDU(), compressed]).writeto(tmp_path / "a.fits", checksum=True)
    with fits.open(tmp_path / "a.fits", mode="update", disable_image_compression=True) as hdus:
        hdus[1].header["ZHECKSUM"] = "of the uncompressed HDU"
    done = solar.write_corrected(tmp_path / "a.fits", tmp_path / "b.fits", change((60, 40)))
    assert done.corrected == ("FSI",)
    assert "ZHECKSUM" not in read(tmp_path / "b.fits", 1, disable_image_compression=True)[1]
    tables = [read(tmp_path / name, 1, disable_image_compression=True)[0] for name in ("a.fits", "b.fits")]
    for old, new in zip(*(table["COMPRESSED_DATA"] for table in tables), strict=True):
        np.testing.assert_array_equal(old, new)
    (old, before), (new, after) = (read(tmp_path / name, 1) for name in ("a.fits", "b.fits"))
    np.testing.assert_array_equal(new, old)
    assert after["CRPIX1"] == solar.corrected_header(before, change((60, 40)))["CRPIX1"]
    found, truth = solar.read_map(tmp_path / "b.fits"), solar.read_map(tmp_path / "a.fits")
    p = np.array([[3.0, 4.0]])
    expected = truth.wcs.wcs_pix2world(change((60, 40))(p), 0)
    np.testing.assert_allclose(found.wcs.wcs_pix2world(p, 0), expected, atol=1e-10)


def test_a_second_correction_is_refused_or_recorded(l2, tmp_path) -> None:
    solar.write_corrected(l2[0], tmp_path / "one.fits", change())
    with pytest.raises(DataError, match=r"one\.fits carries a correction already .* again=True"):
        solar.write_corrected(tmp_path / "one.fits", tmp_path / "two.fits", change())
    assert not (tmp_path / "two.fits").exists()
    solar.write_corrected(tmp_path / "one.fits", tmp_path / "two.fits", change(), again=True)
    _, after = read(tmp_path / "two.fits")
    assert after["XC_N"] == 2
    assert after["PARENT"] == "one.fits"
    assert sum("correction" in line for line in after["HISTORY"]) == 2


def test_outputs_are_not_overwritten(l2, tmp_path) -> None:
    (tmp_path / "there.fits").write_text("mine")
    with pytest.raises(OutputExistsError, match="exists"):
        solar.write_corrected(l2[0], tmp_path / "there.fits", change())
    assert (tmp_path / "there.fits").read_text() == "mine"
    with pytest.raises(DataError, match="must be another one"):
        solar.write_corrected(l2[0], l2[0], change(), overwrite=True)
    with pytest.raises(DataError, match="its folder is not there or is read-only"):
        solar.write_corrected(l2[0], tmp_path / "nowhere" / "out.fits", change())
    solar.write_corrected(l2[0], tmp_path / "there.fits", change(), overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["solo_L2.fits", "there.fits"]


def test_sources_that_cannot_be_corrected(tmp_path, l2) -> None:
    (tmp_path / "text.fits").write_text("nothing")
    fits.PrimaryHDU(np.ones((3, 4))).writeto(tmp_path / "bare.fits")
    for source, words in (("text.fits", "cannot be read as FITS"), ("bare.fits", "no image with solar coordinates")):
        with pytest.raises(DataError, match=words):
            solar.write_corrected(tmp_path / source, tmp_path / "out.fits", change())
    with pytest.raises(DataError, match="no image with solar coordinates in HDU 'VARIABLE_KEYWORDS'"):
        solar.write_corrected(l2[0], tmp_path / "out.fits", change(), hdu="VARIABLE_KEYWORDS")
    content = l2[0].read_bytes()
    (tmp_path / "cut.fits").write_bytes(content[: len(content) // 3])
    with pytest.raises(DataError, match=r"cut\.fits: the window .N IV 765 - Peak. cannot be read"):
        solar.read_window(tmp_path / "cut.fits")
    with pytest.raises(DataError, match=r"cut\.fits is truncated: \d+ bytes of \d+"):
        solar.write_corrected(tmp_path / "cut.fits", tmp_path / "out.fits", change())
    assert not (tmp_path / "out.fits").exists()


def test_distortions_are_carried_with_a_warning(tmp_path, rng) -> None:
    head = header((30, 20))
    head["CPDIS1"] = "LOOKUP"
    fits.PrimaryHDU(np.ones((30, 20)), head).writeto(tmp_path / "a.fits")
    with pytest.warns(StackalignWarning, match="tables of distortions"):
        solar.write_corrected(tmp_path / "a.fits", tmp_path / "b.fits", change((30, 20)))


def test_packed_files_and_names_of_any_alphabet(tmp_path, rng) -> None:
    image = rng.random((30, 20)).astype(np.float32)
    fits.PrimaryHDU(image, header((30, 20), FILENAME="a.fits")).writeto(tmp_path / "Größe.fits.gz")
    facts = {"reference": "référence.fits", "model": "Größe"}
    written = solar.write_corrected(
        tmp_path / "Größe.fits.gz", tmp_path / "Höhe.fits", change((30, 20)), provenance=facts
    )
    data, head = read(written.path)
    np.testing.assert_array_equal(data, image)
    assert (head["FILENAME"], head["XC_REF"], head["PARENT"]) == ("H?he.fits", "r?f?rence.fits", "a.fits")


def test_maps_are_written(tmp_path, rng) -> None:
    image = rng.integers(0, 9, (30, 20)).astype(np.int16)
    made = solar.as_map((image, header((30, 20), PRSTEP1="kept")))
    solar.write_map(made, tmp_path / "a.fits", xc_ref="b")
    data, head = read(tmp_path / "a.fits")
    np.testing.assert_array_equal(data, image)
    assert data.dtype == np.dtype(">i2")
    assert (head["PRSTEP1"], head["XC_REF"]) == ("kept", "b")
    with pytest.raises(OutputExistsError):
        solar.write_map(made, tmp_path / "a.fits")


def test_real_files_are_corrected(shared_data, tmp_path) -> None:
    for name in ("SPICE_706_20241017.fits", "eui_fsi174_20220401_crop.fits", "trace_19980519_171.fits"):
        source = shared_data / "solar" / name
        before = solar.read_map(source)
        correction = change(before.data.shape)
        solar.write_corrected(source, tmp_path / name, correction)
        after = solar.read_map(tmp_path / name)
        np.testing.assert_array_equal(after.data, before.data)
        points = np.array([[0.0, 0.0], [50.0, 700.0]])
        error = after.wcs.wcs_pix2world(points, 0) - before.wcs.wcs_pix2world(correction(points), 0)
        assert np.abs((error + 180) % 360 - 180).max() * 3600 < 1e-5
        assert set(before.meta) <= set(after.meta)
