"""Are the beams enough? Against a plain eigen-solver of the full matrix, and for answers that are not alone."""

import warnings
from dataclasses import replace

import numpy as np
import pytest

from refine.crystals import copper, gallium_arsenide, silicon
from stackalign.errors import StackalignWarning
from stackalign.refine import (
    ROI,
    Beam,
    BeamSelection,
    BlochSimulator,
    CallableSimulator,
    CoarseRefine,
    Crystal,
    DiffractionData,
    DisplayFrame,
)

CASES = {
    "Si": (silicon(), Beam(200, (1, 1, 0), (0, 0, 2)), ((0, 0, 0), (1, -1, 1), (0, 0, 2))),
    "GaAs": (gallium_arsenide(), Beam(200, (1, 1, 0), (0, 0, 2)), ((0, 0, 0), (1, -1, 1), (0, 0, 2))),
    "Cu": (copper(), Beam(120, (1, 0, 0), (0, 2, 0)), ((0, 0, 0), (0, 2, 0), (0, 2, 2))),
}
THICKNESSES = np.array([2.0, 60.0, 150.0, 230.0, 400.0, 1000.0])
RULES = BeamSelection(laue_zones=0)
EVERY = BeamSelection(g_max=3.2, sg_max=2.0, laue_zones=0)


def full_matrix(crystal: Crystal, beam: Beam, hkl: np.ndarray, tilt: np.ndarray, thicknesses: np.ndarray) -> np.ndarray:
    """Intensities (n_t, N) of all beams of a list, none of them folded: wave mechanics in ten lines, zone axis up."""
    mass = 1 + beam.kv / 510.99895
    differences = (hkl[:, None] - hkl).reshape(-1, 3)
    potential = mass / (np.pi * crystal.volume) * crystal.structure_factors(differences).reshape(len(hkl), -1)
    inside = np.sqrt(beam.wavenumber**2 + potential[0, 0].real)
    g = crystal.g_vectors(hkl) @ beam.frame(crystal).T
    normal = np.sqrt(inside**2 - tilt @ tilt)
    wave = np.array([*tilt, -normal])
    matrix = potential - np.diag(np.diag(potential)) + np.diag(inside**2 - np.square(wave + g).sum(1))
    scale = 1 / np.sqrt(1 + g @ [0, 0, -1.0] / normal)
    values, vectors = np.linalg.eigh(matrix * scale * scale[:, None])
    phases = np.exp(1j * np.pi * values / normal * thicknesses[:, None])
    return np.abs((phases * vectors[0].conj()) @ vectors.T) ** 2


