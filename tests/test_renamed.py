"""Arguments keep their earlier names."""

import inspect

import numpy as np
import pytest

from stackalign import diffraction, plot
from stackalign._renamed import renamed
from stackalign.errors import StackalignWarning


@renamed(found="center", given="radius")
def draw(image: int, center: int = 0, *, radius: int = 0) -> tuple[int, int, int]:
    return image, center, radius


def test_names_of_today_give_no_warning() -> None:
    assert draw(1, center=2, radius=3) == (1, 2, 3)


def test_earlier_names_mean_the_same_and_are_warned_about() -> None:
    with pytest.warns(StackalignWarning, match="found of draw is called center now"):
        assert draw(1, found=2) == (1, 2, 0)
    with pytest.warns(StackalignWarning, match="given of draw is called radius now"):
        assert draw(1, 2, given=3) == (1, 2, 3)


def test_pictures_take_results_by_their_earlier_name() -> None:
    pytest.importorskip("matplotlib")
    curve = np.abs(np.sin(np.linspace(0, 20, 256)))
    baseline = diffraction.baseline_dwt(curve, level=3, max_iter=5)
    with pytest.warns(StackalignWarning, match="called baseline now"):
        axes = plot.diffraction.plot_baseline(curve, found=baseline)
    assert np.array_equal(axes.lines[1].get_ydata(), baseline.baseline)
    for function in (plot.diffraction.plot_center, plot.diffraction.plot_alignment, plot.diffraction.plot_hot_spots):
        assert "found" not in inspect.signature(function).parameters
        assert hasattr(function, "__wrapped__")
