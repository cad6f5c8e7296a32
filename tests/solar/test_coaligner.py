"""`Coaligner`: the examples of its first pages run, and its phases find a known error."""

import astropy.units as u
import numpy as np
import pytest
import sunpy.map
from astropy.io import fits

from solar.make import solar_map
from solar.problem import error_arcsec
from stackalign.errors import DataError, StackalignWarning
from stackalign.solar import (
    Coaligner,
    blink_maps,
    build_synthetic_raster_from_maps,
    correlation_for_params,
    correlation_with_iteration,
    find_original_correction,
    make_corrected_wcs_map,
    optimize_alignment_local_grad_disc_persworkers,
    plot_alignment_before_after,
    plot_history_scatter,
    reproject_map_to_reference,
)


@pytest.fixture(scope="module")
def wrong(observed):
    """The raster with its pointing 45 arcsec off, and the true header."""
    _, raster, frames, image = observed
    meta = raster.meta.copy()
    meta["crval1"], meta["crval2"] = meta["crval1"] + 35.0, meta["crval2"] - 28.0
    noise = np.random.default_rng(3).standard_normal(image.shape)
    return sunpy.map.Map(image + 0.05 * np.nanstd(image) * noise, meta), raster, frames


@pytest.fixture(scope="module")
def archive(wrong, tmp_path_factory):
    """The frames as files of an archive."""
    folder = tmp_path_factory.mktemp("fsi174")
    for frame in wrong[2]:
        stamp = frame.date.strftime("%Y%m%dT%H%M%S") + "000"
        fits.PrimaryHDU(frame.data, fits.Header(frame.fits_header)).writeto(
            folder / f"solo_L2_eui-fsi174-image_{stamp}_V01.fits"
        )
    return folder


QUICK_START = """
import sunpy.map
from stackalign.solar import Coaligner

# Load maps
spice_raster = sunpy.map.Map('spice_raster.fits')
fsi_reference = sunpy.map.Map('eui_fsi_174.fits')

# Initialize and run coalignment
aligner = Coaligner(
    map_to_coalign=spice_raster,
    reference_map=fsi_reference,
    n_jobs=8
)

# Execute three-phase alignment
aligner.run_binned_xcorr()
aligner.run_one_map_xcorr()
aligner.run_synthetic_raster_xcorr()

# Access corrected WCS parameters
corrected_wcs = aligner.best_params
corrected_map = aligner.results['synthetic_raster']['corrected_target_map']
"""

CONFIGURATION = """
aligner = Coaligner(spice_map, fsi_map, n_jobs=16)

# Phase 1 configuration
aligner.xcorr_binned_kwargs['shift_range'] = (30, 30)
aligner.xcorr_binned_kwargs['plateau_iters'] = 5
aligner.bin_kernel_arcsec = 60 * u.arcsec

# Phase 2 configuration
aligner.xcorr_one_map_kwargs['shift_range'] = (15, 15)
aligner.xcorr_one_map_kwargs['max_corr'] = 0.9

# Phase 3 configuration
aligner.synthetic_kwargs['scale_range'] = (0.95, 1.05)
aligner.synthetic_kwargs['scale_step_x'] = 5e-4
aligner.synthetic_kwargs['n_neighbors'] = 120
aligner.synthetic_kwargs['reference_local_dir'] = '/data/eui/fsi174'

# Automatic discovery from filesystem
aligner.synthetic_reference_time_window = np.timedelta64(2, 'h')
aligner.synthetic_kwargs['reference_channel_keyword'] = 'fsi174'
aligner.synthetic_kwargs['reference_exclude_tokens'] = ('short', 'test')
"""

EXPLICIT_LIST = """
fsi_maps = [sunpy.map.Map(f) for f in fsi_files]
aligner = Coaligner(spice_map, fsi_ref, list_of_reference_maps=fsi_maps)
"""


def test_the_first_page_runs_as_it_stands(wrong, archive, tmp_path, monkeypatch) -> None:
    spice_raster, true, frames = wrong
    for name, one in (("spice_raster.fits", spice_raster), ("eui_fsi_174.fits", frames[10])):
        fits.PrimaryHDU(one.data, fits.Header(one.fits_header)).writeto(tmp_path / name)
    for frame in archive.iterdir():
        (tmp_path / frame.name).symlink_to(frame)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(QUICK_START, names)
    assert error_arcsec(names["corrected_map"], true).max() < 0.3
    assert names["corrected_wcs"]["corr"] > 0.99
    # what one image for all columns cannot do
    assert error_arcsec(names["aligner"].results["one_map"]["corrected_target_map"], true).max() > 2.5


