"""Column times, who serves which column, and the raster that the frames give."""

import astropy.units as u
import numpy as np
import pytest
import sunpy.map
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.time import Time
from scipy.optimize import minimize
from sunpy.coordinates import HeliocentricInertial

from solar import sequence
from solar.make import TIME_AXIS, header
from stackalign import solar
from stackalign.errors import DataError, StackalignWarning
from stackalign.solar import columns, plan, sampling


def test_column_times_of_the_real_raster(shared_data) -> None:
    """Reversed scan: the last column is exposed first, in the middle of 120 s from the beginning."""
    raster = solar.read_map(shared_data / "solar" / "SPICE_706_20241017.fits")
    times = solar.column_times(raster.meta, raster.data.shape)
    begin = Time("2024-10-17T00:00:50.215")
    seconds = (times - begin).to_value(u.s)
    np.testing.assert_allclose(np.diff(seconds), -120.300003052)
    assert seconds[-1] == pytest.approx(60, abs=1)
    assert seconds.mean() == pytest.approx((Time(raster.meta["date-avg"]) - begin).to_value(u.s), abs=1)


@pytest.mark.parametrize("zero", ["DATEREF", "MJDREF", "DATE-BEG"])
def test_zero_of_the_time_axis(zero) -> None:
    head = header((10, 6), **TIME_AXIS)
    head["PC3_1"], head["CRPIX1"], head["CUNIT3"], head["CRVAL3"] = 2.0, 1.0, "min", 1.0
    if zero == "MJDREF":
        del head["DATEREF"]
        head["MJDREFI"], head["MJDREFF"] = 60600, 0.25
    elif zero == "DATE-BEG":
        del head["DATEREF"]
    begin = {"MJDREF": "2024-10-17T06:00:00"}.get(zero, "2024-10-17T00:00:50.215")
    times = solar.column_times(head, (10, 6))
    np.testing.assert_allclose((times - Time(begin)).to_value(u.min), 1 + 2.0 * np.arange(6), atol=1e-6)


def test_no_time_axis() -> None:
    with pytest.raises(DataError, match=r"made\.fits has no time axis"):
        solar.column_times(header((10, 6)), (10, 6))


def test_binned_and_corrected_rasters_keep_their_times() -> None:
    raster = sunpy.map.Map(np.ones((40, 12)), header((40, 12), roll=16.0, **TIME_AXIS))
    seconds = lambda m: (solar.column_times(m.meta, m.data.shape) - Time(TIME_AXIS["DATEREF"])).to_value(u.s)  # noqa: E731
    corrected = solar.make_corrected_wcs_map(raster, {"dx": 4.0, "dy": -3.0, "squeeze_x": 1.1})
    np.testing.assert_allclose(seconds(corrected), seconds(raster), atol=1e-6)
    binned = solar.bin_map(raster, (2, 3))
    np.testing.assert_allclose(seconds(binned), seconds(raster).reshape(4, 3).mean(1), atol=1e-6)


# --- the sequence ---


def offset(found, true, step):
    """Distance in arcsec (x, y) at which an image lies from the true one."""
    y, x = np.mgrid[: true.shape[0], : true.shape[1]].astype(float)
    points = np.stack([x, y], -1)
    known = np.isfinite(found)
    inner = (slice(4, -4), slice(2, -2))

    def score(shift):
        moved = sampling.sample(found, known, points + shift)[inner]
        both = np.isfinite(moved) & np.isfinite(true[inner])
        return -np.corrcoef(moved[both], true[inner][both])[0, 1]

    best = minimize(score, [0.0, 0.0], method="Nelder-Mead", options={"initial_simplex": [[0, 0], [0.5, 0], [0, 0.5]]})
    return best.x * step, -best.fun


@pytest.mark.parametrize(("method", "options"), [("nearest", {}), ("linear", {}), ("nearest", {"order": 1})])
def test_residuals_at_both_ends(observed, method, options) -> None:
    """Half an FSI pixel is 2.2 arcsec; 3.2 hours of the orbit alone are 50."""
    _, raster, frames, true = observed
    made = solar.build_synthetic_raster(raster, frames, threshold_time=400 * u.s, method=method, **options)
    assert made.coverage > 0.95
    step = solar.step_arcsec(raster.wcs)
    for part in (slice(0, 14), slice(41, 55), slice(82, 96)):
        distance, score = offset(made.map.data[:, part], true[:, part], step)
        assert np.abs(distance).max() < 0.1, (part, distance)
        assert score > 0.99


