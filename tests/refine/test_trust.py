"""A wrong model is flagged, and its nearest right neighbour is not; error bars hold what the data show beyond noise."""

import functools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from refine.crystals import FCC, silicon
from refine.patterns import EXACT, Truth, larbed
from stackalign.refine import (
    ROI,
    Beam,
    BeamSelection,
    BlochSimulator,
    CoarseRefine,
    Crystal,
    DiffractionData,
    RefinementResult,
)
from stackalign.refine.matching.noise import measured_variance

BEAM = Beam(200, (1, 1, 0), (1, -1, 1))
HKL = ((0, 0, 0), (1, -1, 1), (-1, 1, -1), (0, 0, 2))
RULES = BeamSelection(strong=0.06, weak=0.005, laue_zones=0)
REGION = ROI.rectangle(30, 30)
BOUNDS = (500, 800)


@functools.cache
def pattern(**options) -> Truth:
    settings = {"thickness": 634.0, "gl": 40.0, "side": (44, 44), "counts": 300, "selection": RULES, "more_beams": 1.0}
    return larbed(silicon(), BEAM, HKL, **settings | options)


@pytest.fixture(scope="module")
def truth() -> Truth:
    return pattern()


def refiner(data: DiffractionData, crystal: Crystal | None = None, beam: Beam = BEAM, **options) -> CoarseRefine:
    frame = data.frame
    frame = type(frame).for_beam(crystal or silicon(), beam, frame.gl, frame.center)
    # The very beams of the pattern: nothing is wrong but what a test makes wrong.
    simulator = BlochSimulator(crystal or silicon(), beam, HKL, beams=pattern().simulator.beams, **options)
    return CoarseRefine(simulator, replace(data, frame=frame), REGION, beam_check=1, held_sigma=EXACT)


def compound() -> Crystal:
    species = ("Al",) * 4 + ("P",) * 4
    return Crystal((5.431,) * 3 + (90,) * 3, species, np.concatenate([FCC, FCC + 0.25]), b_iso=0.4668)


@pytest.fixture(scope="module")
def right(truth: Truth) -> RefinementResult:
    return refiner(truth.data).optimize_orientation_thickness(BOUNDS)


@pytest.mark.parametrize(("counts", "seed"), [(300, 1), (300, 2), (20, 3), (4, 4), (3000, 5)])
def test_the_right_model_leaves_noise(counts: float, seed: int) -> None:
    result = refiner(pattern(counts=counts, seed=seed).data).optimize_orientation_thickness(BOUNDS)
    assert result.ok, result.warnings
    assert 0.8 < result.goodness < 2.5
    assert set(result.disk_goodness) == set(HKL)
    assert abs(result["thickness"] - 634.0) < 3 * result.sigma["thickness"]


@pytest.mark.parametrize(
    ("crystal", "beam", "options"),
    [
        (None, replace(BEAM, kv=300), {}),
        (None, replace(BEAM, kv=192), {}),
        (silicon(1.2), BEAM, {}),
        (compound(), BEAM, {}),
        (None, BEAM, {"absorption": "perturbative", "absorptive_ratio": 0.05}),
    ],
)
def test_wrong_models_are_flagged(truth: Truth, crystal, beam: Beam, options: dict) -> None:
    result = refiner(truth.data, crystal, beam, **options).optimize_orientation_thickness(BOUNDS)
    assert {"misfit", "model_too_small"} & set(result.flags), result.warnings
    assert not result.ok


def test_bounds_without_the_truth_are_a_misfit(truth: Truth) -> None:
    result = refiner(truth.data).optimize_orientation_thickness((800, 1400))
    assert "misfit" in result.flags


def test_a_thickness_that_varies_is_a_misfit(truth: Truth, right: RefinementResult) -> None:
    images = np.mean([pattern(thickness=t, counts=None).data.images for t in np.linspace(584, 684, 5)], 0)
    counts = np.random.default_rng(0).poisson(images * (300 / images.mean())).astype(np.float32)
    result = refiner(replace(truth.data, images=counts)).optimize_orientation_thickness(BOUNDS)
    assert "misfit" in result.flags
    assert result.goodness > 3 * right.goodness


def test_a_saturated_disk_is_named_and_its_mask_helps(truth: Truth) -> None:
    images = truth.data.images.copy()
    top = np.percentile(images[0], 60)
    full = images >= top
    full[1:] = False
    images[full] = top
    found = refiner(replace(truth.data, images=images)).optimize_orientation_thickness(BOUNDS)
    assert any(text.startswith("inconsistent: the residual of the disk of 0 0 0") for text in found.warnings)
    masked = replace(truth.data, images=images, mask=truth.data.mask & ~full)
    assert refiner(masked).optimize_orientation_thickness(BOUNDS).ok


def test_disks_of_the_wrong_sign_never_pass(truth: Truth) -> None:
    """The brightness of the disks among themselves carries the joint score, whatever is in the dim ones."""
    images = truth.data.images.copy()
    images[3] = images[3].max() + images[3].min() - images[3]
    result = refiner(replace(truth.data, images=images)).optimize_orientation_thickness(BOUNDS)
    assert result.disk_scores[HKL[3]] < 0
    assert any(text.startswith("misfit: the disk of 0 0 2 correlates at -") for text in result.warnings)


