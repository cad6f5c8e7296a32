"""Bloch waves against analytic solutions, the matrix exponential and symmetry."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from scipy.linalg import expm

from refine.crystals import copper, gallium_arsenide, silicon, triclinic
from stackalign.errors import StackalignWarning
from stackalign.refine import (
    Beam,
    BeamList,
    BeamSelection,
    BlochSimulator,
    Crystal,
    kirkland,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*beams are few:stackalign.errors.StackalignWarning")
"""Small matrices: what is tested here does not depend on how many beams there are."""

NONE = np.zeros((0, 3), dtype=np.int64)
FEW = BeamSelection(strong=0.2, weak=0.01, laue_zones=0)


def beams(*hkl: tuple[int, int, int]) -> BeamList:
    return BeamList(np.array(hkl, dtype=np.int64), NONE, NONE)


def disc(rng: np.random.Generator, n: int, radius: float) -> np.ndarray:
    return radius * rng.uniform(-1, 1, (n, 2))


def test_two_beams_follow_howie_and_whelan(rng: np.random.Generator) -> None:
    """I_g = sin^2(pi t s_eff) / (xi s_eff)^2 with s_eff^2 = s^2 + 1/xi^2 for a reflection in the plane of the foil."""
    beam = Beam(200, (1, 1, 0), (0, 0, 4))
    simulator = BlochSimulator(silicon(), beam, beams=beams((0, 0, 0), (0, 0, 4)), refraction=False)
    g, k = 4 / 5.431, 1 / 0.02507934
    potential = (1 + 200 / 510.99895) * 8 * kirkland("Si", np.array(g * g)) * np.exp(-0.4668 * g * g / 4)
    potential /= np.pi * 5.431**3
    tilts = disc(rng, 50, 0.5) + np.array([-g / 2, 0])
    thicknesses = np.array([100.0, 350.0, 777.0])
    normal = np.sqrt(k * k - np.square(tilts).sum(1))
    s = -(2 * g * tilts[:, 0] + g * g) / (2 * normal)
    effective = np.sqrt(s**2 + (potential / normal) ** 2)
    expected = (np.sin(np.pi * thicknesses[:, None] * effective) * (potential / normal) / effective) ** 2
    found = simulator.prepare({}, tilts).intensities(thicknesses)
    assert expected.max() > 0.9
    np.testing.assert_allclose(found[:, 1], expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found[:, 0], 1 - expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("absorption", [None, "exact"])
def test_many_beams_follow_the_matrix_exponential(rng: np.random.Generator, absorption: str | None) -> None:
    """d psi_g / dt = i pi / (K_n + g_n) sum_h (2 K s_g delta_gh + U_g-h) psi_h, integrated, in an inclined foil."""
    crystal, k = triclinic(rng), 1 / 0.0250793404
    beam = Beam(200, (1, 2, 3), (3, 0, -1), normal=(1, 1, 4))
    hkl = np.unique(np.concatenate([[[0, 0, 0]], rng.integers(-3, 4, (14, 3))]), axis=0)
    hkl = np.concatenate([[[0, 0, 0]], hkl[hkl.any(1)]])
    simulator = BlochSimulator(crystal, beam, beams=BeamList(hkl, NONE, NONE), absorption=absorption)
    tilts = disc(rng, 3, 0.4)
    thicknesses = np.array([120.0, 400.0, 900.0])
    found = simulator.prepare({}, tilts).intensities(thicknesses)

    scale = (1 + 200 / 510.99895) / (np.pi * crystal.volume)
    potential = scale * crystal.structure_factors(hkl[:, None] - hkl)
    mean = potential[0, 0].real
    z = np.array([1, 2, 3]) @ crystal.direct
    z /= np.linalg.norm(z)
    x = crystal.g_vectors((3, 0, -1))
    x -= x @ z * z
    x /= np.linalg.norm(x)
    inward = -np.array([1, 1, 4]) @ crystal.direct
    inward /= np.linalg.norm(inward)
    g = crystal.g_vectors(hkl)
    for i, (tx, ty) in enumerate(tilts):
        vacuum = tx * x + ty * np.cross(z, x) - np.sqrt(k * k - tx * tx - ty * ty) * z
        inside = vacuum + (np.sqrt((vacuum @ inward) ** 2 + mean) - vacuum @ inward) * inward
        along = inside @ inward + g @ inward
        off = k * k + mean - np.square(inside + g).sum(1)
        total = potential - np.diag(np.diag(potential)) + np.diag(off)
        if absorption:
            total = total + 0.05j * potential
        for j, t in enumerate(thicknesses):
            psi = expm(1j * np.pi * t * total / along[:, None])[:, 0]
            expected = np.abs(psi) ** 2 * along / along[0]
            np.testing.assert_allclose(found[j, :, i], expected, atol=2e-6)
            assert absorption or expected.sum() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("crystal", [silicon(), gallium_arsenide()])
@pytest.mark.parametrize("selection", [FEW, BeamSelection(sg_max=0.01, g_max=2.5)])
def test_intensities_add_up_to_one(crystal: Crystal, selection: BeamSelection, rng: np.random.Generator) -> None:
    beam = Beam(300, (1, 1, 0), (0, 0, 2), normal=(10, 9, 1))
    simulator = BlochSimulator(crystal, beam, selection=selection)
    prepared = simulator.prepare({}, beam.tilts_from_mrad(disc(rng, 20, 8)))
    assert prepared.reflections[0] == (0, 0, 0)
    found = prepared.intensities([0, 300, 1000])
    np.testing.assert_allclose(found.sum(1), 1, rtol=0, atol=1e-6)
    assert (found[1:, 0] < 0.999).all()
    np.testing.assert_allclose(found[0, 0], 1, rtol=0, atol=1e-12)


def test_thin_foils_scatter_kinematically(rng: np.random.Generator) -> None:
    """I_g = (pi t U_g / K)^2 sinc^2(t s) to first order in the potential."""
    beam = Beam(200, (1, 1, 0), (0, 0, 4))
    simulator = BlochSimulator(gallium_arsenide(), beam, selection=BeamSelection(sg_max=0.05, g_max=3, laue_zones=0))
    tilts = disc(rng, 10, 0.1)
    prepared = simulator.prepare({}, tilts)
    t = 2.0
    found = prepared.intensities([t])[0]
    geometry = simulator.geometry
    hkl = np.array(prepared.reflections[1:9])
    s = geometry.detuning(tilts, hkl).T / (2 * geometry.wavenumber)
    amplitude = np.pi * t * np.abs(geometry.potential(hkl))[:, None] / geometry.wavenumber * np.sinc(t * s)
    np.testing.assert_allclose(found[1:9], amplitude**2, rtol=0.1, atol=2e-5)
    half = prepared.intensities([t / 2])[0, 1:9].sum()
    assert found[1:9].sum() / half == pytest.approx(4, rel=0.03)


def test_crystal_symmetry(rng: np.random.Generator) -> None:
    """The fourfold axis and the mirrors of copper [001] map tilts and reflections onto one another, HOLZ included."""
    beam = Beam(100, (0, 0, 1), (1, 0, 0))
    base = np.array([[0, 0, 0], [2, 0, 0], [2, 2, 0], [4, 2, 0], [1, 1, 1]])
    turns = ([[0, -1], [1, 0]], [[-1, 0], [0, -1]], [[1, 0], [0, -1]], [[0, 1], [1, 0]], [[0, -1], [-1, 0]])
    flat = {(h * x, k * y, m) for h, k, m in base.tolist() for x in (1, -1) for y in (1, -1)}
    orbit = tuple(sorted(flat | {(k, h, m) for h, k, m in flat}))
    for turn in turns:
        turned = base.copy()
        turned[:, :2] = base[:, :2] @ np.array(turn).T
        tilts = disc(rng, 6, 0.15)
        square = np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]]) * 0.15
        simulator = BlochSimulator(copper(), beam, orbit, replace(FEW, laue_zones=None)).with_beams(square)
        first = simulator.prepare({}, tilts).intensities([700.0], tuple(map(tuple, base.tolist())))
        second = simulator.prepare({}, tilts @ np.array(turn).T).intensities(
            [700.0], tuple(map(tuple, turned.tolist()))
        )
        np.testing.assert_allclose(second, first, atol=1e-9)
        assert np.ptp(first[0, 1]) > 1e-3


def test_polarity_shows_where_friedel_pairs_differ() -> None:
    """Opposite reflections are equal on the zone axis of silicon and differ along the polar axis of GaAs."""
    pair = ((0, 0, 2), (0, 0, -2), (1, -1, 1), (1, -1, -1))
    for crystal, differ in ((silicon(), False), (gallium_arsenide(), True)):
        simulator = BlochSimulator(crystal, Beam(200, (1, 1, 0), (0, 0, 2)), pair, FEW)
        found = simulator.prepare({}, np.zeros((1, 2))).intensities([600.0])[0, :, 0]
        assert (abs(found[0] - found[1]) > 1e-3) == differ
        assert (abs(found[2] - found[3]) > 1e-3) == differ


def test_folded_beams_bring_small_matrices_close_to_large_ones(rng: np.random.Generator) -> None:
    tilts = disc(rng, 6, 0.2)
    kept = ((0, 0, 0), (1, -1, 1), (0, 0, 2), (2, -2, 0))
    simulator = BlochSimulator(silicon(), Beam(200, (1, 1, 0), (0, 0, 2)), kept)
    rules = BeamSelection(strong=0.02, weak=0.0005, laue_zones=0, g_max=4)
    large, folded, alone = (
        replace(simulator, selection=chosen).prepare({}, tilts)
        for chosen in (replace(rules, sg_max=0.1), rules, replace(rules, weak=np.inf))
    )
    assert len(alone.beams) == len(folded.beams) < len(large.beams) / 2
    assert len(folded.beams.weak) > 10
    with pytest.warns(StackalignWarning, match="beams are few"):
        far = alone.intensities([300.0, 900.0])
    truth, near = (each.intensities([300.0, 900.0]) for each in (large, folded))
    assert np.abs(near - truth).max() < 0.03
    assert np.abs(far - truth).max() > 5 * np.abs(near - truth).max()


def test_absorption(rng: np.random.Generator) -> None:
    tilts = disc(rng, 10, 0.2)
    plain = BlochSimulator(gallium_arsenide(), Beam(200, (1, 1, 0), (0, 0, 2)), None, FEW).with_beams(tilts)
    perfect = plain.prepare({}, tilts).intensities([300.0, 900.0])
    errors = []
    for ratio in (0.02, 0.04):
        exact, first = (
            replace(plain, absorption=kind, absorptive_ratio=ratio).prepare({}, tilts).intensities([300.0, 900.0])
            for kind in ("exact", "perturbative")
        )
        assert (exact.sum(1) < 0.99).all()
        assert (exact[1].sum(0) < exact[0].sum(0)).all()
        errors.append(np.abs(exact - first).max())
    assert 0 < errors[0] < errors[1] < 0.05
    none = replace(plain, absorption="exact", absorptive_ratio=0.0).prepare({}, tilts).intensities([300.0, 900.0])
    np.testing.assert_allclose(none, perfect, atol=1e-9)
    for kind in ("exact", "perturbative"):  # a mean alone: the same decay for all, exp(-2 pi U' t / K_n)
        mean = replace(plain, absorption=kind, absorptive_ratio=lambda _, hkl: 2e-3 * (~hkl.any(-1)).astype(complex))
        decayed = mean.prepare({}, tilts).intensities([300.0, 900.0])
        expected = np.exp(-2 * np.pi * 2e-3 * np.array([300, 900]) / plain.geometry.wavenumber)
        np.testing.assert_allclose(decayed, perfect * expected[:, None, None], rtol=2e-3, atol=1e-4)


def test_convergence_is_measured(rng: np.random.Generator) -> None:
    beam = Beam(200, (1, 1, 0), (0, 0, 2))
    tilts = disc(rng, 5, 0.2)
    kept = ((0, 0, 0), (0, 0, 2), (1, -1, 1))
    poor, good = (
        BlochSimulator(silicon(), beam, kept, replace(FEW, strong=strong, weak=weak)).check_convergence(
            tilts, [300, 900]
        )
        for strong, weak in ((0.4, np.inf), (0.05, 0.002))
    )
    assert poor.max_error > 0.2 > 0.1 > good.max_error > 0
    assert poor.rms_error < poor.max_error
    assert poor.worst in kept
    assert poor.n_beams[0] < poor.n_reference[0]


def test_too_few_beams_for_the_thickness_are_warned_of() -> None:
    few = BlochSimulator(
        silicon(), Beam(200, (1, 1, 0), (0, 0, 2)), ((0, 0, 0),), replace(FEW, strong=0.4, weak=np.inf)
    )
    prepared = few.prepare({}, np.zeros((1, 2)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prepared.intensities([50.0])
    with pytest.warns(StackalignWarning, match=r"beams are few for 2000 angstrom.*check_convergence"):
        prepared.intensities([50.0, 2000.0])


def test_the_fastest_oscillation_sets_the_step(rng: np.random.Generator) -> None:
    beam = Beam(200, (1, 1, 0), (0, 0, 4))
    simulator = BlochSimulator(silicon(), beam, beams=beams((0, 0, 0), (0, 0, 4)))
    prepared = simulator.prepare({}, np.array([[-2 / 5.431, 0]]))
    half = np.linspace(0, 2 * prepared.step_angstrom, 41)  # half a period: from no intensity to all of it
    found = prepared.intensities(half)[:, 1, 0]
    assert found[0] == pytest.approx(0, abs=1e-12)
    assert found[-1] == pytest.approx(1, abs=1e-3)
    assert (np.diff(found) > 0).all()
