"""A Sun that turns, simulated by geometry that shares no code with the coalignment's."""

import astropy.units as u
import numpy as np
import pytest

from solar.problem import error_arcsec
from stackalign import register, solar
from stackalign.errors import StackalignWarning

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


@pytest.mark.parametrize("model", ["shift", "shift+scale", "shift+scale+angle"])
def test_one_image_is_turned_column_by_column(turning, model) -> None:
    """As a reference, and without a sequence: the corners, where a scale would take up the rotation."""
    result = solar.coalign(turning.raster, turning.frames[1], model=model)
    assert result.ok
    assert [phase.name for phase in result.phases] == ["binned", "full"]
    assert error_arcsec(result.corrected_map, turning.truth).max() < 0.2


def without_times(observation, **cards):
    meta = observation.raster.meta.copy()
    for key in ("ctype3", "cunit3", "crpix3", "cdelt3", "crval3", "pc3_1", "dateref", "wcsaxes"):
        del meta[key]
    meta.update(cards)
    return solar.as_map((observation.raster.data, meta))


def test_a_long_raster_without_times_is_not_trusted_with_a_scale(turning) -> None:
    hours = {"date-beg": "2024-10-17T00:00:00", "date-end": "2024-10-17T02:00:00"}
    raster, image = without_times(turning, **hours), turning.frames[2]
    with pytest.warns(StackalignWarning, match=r"scanned over 2\.0 hours.*nothing says when its columns"):
        scaled = solar.coalign(raster, image, model="shift+scale")
    assert "model_too_small" in scaled.flags
    assert "by up to" in scaled.to_dict()["flags"]["model_too_small"]
    times = turning.frames[2].date + (59 / 2 - np.arange(60)) * LONG * u.s
    told = solar.coalign(raster, image, model="shift+scale", times=times)
    assert told.ok
    assert error_arcsec(told.corrected_map, turning.truth).max() < 0.2


@pytest.mark.parametrize(
    "cards",
    [
        {"date-beg": "2024-10-17T00:59:55", "date-end": "2024-10-17T01:00:05"},
        {"date-beg": "2024-10-17T00:54:00", "date-end": "2024-10-17T01:06:00", "xposure": 700.0},
    ],
    ids=["short", "one exposure"],
)
def test_an_image_of_one_moment_needs_no_times(cards) -> None:
    quick = solar.create_test_observation((160, 60), column_seconds=0.1, n_frames=1, seed=3)
    quick.frames[0].meta["date-avg"] = quick.raster.meta["date-avg"]
    result = solar.coalign(without_times(quick, **cards), quick.frames[0], model="shift+scale")
    assert result.ok


def test_a_time_axis_that_contradicts_the_date_is_not_used(turning) -> None:
    meta = turning.raster.meta.copy()
    meta["dateref"] = "2020-10-17T00:00:00"
    with pytest.warns(StackalignWarning, match="the time axis is not used"):
        result = solar.coalign(solar.as_map((turning.raster.data, meta)), turning.frames[2])
    assert error_arcsec(result.corrected_map, turning.truth)[0] < 8
