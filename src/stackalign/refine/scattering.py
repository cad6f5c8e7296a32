"""Electron scattering factors of neutral atoms, and the name by which an atom is known."""

import functools
from importlib import resources
from typing import Protocol

import numpy as np

from stackalign._carriers import plain_array
from stackalign._types import FloatArray

__all__ = ["ScatteringFactors", "kirkland"]


class ScatteringFactors(Protocol):
    """A function that gives the scattering factor of an element."""

    def __call__(self, species: str, g_squared: FloatArray, /) -> FloatArray:
        """Return f in angstrom (first Born approximation, rest mass) where 1/d^2 is `g_squared` in 1/angstrom^2."""
        ...


def kirkland(species: str, g_squared: FloatArray, /) -> FloatArray:
    """Return the scattering factor after Kirkland (2010), appendix C, for H to Lr.

    Parameters
    ----------
    species : str
        Symbol of the element; D and T scatter as H does.
    g_squared : numpy.ndarray
        1/d^2 in 1/angstrom^2, that is (2 sin(theta) / wavelength)^2.

    Returns
    -------
    numpy.ndarray
        f in angstrom, for electrons at rest; `stackalign.refine.Crystal.structure_factors` sums them.

    Raises
    ------
    ValueError
        The species is not an element of the table.

    Examples
    --------
    >>> import numpy as np
    >>> from stackalign.refine import kirkland
    >>> kirkland("Si", np.array([0.0, 1.0])).round(2)  # angstrom, at g in 1/angstrom
    array([5.81, 0.74])
    """
    table = _table()
    species = {"D": "H", "T": "H"}.get(species, species)
    if species not in table:
        msg = f"unknown species {species!r}: give the symbol of an element from H to Lr, such as Si"
        raise ValueError(msg)
    (a, b), (c, d) = table[species]
    q2 = plain_array(g_squared, np.float64, "g_squared")[..., None]
    return np.asarray((a / (q2 + b)).sum(-1) + (c * np.exp(-d * q2)).sum(-1))


@functools.cache
def _table() -> dict[str, FloatArray]:
    """Symbol to an array (2, 2, 3): Lorentzians (a, b) and Gaussians (c, d)."""
    text = resources.files(__package__).joinpath("kirkland.txt").read_text(encoding="ascii")
    rows = (line.split() for line in text.splitlines() if not line.startswith("#"))
    return {row[0]: np.array(row[1:], dtype=np.float64).reshape(2, 3, 2).transpose(0, 2, 1) for row in rows}
