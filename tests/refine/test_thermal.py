"""Absorption by thermal diffuse scattering against integrals in closed form, and what it must be by its meaning."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import integrate

from refine.crystals import copper, gallium_arsenide, silicon
from stackalign._types import FloatArray
from stackalign.refine import Beam, BlochSimulator, kirkland, thermal_absorption
from stackalign.refine.bloch.geometry import Geometry
from stackalign.refine.bloch.thermal import thermal_factor

HKL = np.array([[0, 0, 0], [1, -1, 1], [2, -2, 0], [0, 0, 4], [3, -3, 3]])


@pytest.mark.parametrize(("width", "b_iso"), [(0.7, 0.5), (0.2, 1.3), (3.0, 0.05)])
def test_gaussian_atoms_have_the_closed_form(width: float, b_iso: float) -> None:
    def gaussian(_: str, g_squared: FloatArray, /) -> FloatArray:
        return np.asarray(3.0 * np.exp(-width * g_squared))

    g = np.array([0.0, 0.31, 1.0, 2.2, 3.0])
    at_rest = np.pi / (2 * width) * np.exp(-b_iso * g * g / 4)
    moving = np.pi / (2 * width + b_iso / 2) * np.exp(-b_iso * g * g / 8)
    expected = 9 * np.exp(-width * g * g / 2) * (at_rest - moving)
    np.testing.assert_allclose(thermal_factor("Si", b_iso, g, gaussian), expected, rtol=1e-4, atol=1e-6 * expected[0])


@pytest.mark.parametrize(("species", "b_iso"), [("Si", 0.47), ("Au", 0.6), ("O", 1.0)])
def test_forward_loss_is_the_cross_section_between_the_bragg_beams(species: str, b_iso: float) -> None:
    def ring(q: float) -> float:
        f = float(kirkland(species, np.array(q * q)))
        return float(2 * np.pi * q * f * f * (1 - np.exp(-b_iso * q * q / 2)))

    expected = integrate.quad(ring, 0, 8)[0] + integrate.quad(ring, 8, np.inf)[0]
    assert thermal_factor(species, b_iso, np.zeros(1), kirkland)[0] == pytest.approx(expected, rel=2e-3)


def test_atoms_at_rest_absorb_nothing_and_slow_electrons_more() -> None:
    beam = Beam(200, (1, 1, 0), (0, 0, 2))
    assert not thermal_absorption(Geometry(silicon(0.0), beam), HKL).any()
    for crystal in (silicon(), gallium_arsenide(), copper()):
        fast, slow = (Geometry(crystal, replace(beam, kv=kv)) for kv in (200, 80))
        there, here = thermal_absorption(fast, HKL), thermal_absorption(slow, HKL)
        # As 1 / v: gamma^2 / K.
        scale = (slow.beam.mass_ratio / fast.beam.mass_ratio) ** 2 * fast.wavenumber / slow.wavenumber
        np.testing.assert_allclose(here, scale * there, rtol=1e-9)
        ratio = np.abs(there) / np.abs(fast.potential(HKL))
        assert (ratio > 0.004).all()
        assert (ratio < 0.15).all()
        assert (np.diff(ratio) > 0).all()  # thermal scattering is from the cores: it reaches further out


def test_a_simulation_loses_what_is_scattered_thermally() -> None:
    beam, tilts = Beam(200, (1, 1, 0), (0, 0, 2)), np.array([[0.02, 0.01], [0.3, 0.2]])
    plain = BlochSimulator(gallium_arsenide(), beam).with_beams(tilts)
    lost = {}
    for absorption in ("perturbative", "exact"):
        thermal = replace(plain, absorption=absorption, absorptive_ratio="thermal")
        total = thermal.prepare({}, tilts).intensities([200.0, 400.0]).sum(1)
        assert "absorptive_ratio" not in thermal.parameters
        lost[absorption] = 1 - total
        assert (total[1] < total[0]).all()
        by_hand = replace(thermal, absorptive_ratio=thermal_absorption)
        np.testing.assert_array_equal(by_hand.prepare({}, tilts).intensities([200.0, 400.0]).sum(1), total)
    np.testing.assert_allclose(lost["perturbative"], lost["exact"], rtol=0.25)
    geometry = plain.geometry
    mean = 1 - np.exp(-2 * np.pi * thermal_absorption(geometry, HKL[:1])[0].real / geometry.wavenumber * 400)
    # Channelled along columns of atoms it is more than the mean; far from the zone axis about the mean.
    assert lost["exact"][1, 0] > mean
    assert 0.4 * mean < lost["exact"][1, 1] < 1.6 * mean
    with pytest.raises(ValueError, match='absorptive_ratio must be from 0 to 1, "thermal" or a function, got'):
        replace(plain, absorption="exact", absorptive_ratio="tabulated")
