"""Bloch waves by other arithmetic, chunks, threads and routines are the same."""

from dataclasses import replace

import numpy as np
import pytest

from refine.crystals import gallium_arsenide, silicon
from stackalign.refine import Beam, BeamSelection, BlochSimulator, Crystal
from stackalign.refine.bloch import bethe, eigen, solver, tridiagonal

pytestmark = pytest.mark.filterwarnings("ignore:.*beams are few:stackalign.errors.StackalignWarning")
"""Small matrices: what is tested here does not depend on how many beams there are."""


FEW = BeamSelection(strong=0.2, weak=0.01, laue_zones=0)


def disc(rng: np.random.Generator, n: int, radius: float) -> np.ndarray:
    return radius * rng.uniform(-1, 1, (n, 2))


def test_real_and_complex_arithmetic_agree(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    tilts = disc(rng, 12, 0.2)
    beam = Beam(200, (1, 1, 0), (0, 0, 2))
    origin = rng.uniform(size=3)  # it is shifted back by itself
    results = []
    for hide in (False, True):
        if hide:
            monkeypatch.setattr(Crystal, "inversion_center", None)
        for absorption in (None, "perturbative", "exact"):
            crystal = silicon().shifted(origin)
            prepared = BlochSimulator(crystal, beam, None, FEW, absorption=absorption).prepare({}, tilts)
            assert absorption == "exact" or prepared.weight.dtype == (np.complex128 if hide else np.float64)
            results.append(prepared.intensities([250.0, 900.0], prepared.reflections[:5]))
    for real, full in zip(results[:3], results[3:], strict=True):
        np.testing.assert_allclose(real, full, rtol=0, atol=1e-9)


def test_bits_depend_on_neither_chunks_nor_threads(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    tilts = disc(rng, 37, 0.2)
    thicknesses = np.linspace(100, 900, 17)
    for crystal in (silicon(), gallium_arsenide()):
        simulator = BlochSimulator(crystal, Beam(200, (1, 1, 0), (0, 0, 2)), selection=FEW).with_beams(tilts)
        whole = replace(simulator, workers=1).prepare({}, tilts).intensities(thicknesses)
        monkeypatch.setitem(solver.CHUNK_BYTES, "cpu", 3 * 2**17)
        for workers in (1, 2, 3):
            chunked = replace(simulator, workers=workers).prepare({}, tilts).intensities(thicknesses)
            np.testing.assert_array_equal(chunked, whole)
        part = simulator.prepare({}, tilts[5:6]).intensities(thicknesses)
        np.testing.assert_array_equal(part, whole[:, :, 5:6])
        monkeypatch.undo()


def test_thicknesses_are_independent(rng: np.random.Generator) -> None:
    """Even steps are multiplied up; each alone says the same."""
    prepared = BlochSimulator(gallium_arsenide(), Beam(200, (1, 1, 0), (0, 0, 2)), selection=FEW).prepare(
        {}, disc(rng, 4, 0.2)
    )
    grid = np.linspace(10, 900, 101)
    together = prepared.intensities(grid)
    for i in (0, 1, 63, 64, 100):
        np.testing.assert_allclose(together[i], prepared.intensities(grid[i])[0], rtol=0, atol=1e-11)
    np.testing.assert_allclose(prepared.intensities(grid[::-1])[::-1], together, rtol=0, atol=1e-11)
    some = prepared.reflections[3:0:-1]
    np.testing.assert_array_equal(prepared.intensities(grid[:2], some), prepared.intensities(grid[:2])[:, 3:0:-1])


@pytest.mark.parametrize("crystal", [silicon(), gallium_arsenide()])
def test_folded_beams_of_many_tilts_are_interpolated(crystal: Crystal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Polynomials in the tilt stand for sums over the weak beams; those close to the Ewald sphere are summed."""
    x, y = np.meshgrid(np.linspace(-0.1, 0.25, 9), np.linspace(-0.2, 0.15, 9))
    tilts = np.stack([x.ravel(), y.ravel()], 1)
    kept = ((0, 0, 0), (1, -1, 1), (0, 0, 2))
    rules = replace(FEW, weak=0.002, laue_zones=None)
    simulator = BlochSimulator(crystal, Beam(200, (1, 1, 0), (0, 0, 2)), kept, rules).with_beams(tilts)
    exact = simulator.prepare({}, tilts).intensities([300.0, 1500.0])
    monkeypatch.setattr(bethe, "WORTH", 0)
    fold = bethe.make_fold(np, simulator.geometry, simulator.beams, tilts, crystal.inversion_center is not None, 1)
    assert fold is not None
    assert fold.degree > 0
    assert 0 < len(fold.direct) < len(simulator.beams.weak) / 2
    found = simulator.prepare({}, tilts).intensities([300.0, 1500.0])
    assert 0 < np.abs(found - exact).max() < 1e-6
    monkeypatch.setitem(solver.CHUNK_BYTES, "cpu", 2**20)
    for workers in (1, 3):
        chunked = replace(simulator, workers=workers).prepare({}, tilts).intensities([300.0, 1500.0])
        np.testing.assert_array_equal(chunked, found)


@pytest.mark.parametrize("kind", [np.float64, np.complex128])
def test_rows_of_eigenvectors_are_those_of_all(rng: np.random.Generator, kind: type) -> None:
    assert tridiagonal.is_available()
    for n, rows in ((2, [1]), (67, [0, 5, 66]), (130, list(range(0, 130, 9)))):
        matrices = rng.normal(size=(3, n, n)).astype(kind)
        if kind is np.complex128:
            matrices += 1j * rng.normal(size=(3, n, n))
        matrices += matrices.conj().transpose(0, 2, 1)
        matrices[1, 0, 1:] = matrices[1, 1:, 0] = 0  # a beam that nothing couples to
        expected, vectors = np.linalg.eigh(matrices)
        values, products = tridiagonal.first_row_products(matrices.copy(), np.array(rows))
        np.testing.assert_allclose(values, expected, rtol=0, atol=1e-12 * n)
        np.testing.assert_allclose(products, vectors[:, :1].conj() * vectors[:, rows], rtol=0, atol=1e-10)


def test_large_matrices_take_the_short_way_to_the_same(rng: np.random.Generator, monkeypatch) -> None:
    tilts, kept = disc(rng, 5, 0.2), ((0, 0, 0), (1, -1, 1), (0, 0, 2), (-2, 2, 2))
    for crystal in (silicon(), gallium_arsenide()):
        rules = BeamSelection(sg_max=0.02, g_max=2.5, laue_zones=0)
        simulator = BlochSimulator(crystal, Beam(200, (1, 1, 0), (0, 0, 2)), kept, rules).with_beams(tilts)
        assert len(simulator.beams) > tridiagonal.SMALLEST
        short = simulator.prepare({}, tilts).intensities([300.0, 1200.0])
        monkeypatch.setattr(eigen, "SMALLEST", 1000)
        np.testing.assert_allclose(short, simulator.prepare({}, tilts).intensities([300.0, 1200.0]), rtol=0, atol=1e-10)
        monkeypatch.undo()
