"""Ordinary CBED disks of strong scatterers, made by a plain solver that shares a table of atoms with the package.

The structure matrix of all zero-layer beams within a radius is written out from the definition of the structure factor,
and its exponential is summed as it is: nothing is selected or folded in. Refined with the defaults, a thickness is
right within three error bars and 1 %, or the result says that it is in doubt.
"""

from dataclasses import dataclass

import numpy as np
import pytest
from scipy import constants, ndimage, special

from refine.patterns import EXACT
from stackalign.refine import (
    ROI,
    Beam,
    BeamSelection,
    BlochSimulator,
    CoarseRefine,
    Crystal,
    DiffractionData,
    DisplayFrame,
    kirkland,
)

REST_KEV = constants.physical_constants["electron mass energy equivalent in MeV"][0] * 1e3
HALF_ANGLE = 3e-3
SIDE, MARGIN = 24, 6
TILT_PX = (1.3, -0.8)


@dataclass(frozen=True)
class Specimen:
    """A cubic crystal, with x along the first of the reflections that are not 000."""

    a: float
    species: tuple[str, ...]
    positions: tuple[tuple[float, float, float], ...]
    b_iso: tuple[float, ...]
    zone: tuple[int, int, int]
    x_axis: tuple[int, int, int]
    hkl: tuple[tuple[int, int, int], ...]
    thickness: float
    g_max: float


FCC = ((0.0, 0.0, 0.0), (0.0, 0.5, 0.5), (0.5, 0.0, 0.5), (0.5, 0.5, 0.0))
PEROVSKITE = ((0.0, 0.0, 0.0), (0.5, 0.5, 0.5), (0.5, 0.5, 0.0), (0.5, 0.0, 0.5), (0.0, 0.5, 0.5))
GOLD = Specimen(
    4.078, ("Au",) * 4, FCC, (0.6,) * 4, (1, 1, 0), (0, 0, 2),
    ((0, 0, 0), (0, 0, 2), (1, -1, 1), (-1, 1, 1)), 300.0, 3.47,
)  # fmt: skip
TITANATE = Specimen(
    3.905, ("Sr", "Ti", "O", "O", "O"), PEROVSKITE, (0.6, 0.4, 0.7, 0.7, 0.7), (0, 0, 1), (1, 0, 0),
    ((0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 0)), 1500.0, 2.32,
)  # fmt: skip


def wavenumber(kv: float) -> float:
    """Relativistic, in 1/angstrom: p c = sqrt(E (E + 2 m c^2))."""
    momentum = np.sqrt(kv * (kv + 2 * REST_KEV)) * 1e3 * constants.e / constants.c
    return float(momentum / constants.h * 1e-10)


def potential(of: Specimen, kv: float, hkl: np.ndarray) -> np.ndarray:
    """U_g = gamma / (pi V) sum_j f_j(g) exp(-B_j g^2 / 4) exp(-2 pi i g r_j), in 1/angstrom^2."""
    g_squared = np.square(hkl).sum(-1) / of.a**2
    total = np.zeros(hkl.shape[:-1], dtype=complex)
    for name, position, b in zip(of.species, of.positions, of.b_iso, strict=True):
        phase = np.exp(-2j * np.pi * (hkl @ np.array(position)))
        total += kirkland(name, g_squared) * np.exp(-b * g_squared / 4) * phase
    return (1 + kv / REST_KEV) / (np.pi * of.a**3) * total


def intensities(of: Specimen, kv: float, tilts: np.ndarray) -> np.ndarray:
    """(D, T) of the reflections at tilts of the incoming wave (T, 2) in 1/angstrom."""
    n = np.arange(-int(of.g_max * of.a) - 1, int(of.g_max * of.a) + 2)
    hkl = np.stack(np.meshgrid(n, n, n, indexing="ij"), -1).reshape(-1, 3)
    hkl = hkl[(hkl @ np.array(of.zone) == 0) & (np.square(hkl).sum(1) <= (of.g_max * of.a) ** 2)]
    hkl = hkl[np.abs(potential(of, kv, hkl)) > 1e-9]  # not forbidden by the lattice
    up = np.array(of.zone) / np.linalg.norm(of.zone)
    right = np.array(of.x_axis) / np.linalg.norm(of.x_axis)
    g = hkl @ np.stack([right, np.cross(up, right)], 1) / of.a
    matrix = potential(of, kv, hkl[:, None] - hkl)
    mean = matrix[0, 0].real
    np.fill_diagonal(matrix, 0)
    assert np.abs(matrix.imag).max() < 1e-12  # both crystals have a centre of inversion at the origin
    rows = [int(np.flatnonzero((hkl == one).all(1))[0]) for one in of.hkl]
    # (K + t)^2 - (K + t + g)^2 in vacuum; refraction changes the component along the beam alone.
    detuning = -2 * g @ tilts.T - np.square(g).sum(1)[:, None]
    along = np.sqrt(wavenumber(kv) ** 2 + mean - np.square(tilts).sum(1))
    return np.abs(exponentials(matrix.real, detuning, np.pi * of.thickness / along, rows)) ** 2


