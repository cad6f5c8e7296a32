"""Coordinates between computed rows, against all of them computed."""

import numpy as np
import pytest

from stackalign.solar.sampling import map_by_rows


def grid(n_rows: int) -> np.ndarray:
    y, x = np.mgrid[:n_rows, :7].astype(float)
    return np.stack([x, y], -1)[:, :, None]


def bent(points: np.ndarray) -> np.ndarray:
    """Smooth as a disc is, with a kink and a hole: a limb, and what lies behind it."""
    x, y = points[..., 0], points[..., 1]
    smooth = np.stack([0.7 * x + 40 * np.sin(y / 900), y + 30 * np.cos(y / 700 + x / 50)], -1)
    smooth[..., 0] += np.where(y > 301.3, 0.02 * (y - 301.3), 0.0)
    smooth[(y > 120) & (y < 150 + x)] = np.nan
    return smooth


@pytest.mark.parametrize("n_rows", [3, 40, 41, 48, 49, 403])
def test_rows_between(n_rows) -> None:
    points = grid(n_rows)
    np.testing.assert_allclose(map_by_rows(bent, points), bent(points), rtol=0, atol=1e-4)


def test_few_rows_are_computed() -> None:
    seen = []
    map_by_rows(lambda points: (seen.append(len(points)), bent(points))[1], grid(800)[:, :, 0])
    assert sum(seen) < 300