@pytest.mark.parametrize("mrad", [0.0, 3.0])
@pytest.mark.parametrize("name", CASES)
def test_default_beams_are_enough_or_it_is_said(name: str, mrad: float) -> None:
    crystal, beam, kept = CASES[name]
    side = np.linspace(-1, 1, 3 if mrad else 1) * beam.wavenumber * mrad * 1e-3 + (0.5 if mrad else 1.0) * 1e-4
    tilts = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    prepared = BlochSimulator(crystal, beam, kept, RULES).prepare({}, tilts)
    hkl = BlochSimulator(crystal, beam, kept, EVERY).with_beams(tilts).beams.strong
    rows = [hkl.tolist().index(list(item)) for item in kept]
    some = (0, len(tilts) // 2) if mrad else (0,)
    truth = np.stack([full_matrix(crystal, beam, hkl, tilts[i], THICKNESSES)[:, rows] for i in some], -1)
    for k, thickness in enumerate(THICKNESSES):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            intensities = prepared.intensities([thickness])[0][:, list(some)]
        error = np.abs(intensities - truth[k])
        assert error.max() < 0.02 or caught, (thickness, error)
        assert error.max() > 0.004 or not caught, (thickness, error)
        if thickness < 200:  # and of any intensity that is not next to nothing
            assert (error < np.maximum(0.04 * truth[k], 2e-4)).all(), (thickness, error / truth[k])


def test_thicknesses_of_both_kinds_in_one_call() -> None:
    crystal, beam, kept = CASES["Cu"]
    prepared = BlochSimulator(crystal, beam, kept, RULES, check_beams=False).prepare({}, np.array([[0.01, 0.02]]))
    listed = np.array([300.0, 50.0, 220.0, 0.0, 249.0, 260.0, 200.0])
    together = prepared.intensities(listed, kept[:2])
    each = np.concatenate([prepared.intensities([t])[:, :2] for t in listed])
    np.testing.assert_allclose(together, each, rtol=0, atol=1e-12)
    np.testing.assert_allclose(together[3], [[1.0], [0.0]], atol=1e-12)
    close = prepared.intensities([200 - 1e-9, 200 + 1e-9, 250 - 1e-9, 250 + 1e-9])
    assert np.abs(np.diff(close, axis=0)[[0, 2]]).max() < 1e-6  # no jump where the beams change


@pytest.mark.parametrize(
    "selection", [BeamSelection(weak=np.inf), BeamSelection(sg_max=0.02), BeamSelection(strong=1e-3)]
)
def test_a_selection_of_ones_own_serves_thin_crystals_too(selection: BeamSelection) -> None:
    crystal, beam, kept = CASES["Cu"]
    simulator = BlochSimulator(crystal, beam, kept, replace(selection, laue_zones=0), check_beams=False)
    tilts = np.array([[0.01, 0.02]])
    free, fixed = simulator.prepare({}, tilts), simulator.with_beams(tilts).prepare({}, tilts)
    np.testing.assert_array_equal(free.intensities([20.0]), fixed.intensities([20.0]))


def test_beams_that_are_given_are_not_compared() -> None:
    crystal, beam, kept = CASES["GaAs"]
    simulator = BlochSimulator(crystal, beam, kept)
    with pytest.warns(StackalignWarning, match=r"beams are few for 800 angstrom: intensities are wrong by some 0\.\d"):
        simulator.prepare({}, np.zeros((1, 2))).intensities([20.0, 800.0])
    for quiet in (simulator.with_beams(np.zeros((1, 2))), replace(simulator, check_beams=False)):
        quiet.prepare({}, np.zeros((1, 2))).intensities([20.0, 800.0])


def fringes(parameters: dict, tilts: np.ndarray, thicknesses: np.ndarray, reflections: tuple) -> np.ndarray:
    """Two disks whose intensities repeat themselves every 300 angstrom."""
    x, y = 12 * tilts[:, 0], 12 * tilts[:, 1]
    phase = 2 * np.pi * thicknesses[:, None] / 300
    first = 4 + 0.5 * np.cos(phase) * np.cos(2.1 * x + 1.3 * y) + 0.3 * np.sin(phase) * np.sin(1.7 * y - x) + 0.2 * x
    return np.stack([first, 4 + 0.3 * np.sin(phase + x) - 0.2 * y + 0.03 * x * y], 1)


def test_a_thickness_that_repeats_itself_is_ambiguous(rng: np.random.Generator) -> None:
    hkl = ((0, 0, 0), (0, 0, 2))
    frame = DisplayFrame.for_beam(silicon(), Beam(200, (1, 1, 0), (0, 0, 2)), 40.0, (31.5, 31.5))
    points = np.indices((64, 64)).reshape(2, -1).T
    tilts = frame.to_tilt(frame.to_display(points)).reshape(-1, 2)
    images = 100 * fringes({}, tilts, np.array([430.0]), hkl)[0].reshape(2, 64, 64)
    data = DiffractionData.from_larbed(rng.poisson(images).astype(np.float64), hkl, frame)
    refiner = CoarseRefine(CallableSimulator(fringes, hkl), data, ROI.rectangle(40, 40))
    alone = refiner.optimize_orientation_thickness((350, 520))
    assert "ambiguous" not in alone.flags, alone.warnings
    assert abs(alone["thickness"] - 430) < 4 * alone.sigma["thickness"]
    several = refiner.optimize_orientation_thickness((200, 1000))
    assert "ambiguous" in several.flags, several.warnings
    assert not several.ok