def test_one_stamp_for_all_columns_is_wrong(observed) -> None:
    """What the first implementation did: every column seen from one place at one time."""
    _, raster, frames, true = observed
    moment = solar.observation_time(raster)
    place = raster.observer_coordinate
    still = SkyCoord([place.lon] * 2, [place.lat] * 2, [place.radius] * 2, frame="heliographic_stonyhurst",
                     obstime=moment + [-1, 1] * u.s)  # fmt: skip
    made = solar.build_synthetic_raster(raster, frames, observer=still)
    step = solar.step_arcsec(raster.wcs)
    ends = [offset(made.map.data[:, part], true[:, part], step)[0][0] for part in (slice(0, 14), slice(82, 96))]
    assert max(np.abs(ends)) > 5


def test_rotation_over_an_hour_and_a_half(observed) -> None:
    """One frame in the middle serves all columns: without the rotation the ends show another part of the Sun."""
    scene, raster, frames, true = observed
    times = sequence.START + np.arange(0, 13000, 600) * u.s
    orbit = SkyCoord(sequence.observer_at(scene, times))
    step = solar.step_arcsec(raster.wcs)
    for part in (slice(0, 14), slice(82, 96)):
        agreement = {}
        for rotation in ("howard", None):
            made = solar.build_synthetic_raster(raster, [frames[10]], observer=orbit, rotation=rotation).map.data
            agreement[rotation] = np.corrcoef(made[:, part].ravel(), true[:, part].ravel())[0, 1]
            if rotation is not None:
                assert np.abs(offset(made[:, part], true[:, part], step)[0]).max() < 0.5
        assert agreement["howard"] > 0.99
        assert agreement[None] < 0.95


def test_from_files_one_at_a_time(observed, tmp_path, monkeypatch) -> None:
    _, raster, frames, _ = observed
    paths = []
    for frame in frames:
        paths.append(tmp_path / frame.meta["filename"])
        fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(frame.data, fits.Header(frame.fits_header))]).writeto(paths[-1])
    read = []
    from stackalign.solar import framestore as module

    monkeypatch.setattr(module, "read_map", lambda path: read.append(path.name) or solar.read_map(path))
    narrow = sunpy.map.Map(raster.data[:, :10], raster.meta)
    found = solar.build_synthetic_raster_from_maps(narrow, paths[::-1], np.timedelta64(400, "s"))
    expected = solar.build_synthetic_raster(narrow, frames).map
    np.testing.assert_allclose(found.data, expected.data, rtol=1e-6)
    assert read == [f"frame{k}.fits" for k in (17, 18, 19)], "only those that serve, in the order of time"
    solar.build_synthetic_raster(narrow, paths)
    assert len(read) == 3, "images are kept while they fit into the budget"
    paths[18].touch()
    solar.build_synthetic_raster(narrow, paths)
    assert read[3:] == ["frame18.fits"], "a file that was changed is read again"
    monkeypatch.setattr(module, "BUDGET", 0)
    paths[17].touch()
    for _ in range(2):
        solar.build_synthetic_raster(narrow, paths)
    assert [name for name in read[4:] if name != "frame19.fits"] == ["frame17.fits", "frame18.fits"] * 2, "or not kept"
    assert found.meta["srcimgs"] == 3
    assert found.meta["synrastr"]
    assert found.meta["bunit"] == "ct"
    assert found.meta["pc3_1"] == raster.meta["pc3_1"]
    assert found.date == raster.date


def test_dry_run(observed) -> None:
    _, raster, frames, _ = observed
    chosen = solar.plan_synthetic_raster(raster, frames, method="linear")
    table = chosen.to_table()
    assert len(table) == 96
    assert np.abs(table["first_after"].to_value(u.s)).max() <= 300.1
    np.testing.assert_allclose(table["first_weight"] + table["second_weight"], 1)
    moment = (chosen.weights * chosen.seconds).sum(1)
    np.testing.assert_allclose(moment, 0, atol=1e-5, err_msg="the weighted time of two frames is the column's")
    lines = str(solar.plan_synthetic_raster(raster, frames)).splitlines()
    assert "frame19.fits, at most" in lines[0]
    assert len(lines) == 20


