"""Figures of diffraction: they draw what the results say."""

import numpy as np
import pytest

from stackalign import diffraction
from stackalign.plot import diffraction as plots
from stackalign.plot._canvas import new_figure


@pytest.fixture
def images(rng):
    y, x = np.indices((60, 70))
    return rng.poisson(20 + 300 * np.exp(-((np.hypot(y - 29.5, x - 33) - 18) ** 2) / 6), (4, 60, 70)).astype(float)


def test_patterns_with_masks_and_centres(images) -> None:
    mask = np.ones((60, 70), bool)
    mask[:30, 30:36] = False
    ax = plots.plot_pattern(images[0], mask=mask, center=(29.5, 33.0), words="one")
    (drawn,) = ax.images
    np.testing.assert_array_equal(np.ma.getmaskarray(drawn.get_array()), ~mask)
    assert drawn.get_extent() == [-0.5, 69.5, 59.5, -0.5]
    (cross,) = ax.lines
    assert (cross.get_xdata()[0], cross.get_ydata()[0]) == (33.0, 29.5)
    assert plots.plot_pattern(np.full((5, 5), np.nan)).images
    assert plots.plot_pattern(np.zeros((3000, 20))).images[0].get_array().shape[0] <= 1024
    axes = new_figure().add_subplot()
    assert plots.plot_pattern(images[0], ax=axes) is axes


def test_profiles(images) -> None:
    stack = diffraction.azimuthal_average(images, (29.5, 33), device="cpu")
    ax = plots.plot_profile(stack)
    assert len(ax.lines) == 5
    np.testing.assert_allclose(ax.lines[-1].get_ydata(), stack.intensity.mean(axis=0))
    one = plots.plot_profile(stack, frame=2, label="third")
    np.testing.assert_array_equal(one.lines[-1].get_ydata(), stack.intensity[2])
    assert one.get_legend() is not None
    polar = diffraction.azimuthal_average(images[0], (29.5, 33), n_angles=12, angular_bounds=(30, 90), device="cpu")
    drawn = plots.plot_polar(polar)
    np.testing.assert_allclose(drawn.images[0].get_extent()[2:], [30, 90])
    with pytest.raises(ValueError, match="plot_polar"):
        plots.plot_profile(polar)
    with pytest.raises(ValueError, match="plot_profile"):
        plots.plot_polar(stack)


def test_masks_hot_pixels_and_baselines(images, rng) -> None:
    pytest.importorskip("pywt")
    found = diffraction.mask_from_collection(images, limits=(0, 340), device="cpu")
    ax = plots.plot_mask(found)
    assert f"{(~found.mask).sum():,} of 4,200" in ax.get_title()
    large = np.ones((2000, 10), bool)
    large[1234, 5] = False
    assert not plots.plot_mask(large).images[0].get_array().all()  # one pixel is not lost by thinning
    image = images[0].copy()
    image[10, 20] = 9000
    hot = diffraction.remove_hot_spots(image)
    ax = plots.plot_hot_spots(image, hot)
    assert ax.collections[0].get_offsets().tolist() == [[20, 10]]
    curve = 50 + 20 * np.exp(-((np.arange(200) - 90.0) ** 2) / 18)
    ax = plots.plot_baseline(curve, diffraction.baseline_dwt(curve))
    assert [line.get_label() for line in ax.lines] == ["data", "baseline"]