def test_the_page_on_configuration_runs_as_it_stands(wrong, archive, capsys) -> None:
    spice_map, true, frames = wrong
    names = {"spice_map": spice_map, "fsi_map": frames[10], "np": np, "u": u, "Coaligner": Coaligner}
    exec(CONFIGURATION.replace("/data/eui/fsi174", str(archive)), names)
    aligner = names["aligner"]
    aligner.verbose = 1
    with pytest.warns(StackalignWarning, match="n_neighbors has no effect") as said:
        best = aligner.run()
    aligner.run_synthetic_raster_xcorr()  # warnings are errors: it is said once
    assert len(said) == 1
    assert best["corr"] > 0.99
    assert aligner.best_params["dx"] == pytest.approx(best["dx"], abs=0.01)
    assert error_arcsec(aligner.corrected_map, true).max() < 0.3
    assert capsys.readouterr().err.strip().endswith("flags: none")
    assert "plateau_iters" in aligner.result.to_dict()["provenance"]["parameters"]["xcorr_binned_kwargs"]
    names |= {"fsi_files": sorted(archive.iterdir()), "fsi_ref": frames[10], "sunpy": sunpy}
    exec(EXPLICIT_LIST, names)
    assert len(names["aligner"].list_of_reference_maps) == len(frames)


def test_steering_ends_a_phase_early(wrong) -> None:
    spice_map, _, frames = wrong
    rounds = {}
    for name, given in {
        "to the end": {"plateau_iters": 9}, "max_corr": {"max_corr": 0.5},
        "plateau": {"plateau_iters": 2, "corr_rtol": 1},
        "not reached": {"max_corr": 0.9999, "plateau_iters": 9},
    }.items():  # fmt: skip
        aligner = Coaligner(spice_map, frames[10])
        aligner.bin_kernel_arcsec = 12 * u.arcsec  # the reference's pixels are seen, and rounds needed
        aligner.xcorr_binned_kwargs |= {"max_corr": -1} | given
        aligner.run_binned_xcorr()
        rounds[name] = len(aligner.result.last.registrations)
        assert "not_converged" not in aligner.result.flags
    assert rounds["max_corr"] == 1
    assert rounds["plateau"] == 2
    assert rounds["to the end"] == rounds["not reached"] > 2


def test_a_step_of_zero_leaves_a_scale_alone(observed) -> None:
    _, raster, frames, image = observed
    meta = raster.meta.copy()
    meta["cdelt1"] *= 1.01
    found = {}
    for name, steps in {"both": (1e-3, 1e-3), "x": (1e-3, 0), "y": (0, 1e-3), "none": (0, 0)}.items():
        aligner = Coaligner(sunpy.map.Map(image, meta), frames[10], frames)
        aligner.synthetic_kwargs["scale_step_x"], aligner.synthetic_kwargs["scale_step_y"] = steps
        found[name] = aligner.run_synthetic_raster_xcorr()
    assert found["x"]["squeeze_x"] == pytest.approx(1 / 1.01, abs=1e-3)
    assert found["x"]["squeeze_y"] == 1
    assert found["both"]["squeeze_x"] == pytest.approx(1 / 1.01, abs=1e-3)
    assert found["y"]["squeeze_x"] == found["none"]["squeeze_x"] == found["none"]["squeeze_y"] == 1
    assert "sigma_sx" in found["x"]
    assert "sigma_sy" not in found["x"]


def test_the_first_phase_does_not_look_beyond_its_field(wrong) -> None:
    spice_map, _, frames = wrong
    aligner = Coaligner(spice_map, frames[10])
    aligner.target_FOV_expension_arcsec = 20 * u.arcsec
    aligner.run_binned_xcorr()
    assert "on_bound" in aligner.result.flags, "it is 45 arcsec off"
    aligner.target_FOV_expension_arcsec = 0 * u.arcsec
    with pytest.raises(ValueError, match="target_FOV_expension_arcsec must be a positive angle"):
        aligner.run_binned_xcorr()


