"""Known parameters found again, from patterns with more beams, blur, background and counting noise than the fit has."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from refine.crystals import silicon
from refine.patterns import EXACT, Truth, larbed
from stackalign.errors import DataError
from stackalign.refine import (
    ROI,
    Beam,
    BeamSelection,
    BlochSimulator,
    CallableSimulator,
    CoarseOptimize,
    CoarseRefine,
    DiffractionData,
    DisplayFrame,
    RefinementResult,
    Simulator,
)

BEAM = Beam(300, (1, 1, 0), (1, -1, 1))
HKL = ((0, 0, 0), (1, -1, 1), (-1, 1, -1))
FEW = BeamSelection(laue_zones=0)
REGION = ROI.rectangle(30, 52)


@pytest.fixture(scope="module")
def truth() -> Truth:
    return larbed(silicon(), BEAM, HKL, thickness=812.3, gl=38.85, side=(44, 66), counts=5000, selection=FEW)


@pytest.fixture(scope="module")
def simulator() -> BlochSimulator:
    return BlochSimulator(silicon(), BEAM, reflections=HKL, selection=FEW)


@pytest.fixture(scope="module")
def found(truth: Truth, simulator: BlochSimulator) -> RefinementResult:
    return CoarseRefine(simulator, truth.data, REGION, held_sigma=EXACT).optimize_orientation_thickness()


def off_px(result: RefinementResult, truth: Truth) -> float:
    return float(np.abs(np.subtract(result.tilt, truth.frame.tilt)).max() / truth.frame.step)


def test_thickness_and_tilt_from_anywhere(found: RefinementResult, truth: Truth) -> None:
    assert found["thickness"] == pytest.approx(truth.thickness, rel=5e-3)
    assert off_px(found, truth) < 0.1
    assert found["blur"] == pytest.approx(1.0, abs=0.2)
    assert found.ok, found.warnings
    assert found.score > 0.99
    assert set(found.disk_scores) == set(HKL)
    assert found.n_decompositions <= 5  # the scan, the fine grid, this with more beams, and a wider one with two lists
    assert 0 < found.sigma["thickness"] < 5
    np.testing.assert_allclose(np.diag(found.correlation), 1)
    rows, columns = np.unravel_index(found.position_map.argmax(), found.position_map.shape)
    share = np.array([columns, rows]) / (np.array(found.position_map.shape[::-1]) - 1)
    peak = found.map_tilts[0] + share * (found.map_tilts[1] - found.map_tilts[0])
    assert np.abs(peak - truth.frame.tilt).max() < 2 * truth.frame.step


def test_the_same_again_and_nothing_changed(truth: Truth, simulator: BlochSimulator, found: RefinementResult) -> None:
    images, mask = truth.data.images.copy(), truth.data.mask.copy()
    again = CoarseRefine(simulator, truth.data, REGION, held_sigma=EXACT).optimizeOrientationThickness()
    assert again.to_dict() | {"seconds": 0} == found.to_dict() | {"seconds": 0}
    np.testing.assert_array_equal(truth.data.images, images)
    np.testing.assert_array_equal(truth.data.mask, mask)
    assert simulator.beams is None


def test_results_are_kept_and_applied(found: RefinementResult, truth: Truth, tmp_path: Path) -> None:
    found.save(tmp_path / "result.json")
    loaded = RefinementResult.load(tmp_path / "result.json")
    assert loaded.to_dict() == found.to_dict()
    with pytest.raises(ValueError, match="does not hold its data"):
        loaded.apply()
    after = found.apply()
    assert after.thickness == found["thickness"]
    assert after.data.frame.tilt == found.tilt
    assert found.tilt_mrad == pytest.approx(np.array(found.tilt) / BEAM.wavenumber * 1e3)
    assert found.tilt_gx == pytest.approx(np.array(found.tilt) * 5.431 / np.sqrt(3))  # the x-axis is (1, -1, 1)
    measured, simulated = after.disks(found)
    use = np.isfinite(measured)
    assert use.mean() > 0.9
    assert np.corrcoef(measured[use], simulated[use])[0, 1] > 0.98
    assert "thickness" in str(found)


def test_error_bars_include_what_more_beams_change(truth: Truth, simulator: BlochSimulator) -> None:
    """Fewer beams than the pattern has: without the check the error is many error bars, with it no more than two."""
    few = replace(simulator, selection=replace(FEW, strong=0.06, weak=0.004))
    refiner = CoarseRefine(few, truth.data, REGION, held_sigma=EXACT)
    checked = refiner.optimize_orientation_thickness((780, 840))
    plain = refiner.with_(beam_check=1).optimize_orientation_thickness((780, 840))
    assert checked.systematic is not None
    assert abs(plain["thickness"] - truth.thickness) > 3 * plain.sigma["thickness"]
    assert abs(checked["thickness"] - truth.thickness) < 2 * checked.sigma["thickness"]
    moved = abs(checked["thickness"] - plain["thickness"])
    assert 0 < checked.systematic["thickness"] < 0.5 * moved  # the rest of the series that the shifts begin
    assert checked.sigma["thickness"] >= checked.systematic["thickness"]


def test_gl_with_one_set_of_decompositions(truth: Truth) -> None:
    """With the beams of the truth: in a region as small as this one, a few beams less move gl by half a percent."""
    for share in (0.92, 1.09):
        data = truth.data.with_frame(gl=truth.frame.gl * share)
        result = CoarseOptimize(truth.simulator, data, REGION, thickness=truth.thickness).optimizeOrientationGL()
        assert result["gl"] == pytest.approx(truth.frame.gl, rel=1e-3)
        assert result.n_decompositions == 1


def test_gl_thickness_and_tilt_together(truth: Truth) -> None:
    data = truth.data.with_frame(gl=truth.frame.gl * 0.95)
    refiner = CoarseRefine(truth.simulator, data, REGION, metric="per_disk")
    result = refiner.optimize({"gl": None, "thickness": (300, 1500)})
    assert result["gl"] == pytest.approx(truth.frame.gl, rel=1.5e-3)
    assert result["thickness"] == pytest.approx(truth.thickness, rel=7e-3)
    assert off_px(result, truth) < 0.5
    assert -1 < result.correlation_of("gl", "thickness") < 1


def test_masks_hide_what_is_wrong(truth: Truth, simulator: BlochSimulator, found: RefinementResult) -> None:
    rng = np.random.default_rng(5)
    bad = rng.random(truth.data.images.shape) < 0.1
    images = np.where(bad, 65535, truth.data.images)
    data = DiffractionData.from_larbed(images, HKL, truth.data.frame, mask=~bad)
    result = CoarseRefine(simulator, data, REGION).optimize_orientation_thickness((500, 1200))
    assert result["thickness"] == pytest.approx(found["thickness"], rel=3e-3)
    assert off_px(result, truth) < 0.1


def test_hooks_are_called_once_per_measured_disk(truth: Truth, simulator: BlochSimulator) -> None:
    calls = {True: 0, False: 0}

    def preprocess(image: np.ndarray, sim: bool = False) -> np.ndarray:
        calls[sim] += 1
        return np.sqrt(image + (0.0 if sim else 1.0))

    refiner = CoarseRefine(simulator, truth.data, REGION, filter=preprocess, beam_check=1)
    result = refiner.optimize({"thickness": (700, 900), "gl": (38, 40)}, n_scan={"gl": 2})
    assert calls[False] == len(HKL)
    assert calls[True] > 10
    assert result["thickness"] == pytest.approx(truth.thickness, rel=1e-2)


def test_any_function_can_be_the_simulator() -> None:
    """Rings whose radius is the thickness, displaced by a parameter: nothing of Bloch waves is assumed."""

    def rings(parameters, tilts, thicknesses, reflections):
        x, y = tilts[:, 0] - 0.1 * parameters["shift"], tilts[:, 1]
        phase = np.hypot(x, y)[None] * thicknesses[:, None] / 10
        return np.stack([np.cos(phase) * np.exp(-4 * x * x) + 1, np.sin(phase) + 2 + 3 * y], axis=1)

    simulator = CallableSimulator(rings, ((0, 0, 0), (1, 0, 0)), {"shift": 0.0})
    assert isinstance(simulator, Simulator)
    frame = DisplayFrame(0.5, 25, (29.5, 29.5))
    points = np.stack(np.meshgrid(np.arange(60.0), np.arange(60.0), indexing="ij"), -1)
    tilts = frame.with_(tilt=(0.05, -0.03)).to_tilt(frame.to_display(points)).reshape(-1, 2)
    images = rings({"shift": 0.4}, tilts, np.array([431.0]), None)[0].reshape(2, 60, 60)
    data = DiffractionData.from_larbed(images, simulator.reflections, frame)
    refiner = CoarseRefine(simulator, data, ROI.rectangle(40, 40), metric="per_disk")
    result = refiner.optimize({"thickness": (300, 600), "shift": (0, 1)})
    assert result["thickness"] == pytest.approx(431, abs=0.5)
    # The tilt along x follows the shift but for the envelope of one disk.
    assert result["tilt_x"] - 0.1 * result["shift"] == pytest.approx(0.01, abs=2e-3)
    assert result.apply().simulator.parameters["shift"] == result["shift"]


def test_what_cannot_be_done_is_said(truth: Truth, simulator: BlochSimulator) -> None:
    make = lambda **options: CoarseRefine(**{"simulator": simulator, "data": truth.data, "roi": REGION} | options)  # noqa: E731
    with pytest.raises(ValueError, match=r"\[\(-1, 1, -1\)\] were measured and are not simulated"):
        make(simulator=replace(simulator, reflections=HKL[:2]))
    with pytest.raises(ValueError, match="larger than the search area"):
        make(search_radius=0.4).optimize_orientation_thickness()
    for size in ((46, 52), (30, 68), (200, 200)):
        with pytest.raises(ValueError, match=r"larger than the images, which span 44 x 66 pixels"):
            make(roi=ROI.rectangle(*size)).optimize_orientation_thickness()
    with pytest.raises(ValueError, match="beam_check must be a factor"):
        make(beam_check=0.5)
    with pytest.raises(ValueError, match="the thickness is not known"):
        make().optimize_hv()
    with pytest.raises(ValueError, match="cannot vary 'colour'"):
        make().optimize(["colour"])
    with pytest.raises(ValueError, match="lower below upper"):
        make().optimize({"thickness": (500, 400)})
    with pytest.raises(ValueError, match="gl must stay above 0"):
        make(thickness=500).optimize_orientation_gl((-1, 5))
    with pytest.raises(ValueError, match="no valid pixel of"):
        make(roi=ROI.rectangle(20, 20, center=(500, 0))).optimize_orientation_thickness()
    with pytest.raises(ValueError, match='metric="per_disk"'):
        make(weights=[1, 1, 1])
    with pytest.raises(ValueError, match="3 numbers, one per disk"):
        make(weights=[1, 1], metric="per_disk")
    with pytest.raises(ValueError, match="data and dinfo are the same"):
        make(dinfo=truth.data)
    with pytest.raises(TypeError, match="a simulator is needed"):
        make(simulator=None)
    with pytest.raises(TypeError, match="roi must be a ROI"):
        make(roi=(0, 0, 10, 10))
    with pytest.raises(ValueError, match="image of the shape"):
        make(preprocess=lambda image, sim=False: image[1:]).optimize_orientation_thickness()
    with pytest.raises(ValueError, match="blur is always fitted along"):
        make().optimize(["blur"])


DAT = """
crystal silicon : dw = iso occ = 1
cell 5.431 5.431 5.431 90.0 90.0 90.0
atom Si 0.125 0.125 0.125 0.4668
spg 227 2
hv 300
zone 1 1 0
kt 0 0 0
xaxis 1 -1 1
"""


def test_the_form_of_the_original(truth: Truth, simulator: BlochSimulator, found: RefinementResult, tmp_path: Path):
    (tmp_path / "si.dat").write_text(DAT)
    coarse = CoarseOptimize(datpath=tmp_path / "si.dat", dinfo=truth.data, roi=REGION)
    result = coarse.optimizeOrientationThickness((600, 1000))
    assert result["thickness"] == pytest.approx(found["thickness"], rel=5e-3)
    with pytest.raises(ValueError, match="either a simulator or datpath"):
        CoarseOptimize(simulator, truth.data, REGION, datpath=tmp_path / "si.dat")


def test_a_pattern_of_disks(rng: np.random.Generator) -> None:
    """CBED: all disks in one image, turned; two rectangles; the thickness, gl and tilt come back."""
    crystal, hkl, gl, radius = silicon(), HKL, 120.0, 24.0
    frame = DisplayFrame.for_beam(crystal, BEAM, gl, (70.3, 159.6), rotation=8.0)
    tilt = (1.4 * frame.step, -2.2 * frame.step)
    simulator = BlochSimulator(crystal, BEAM, reflections=hkl, selection=FEW)
    g = (crystal.g_vectors(hkl) @ BEAM.frame(crystal).T)[:, :2]
    simulator = simulator.with_beams(np.array([[-0.2, -0.2], [0.2, -0.2], [-0.2, 0.2], [0.2, 0.2]]))
    pattern = np.full((140, 320), 20.0)
    pixels = np.indices(pattern.shape).reshape(2, -1).T
    for d in range(len(hkl)):
        shown = frame.to_display(pixels) - g[d, ::-1] * (-1, 1) / frame.step
        disk = np.hypot(*shown.T) <= radius
        tilts = frame.with_(tilt=tilt).to_tilt(shown[disk])
        values = simulator.prepare({}, tilts).intensities([640.0])[0, d]
        pattern.reshape(-1)[disk] += 4000 * values
    pattern = rng.poisson(pattern).astype(np.uint16)
    start = frame.with_(gl=1.01 * gl)
    data = DiffractionData.from_cbed(pattern, hkl, start, crystal, BEAM, radius=radius - 2)
    roi = ROI(((-15, -15, 15, -1), (-15, 1, 15, 15)))
    result = CoarseRefine(simulator, data, roi).optimize({"thickness": (550, 750), "gl": (118, 124)}, n_scan={"gl": 2})
    assert result["thickness"] == pytest.approx(640, rel=5e-3)
    # A small region without much in it: the error bars say so.
    assert result["gl"] == pytest.approx(gl, abs=min(3 * result.sigma["gl"], 5e-3 * gl))
    assert np.abs(np.subtract(result.tilt, tilt)).max() < 0.3 * frame.step
    measured, _ = result.apply().disks(result)
    assert np.isnan(measured[:, :, measured.shape[2] // 2]).all()


def test_too_few_beams_are_said(truth: Truth) -> None:
    few = BeamSelection(strong=0.3, weak=9.0, laue_zones=0)
    poor = BlochSimulator(silicon(), BEAM, reflections=HKL, selection=few)
    refiner = CoarseRefine(poor, truth.data, REGION)
    result = refiner.with_(beam_check=1).optimize_orientation_thickness((700, 900))
    assert any(text.startswith("few_beams") for text in result.warnings), result.warnings
    # With the check, a second scan of more beams finds what the first one could not.
    result = refiner.optimize_orientation_thickness((700, 900))
    assert result["thickness"] == pytest.approx(truth.thickness, rel=0.01)


def test_memory_is_limited(truth: Truth, simulator: BlochSimulator) -> None:
    with pytest.raises(DataError, match="more than the limit"):
        CoarseRefine(replace(simulator, memory_limit="100kB"), truth.data, REGION).optimize_orientation_thickness()