def test_frames_that_do_not_reach(observed) -> None:
    _, raster, frames, _ = observed
    with pytest.raises(DataError, match=r"have no frame within 400 s: column 0 at .* is .* s from frame05.fits"):
        solar.build_synthetic_raster(raster, frames[:6], threshold_time=np.timedelta64(400, "s"))
    with pytest.raises(DataError, match="no frames were given"):
        solar.build_synthetic_raster(raster, [])
    with pytest.raises(ValueError, match="method must be nearest or linear"):
        solar.build_synthetic_raster(raster, frames, method="cubic")
    with pytest.raises(ValueError, match="one for each of the 96 columns"):
        solar.build_synthetic_raster(raster, frames, times=Time(["2022-04-01T00:00:00"]))
    away = raster.meta.copy()
    away["crval1"] += 3600 * 3
    with pytest.raises(DataError, match="do not cover"):
        solar.build_synthetic_raster(sunpy.map.Map(raster.data, away), frames)


def test_unreadable_frame_in_the_middle(observed, tmp_path) -> None:
    _, raster, frames, _ = observed
    (tmp_path / "broken.fits").write_bytes(b"SIMPLE  = nothing")
    some = [*frames[:3], tmp_path / "broken.fits", *frames[3:]]
    with pytest.raises(DataError, match=r"broken\.fits cannot be read"):
        solar.build_synthetic_raster(raster, some)
    with pytest.warns(StackalignWarning, match=r"left out: .*broken\.fits"):
        chosen = solar.plan_synthetic_raster(raster, some, on_bad_frame="skip")
    assert len(chosen.names) == len(frames)


def test_exposure_oversampling_and_blur(observed) -> None:
    _, raster, frames, true = observed
    narrow = sunpy.map.Map(raster.data[:, :10], raster.meta)
    plain = solar.build_synthetic_raster(narrow, frames).map.data
    averaged = solar.build_synthetic_raster(narrow, frames, exposure_samples=3, oversample=(2, 3)).map.data
    blurred = solar.build_synthetic_raster(narrow, frames, psf_fwhm=12 * u.arcsec).map.data
    rough = [np.nanstd(np.diff(image, axis=0)) for image in (plain, averaged, blurred)]
    assert rough[0] > rough[1] > rough[2]
    assert np.nanmean(averaged) == pytest.approx(np.nanmean(plain), rel=0.01)
    assert np.corrcoef(averaged[5:-5].ravel(), true[5:-5, :10].ravel())[0, 1] > 0.97


@pytest.mark.parametrize("moving", [True, False])
def test_an_exposure_is_a_mean_over_time(observed, moving) -> None:
    """Two moments of an exposure of an hour are what two rasters are, half an hour apart."""
    scene, raster, frames, _ = observed
    few = raster.meta.copy()
    few["xposure"] = 3600.0
    long = sunpy.map.Map(raster.data[:, :4], few)
    times = solar.column_times(long.meta, long.data.shape)
    orbit = SkyCoord(sequence.observer_at(scene, sequence.START + np.arange(-6, 22) * 900 * u.s))
    if not moving:  # the orbit goes half as fast as the Sun turns; without it the rotation is alone
        here = SkyCoord(raster.observer_coordinate).transform_to(HeliocentricInertial(obstime=raster.reference_date))
        place = [np.full(28, x) for x in here.cartesian.xyz.to_value(u.m)] * u.m
        orbit = SkyCoord(*place, representation_type="cartesian", frame=HeliocentricInertial(obstime=orbit.obstime))
    settings = {"observer": orbit}
    found = solar.build_synthetic_raster(long, [frames[15]], exposure_samples=2, **settings).map.data
    early, late = (
        solar.build_synthetic_raster(long, [frames[15]], times=times + shift * u.s, **settings).map.data
        for shift in (-900, 900)
    )
    assert np.nanstd(early - late) > 0.05 * np.nanstd(early), "the two differ"
    np.testing.assert_allclose(found, (early + late) / 2, atol=0.01 * np.nanstd(early))


# --- positions ---


