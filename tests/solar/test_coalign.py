"""Coalignment of rasters with an imager: known errors of a header are found again."""

import json
from types import SimpleNamespace

import astropy.units as u
import numpy as np
import pytest
import sunpy.map
from astropy.io import fits

from solar.make import header, solar_map
from solar.problem import error_arcsec, raster_of
from stackalign import solar
from stackalign.errors import DataError
from stackalign.registration import FLAGS
from stackalign.solar.coalign import coalign_job, run_jobs
from stackalign.solar.skymodel import MODELS, SkyModel

ERRORS = {
    "shift": {},
    "shift+scale": {"scale": (1.01, 0.997)},
    "shift+scale_x": {"scale": (1.01, 1.0)},
    "shift+scale_y": {"scale": (1.0, 0.997)},
    "rigid": {"roll_error": 0.3},
    "similarity": {"roll_error": -0.3, "scale": (1.01, 1.01)},
    "shift+scale+angle": {"roll_error": 0.3, "scale": (1.01, 1.0)},
    "affine": {"roll_error": 0.3, "scale": (1.01, 1.0)},
}


@pytest.mark.parametrize(("noise", "model"), [(0.05, model) for model in MODELS] + [(0.2, "shift+scale+angle")])
def test_known_errors(scene, rng, noise, model) -> None:
    """Pixels of 6.0 by 1.098 arcsec: 0.2 and 0.055 arcsec are a thirtieth and a twentieth of them."""
    error = ERRORS[model]
    rows = 400 if noise < 0.1 else 830  # all that SPICE has
    target, true = raster_of(
        scene, rng, shape=(rows, 96), noise=noise, blank=0.05, error=(37.0, -22.0), **ERRORS[model]
    )
    result = solar.coalign(target, scene, model=model)
    assert result.ok, result.flags
    x, y = error_arcsec(result.corrected_map, true)
    assert x < 0.2 * (1 if noise < 0.1 else 2)
    assert y < 0.055 * (1 if noise < 0.1 else 2)
    for name, value in zip(result.names, result.parameters, strict=True):
        sx, sy = error.get("scale", (1.0, 1.0))
        right = {"sx": 1 / sx, "sy": 1 / sy, "scale": 1 / sx, "angle": -error.get("roll_error", 0.0), "shear": 0.0}
        if name in right:
            assert value == pytest.approx(right[name], abs=5e-2 if name == "angle" else 1e-3), name
    np.testing.assert_allclose(result.shift_arcsec.to_value(u.arcsec), [-37, 22], atol=0.5)
    assert (result.sigma_arcsec.value < 0.1).all()
    assert result.corrected_map.data is result.target.data


def test_the_parameters_are_those_of_the_header(rng) -> None:
    """CD' = R CD diag(sx, sy), of a rolled raster with long pixels; and what register found is read back."""
    rolled = solar_map(np.zeros((60, 40)), roll=16.58)
    model = SkyModel("shift+scale+angle", solar.arcsec_per_pixel(rolled.wcs), (60, 40))
    correction = model.correction([2.0, -3.0, 1.02, 0.97, 0.8])
    turn = np.deg2rad(0.8)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    old, new = (solar.arcsec_per_pixel(m.wcs) for m in (rolled, solar.correct_map(rolled, correction)))
    np.testing.assert_allclose(new, rotation @ old @ np.diag([1.02, 0.97]), rtol=1e-6)
    np.testing.assert_allclose(correction([19.5, 29.5]), [21.5, 26.5])


