"""Zones of lattices whose cells are known, and drawings of them."""

import numpy as np
import pytest

from stackalign.diffraction import bragg_peaks_persistence, brillouin_zones
from stackalign.errors import DataError

SIDE = 20.0


def hexagonal(noise=0.0, seed=0) -> np.ndarray:
    h, k = (a.ravel() for a in np.mgrid[-12:13, -12:13])
    points = np.stack([h * SIDE * np.sqrt(3) / 2, (k + h / 2) * SIDE], axis=1) + 100
    inside = ((points >= 0) & (points <= 200)).all(axis=1)
    return points[inside] + noise * np.random.default_rng(seed).standard_normal((int(inside.sum()), 2))


def made(shape=(201, 201)):
    return brillouin_zones(hexagonal(), shape)


def test_a_hexagonal_lattice_has_regular_hexagons() -> None:
    zones = brillouin_zones(hexagonal(0.01), (201, 201))
    seen = zones.visible_zones(6)
    assert len(seen) > 40
    np.testing.assert_allclose(zones.areas[seen], SIDE**2 * np.sqrt(3) / 2, rtol=0.01)
    np.testing.assert_allclose(zones.peaks[seen[0]], (100, 100), atol=0.1)
    found = zones.consistency(seen)
    assert (found.sides, found.share, found.count) == (6, 1.0, len(seen))
    assert found.area_deviation < 0.01
    assert found.vertex_deviation < 0.1
    assert brillouin_zones(hexagonal(0.5), (201, 201)).consistency(seen).vertex_deviation > 0.3


def test_a_square_lattice_has_squares() -> None:
    """The noise of the peaks cuts corners off: they do not count as sides."""
    h, k = (a.ravel() for a in np.mgrid[0:9, 0:9])
    points = np.stack([h, k], 1) * 25.0 + 0.05 * np.random.default_rng(1).standard_normal((81, 2))
    zones = brillouin_zones(points, (201, 201))
    assert len(zones.visible_zones(4)) == 49
    assert zones.consistency().sides == 4
    assert len(zones.visible_zones(6)) == 0
    assert len(zones.visible_zones(4, (36, 36, 114, 114))) == 9
    assert zones.consistency(zones.visible_zones(4)).to_dict()["sides"] == 4


def test_equivalent_vectors_are_a_lattice_vector_apart() -> None:
    zones = brillouin_zones(hexagonal(), (201, 201))
    q = np.array([103.0, 98.5])
    found = zones.equivalent_scattering_vectors(q)
    np.testing.assert_allclose(found[0], q)
    np.testing.assert_allclose(found - zones.peaks[zones.visible_zones()], np.tile([3.0, -1.5], (len(found), 1)))
    assert len(zones.equivalent_scattering_vectors(q, [3, 4])) == 2


def test_zones_of_a_real_pattern_are_drawn(mos2) -> None:
    zones = brillouin_zones(bragg_peaks_persistence(mos2, prominence=0.1), mos2.shape)
    seen = zones.visible_zones(6)
    assert len(seen) >= 50
    axes = zones.render(zones=seen, edgecolor="white")
    assert len(axes.collections[0].get_paths()) == len(seen)
    flipped = zones.render(zones=seen[:1], transposed=True).collections[0].get_paths()[0].vertices
    np.testing.assert_allclose(flipped[:-1], zones.vertices[seen[0]])


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: brillouin_zones(np.ones((3, 2)), (9, 9)), DataError, "four peaks"),
        (lambda: brillouin_zones(np.stack([np.arange(9), np.arange(9)], 1), (9, 9)), DataError, "on one line"),
        (lambda: brillouin_zones(np.ones((3, 3)), (9, 9)), DataError, r"\(N, 2\)"),
        (lambda: brillouin_zones(hexagonal(), (201, 201)).visible_zones(2), ValueError, "number of sides"),
        (lambda: brillouin_zones(hexagonal(), (201, 201)).visible_zones(bbox=(5, 5, 5, 9)), ValueError, "bbox"),
        (
            lambda: brillouin_zones(hexagonal(), (201, 201)).equivalent_scattering_vectors([1, 2, 3]),
            ValueError,
            "q must",
        ),
        (lambda: brillouin_zones(hexagonal(), (4, 4)).consistency(), DataError, "no zone is closed"),
    ],
)
def test_bad_input(call, error, words) -> None:
    with pytest.raises(error, match=words):
        call()