def exponentials(matrix: np.ndarray, diagonals: np.ndarray, depths: np.ndarray, rows: list[int]) -> np.ndarray:
    """Elements (D, T) of exp(i depth (matrix + diagonal)), from rows[0] to the rows, for T diagonals and depths.

    The series of Chebyshev polynomials with Bessel functions: to diagonalise each of the T matrices takes ten times as
    long.
    """
    spread = np.linalg.norm(matrix, 2)
    low, high = diagonals.min() - spread, diagonals.max() + spread
    middle, radius = (high + low) / 2, (high - low) / 2
    now = np.zeros_like(diagonals)
    now[rows[0]] = 1.0

    def applied(vectors: np.ndarray) -> np.ndarray:
        return (matrix @ vectors + (diagonals - middle) * vectors) / radius

    total = special.jv(0, radius * depths) * now[rows].astype(complex)
    before, now = now, applied(now)
    for k in range(1, int(radius * depths.max()) + 60):  # J_k(x) falls faster than any power beyond k = x
        total += 2 * 1j**k * special.jv(k, radius * depths) * now[rows]
        before, now = now, 2 * applied(now) - before
    return total * np.exp(1j * middle * depths)


def disks(of: Specimen, kv: float, counts: float, seed: int) -> tuple[np.ndarray, float]:
    """(D, SIDE, SIDE) counts, blurred, on a background of 2 %, and the size of a pixel in 1/angstrom."""
    step = 2 * HALF_ANGLE / SIDE * wavenumber(kv)
    nodes = np.arange(-MARGIN, SIDE + MARGIN, 2)  # intensities vary little from pixel to pixel
    middle = (SIDE - 1) / 2
    row, column = np.meshgrid(nodes - middle, nodes - middle, indexing="ij")
    tilts = np.stack([column + TILT_PX[0], TILT_PX[1] - row], -1).reshape(-1, 2) * step
    coarse = intensities(of, kv, tilts).reshape(len(of.hkl), len(nodes), -1)
    places = (np.indices((SIDE + 8, SIDE + 8)) - 4 + MARGIN) / 2
    images = np.stack([ndimage.map_coordinates(image, places, order=3, mode="nearest") for image in coarse])
    images = ndimage.gaussian_filter(images, (0, 0.8, 0.8))[:, 4:-4, 4:-4].clip(0)
    rng = np.random.default_rng(seed)
    return rng.poisson(counts * (images / images.mean() + 0.02)).astype(np.float32), step


def crystal_and_beam(of: Specimen) -> tuple[Crystal, Beam]:
    crystal = Crystal((of.a,) * 3 + (90,) * 3, of.species, of.positions, b_iso=of.b_iso)
    return crystal, Beam(300, of.zone, of.x_axis)


@pytest.mark.parametrize("of", [GOLD, TITANATE])
def test_all_beams_of_the_package_are_the_plain_matrix(of: Specimen) -> None:
    tilts = np.array([[0.0, 0.0], [0.11, -0.05], [-0.02, 0.14]])
    every = BeamSelection(g_max=of.g_max, sg_max=1.0, laue_zones=0)
    simulator = BlochSimulator(*crystal_and_beam(of), of.hkl, every, check_beams=False)
    simulated = simulator.prepare({}, tilts).intensities([of.thickness])[0]
    expected = intensities(of, 300.0, tilts)
    assert expected.max() > 0.1
    np.testing.assert_allclose(simulated, expected, rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("of", "bounds"), [(GOLD, (150, 700)), (TITANATE, (500, 2500))])
def test_thickness_of_strong_scatterers_is_right_or_in_doubt(of: Specimen, bounds: tuple[float, float]) -> None:
    images, step = disks(of, 300.0, 300.0, seed=0)
    crystal, beam = crystal_and_beam(of)
    gl = float(np.linalg.norm(of.x_axis)) / of.a / step
    start = DisplayFrame.for_beam(crystal, beam, gl, ((SIDE - 1) / 2, (SIDE - 1) / 2))
    data = DiffractionData.from_larbed(images, of.hkl, start)
    simulator = BlochSimulator(crystal, beam, of.hkl)
    refiner = CoarseRefine(simulator, data, ROI.rectangle(18, 18), held_sigma=EXACT)
    result = refiner.optimize_orientation_thickness(bounds)
    error = abs(result["thickness"] - of.thickness)
    assert error < 0.03 * of.thickness
    assert result.flags or error < min(3 * result.sigma["thickness"], 0.01 * of.thickness)