def test_a_raster_from_a_sequence(observed, rng) -> None:
    """96 columns in 3.2 hours from a spacecraft that moves: one image is 6 arcsec off, the synthetic raster is not."""
    _, raster, frames, image = observed
    wrong = raster.meta.copy()
    wrong["crval1"] += 40.0
    wrong["crval2"] -= 30.0
    noisy = image + 0.05 * np.nanstd(image) * rng.standard_normal(image.shape)
    target = sunpy.map.Map(noisy, wrong)
    result = solar.coalign(target, frames=frames, model="shift+scale", threshold_time=400 * u.s)
    # Blocks of the wide search would be single pixels: the phase "full" looks at every shift itself.
    assert [phase.name for phase in result.phases] == ["full", "synthetic"]
    assert result.ok
    assert error_arcsec(result.corrected_map, raster).max() < 0.3
    assert error_arcsec(result.map_after("full"), raster)[0] < 1, "against one frame, column by column"
    still = solar.coalign(sunpy.map.Map(image, raster.meta), frames[len(frames) // 2], rotation=None)
    assert error_arcsec(still.corrected_map, raster)[0] > 2
    assert len(result.last.moves) > 1, "a raster built with a wrong pointing is biased"
    assert result.last.moves[-1] < 0.01 < result.last.moves[0]
    table = result.plan.to_table()
    assert len(table) == 96
    np.testing.assert_allclose(
        (solar.column_times(result.corrected_map.meta, (140, 96)) - result.plan.times).to_value(u.s), 0, atol=1e-6
    )
    assert len(result.to_dict()["columns"]) > 10


def test_an_hour_apart(shared_data) -> None:
    """EIT's images agree with the model of rotation; without it they are 5 arcsec apart."""
    maps = []
    for hour in ("0000", "0100"):
        eit = solar.read_map(shared_data / "solar" / f"eit_20040301_{hour}.fits", repair=True)
        bright = np.where(eit.data > 500, np.log(np.clip(eit.data - 835, 1, None)), np.nan)  # lost blocks are 0
        maps.append(sunpy.map.Map(bright, eit.meta))
    settings = {"max_shift": 100 * u.arcsec}
    turned = solar.coalign(maps[1], maps[0], **settings)
    assert turned.ok
    assert np.abs(turned.shift_arcsec.value).max() < 2.0
    still = solar.coalign(maps[1], maps[0], rotation=None, **settings)
    assert 3 < np.hypot(*still.shift_arcsec.value) < 8


@pytest.mark.parametrize("model", ["shift", "similarity", "affine"])
def test_known_pairs_of_trace(shared_data, rng, model) -> None:
    """Square pixels, a shift of many of them: the map against itself with another header."""
    trace = solar.read_map(shared_data / "solar" / "trace_19980519_171.fits")
    image = np.array(trace.data[200:712, 300:812], np.float64)
    there = trace.meta.copy()
    there["crpix1"], there["crpix2"] = there["crpix1"] - 300, there["crpix2"] - 200
    right = sunpy.map.Map(image + 0.05 * image.std() * rng.standard_normal(image.shape), there)
    sky = SkyModel(model, solar.arcsec_per_pixel(right.wcs), image.shape)
    true = {"dx": 37.3, "dy": -21.6, "scale": 1.02, "sx": 1.02, "sy": 0.99, "angle": 0.7, "shear": 0.003}
    error = sky.correction([true[name] for name in sky.names])
    target = solar.correct_map(right, error.inverse())
    result = solar.coalign(target, trace, model=model, max_shift=60 * u.arcsec)
    assert result.ok, result.flags
    assert error_arcsec(result.corrected_map, right).max() < 0.05 * 0.5
    moved = result.correction(sky.corners) - error(sky.corners)
    assert np.abs(moved).max() < 0.1


def test_from_files_and_to_files(scene, rng, tmp_path) -> None:
    target, true = raster_of(scene, rng, error=(20.0, 10.0))
    fits.HDUList([fits.PrimaryHDU(target.data.astype(np.float32), fits.Header(target.fits_header))]).writeto(
        tmp_path / "raster.fits"
    )
    result = solar.coalign(tmp_path / "raster.fits", scene, phases="full", max_shift=100 * u.arcsec)
    assert [phase.name for phase in result.phases] == ["full"]
    written = result.write(tmp_path / "corrected.fits")
    assert error_arcsec(solar.read_map(written), true).max() < 0.1
    head = fits.getheader(written)
    assert head["XC_CORR"] == pytest.approx(result.score)
    assert head["XC_SIGX"] == pytest.approx(result.sigma[0])
    assert fits.getdata(written).dtype == np.dtype(">f4")
    record = json.loads(json.dumps(result.to_dict()))
    assert record["ok"]
    assert record["shift_arcsec"] == pytest.approx([-20, -10], abs=0.2)
    again = solar.coalign(written, scene)
    with pytest.raises(DataError, match="carries a correction already"):
        again.write(tmp_path / "twice.fits")
    with_map = solar.coalign(target, scene, model="rigid")
    without_file = fits.getheader(with_map.write(tmp_path / "map.fits"))
    assert without_file["XC_DX"] == pytest.approx(with_map["dx"], abs=0.01)
    assert without_file["XC_ROT"] == pytest.approx(with_map["angle"], abs=1e-9)
    assert "correction 1 of the coordinates" in str(without_file["HISTORY"])
    assert without_file["PARENT"] == "made.fits"
    assert error_arcsec(solar.read_map(tmp_path / "map.fits"), true).max() < 0.1
    with fits.open(tmp_path / "map.fits", checksum=True) as hdus:
        assert hdus[0].verify_checksum() == hdus[0].verify_datasum() == 1
    second = solar.coalign(solar.read_map(tmp_path / "map.fits"), scene)
    with pytest.raises(DataError, match=r"map\.fits carries a correction already"):
        second.write(tmp_path / "twice.fits")
    assert fits.getheader(second.write(tmp_path / "twice.fits", again=True))["XC_N"] == 2


def test_cubes_and_arrays(scene, rng) -> None:
    """What ndcube and sunraster give: data, wcs and meta; and an array with its WCS."""
    target, true = raster_of(scene, rng, shape=(200, 60), error=(20.0, 10.0))
    cube = SimpleNamespace(data=target.data, wcs=target.wcs, meta=dict(target.meta), unit=u.ct, mask=None)
    settings = {"phases": "full", "max_shift": 60 * u.arcsec}
    expected = solar.coalign(target, scene, **settings)
    for one, other in ((cube, (scene.data, scene.wcs)), ((target.data, target.wcs), scene)):
        found = solar.coalign(one, other, **settings)
        np.testing.assert_allclose(found.parameters, expected.parameters, atol=1e-6)
        assert error_arcsec(found.corrected_map, true).max() < 0.1


def test_a_result_that_is_not_to_be_trusted_is_not_written(scene, rng, tmp_path) -> None:
    target, _ = raster_of(scene, rng, shape=(200, 60))
    lost = sunpy.map.Map(rng.standard_normal(target.data.shape), target.meta)
    result = solar.coalign(lost, scene)
    assert not result.ok
    assert set(result.flags) <= set(FLAGS)
    with pytest.raises(DataError, match="is not to be trusted and was not written"):
        result.write(tmp_path / "lost.fits")
    assert not list(tmp_path.iterdir())
    assert result.write(tmp_path / "lost.fits", flagged=True).exists()


def test_a_shift_beyond_reach_is_flagged(scene, rng) -> None:
    target, _ = raster_of(scene, rng, error=(90.0, 0.0), shape=(300, 60))
    assert not solar.coalign(target, scene, max_shift=50 * u.arcsec).ok
    found = solar.coalign(target, scene, max_shift=20)  # pixels
    assert found.ok
    assert found.shift_arcsec[0].value == pytest.approx(-90, abs=0.1)


def test_many_together_are_as_one_by_one(scene, rng) -> None:
    targets = [raster_of(scene, rng, shape=(200, 60), error=(10.0 * k, -8.0))[0] for k in range(3)]
    single = [solar.coalign(target, scene, model="shift+scale") for target in targets]
    broken = sunpy.map.Map(np.full((200, 60), np.nan), targets[0].meta)
    jobs = [coalign_job(target, scene, model="shift+scale") for target in (*targets, broken)]
    together = run_jobs(jobs)
    for one, other in zip(single, together[:3], strict=True):
        np.testing.assert_array_equal(one.parameters, other.parameters)
    assert isinstance(together[3], DataError)


def test_simulated_observation() -> None:
    """The truth of the observation that examples use is one."""
    made = solar.create_test_observation((160, 60), error=(20.0, 15.0), scale=(1.01, 1.0), n_frames=5, seed=3)
    assert error_arcsec(made.raster, made.truth)[1] > 10
    result = solar.coalign(made.raster, frames=made.frames, model="shift+scale_x", method="linear")
    assert result.ok
    assert error_arcsec(result.corrected_map, made.truth).max() < 0.08
    assert result["sx"] == pytest.approx(1 / 1.01, abs=1e-3)
    again = solar.create_test_observation((160, 60), error=(20.0, 15.0), scale=(1.01, 1.0), n_frames=5, seed=3)
    np.testing.assert_array_equal(again.raster.data, made.raster.data)


# --- bad input ----------------------------------------


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model": "bend"}, "model must be one of"),
        ({"phases": ("full", "wide")}, "phases must be some of"),
        ({"phases": "synthetic"}, "needs frames"),
        ({"max_shift": -3.0}, "max_shift must be a positive"),
        ({"max_shift": 3 * u.s}, "max_shift must be a positive angle or number"),
        ({"bin_kernel": 0 * u.arcsec}, "bin_kernel must be a positive angle"),
        ({"scale_range": (1.1, 1.2)}, "scale_range"),
        ({"rotation": "stiff"}, "rotation must be"),
        ({"tolerance": 0.0}, "tolerance"),
        ({"window": "Ne VIII"}, "window is of a spectral window of a file"),
        ({"frames": []}, "no frames were given"),
    ],
)
def test_settings_that_do_not_fit(settings, words) -> None:
    image = solar_map(np.random.default_rng(0).random((60, 40)))
    with pytest.raises((ValueError, DataError), match=words):
        solar.coalign(image, image, **settings)


