"""Absorptive potentials by thermal diffuse scattering: what atoms that vibrate take out of the Bragg beams."""

import functools
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.interpolate import CubicSpline

from stackalign._types import ComplexArray, FloatArray, IntArray
from stackalign.refine.crystal import Crystal
from stackalign.refine.scattering import ScatteringFactors

if TYPE_CHECKING:
    from .geometry import Geometry

__all__ = ["thermal_absorption", "thermal_factor"]

RADII, ANGLES = 160, 64
"""Nodes of the quadrature over the scattering that is lost."""
REACH = 1.5
"""Scale of the radial nodes in 1/angstrom: half of them lie within."""
NODES = 96
"""Lengths of g at which a form factor is integrated; between them it is interpolated."""


def thermal_absorption(geometry: "Geometry", hkl: IntArray) -> ComplexArray:
    """Absorptive potential by thermal diffuse scattering of atoms that vibrate each by itself (Einstein's model).

    For ``BlochSimulator(..., absorption="perturbative", absorptive_ratio="thermal")``. It follows from the scattering
    factors, the Debye-Waller factors and the voltage, and has no parameter of its own. Anisotropic vibrations count
    with their isotropic mean; scattering by plasmons and single electrons, which is mostly forward, is not in it.

    Parameters
    ----------
    geometry : Geometry
        Crystal, voltage and scattering factors in use.
    hkl : numpy.ndarray
        (..., 3) indices.

    Returns
    -------
    numpy.ndarray
        (...) complex, U' in 1/angstrom^2.

    Examples
    --------
    >>> import numpy as np
    >>> from stackalign.refine import Beam, BlochSimulator, Crystal, thermal_absorption
    >>> fcc = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    >>> copper = Crystal((3.6149,) * 3 + (90,) * 3, ["Cu"] * 4, fcc, b_iso=0.55)
    >>> geometry = BlochSimulator(copper, Beam(200, (0, 0, 1), (2, 0, 0))).geometry
    >>> absorbed = thermal_absorption(geometry, np.array([[0, 0, 0], [2, 0, 0]]))
    >>> (absorbed.real / geometry.potential(np.array([[0, 0, 0], [2, 0, 0]])).real).round(3)
    array([0.026, 0.052])

    Notes
    -----
    U'_g is the sum over the atoms of ``gamma^2 / (2 pi K V) exp(-2 pi i g.r) W(g)``, with ::

        W(g) = integral of f(q) f(g - q) [exp(-B g^2 / 4) - exp(-B (q^2 + (g - q)^2) / 4)] over the plane of q

    after C. R. Hall and P. B. Hirsch, Proc. R. Soc. A 286 (1965) 158, and D. M. Bird and Q. A. King, Acta Cryst. A46
    (1990) 202. U'_0 is K / (2 pi V) times the cross section of all that is scattered between the Bragg beams.
    """
    crystal = geometry.crystal
    flat = hkl.reshape(-1, 3)
    length = np.sqrt(np.square(crystal.g_vectors(flat)).sum(-1))
    farthest = max(1.0, float(np.ceil(length.max(initial=0.0))))
    values = {
        (name, b): thermal_factor(name, b, length, geometry.scattering, farthest)
        for name, b in {(name, _mean_b(crystal, i)) for i, name in enumerate(crystal.species)}
    }
    total = np.zeros(len(flat), dtype=np.complex128)
    for i, name in enumerate(crystal.species):
        x, y, z = crystal.positions[i]
        phase = np.exp(-2j * np.pi * (flat[:, 0] * x + flat[:, 1] * y + flat[:, 2] * z))
        total += crystal.occupancy[i] * values[name, _mean_b(crystal, i)] * phase
    scale = geometry.beam.mass_ratio**2 / (2 * np.pi * geometry.wavenumber * crystal.volume)
    return np.asarray(scale * total.reshape(hkl.shape[:-1]))


def _mean_b(crystal: Crystal, atom: int) -> float:
    if crystal.u_aniso is None or np.isnan(crystal.u_aniso[atom]).any():
        return float(crystal.b_iso[atom])
    return float(8 * np.pi**2 * np.mean(crystal.u_aniso[atom][:3]))


def thermal_factor(
    species: str, b_iso: float, g: FloatArray, scattering: ScatteringFactors, farthest: float | None = None
) -> FloatArray:
    """Return W(g) of `thermal_absorption`, dimensionless, at lengths g (...) in 1/angstrom.

    Parameters
    ----------
    species : str
        Symbol of the element.
    b_iso : float
        Debye-Waller factor B in square angstrom.
    g : numpy.ndarray
        Lengths in 1/angstrom.
    scattering : callable
        Scattering factors.
    farthest : float, optional
        Length up to which the table reaches from which values are interpolated; that of the longest unless given.

    Returns
    -------
    numpy.ndarray
        (...) values; all 0 for atoms at rest.
    """
    if b_iso <= 0:
        return np.zeros(np.shape(g))
    known: Any = scattering  # hashable, as functions are
    spline: CubicSpline = _spline(species, float(b_iso), known, farthest or float(np.max(g, initial=1.0)))
    return np.asarray(spline(g))


@functools.lru_cache(maxsize=64)
def _spline(species: str, b_iso: float, scattering: Any, farthest: float) -> CubicSpline:
    lengths = np.linspace(0, farthest, NODES)
    values = [_integral(species, b_iso, scattering, float(g)) for g in lengths]
    return CubicSpline(lengths, values, bc_type=((1, 0.0), "not-a-knot"))  # even in g


def _integral(species: str, b_iso: float, scattering: ScatteringFactors, g: float) -> float:
    """W(g) in polar coordinates about g / 2, in which a quarter of the plane is enough."""
    u, weight_u = _unit_nodes(RADII)
    # The integrand falls as the fifth power of the radius far out.
    radius, d_radius = REACH * u / (1 - u), REACH / (1 - u) ** 2
    v, weight_v = _unit_nodes(ANGLES)
    angle, d_angle = np.pi / 2 * v * v, np.pi * v  # more nodes in the direction of g, where the atoms' peaks are
    r, cosine = radius[:, None], np.cos(angle)
    near, far = (r * r + g * g / 4 + sign * r * g * cosine for sign in (-1, 1))
    product = scattering(species, near) * scattering(species, far)
    left = np.exp(-b_iso * g * g / 4) - np.exp(-b_iso * (r * r / 2 + g * g / 8))
    ring = (product * (weight_v * d_angle)).sum(1) * left[:, 0]
    return float(4 * (ring * radius * d_radius * weight_u).sum())


@functools.cache
def _unit_nodes(count: int) -> tuple[FloatArray, FloatArray]:
    """Nodes and weights of Gauss and Legendre from 0 to 1."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return (nodes + 1) / 2, weights / 2
