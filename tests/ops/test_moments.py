"""Second moments against analytic beams, and what follows from them."""

import numpy as np
import pytest

import stackalign as sa


def gaussian(shape, center, long: float, short: float, degrees: float) -> np.ndarray:
    """A beam whose long axis is turned from +y towards +x."""
    y, x = np.indices(shape, dtype=float)
    dy, dx = y - center[0], x - center[1]
    a = np.radians(degrees)
    along, across = dy * np.cos(a) + dx * np.sin(a), -dy * np.sin(a) + dx * np.cos(a)
    return np.exp(-((along / long) ** 2 + (across / short) ** 2) / 2)


@pytest.mark.parametrize("degrees", [0.0, 17.0, 45.0, 88.0, 90.0, -31.0, -89.0])
def test_axes_and_direction_of_a_gaussian_beam(degrees: float) -> None:
    beam = gaussian((121, 131), (61.3, 63.8), 7.0, 4.0, degrees)
    found = sa.second_moments(np.stack([beam, 3 * beam]))
    np.testing.assert_allclose(found.axes, [[7.0, 4.0]] * 2, rtol=1e-9)
    np.testing.assert_allclose(found.angle, degrees, atol=1e-7)
    np.testing.assert_allclose(found.ellipticity, 3 / 7, rtol=1e-8)
    np.testing.assert_allclose(found.width, np.hypot(7.0, 4.0), rtol=1e-9)
    np.testing.assert_allclose(found.centers, [[61.3, 63.8]] * 2, rtol=1e-9)


def test_a_disk_is_round() -> None:
    """A uniform disk of radius R has R/2 along each axis."""
    y, x = np.mgrid[:401, :401] - 200.0
    found = sa.second_moments((np.hypot(y, x) <= 180).astype(np.uint8))
    np.testing.assert_allclose(found.axes, 90.0, rtol=1e-3)
    assert found.ellipticity[0] < 1e-9


def test_about_another_centre_the_offset_is_added() -> None:
    """Steiner: the moments about a point are those about the centroid plus the square of the distance."""
    beam = gaussian((60, 70), (30.25, 33.5), 4.0, 3.0, 20.0)
    own, other = sa.second_moments(beam), sa.second_moments(beam, (25.0, 36.0))
    dy, dx = own.centers[0] - (25.0, 36.0)
    np.testing.assert_allclose(other.yy, own.yy + dy * dy, rtol=1e-12)
    np.testing.assert_allclose(other.yx, own.yx + dy * dx, rtol=1e-11)
    np.testing.assert_allclose(other.xx, own.xx + dx * dx, rtol=1e-12)


@pytest.mark.parametrize("line", [np.eye(21), np.eye(21)[::-1], np.eye(21)[10:11].T.repeat(21, 1).T])
def test_a_line_has_one_axis(line: np.ndarray) -> None:
    found = sa.second_moments(np.ascontiguousarray(line))
    assert not np.isnan(found.axes).any()
    assert found.axes[0, 1] <= 1e-6 * found.axes[0, 0]


def test_without_intensity_there_are_no_moments(rng) -> None:
    point = np.zeros((9, 9))
    point[4, 2] = 5.0
    found = sa.second_moments(np.stack([np.zeros((9, 9)), point, -point, np.full((9, 9), np.nan)]))
    assert np.isnan(found.yy).tolist() == [True, False, True, True]
    np.testing.assert_array_equal(found.axes[1], 0.0)
    assert found.ellipticity[1] == 0.0
    assert np.isnan(found.ellipticity[[0, 2, 3]]).all()


def test_negative_pixels_can_leave_no_width() -> None:
    """More below zero outside than the core has: the mean square is negative, and no number stands for its root."""
    pattern = np.full((11, 11), -0.1)
    pattern[5, 5] = 100.0
    found = sa.second_moments(pattern, (5, 5))
    assert found.yy[0] < 0
    assert np.isnan(found.width[0])
    assert np.isnan(found.axes[0, 1])


def test_mask_and_invalid_pixels_do_not_count(rng) -> None:
    beam = gaussian((40, 41), (20.0, 20.0), 5.0, 3.0, 0.0)
    bad = beam.copy()
    bad[3, 4], bad[30, 7], bad[11, 11] = np.nan, np.inf, 1e6
    mask = np.ones(beam.shape, np.bool_)
    mask[11, 11] = False
    zeroed = np.where(mask & np.isfinite(bad), beam, 0.0)
    a, b = sa.second_moments(bad, mask=mask), sa.second_moments(zeroed)
    np.testing.assert_allclose(a.axes, b.axes, rtol=1e-13)


def test_results_do_not_depend_on_workers(rng) -> None:
    stack = rng.poisson(3.0, (23, 31, 37)).astype(np.uint16)
    one, many = (sa.second_moments(stack, workers=n) for n in (1, 5))
    for name in ("total", "centers", "yy", "yx", "xx"):
        assert getattr(one, name).tobytes() == getattr(many, name).tobytes()


def test_a_centre_must_be_finite() -> None:
    with pytest.raises(ValueError, match="centers must be finite"):
        sa.second_moments(np.ones((3, 4)), (np.nan, 1.0))
