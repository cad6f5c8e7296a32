"""What a plausible error of a held parameter would do is in the error bars, unless it is said to be known."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from refine.configuration import images, write_config
from refine.crystals import FCC
from refine.patterns import EXACT, Truth, larbed
from stackalign.refine import (
    ROI,
    Beam,
    BeamSelection,
    BlochSimulator,
    CoarseRefine,
    Crystal,
    RefinementResult,
    load_config,
)
from stackalign.refine.matching.held import Evidence, Held
from stackalign.refine.matching.together import held_part

RULES = BeamSelection(laue_zones=0)
SQUARE = ((0, 0, 0), (2, 0, 0), (0, 2, 0), (2, 2, 0))


def rock_salt(a: float, anion: str, cation: str) -> Callable[[float], Crystal]:
    positions = np.concatenate([FCC, FCC + 0.5])
    return lambda b: Crystal((a,) * 3 + (90,) * 3, (cation,) * 4 + (anion,) * 4, positions, b_iso=b)


MAGNESIA, LITHIUM_FLUORIDE = rock_salt(4.212, "O", "Mg"), rock_salt(4.026, "F", "Li")


def pattern(crystal: Crystal, thickness: float, seed: int = 0) -> Truth:
    beam = Beam(120, (0, 0, 1), (2, 0, 0))
    options = {"side": (26, 26), "counts": 200.0, "selection": RULES, "more_beams": 6.0}
    return larbed(crystal, beam, SQUARE, thickness=thickness, gl=55.0, seed=seed, **options)


def refined(truth: Truth, crystal: Crystal, held_sigma: dict[str, float] | None) -> RefinementResult:
    simulator = BlochSimulator(crystal, truth.simulator.beam, SQUARE, RULES)
    job = CoarseRefine(simulator, truth.data, ROI.rectangle(16, 16), grid=2.0, held_sigma=held_sigma)
    return job.optimize_orientation_thickness((200, 600))


@pytest.mark.parametrize(
    ("make", "b_iso", "held", "thickness"),
    [(MAGNESIA, 0.32, 0.42, 338.0), (LITHIUM_FLUORIDE, 0.8, 0.6, 450.0), (MAGNESIA, 0.32, 0.25, 576.0)],
)
def test_a_debye_waller_factor_that_is_off_is_in_the_error_bar(
    make: Callable[[float], Crystal], b_iso: float, held: float, thickness: float
) -> None:
    truth = pattern(make(b_iso), thickness)
    assumed, exact = (refined(truth, make(held), said) for said in (None, EXACT))
    error = abs(assumed["thickness"] - thickness)
    assert error > 0.004 * thickness
    assert error < 3 * assumed.sigma["thickness"]
    facts = assumed.held["b_iso"]
    assert facts["uncertainty"] == pytest.approx(0.25 * held)
    part = abs(facts["moves"]["thickness"] * facts["change"])
    assert assumed.systematic["thickness"] > 0.3 * error
    assert part > 0.3 * error
    assert exact["thickness"] == assumed["thickness"]
    assert exact.sigma["thickness"] <= assumed.sigma["thickness"]
    assert f"held b_iso = {held:.4g} +- {0.25 * held:.2g}, the images want " in str(assumed)


def test_what_is_right_widens_little() -> None:
    """The nearest neighbour: its own Debye-Waller factor, of which it is said that it is exact, or nothing."""
    truth = pattern(MAGNESIA(0.32), 338.0)
    known, assumed = (refined(truth, MAGNESIA(0.32), said) for said in (EXACT, None))
    for result in (known, assumed):
        assert result.ok, result.warnings
        assert abs(result["thickness"] - 338.0) < 3 * result.sigma["thickness"]
    assert known.sigma["thickness"] < 1.0
    assert assumed.sigma["thickness"] < 5.0  # the assumed 25 % alone would move it by 14 angstrom


def counted(
    asked: float, sigma: float, uncertainty: float, stated: bool, goodness: float = 1.0, moves: float = 1.0
) -> float:
    """Error bar of a thickness of 1000 that one held parameter moves, which the residual asks for with an error."""
    n = 4000
    left = np.zeros((1, n))
    left[0, ::2] = np.sqrt(2 / n) / sigma  # such that noise of variance 1 gives the error
    noise = np.tile([0.0, 1.0], n // 2) * np.where(np.arange(n) % 4 == 1, 1.0, -1.0) * np.sqrt(2)
    residual = noise + asked * left[0]
    item = Held("b_iso", 0.4, {"thickness": moves}, asked, sigma, 0.0, uncertainty, stated)
    point = SimpleNamespace(get=lambda name: 1000.0)
    fine = SimpleNamespace(names=("thickness",), point=point, end=SimpleNamespace(model=SimpleNamespace(step=1.0)))
    part = held_part(Evidence([item], left, residual, np.arange(n), 1), fine, goodness)
    return float(np.sqrt(np.square(part.parts).sum()))


def test_what_is_stated_is_narrowed_by_a_residual_of_noise() -> None:
    """Two measurements of one number: what was known of it, and the residual."""
    assert counted(0.0, 0.1, 0.1, stated=True) == pytest.approx(0.1 / np.sqrt(2), rel=0.01)
    assert counted(0.2, 0.1, 0.1, stated=True) == pytest.approx(np.sqrt(0.005 + 0.01), rel=0.01)
    assert counted(0.0, 10.0, 0.1, stated=True) == pytest.approx(0.1, rel=0.01)
    for goodness in (2.0, float("nan")):
        assert counted(0.0, 0.01, 0.1, stated=True, goodness=goodness) == pytest.approx(0.1, rel=0.01)


def test_of_what_is_assumed_only_what_is_asked_for_beyond_noise_counts() -> None:
    assert counted(0.05, 0.1, 0.5, stated=False) == 0.0
    assert counted(0.2, 0.1, 50.0, stated=False) == pytest.approx(0.1 * np.sqrt(3), rel=0.02)
    assert counted(5.0, 0.1, 0.01, stated=False) == pytest.approx(5.0, rel=0.01)  # beyond doubt, whatever is assumed


def test_what_is_left_open_counts_where_it_is_much() -> None:
    """A thickness of 1000 may be off by 2.5 without a word; what is open beyond that is in the error bar."""
    assert counted(0.0, 0.1, 0.1, stated=False, moves=30.0) == 0.0
    wide = counted(0.0, 0.1, 0.1, stated=False, moves=600.0)
    assert wide == pytest.approx(np.sqrt(0.5 * 60**2 - 2.5**2), rel=0.02)


@pytest.mark.parametrize(
    ("said", "message"), [({"gl": 0.1}, "held_sigma knows kv, b_iso"), ({"kv": -1.0}, "held_sigma of kv must be")]
)
def test_bad_uncertainties(said: dict[str, float], message: str) -> None:
    truth = images()
    with pytest.raises(ValueError, match=message):
        CoarseRefine(truth.simulator, truth.data, ROI.rectangle(30, 30), held_sigma=said)


def test_a_configuration_says_what_is_known(tmp_path: Path) -> None:
    lines = ("grid = 3\nfine_grid", "held_sigma = { dwf = 0.02, hv = 0.1 }\ngrid = 3\nfine_grid")
    refiner = load_config(write_config(tmp_path, images(), lines)).refiner
    assert refiner.held_sigma == {"b_iso": 0.02, "kv": 0.1}
    assert refiner.with_(grid=4.0).held_sigma == refiner.held_sigma