def test_quick_start(wrong) -> None:
    spice_raster, true, frames = wrong
    aligner = Coaligner(map_to_coalign=spice_raster, reference_map=frames[10], list_of_reference_maps=frames, n_jobs=2)
    aligner.run_binned_xcorr()
    aligner.run_one_map_xcorr()
    aligner.run_synthetic_raster_xcorr()
    corrected_wcs = aligner.best_params
    corrected_map = aligner.results["synthetic_raster"]["corrected_target_map"]
    assert error_arcsec(corrected_map, true).max() < 0.3
    assert corrected_wcs["CRPIX1"] == pytest.approx(corrected_map.meta["crpix1"])
    assert corrected_wcs["corr"] > 0.99
    assert corrected_wcs["squeeze_x"] == pytest.approx(1, abs=1e-3)
    assert corrected_wcs["flags"] == ()
    assert set(aligner.results) == {"binned", "one_map", "synthetic_raster"}
    assert error_arcsec(aligner.results["binned"]["corrected_target_map"], true).max() < 15
    assert aligner.results["one_map"]["history"].shape[1] == 6
    assert aligner.result.ok
    np.testing.assert_allclose(aligner.result.shift_arcsec.value, [-35, 28], atol=0.3)
    # the parameters alone make the same map
    again = make_corrected_wcs_map(spice_raster, corrected_wcs)
    assert error_arcsec(again, true).max() < 0.3


def test_a_seed_instead_of_the_first_phase(wrong) -> None:
    spice_map, _, frames = wrong
    first = Coaligner(spice_map, frames[10])
    first.run_binned_xcorr()
    found = first.run_one_map_xcorr()
    seeded = Coaligner(spice_map, frames[10]).run_one_map_xcorr(seed_shift=(found["dx"] + 1.4, found["dy"] - 0.8))
    assert seeded["dx"] == pytest.approx(found["dx"], abs=0.02)
    assert seeded["dy"] == pytest.approx(found["dy"], abs=0.02)


def test_typical_usage_of_the_functions(wrong, tmp_path) -> None:
    """Reproject, optimise, correct, and take the correction back to the raster."""
    spice, true, frames = wrong
    reference = frames[10]
    on_reference = reproject_map_to_reference(spice, reference)
    best_params, history = optimize_alignment_local_grad_disc_persworkers(
        reference.data, on_reference.data, step_sx0=0.0, step_sy0=0.0, min_step_sx=0.0, min_step_sy=0.0, verbose=False,
        corr_atol=1e-6, corr_rtol=1e-6, max_iter=60,
    )  # fmt: skip
    assert best_params["corr"] == pytest.approx(
        correlation_for_params(reference.data, on_reference.data, best_params["dx"], best_params["dy"], 1, 1), abs=1e-6
    )
    assert history.shape[1] == 6
    corrected = make_corrected_wcs_map(on_reference, best_params)
    native = find_original_correction(corrected, on_reference, spice)
    assert error_arcsec(native, true).max() < 10, "one image for 3.2 hours"
    raster = build_synthetic_raster_from_maps(native, frames)
    assert raster.data.shape == spice.data.shape
    figure = plot_alignment_before_after(
        spice, reproject_map_to_reference(reference, spice), reproject_map_to_reference(reference, native), native
    )
    before, after = (float(axes.get_title().split()[-1]) for axes in figure.axes)
    assert before < 0.9 < after
    assert "best: dx" in plot_history_scatter(history).get_title()
    assert correlation_with_iteration(history).lines
    blink_maps([native, raster]).save(tmp_path / "blink.gif", writer="pillow", dpi=30)
    assert (tmp_path / "blink.gif").exists()


def test_settings_that_do_not_fit(wrong, tmp_path) -> None:
    spice_map, _, frames = wrong
    aligner = Coaligner(spice_map, frames[10])
    with pytest.raises(ValueError, match="no phase has run"):
        _ = aligner.result
    aligner.xcorr_binned_kwargs["shift_rang"] = (3, 3)
    with pytest.raises(ValueError, match="xcorr_binned_kwargs has no setting shift_rang"):
        aligner.run_binned_xcorr()
    aligner.xcorr_one_map_kwargs["shift_range"] = (3, 3, 3)
    with pytest.raises(ValueError, match="shift_range must be two positive numbers"):
        aligner.run_one_map_xcorr()
    aligner.synthetic_kwargs["reference_local_dir"] = tmp_path
    with pytest.raises(
        DataError, match=r"has no file of fsi174 within .* give list_of_reference_maps, or the frames' folder"
    ):
        aligner.run_synthetic_raster_xcorr()
    with pytest.raises(DataError, match="is empty"):
        Coaligner(spice_map, frames[10], []).run_synthetic_raster_xcorr()
    with pytest.raises(DataError, match="a map, a FITS path"):
        Coaligner(3, solar_map(np.ones((4, 4))))
