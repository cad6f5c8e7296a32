"""Pictures of coalignments: what is drawn is what was found."""

import numpy as np
import pytest
import sunpy.map
from scipy.ndimage import gaussian_filter, shift

from solar.make import header
from stackalign import solar
from stackalign.plot import solar as pictures


@pytest.fixture(scope="module")
def limb_map():
    """A rolled raster over the limb whose first and last rows are empty."""
    rng = np.random.default_rng(2)
    image = gaussian_filter(rng.standard_normal((90, 40)), 2)
    image[:10] = image[-15:] = np.nan
    return sunpy.map.Map(image, header((90, 40), cdelt=(4.0, 2.0), crval=(2130.0, 0.0), roll=5.0))


def test_a_map_is_drawn_in_its_coordinates(limb_map) -> None:
    axes = pictures.plot_map(limb_map)
    assert axes.wcs.wcs.crval[0] == limb_map.wcs.wcs.crval[0]
    assert axes.get_aspect() == pytest.approx(0.5)
    assert axes.get_ylim() == (9.5, 74.5), "empty rows are left out"
    assert len(axes.patches) + len(axes.lines) >= 1, "the limb"
    assert axes.get_title() == limb_map.name
    whole = pictures.plot_map(limb_map, limits=False)
    assert whole.get_ylim() == (-0.5, 89.5)
    assert limb_map.plot_settings["norm"].vmax is None or limb_map.plot_settings["norm"].vmax < 1e9


def test_before_and_after(limb_map) -> None:
    image = np.nan_to_num(limb_map.data)
    moved = shift(image, (0, 3), order=1)
    figure = solar.plot_alignment_before_after(limb_map, moved, image, solar.correct_map(
        limb_map, solar.PixelTransform(np.eye(2), np.array([3.0, 0.0]))))  # fmt: skip
    before, after = figure.axes
    assert "before" in before.get_title()
    assert "after: correlation 1.0000" in after.get_title()
    assert not np.allclose(before.wcs.wcs.crpix, after.wcs.wcs.crpix)
    assert before.collections
    with pytest.raises(ValueError, match="must be on the target's pixels"):
        solar.plot_alignment_before_after(limb_map, moved[:5], image)


def test_the_search(rng) -> None:
    history = np.column_stack([np.arange(9), rng.random((9, 2)), np.ones((9, 2)), np.linspace(0, 0.8, 9)])
    axes = solar.plot_history_scatter(history)
    assert axes.lines[-1].get_xdata()[0] == history[8, 1]
    assert "0.8" in axes.get_title()
    assert solar.plot_history_scatter(history[::-1], final=True).lines[-1].get_xdata()[0] == history[0, 1]
    line = solar.correlation_with_iteration(history[::-1]).lines[1].get_ydata()
    np.testing.assert_array_equal(line, 0.8)
    assert solar.correlation_with_iteration(np.zeros((0, 6))).texts
    with pytest.raises(ValueError, match="must have the columns iteration, dx"):
        solar.plot_history_scatter(np.zeros((3, 4)))
    with pytest.raises(ValueError, match="not 'sx'"):
        solar.plot_history_scatter(history, "sx")


def test_every_shift_is_shown_where_the_map_must_go(rng) -> None:
    scene = gaussian_filter(rng.standard_normal((60, 60)), 2)
    target = scene[10:50, 10:50]
    reference = scene[6:46, 13:53]  # the target lies 4 rows further up and 3 columns further left in it
    axes = pictures.plot_shift_map(target, reference, pixels=(2, 5), sky=(1.0, 2.0))
    mark = axes.lines[-1]
    assert (mark.get_xdata()[0], mark.get_ydata()[0]) == (-3 * 5, 4 * 2)
    assert axes.get_aspect() == 2.0
    assert pictures.plot_shift_map(np.full((9, 9), np.nan), np.ones((9, 9))).texts


def test_blinking(limb_map, tmp_path) -> None:
    other = solar.correct_map(limb_map, solar.PixelTransform(np.eye(2), np.array([2.0, 0.0])))
    animation = solar.blink_maps([limb_map, other], labels=["before", "after"], interval=100)
    animation.save(tmp_path / "blink.gif", writer="pillow", dpi=40)
    assert (tmp_path / "blink.gif").read_bytes()[:4] == b"GIF8"
    assert animation._fig.axes[0].get_ylim() == (9.5, 74.5)
    with pytest.raises(ValueError, match="two or more maps of one shape"):
        solar.blink_maps([limb_map])
    with pytest.raises(ValueError, match="need as many labels"):
        solar.blink_maps([limb_map, other], labels=["one"])


def test_residuals(rng) -> None:
    image = rng.standard_normal((30, 20))
    assert "rms 0.000" in pictures.plot_residual(image, 3 * image + 2).get_title()
    assert pictures.plot_residual(image, np.full((30, 20), np.nan)).texts
