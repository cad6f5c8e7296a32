"""What a plausible error of a held parameter would do is in the error bars, unless it is said to be known."""

from collections.abc import Callable
from pathlib import Path

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
from stackalign.refine.matching.held import Held, plausible_change

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
    assert assumed.systematic["thickness"] >= part > 0.3 * error
    assert exact["thickness"] == assumed["thickness"]
    assert exact.sigma["thickness"] <= assumed.sigma["thickness"]
    assert f"held b_iso = {held:.4g} +- {0.25 * held:.2g}" in str(assumed)


def test_what_is_known_widens_nothing() -> None:
    """The nearest neighbour: the same crystal with its own Debye-Waller factor, which is said to be known."""
    truth = pattern(MAGNESIA(0.32), 338.0)
    known = refined(truth, MAGNESIA(0.32), EXACT)
    assert known.ok, known.warnings
    assert abs(known["thickness"] - 338.0) < 3 * known.sigma["thickness"]
    assert known.sigma["thickness"] < 1.0


def held(**facts: float) -> Held:
    values = {"value": 0.4, "correction": 0.0, "sigma": 0.01, "explains": 0.0, "uncertainty": 0.1, "own": 1.0}
    return Held("b_iso", moves={}, **values | facts)


def test_noise_tells_what_a_held_parameter_can_be() -> None:
    """Two measurements of one number: what was known of it, and the residual."""
    sharp, blunt = plausible_change(held(), 1.0, False), plausible_change(held(sigma=10.0), 1.0, False)
    assert 0.01 < sharp < 0.013
    assert blunt == pytest.approx(0.1, rel=1e-3)
    assert plausible_change(held(correction=0.2, sigma=0.1, own=1e9), 1.0, False) == pytest.approx(
        np.sqrt(0.005 + 0.01)
    )


def test_a_misfit_or_a_parameter_like_the_fitted_ones_tells_nothing() -> None:
    assert plausible_change(held(), 2.0, False) == 0.1
    assert plausible_change(held(), float("nan"), False) == 0.1
    assert plausible_change(held(own=0.1), 1.0, False) == 0.1


def test_what_the_residual_asks_for_beyond_doubt_counts_in_full() -> None:
    assert plausible_change(held(correction=-0.3, uncertainty=0.0), 2.0, True) == 0.3
    assert plausible_change(held(correction=-0.3, uncertainty=0.0), 2.0, False) == 0.0
    assert plausible_change(held(correction=-0.02, uncertainty=0.0), 2.0, True) == 0.0


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