def test_unknown_setting() -> None:
    image = solar_map(np.ones((60, 40)))
    with pytest.raises(TypeError, match="coalign has no setting treshold_time"):
        solar.coalign(image, image, treshold_time=3)
    with pytest.raises(ValueError, match="a reference map is needed"):
        solar.coalign(image)


def test_images_that_cannot_be_used(scene, observed, rng, tmp_path) -> None:
    target, _ = raster_of(scene, rng, shape=(100, 40))
    far = sunpy.map.Map(target.data, header((100, 40), crval=(9000.0, 0.0), DSUN_OBS=scene.meta["dsun_obs"]))
    with pytest.raises(DataError, match="do not overlap"):
        solar.coalign(far, scene)
    with pytest.raises(DataError, match="no valid pixel"):
        solar.coalign(sunpy.map.Map(np.full((100, 40), np.nan), target.meta), scene)
    _, raster, frames, image = observed
    with pytest.raises(DataError, match="has no time axis"):
        solar.coalign(target, scene, frames=frames[:2])
    whole = sunpy.map.Map(image, raster.meta)
    with pytest.raises(DataError, match=r"no frame within 400 s.*give more frames or a longer threshold_time"):
        solar.coalign(whole, frames=frames[:4], threshold_time=400 * u.s)
    bad = tmp_path / "frame.fits"
    bad.write_bytes(b"SIMPLE  = not at all")
    with pytest.raises(DataError, match=r"frame\.fits cannot be read as FITS"):
        solar.coalign(whole, frames=[*frames[:4], bad, *frames[4:]])
    (tmp_path / "closed").mkdir()
    result = solar.coalign(target, scene)
    with pytest.raises(DataError, match="cannot be written: its folder is not there or is read-only"):
        result.write(tmp_path / "nowhere" / "x.fits")


def test_the_packages_that_decide_coordinates_are_named(tmp_path) -> None:
    made = solar.create_test_observation((80, 40), n_frames=3)
    result = solar.coalign(made.raster, made.frames[1], max_shift=60 * u.arcsec)
    assert {"astropy", "sunpy", "numpy"} <= set(result.to_dict()["provenance"]["versions"])
    history = str(fits.getheader(result.write(tmp_path / "out.fits", flagged=True))["HISTORY"])
    assert "astropy" in history
    assert "sunpy" in history
