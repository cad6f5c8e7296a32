"""The top of a quadratic through the points around a maximum."""

import numpy as np
import pytest

from stackalign.optimize._grid import vertex

AXES = [np.array([0.0, 1.0, 2.0]), np.array([0.0, 2.0, 3.0, 5.0])]


def surface(curvature: float) -> np.ndarray:
    y, x = np.meshgrid(*AXES, indexing="ij")
    return -((y - 1.2) ** 2) + curvature * (x - 2.1) ** 2


def test_inside() -> None:
    np.testing.assert_allclose(vertex(surface(-0.5), AXES, np.array([1, 1])), [1.2, 2.1], atol=1e-9)


@pytest.mark.parametrize("index", [(0, 0), (2, 3), (0, 3)])
def test_a_maximum_in_a_corner_has_no_vertex(index) -> None:
    assert vertex(surface(-0.5), AXES, np.array(index)) is None


def test_on_an_edge_the_other_coordinate_is_found() -> None:
    np.testing.assert_allclose(vertex(surface(-0.5), AXES, np.array([1, 0])), [1.2, 0.0], atol=1e-9)


@pytest.mark.parametrize("curvature", [0.0, 0.5])
def test_a_ridge_or_a_saddle_has_no_vertex(curvature: float) -> None:
    assert vertex(surface(curvature) + 0 * AXES[0][:, None], AXES, np.array([1, 1])) is None
