"""Voltage, Debye-Waller factors and cells found again; what the data cannot tell is said."""

from dataclasses import replace

import numpy as np
import pytest

from refine.crystals import silicon
from refine.patterns import Truth, larbed
from stackalign.refine import ROI, Beam, BeamSelection, BlochSimulator, CoarseRefine, Crystal

BEAM = Beam(100, (1, 1, 1), (2, -2, 0))
SELECTION = BeamSelection(strong=0.04, weak=0.003)
REGION = ROI.rectangle(30, 32)


def tetragonal(ratio: float = 1.0015) -> Crystal:
    return silicon().with_parameters({"c": 5.431 * ratio})


def lines(crystal: Crystal) -> Truth:
    """HOLZ lines in the disk of 000."""
    options = {"thickness": 1200, "gl": 170, "side": (42, 44), "counts": 20000, "blur": 0.7, "tilt_px": (1.3, -0.6)}
    return larbed(crystal, BEAM, [(0, 0, 0)], selection=SELECTION, more_beams=1.0, **options)


@pytest.fixture(scope="module")
def cubic() -> Truth:
    return lines(silicon())


def refiner(truth: Truth, crystal: Crystal, kv: float = 100.0) -> CoarseRefine:
    simulator = replace(truth.simulator, crystal=crystal, beam=replace(BEAM, kv=kv))
    return CoarseRefine(simulator, truth.data, REGION, thickness=truth.thickness, grid=2.0)


def test_voltage(cubic: Truth) -> None:
    result = refiner(cubic, silicon(), 100.35).optimizeHV()
    assert result["hv"] == pytest.approx(100, abs=0.03)
    assert np.abs(np.subtract(result.tilt, cubic.frame.tilt)).max() < 0.5 * cubic.frame.step
    assert result.wavenumber == pytest.approx(replace(BEAM, kv=result["kv"]).wavenumber)
    after = result.apply()
    assert after.simulator.beam.kv == result["kv"]


def test_voltage_and_edge_are_degenerate(cubic: Truth) -> None:
    start = refiner(cubic, silicon()).with_(grid=4.0)
    result = start.optimize({"a": (5.42, 5.44), "hv": (99.8, 100.2)}, n_scan={"a": 1, "hv": 1})
    assert abs(result.correlation_of("a", "kv")) > 0.95
    assert any(text.startswith("degenerate: a and kv") for text in result.warnings)
    assert not result.ok


@pytest.mark.parametrize("method", ["gauss-newton", "nelder-mead"])
def test_cell(method: str) -> None:
    truth = lines(tetragonal())
    start = refiner(truth, tetragonal(1.0))
    bounds = {"a": (5.425, 5.437), "c": (5.425, 5.447)}
    if method == "nelder-mead":
        start, bounds = start.with_(grid=4.0), {"a": (5.429, 5.433), "c": (5.431, 5.445)}
    result = start.optimize_unit_cell(("a", "c"), bounds=bounds, method=method, n_scan=3)
    assert result["c"] / result["a"] == pytest.approx(1.0015, rel=2e-4)
    stages = {row["stage"] for row in result.history}
    assert ("simplex" in stages) == (method == "nelder-mead")


def test_debye_waller() -> None:
    beam, hkl = Beam(200, (1, 1, 0), (2, -2, 0)), ((0, 0, 0), (2, -2, 0), (1, -1, 1))
    selection = BeamSelection(strong=0.06, weak=0.005, laue_zones=0)
    options = {"side": (36, 36), "counts": 3000, "selection": selection, "more_beams": 1.0}
    truth = larbed(silicon(0.4668), beam, hkl, thickness=900, gl=60, **options)
    simulator = replace(truth.simulator, crystal=silicon(0.9))
    result = CoarseRefine(simulator, truth.data, ROI.rectangle(26, 26), thickness=890).optimizeDWF()
    assert result["dwf"] == pytest.approx(0.4668, abs=0.03)
    assert result["thickness"] == pytest.approx(900, rel=5e-3)
    assert result.apply().simulator.crystal.b_iso == pytest.approx(result["b_iso"])


def test_a_systematic_row_leaves_a_direction_open() -> None:
    """Along the row everything varies, across it nothing."""
    beam, hkl = Beam(300, (3, 5, 0), (0, 0, 4)), ((0, 0, 0), (0, 0, 4))
    selection = BeamSelection(g_max=0.9, laue_zones=0, sg_max=0.05)
    truth = larbed(silicon(), beam, hkl, thickness=700, gl=60, side=(50, 50), counts=3000, selection=selection)
    simulator = BlochSimulator(silicon(), beam, hkl, selection=selection)
    result = CoarseRefine(simulator, truth.data, ROI.rectangle(36, 36)).optimize_orientation_thickness((500, 900))
    assert any(text.startswith("degenerate: tilt_y is not determined") for text in result.warnings), result.warnings
    assert result["tilt_x"] == pytest.approx(truth.frame.tilt[0], abs=0.5 * truth.frame.step)


def test_the_end_of_bounds_is_said(cubic: Truth) -> None:
    result = refiner(cubic, silicon()).optimize({"thickness": (1205, 1260)})
    assert any(text.startswith("on_border: thickness") for text in result.warnings)


def test_what_cells_leave_free(cubic: Truth) -> None:
    start = refiner(cubic, silicon())
    known = start.simulator.parameters
    from stackalign.refine.matching.parameters import CELL, free_cell

    assert free_cell("symmetry", known) == ("a",)
    assert free_cell("symmetry", tetragonal().parameters) == ("a", "c")
    assert free_cell("symmetry", known | {"b": 6.0, "c": 7.0, "beta": 95.0}) == ("a", "b", "c", "beta")
    assert free_cell("all", known) == CELL
    assert start._free_parameter("a", None, {"a": None}).drives == ("a", "b", "c")
    assert start._free_parameter("a", None, {"a": None, "c": None}).drives == ("a", "b")
    with pytest.raises(ValueError, match="free must be"):
        start.optimize_unit_cell(("a", "d"))
    with pytest.raises(ValueError, match="must not become negative"):
        start.optimize_dwf(bounds=(-0.1, 1))
    with pytest.raises(ValueError, match=r"cannot vary 'b_iso\.Ga'"):
        start.optimize_dwf("Ga")
