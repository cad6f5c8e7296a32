"""Crystals that the tests share, typed from textbooks."""

import numpy as np

from stackalign.refine import Crystal

FCC = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])


def silicon(b_iso: float = 0.4668) -> Crystal:
    return Crystal((5.431,) * 3 + (90,) * 3, ("Si",) * 8, np.concatenate([FCC, FCC + 0.25]), b_iso=b_iso)


def copper() -> Crystal:
    return Crystal((3.6149,) * 3 + (90,) * 3, ("Cu",) * 4, FCC, b_iso=0.55)


def gallium_arsenide() -> Crystal:
    species = ("Ga",) * 4 + ("As",) * 4
    b_iso = [0.6] * 4 + [0.7] * 4
    return Crystal((5.65325,) * 3 + (90,) * 3, species, np.concatenate([FCC, FCC + 0.25]), b_iso=b_iso)


def triclinic(rng: np.random.Generator) -> Crystal:
    """A crystal without any symmetry, with anisotropic displacements and a site that is not always taken."""
    cell = (4.1, 5.3, 6.2, 83.0, 97.0, 105.0)
    u_aniso = np.array([[0.01, 0.012, 0.008, 0.002, -0.001, 0.003], [np.nan] * 6, [0.02, 0.01, 0.015, 0, 0.001, 0]])
    return Crystal(cell, ("Sr", "O", "Ti"), rng.uniform(size=(3, 3)), b_iso=0.5, u_aniso=u_aniso, occupancy=[1, 0.7, 1])