def test_positions_go_through_the_rasters_own(observed) -> None:
    scene, raster, frames, _ = observed
    chosen = solar.plan_synthetic_raster(raster, frames)
    true = columns.observer_position(SkyCoord(sequence.observer_at(scene, chosen.times)))
    assert np.linalg.norm(chosen.positions - true, axis=1).max() < 2e4, "metres, of 5e10"
    sparse = solar.plan_synthetic_raster(raster, [frames[0], frames[7], frames[13], frames[-1]])
    assert np.linalg.norm(sparse.positions - true, axis=1).max() < 2e4, "a straight line would be 2e5 off"
    meta = raster.meta.copy()
    meta["hgln_obs"] += 0.01
    beside = solar.plan_synthetic_raster(sunpy.map.Map(raster.data, meta), frames)
    np.testing.assert_allclose(np.linalg.norm(beside.positions - true, axis=1), 5.14e10 * np.deg2rad(0.01), rtol=0.01)


def test_another_spacecraft_does_not_tell(observed) -> None:
    _, raster, frames, _ = observed
    others = []
    for frame in frames[:2]:
        meta = frame.meta.copy()
        meta["hgln_obs"] += 30
        others.append(sunpy.map.Map(frame.data, meta))
    with pytest.warns(StackalignWarning, match="nothing says how the spacecraft"):
        chosen = solar.plan_synthetic_raster(raster, others)
    assert np.ptp(chosen.positions, axis=0).max() == 0


def test_near_the_earth_the_earth_moves() -> None:
    from sunpy.coordinates import get_earth

    head = header((10, 6), **TIME_AXIS)
    earth = get_earth(Time(head["DATE-AVG"]))
    head["HGLN_OBS"], head["HGLT_OBS"], head["DSUN_OBS"] = 0.0, earth.lat.deg, earth.radius.to_value(u.m)
    raster = sunpy.map.Map(np.ones((10, 6)), head)
    times = solar.column_times(head, (10, 6)) + np.linspace(-0.5, 0.5, 6) * u.day
    found = columns.column_positions(raster, times)
    np.testing.assert_allclose(found, columns.observer_position(get_earth(times)), atol=1e6)


def test_choice_of_frames(rng) -> None:
    seconds, frames = np.sort(rng.uniform(0, 1000, 40)), np.sort(rng.uniform(0, 1000, 7))
    chosen, weights = plan._choose(seconds, frames, "linear", np.inf)
    inside = (seconds > frames[0]) & (seconds < frames[-1])
    np.testing.assert_allclose((weights * frames[chosen]).sum(1)[inside], seconds[inside])
    assert (weights[~inside] == [1, 0]).all()
    assert (weights >= 0).all()
    chosen, near = plan._choose(seconds, frames, "linear", 50.0)
    far = np.abs(frames[chosen] - seconds[:, None])
    alone = (weights[:, 1] > 0) & (near[:, 1] == 0)
    assert alone.any(), "a second frame too far away does not serve"
    assert (far[near[:, 1] > 0, 1] <= 50).all()


# --- files ---


def test_eui_paths(tmp_path) -> None:
    names = [
        "2022/04/01/solo_L2_eui-fsi174-image_20220401T000045248_V01.fits",
        "2022/04/01/solo_L2_eui-fsi174-image_20220401T000045248_V02.fits",
        "2022/04/01/solo_L2_eui-fsi174-image_20220401T001045248_V01.fits",
        "2022/04/01/solo_L2_eui-fsi304-image_20220401T001015248_V01.fits",
        "2022/04/01/solo_L2_eui-fsi174-image-short_20220401T001115248_V01.fits",
        "2022/04/02/solo_L2_eui-fsi174-image_20220402T000045248_V01.fits",
        "solo_L2_eui-fsi174-image_20220401T120045248_V01.fits",
        "notes.fits",
    ]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    low, high = np.datetime64("2022-04-01T00:00:00"), np.datetime64("2022-04-01T23:00:00")
    found = solar.get_EUI_paths(low, high, tmp_path, channel="fsi174", exclude=("short",))
    assert [p.name[-31:-9] for p in found] == [n[-31:-9] for n in (names[1], names[2], names[6])]
    assert found[0].name.endswith("V02.fits")
    assert len(solar.get_EUI_paths(low, high, tmp_path)) == 5
    assert len(solar.get_EUI_paths("2022-04-01T00:10:00", "2022-04-02T12:00:00", tmp_path, channel="FSI174")) == 4
    with pytest.raises(DataError, match="does not exist"):
        solar.get_EUI_paths(low, high, tmp_path / "nowhere")
