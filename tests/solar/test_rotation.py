"""A Sun that turns, simulated by geometry that shares no code with the coalignment's."""

import numpy as np
import pytest

from solar.problem import error_arcsec
from stackalign import register, solar

LONG = 120.0  # seconds a column: two hours of 60 columns


@pytest.fixture(scope="module")
def turning():
    return solar.create_test_observation((160, 60), column_seconds=LONG, n_frames=5, seed=7)


def law(latitude, hours):
    """Arcsec by which the surface in the middle of the disc moves: Howard et al. (1990), seen from the Earth."""
    sine2 = np.sin(np.deg2rad(latitude)) ** 2
    rate = 2.894 - 0.428 * sine2 - 0.370 * sine2**2 - 0.9856 / 86400 * np.pi / 180 * 1e6
    return rate * 1e-6 * hours * 3600 * 695.7e6 / (149.6e9 - 695.7e6) * 206265 * np.cos(np.deg2rad(latitude))


def test_the_surface_turns_by_the_law(turning) -> None:
    first, last = (turning.frames[k].data for k in (0, -1))
    middle, north = slice(105, 175), slice(175, 215)
    for rows, latitude in ((middle, 5.0), (north, 31.0)):
        found = register(first[rows, middle], last[rows, middle], max_shift=8)
        assert -8.0 * found["dx"] == pytest.approx(law(latitude, 2.0), abs=1.5)


@pytest.mark.parametrize("frames", [slice(None), slice(2, 3), slice(0, 1)], ids=["all", "middle", "first"])
def test_rotation_of_the_columns_is_undone(turning, frames) -> None:
    result = solar.coalign(turning.raster, frames=turning.frames[frames], model="shift+scale")
    assert result.ok
    assert error_arcsec(result.corrected_map, turning.truth).max() < 0.2


def test_rotation_that_is_left_out_is_seen(turning) -> None:
    result = solar.coalign(turning.raster, frames=turning.frames[:1], rotation=None)
    assert error_arcsec(result.corrected_map, turning.truth)[0] > 5
