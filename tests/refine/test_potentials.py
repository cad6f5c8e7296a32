"""The table of potentials gives what each reflection has by itself, in any order and however far it reaches."""

import pickle

import numpy as np
import pytest

from refine.crystals import gallium_arsenide, triclinic
from stackalign.refine import Beam
from stackalign.refine.bloch import potentials
from stackalign.refine.bloch.geometry import Geometry


@pytest.mark.parametrize("largest", [2**22, 100])
def test_potentials_are_those_of_the_structure_factors(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, largest: int
) -> None:
    monkeypatch.setattr(potentials, "LARGEST", largest)
    for crystal in (gallium_arsenide(), triclinic(rng)):
        beam = Beam(200, (0, 0, 1), (1, 0, 0))
        geometry = Geometry(crystal, beam)
        scale = beam.mass_ratio / (np.pi * crystal.volume)
        for reach in (3, 1, 6):  # a box that grows, and one that is there already
            first, second = (rng.integers(-reach, reach + 1, size=(n, 3)) for n in (9, 4))
            expected = scale * crystal.structure_factors(first[:, None] - second)
            np.testing.assert_allclose(geometry.couplings(first, second), expected, rtol=1e-12, atol=1e-15)
            expected = scale * crystal.structure_factors(first)
            np.testing.assert_array_equal(geometry.potential(first), expected)
            np.testing.assert_array_equal(geometry.potential(first[None, ::-1]), expected[None, ::-1])
        assert geometry.potential(np.zeros((0, 3), dtype=np.int64)).shape == (0,)


def test_a_table_that_is_sent_elsewhere_is_small() -> None:
    geometry = Geometry(gallium_arsenide(), Beam(200, (0, 0, 1), (1, 0, 0)))
    hkl = np.array([[40, 3, -2], [1, 1, 1]])
    values = geometry.potential(hkl)
    sent = pickle.dumps(geometry)
    assert len(sent) < 20_000
    np.testing.assert_array_equal(pickle.loads(sent).potential(hkl), values)
