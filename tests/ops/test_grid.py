"""Matrices on the grid: positions are exact in float64 and in integers, and nothing is lost but the last bits."""

from fractions import Fraction

import numpy as np
import pytest

from stackalign.backends._grid import COARSEST, FINEST, grid_of, on_grid, to_integers


@pytest.mark.parametrize(
    ("side", "bits"), [(1, 44), (128, 44), (129, 43), (2048, 40), (2049, 39), (65536, 35), (2**28, 32)]
)
def test_bits(side, bits) -> None:
    assert grid_of((1, side), (1, 1)).bits == grid_of((7, 1, 1), (7, side, 1)).bits == bits
    assert COARSEST <= bits <= FINEST


@pytest.mark.parametrize("side", [5, 100, 2048, 5000])
def test_positions_are_exact_in_any_order(side, rng) -> None:
    shape = (side, side)
    m = rng.normal([[1, 0, 0], [0, 1, 0]], [[0.5, 0.5, side / 2]] * 2, (200, 2, 3))
    rounded, grid = on_grid(m, shape, shape), grid_of(shape, shape)
    assert np.abs(rounded - m).max() <= 0.5 / grid.unit
    whole = to_integers(rounded, grid)
    assert (whole / grid.unit == rounded).all()
    y, x = (rng.integers(0, side, 200) for _ in range(2))
    for k in range(2):
        a, b, c = rounded[:, k].T
        every = [(c + a * y) + b * x, a * y + (b * x + c), (c + b * x) + a * y]
        integers = whole[:, k, 2] + whole[:, k, 0] * y + whole[:, k, 1] * x
        for q in every:
            inside = (q >= 0) & (q <= side)
            assert inside.any()
            np.testing.assert_array_equal(q[inside] * grid.unit, integers[inside].astype(float))
    exact = sum(Fraction(v) * int(n) for v, n in zip(rounded[0, 0], (y[0], x[0], 1), strict=True))
    assert exact == Fraction(int(whole[0, 0] @ [y[0], x[0], 1])) / int(grid.unit)


def test_what_is_on_the_grid_stays() -> None:
    m = np.array([[[1.0, 0.0, -3.25], [0.0, 0.5, 7.0]], [[0.0, -1.0, 63.0], [1.0, 0.0, 0.0]]])
    np.testing.assert_array_equal(on_grid(m, (64, 64), (64, 64)), m)
    turned = np.array([[[6e-17, -1.0, 63.0], [1.0, 6e-17, -1e-15]]])  # a right angle in float64
    np.testing.assert_array_equal(on_grid(turned, (64, 64), (64, 64)), [[[0, -1, 63], [1, 0, 0]]])


@pytest.mark.parametrize("number", [1e7, 1e20, 1e300, -1e300])
def test_far_away_is_outside(number) -> None:
    for place in np.ndindex(2, 3):
        m = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
        m[place] = number
        rounded = on_grid(m[None], (16, 16), (16, 16))
        whole = to_integers(rounded, grid_of((16, 16), (16, 16)))
        y, x = np.mgrid[:48, :48]  # a tile beyond the image
        positions = rounded[0, :, 2, None, None] + rounded[0, :, :1, None] * y + rounded[0, :, 1:2, None] * x
        assert np.abs(positions).max() < 2**62 / 2**44
        if place[1] == 2:
            assert (whole[0, :, :2] != 0).sum() == 2  # an offset alone changes nothing else
            assert not ((positions >= 0) & (positions <= 15)).all(axis=0).any()
