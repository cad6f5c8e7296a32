"""Which beams are diagonalised, which are folded in, and what the rest would change."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign._types import FloatArray, IntArray

from .geometry import Geometry, Lattice

__all__ = ["BeamList", "BeamSelection", "select_beams"]

CORE = 50
"""Beams whose scattering into a candidate is looked at, the strongest of them."""
CORE_RADIUS = 2.0
"""Distance from 000, in 1/angstrom, within which these beams lie."""
OMITTED = 400
"""Strongest beams left out that the estimate of the error looks at."""


@dataclass(frozen=True)
class BeamSelection:
    """Rules of the beams that take part, for a region of tilts.

    Parameters
    ----------
    g_max : float
        Length in 1/angstrom within which reflections are looked at.
    strong : float
        Beams of at least this strength go into the matrix. The strength is the largest amplitude, to first order, that
        any path through strong beams brings into the beam at any tilt of the region:
        ``|U_g-h| / max(|2 K s_g|, floor)``, multiplied along the path, s_g the excitation error.
    weak : float
        Beams that are too far from the Ewald sphere for `strong` at every tilt, and turn the phase of another beam by
        at least this angle (radians) per 1000 angstrom, are folded into the matrix by Bethe potentials. inf: none.
    floor : float
        Potential in 1/angstrom^2 over which a resonance counts as weak whatever its excitation error: lines of HOLZ
        reflections with ``|U_g|`` below ``strong * floor`` are left out.
    sg_max : float, optional
        In place of `strong`: every reflection that comes within this excitation error (1/angstrom) of the Ewald sphere
        goes into the matrix, and none is folded in. For comparison with programs that select so.
    laue_zones : int, optional
        Highest order of Laue zone that takes part; 0 is the zero-order zone alone. All unless given.
    max_beams : int
        More beams than this in the matrix are an error, which says what to change.

    Examples
    --------
    >>> from stackalign.refine import BeamSelection
    >>> BeamSelection(strong=0.03).tighter(2).strong
    0.015
    """

    g_max: float = 6.0
    strong: float = 0.03
    weak: float = 0.001
    floor: float = 0.02
    sg_max: float | None = None
    laue_zones: int | None = None
    max_beams: int = 1000

    def __post_init__(self) -> None:
        for name in ("g_max", "strong", "weak", "floor"):
            if not getattr(self, name) > 0:
                msg = f"{name} of the beam selection must be above 0, got {getattr(self, name)}"
                raise ValueError(msg)
        if self.sg_max is not None and not self.sg_max > 0:
            msg = f"sg_max must be an excitation error above 0 in 1/angstrom, got {self.sg_max}"
            raise ValueError(msg)

    def tighter(self, factor: float = 3.0) -> "BeamSelection":
        """Return rules that let in more beams: all thresholds divided by the factor.

        Parameters
        ----------
        factor : float
            What thresholds are divided by, above 1 for more beams.

        Returns
        -------
        BeamSelection
            The other rules.
        """
        values: dict[str, Any] = {name: getattr(self, name) for name in self.__dataclass_fields__}
        values["floor"] = self.floor  # strong * floor shrinks already
        values |= {"strong": self.strong / factor, "weak": self.weak / factor, "max_beams": 4 * self.max_beams}
        values["sg_max"] = None if self.sg_max is None else self.sg_max * factor
        return BeamSelection(**values)


@dataclass(frozen=True, eq=False)
class BeamList:
    """Beams of a region of tilts.

    Parameters
    ----------
    strong : numpy.ndarray
        (N, 3) indices of the matrix's rows; 000 is the first.
    weak : numpy.ndarray
        (W, 3) indices of the beams that are folded in.
    omitted : numpy.ndarray
        (M, 3) indices of the strongest beams that take no part.
    """

    strong: IntArray
    weak: IntArray
    omitted: IntArray

    def __len__(self) -> int:
        return len(self.strong)


def select_beams(rules: BeamSelection, geometry: Geometry, tilts: FloatArray, include: IntArray) -> BeamList:
    """Choose beams for the region that the tilts span; `include` and 000 are in the matrix whatever their strength."""
    corners = _extremes(tilts)
    lattice = _candidates(rules, geometry, include)
    hkl = lattice.hkl
    off = geometry.detuning(corners, hkl, lattice.g)
    nearest = np.abs(off).min(0)
    nearest[(off.min(0) < 0) & (off.max(0) > 0)] = 0.0  # the sphere passes through between two corners
    forced = _rows_in(hkl, include) | ~hkl.any(1)
    if rules.sg_max is not None:
        matrix = forced | ((nearest <= 2 * geometry.wavenumber * rules.sg_max) & _reachable(hkl, geometry))
        return _listed(rules, hkl, matrix, np.zeros_like(matrix), np.square(lattice.g).sum(-1))
    cutoff = (
        rules.weak * geometry.wavenumber / (np.pi * 1000)
    )  # |U|^2 / (2 K s) that turns the phase by `weak` in 1000 A
    reach = _reach(lattice)
    within = (reach >= rules.strong * np.maximum(nearest, rules.floor)) | (
        reach**2 >= 0.5 * min(cutoff, 3e-5) * nearest
    )
    keep = forced | within
    hkl, nearest, forced = hkl[keep], nearest[keep], forced[keep]
    strength, coupling = _strengths(rules, geometry, hkl, nearest)
    matrix = (strength >= rules.strong) | forced
    with np.errstate(divide="ignore", invalid="ignore"):
        shift = np.where(coupling > 0, coupling**2 / nearest, 0.0)
        # A denominator near 0 must not be folded: such a beam is in the matrix or nowhere.
        folded = (shift >= cutoff) & (coupling < rules.strong * nearest) & ~matrix
    rank = np.where(matrix, -1e9 * (1 + strength), -(coupling**2) / np.maximum(nearest, rules.floor))
    return _listed(rules, hkl, matrix, folded, rank)


def _listed(
    rules: BeamSelection, hkl: IntArray, matrix: NDArray[np.bool_], folded: NDArray[np.bool_], rank: FloatArray
) -> BeamList:
    n = int(matrix.sum())
    if n > rules.max_beams:
        msg = (
            f"{n} beams are more than max_beams={rules.max_beams}: raise `strong`, lower `g_max` or `laue_zones`, "
            "or simulate a smaller region of tilts"
        )
        raise ValueError(msg)
    order = np.argsort(np.where(hkl.any(1), rank, -np.inf), kind="stable")
    hkl, matrix, folded = hkl[order], matrix[order], folded[order]
    rest = ~matrix & ~folded
    return BeamList(hkl[matrix], hkl[folded], hkl[rest][:OMITTED])


def _candidates(rules: BeamSelection, geometry: Geometry, include: IntArray) -> Lattice:
    """Reflections that the rules reach, and those to be included beyond them."""
    lattice = geometry.lattice(rules.g_max, rules.laue_zones)
    beyond = include[~_rows_in(include, lattice.hkl)]
    if not len(beyond):
        return lattice
    return Lattice(
        np.concatenate([lattice.hkl, beyond]),
        np.concatenate([lattice.g, geometry.g_vectors(beyond)]),
        np.concatenate([lattice.strength, np.abs(geometry.potential(beyond))]),
    )


def _extremes(tilts: FloatArray) -> FloatArray:
    """Outermost tilts in 64 directions: detuning is nearly linear in the tilt, so its extremes lie there."""
    angle = np.arange(64) * (np.pi / 32)
    far = tilts @ np.stack([np.cos(angle), np.sin(angle)])
    return np.asarray(tilts[np.unique(far.argmax(0))])


def _reach(lattice: Lattice) -> FloatArray:
    """Bound of the coupling of each reflection to beams near 000: the largest potential at its distance from these."""
    length = np.linalg.norm(lattice.g, axis=1)
    order = np.argsort(length)
    envelope = np.maximum.accumulate(lattice.strength[order][::-1])[::-1]
    first = np.searchsorted(length[order], length - CORE_RADIUS)
    return np.asarray(envelope[np.minimum(first, len(envelope) - 1)])


def _strengths(
    rules: BeamSelection, geometry: Geometry, hkl: IntArray, nearest: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Largest first-order amplitude along any path of three steps from 000, and the coupling of its last step."""
    origin = int(np.flatnonzero(~hkl.any(1))[0])
    width = np.maximum(nearest, rules.floor)
    strength, best = np.zeros(len(hkl)), np.zeros(len(hkl))
    strength[origin] = 1.0
    core = np.array([origin])
    columns: dict[int, FloatArray] = {}  # moduli of the potentials of the last step, by its first beam
    for _ in range(3):
        new = [beam for beam in core.tolist() if beam not in columns]
        coupling = np.abs(geometry.couplings(hkl, hkl[new]))
        coupling[new, np.arange(len(new))] = 0.0  # a beam does not scatter into itself
        columns |= dict(zip(new, coupling.T, strict=True))
        for beam in core.tolist():
            np.maximum(best, columns[beam] * strength[beam], out=best)
        strength = np.maximum(strength, np.minimum(1.0, best / width))
        core = np.argsort(-strength, kind="stable")[:CORE]
        core = core[strength[core] >= rules.strong]
    return strength, best


def _reachable(hkl: IntArray, geometry: Geometry) -> NDArray[np.bool_]:
    """Reflections that two scattering events reach: not forbidden by the centring of the lattice."""
    potential = np.abs(geometry.potential(hkl))
    active = hkl[potential > 1e-9 * potential.max()]
    low = active[np.argsort(np.square(active).sum(1), kind="stable")][:CORE]
    second = geometry.couplings(hkl, low)
    return np.asarray((np.abs(second) > 1e-9 * potential.max()).any(1))


def _rows_in(hkl: IntArray, listed: IntArray) -> NDArray[np.bool_]:
    reach = int(max(np.abs(hkl).max(initial=0), np.abs(listed).max(initial=0)))
    side = 2 * reach + 1

    def keys(rows: IntArray) -> IntArray:
        return np.asarray(((rows[:, 0] + reach) * side + rows[:, 1] + reach) * side + rows[:, 2] + reach)

    return np.isin(keys(hkl), keys(listed.reshape(-1, 3)))