def test_a_variance_that_is_given_is_believed(truth: Truth) -> None:
    smooth = np.maximum(ndimage.gaussian_filter(truth.data.images, (0, 2, 2)), 1)
    for factor in (1.0, 9.0):
        data = replace(truth.data, variance=factor * smooth)
        result = refiner(data).optimize_orientation_thickness(BOUNDS)
        assert result.ok, result.warnings
        assert result.goodness * factor == pytest.approx(1.1, abs=0.25)
    wrong = refiner(replace(truth.data, variance=smooth), compound()).optimize_orientation_thickness(BOUNDS)
    assert "misfit" in wrong.flags


def test_what_held_parameters_would_move(truth: Truth, right: RefinementResult) -> None:
    """To first order, as a fit with another voltage, Debye-Waller factor or length of gx finds it."""
    assert set(right.held) == {"kv", "b_iso", "absorptive_ratio", "gl", "rotation"}
    assert right.held["kv"]["value"] == 200
    changes = {"kv": 1.0, "b_iso": 0.03, "gl": 0.1}
    frame = truth.data.frame
    for name, change in changes.items():
        crystal = silicon(0.4668 + change) if name == "b_iso" else None
        beam = replace(BEAM, kv=200 + change) if name == "kv" else BEAM
        data = truth.data.with_frame(gl=frame.gl + change) if name == "gl" else truth.data
        other = refiner(data, crystal, beam).optimize_orientation_thickness(BOUNDS)
        moved = other["thickness"] - right["thickness"]
        assert right.held[name]["moves"]["thickness"] * change == pytest.approx(moved, rel=0.3, abs=0.1), name
    wrong = refiner(truth.data, beam=replace(BEAM, kv=192)).optimize_orientation_thickness(BOUNDS)
    wanted = wrong.held["kv"]
    assert wanted["value"] + wanted["wanted"] == pytest.approx(200, abs=2.5)
    assert any(text.startswith("model_too_small: the images want kv = ") for text in wrong.warnings)
    assert refiner(truth.data).with_(check_held=False).optimize_orientation_thickness(BOUNDS).held == {}


def test_disks_that_disagree_widen_the_error_bars(truth: Truth, right: RefinementResult) -> None:
    """One disk of a thicker crystal: the scatter between the disks is in the error bar."""
    images = truth.data.images.copy()
    images[3] = pattern(thickness=648.0, seed=7).data.images[3]
    result = refiner(replace(truth.data, images=images)).optimize_orientation_thickness(BOUNDS)
    assert result.systematic["thickness"] > 3 * right.systematic["thickness"]
    assert result.sigma["thickness"] >= result.systematic["thickness"]


def test_the_disks_shown_are_those_of_the_result(truth: Truth) -> None:
    few = replace(RULES, strong=0.1, weak=0.02)
    checked = refiner(truth.data).with_(simulator=BlochSimulator(silicon(), BEAM, HKL, few), beam_check=2.0)
    result = checked.optimize_orientation_thickness(BOUNDS)
    assert result.beam_factor >= 4  # of the last list, whose difference is added
    measured, shown = checked.disks(result)
    use = np.isfinite(measured)
    assert 1 - np.corrcoef(measured[use], shown[use])[0, 1] < 1.5 * (1 - result.score)


def test_results_keep_what_they_doubt(truth: Truth, tmp_path: Path) -> None:
    result = refiner(truth.data, beam=replace(BEAM, kv=192)).optimize_orientation_thickness(BOUNDS)
    result.save(tmp_path / "new.json")
    loaded = RefinementResult.load(tmp_path / "new.json")
    assert loaded.to_dict() == result.to_dict()
    assert loaded.flags == result.flags
    assert not loaded.ok
    old = json.loads((tmp_path / "new.json").read_text())
    for name in ("goodness", "disk_goodness", "held", "beam_factor", "beam_tilts", "flags", "ok", "systematic"):
        del old[name]
    (tmp_path / "old.json").write_text(json.dumps(old))
    assert RefinementResult.load(tmp_path / "old.json").values == result.values
    assert RefinementResult.load(tmp_path / "old.json").goodness is None


def test_noise_is_measured_between_pixels(rng: np.random.Generator) -> None:
    y, x = np.mgrid[:64, :64]
    everywhere = np.ones((64, 64), dtype=bool)
    for mean in (500.0, 20.0, 1.0):
        scene = mean * (1.2 + np.sin(2 * np.pi * (x + 0.6 * y) / 18))
        found = [measured_variance(rng.poisson(scene).astype(float), everywhere) for _ in range(4)]
        assert np.mean([variance / scene for variance, _ in found]) == pytest.approx(1, abs=0.2)
        assert [shared for _, shared in found] == [1.0] * 4
    correlated = ndimage.gaussian_filter(rng.normal(size=(64, 64)), 0.8)
    assert measured_variance(correlated, everywhere)[1] > 3
    assert np.isnan(measured_variance(correlated[:6, :6], everywhere[:6, :6])[0]).all()
