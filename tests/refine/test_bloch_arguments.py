"""Arguments and parameters of simulations of Bloch waves."""

from dataclasses import replace

import numpy as np
import pytest

from refine.crystals import gallium_arsenide, silicon
from stackalign.errors import DataError
from stackalign.refine import Beam, BeamSelection, BlochSimulator, Simulator

pytestmark = pytest.mark.filterwarnings("ignore:.*beams are few:stackalign.errors.StackalignWarning")
"""Small matrices: what is tested here does not depend on how many beams there are."""


FEW = BeamSelection(strong=0.2, weak=0.01, laue_zones=0)


def disc(rng: np.random.Generator, n: int, radius: float) -> np.ndarray:
    return radius * rng.uniform(-1, 1, (n, 2))


def test_parameters_say_what_they_cost() -> None:
    simulator = BlochSimulator(gallium_arsenide(), Beam(200, (1, 1, 0), (0, 0, 2)), absorption="perturbative")
    assert isinstance(simulator, Simulator)
    assert simulator.requires("kv") == {"beams", "decompositions"}
    assert simulator.requires("b_iso.Ga") == {"potentials", "decompositions"}
    assert simulator.requires("b_iso") == {"potentials", "decompositions"}
    assert simulator.requires("a") == {"beams", "potentials", "decompositions"}
    assert simulator.requires("absorptive_ratio") == {"decompositions"}
    with pytest.raises(ValueError, match="unknown parameter 'gl'"):
        simulator.requires("gl")


def test_parameters_are_changed_without_a_trace(rng: np.random.Generator) -> None:
    tilts = disc(rng, 4, 0.2)
    simulator = BlochSimulator(gallium_arsenide(), Beam(200, (1, 1, 0), (0, 0, 2)), None, FEW).with_beams(tilts)
    before = simulator.prepare({}, tilts).intensities([500.0])
    changes = {"kv": 201.0, "a": 5.7, "b_iso.As": 0.2}
    changed = simulator.prepare(changes, tilts)
    again = BlochSimulator(
        gallium_arsenide().with_parameters({"a": 5.7, "b_iso.As": 0.2}), Beam(201, (1, 1, 0), (0, 0, 2))
    )
    expected = replace(again, beams=simulator.beams).prepare({}, tilts).intensities([500.0])
    np.testing.assert_array_equal(changed.intensities([500.0]), expected)
    assert np.abs(expected - before).max() > 1e-3
    np.testing.assert_array_equal(simulator.prepare({}, tilts).intensities([500.0]), before)
    assert simulator.parameters["kv"] == 200


GOOD = {"crystal": silicon(), "beam": Beam(200, (1, 1, 0), (0, 0, 2)), "selection": FEW}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"absorption": "some"}, "absorption must be"),
        ({"absorptive_ratio": 1.5}, "absorptive_ratio must be"),
        ({"workers": 0}, "workers must be"),
        ({"memory_limit": "much"}, "positive number"),
        ({"reflections": ((0, 0, 0.5),)}, "three whole numbers"),
        ({"reflections": ((0, 0, 0), (0, 0, 0))}, "listed twice"),
        ({"selection": replace(FEW, max_beams=2)}, "more than max_beams=2"),
        ({"selection": replace(FEW, g_max=200)}, "lower g_max"),
        ({"memory_limit": "10kB"}, "more than the limit of 10 kB"),
    ],
)
def test_bad_simulators(change: dict, message: str) -> None:
    with pytest.raises((ValueError, DataError), match=message):
        BlochSimulator(**GOOD | change).prepare({}, np.zeros((300, 2)))


@pytest.mark.parametrize("rule", [{"g_max": 0}, {"strong": -1}, {"weak": 0}, {"floor": 0}, {"sg_max": 0}])
def test_bad_selections(rule: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(rule))):
        BeamSelection(**rule)


@pytest.mark.parametrize(
    ("tilts", "message"),
    [
        (np.zeros(2), r"\(T, 2\)"),
        (np.zeros((0, 2)), r"\(T, 2\)"),
        (np.full((1, 2), np.nan), "finite"),
        (np.array([[30.0, 0]]), "30 degrees"),
    ],
)
def test_bad_tilts(tilts: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BlochSimulator(**GOOD).prepare({}, tilts)


def test_bad_requests() -> None:
    prepared = BlochSimulator(**GOOD, reflections=((0, 0, 0), (0, 0, 2))).prepare({}, np.zeros((1, 2)))
    for thicknesses in ([-1.0], [np.nan], [], [[1.0]]):
        with pytest.raises(ValueError, match="thicknesses must be"):
            prepared.intensities(thicknesses)
    with pytest.raises(ValueError, match=r"\(0, 0, 4\).* were not simulated"):
        prepared.intensities([100], [(0, 0, 4)])
    with pytest.raises(ValueError, match="unknown parameter"):
        BlochSimulator(**GOOD).prepare({"gl": 1.0}, np.zeros((1, 2)))


def test_reflections_that_are_asked_for_take_part() -> None:
    far = ((0, 0, 0), (9, -9, 9))
    found = BlochSimulator(**GOOD, reflections=far).prepare({}, np.zeros((1, 2)))
    assert found.reflections == far
    assert found.intensities([300]).shape == (1, 2, 1)
