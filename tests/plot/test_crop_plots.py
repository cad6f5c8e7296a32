"""What the pictures of a crop show."""

import builtins
import dataclasses
import re
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.patches import Circle, Rectangle, StepPatch
from matplotlib.quiver import Quiver

from stackalign import plot
from stackalign.crop import CroppingConfig, Flag, crop_array
from stackalign.errors import MissingDependencyError
from stackalign.plot._canvas import block_mean, extremes, intensity_norm
from stackalign.plot._crop_facts import flag_words, scan_grid
from stackalign.plot._text import short_name

from .synthetic import airy, make_result

PLOTS = [
    plot.plot_mean_pattern,
    plot.plot_mean_window,
    plot.plot_radius_histogram,
    plot.plot_center_drift,
    plot.plot_retention_map,
    plot.plot_cumulative,
]


def circle(ax):
    circles = [p for p in ax.patches if isinstance(p, Circle)]
    assert len({(c.center, c.radius) for c in circles}) == 1
    return circles[0]


def labels(ax):
    return ax.get_legend_handles_labels()[1]


def line(ax, label):
    (found,) = [drawn for drawn in ax.lines if drawn.get_label() == label]
    return found


def texts(ax):
    return [text.get_text() for text in ax.texts]


@pytest.mark.parametrize("draw", PLOTS)
def test_draws_into_the_axes_that_are_given_or_into_new_ones(draw):
    ax = Figure().add_subplot()
    assert draw(make_result(), ax=ax) is ax
    new = draw(make_result())
    assert isinstance(new, Axes)
    for label in (new.get_xlabel(), new.get_ylabel()):
        assert re.search(r"\((px|count|positions|index)\)$|^share of", label)


def test_pyplot_knows_nothing_of_the_figures(tmp_path):
    """In a process of its own: whether something else imported pyplot must not matter."""
    code = (
        "import sys, numpy as np; from stackalign.crop import crop_array, CroppingConfig; "
        "from stackalign.plot import save_crop_figure; assert 'matplotlib' not in sys.modules; "
        "r = crop_array(np.random.default_rng(0).random((4, 8, 8)), CroppingConfig(visualization=False))[1]; "
        "save_crop_figure(r, sys.argv[1], dpi=50); "
        "assert 'matplotlib.pyplot' not in sys.modules; import matplotlib.pyplot as p; assert p.get_fignums() == []"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "x.png")], check=True, timeout=120)


def test_the_mean_pattern_shows_circle_and_window_about_the_median_centre():
    centers = np.tile([40.0, 20.0], (30, 1))
    centers[7] = 0.0, 0.0  # a hot pixel, left out
    result = make_result((5, 6), (64, 96), radius=10, centers=centers, flagged={7: 8}, outliers={3: 9})
    ax = plot.plot_mean_pattern(result)
    assert circle(ax).center == (20.0, 40.0)
    assert circle(ax).radius == result.analysis.global_radius == 12
    outlines = [p for p in ax.patches if isinstance(p, Rectangle)]
    assert outlines
    for outline in outlines:
        assert outline.get_xy() == (20 - 12 - 0.5, 40 - 12 - 0.5)
        assert (outline.get_width(), outline.get_height()) == (25, 25)
    np.testing.assert_array_equal(ax.images[0].get_array(), result.analysis.mean_pattern)
    assert "radius 12 px" in ax.get_title()
    assert "25 × 25 px" in ax.get_title()
    assert ax.get_xlim() == (-0.5, 95.5)
    assert ax.get_ylim() == (63.5, -0.5)


def test_a_window_that_reaches_beyond_the_frame_is_shown_whole():
    result = make_result((4,), (64, 64), centers=np.tile([5.0, 32.0], (4, 1)), radius=14, outliers={0: 12})
    ax = plot.plot_mean_pattern(result)
    assert ax.get_ylim() == (63.5, 5 - 15 - 0.5)


def test_the_legacy_window_truncates_towards_zero():
    result = make_result(
        (4,), (64, 64), centers=np.tile([5.7, 32.7], (4, 1)), config=CroppingConfig(legacy_window=True), outliers={0: 9}
    )
    before = np.array(result.analysis.window_before)
    outline = next(p for p in plot.plot_mean_pattern(result).patches if isinstance(p, Rectangle))
    assert outline.get_xy() == tuple((np.trunc([5.7, 32.7] - before) - 0.5)[::-1])


def test_picture_and_crop_agree_on_where_the_window_lies():
    rng = np.random.default_rng(3)
    data = np.stack([airy((48, 60), (22.3 + rng.normal(), 31.6 + rng.normal()), 2.0) for _ in range(6)])
    windows, result = crop_array(data, CroppingConfig(target_retention=0.9, min_retention=0.8, visualization=False))
    ax = plot.plot_mean_window(result)
    np.testing.assert_allclose(ax.images[0].get_array(), windows.mean(axis=0), rtol=1e-5)
    x, y = circle(ax).center
    peak = np.unravel_index(windows.mean(axis=0).argmax(), windows.shape[1:])
    assert np.hypot(y - peak[0], x - peak[1]) < 1.0


def test_weak_outer_intensity_is_seen():
    ax = plot.plot_mean_pattern(make_result())
    assert isinstance(ax.images[0].norm, LogNorm)
    weak, strong = ax.images[0].norm([1e-5 * 1e3 * 3, 1e3])
    assert weak >= 0
    assert strong == pytest.approx(1.0, abs=0.05)


def test_a_hot_pixel_outside_the_window_does_not_set_the_scale():
    pattern, window = airy((32, 32), (16, 16), 4), airy((9, 9), (4, 4), 4)
    pattern[0, 0] = 1e6
    norm, _ = intensity_norm(pattern, window)
    assert norm.vmax == window.max()


@pytest.mark.parametrize("fill", [0.0, -3.0, np.nan])
def test_images_without_a_positive_pixel(fill):
    result = make_result(mean=np.full((64, 64), fill))
    ax = plot.plot_mean_pattern(result)
    ax.figure.canvas.draw()
    assert "no positive pixel" in ax.child_axes[0].get_ylabel()


def test_a_missing_mean_of_the_windows_is_said():
    result = make_result()
    result = dataclasses.replace(result, validation=dataclasses.replace(result.validation, mean_window=None))
    ax = plot.plot_mean_window(result)
    assert not ax.images
    assert texts(ax) == ["no mean of the windows was kept"]


def test_the_histogram_counts_in_bins_of_one_pixel():
    result = make_result((400,), flagged={1: 1, 2: 8, 3: 2}, outliers={17: 25, 2: 11})
    ax = plot.plot_radius_histogram(result)
    used, left_out = (p for p in ax.patches if isinstance(p, StepPatch))
    values, edges, _ = used.get_data()
    assert np.all(np.diff(edges) == 1)
    kept = result.analysis.radii[~result.analysis.excluded]
    assert values.sum() == kept.size == 397
    for radius in np.unique(kept):
        assert values[np.flatnonzero(edges == radius - 0.5)[0]] == (kept == radius).sum()
    assert left_out.get_data()[0].sum() == 2  # the empty pattern has no radius
    assert left_out.get_hatch()
    assert line(ax, "target radius 25 px").get_xdata() == [25, 25]
    assert line(ax, "with margin 28 px").get_xdata() == [28, 28]
    assert "largest 25 px: #17; next" in ax.get_title()
    assert ax.get_yscale() == "log"
    (pointer,) = [drawn for drawn in ax.lines if drawn.get_gid() == "largest"]
    assert (pointer.get_xdata()[0], pointer.get_ydata()[0]) == (25, 1)


def test_many_largest_patterns_are_counted():
    result = make_result((40,), outliers=dict.fromkeys(range(5, 15), 20))
    assert "largest 20 px: #5 and 9 more" in plot.plot_radius_histogram(result).get_title()


def test_a_flagged_radius_far_off_does_not_squeeze_the_rest():
    result = make_result((50,), (256, 256), flagged={4: 8}, outliers={4: 170})
    ax = plot.plot_radius_histogram(result)
    assert ax.get_xlim()[1] < 40
    assert "flagged (1, 1 not shown)" in labels(ax)


def test_a_radius_that_was_given_has_no_target_line():
    result = make_result()
    result = dataclasses.replace(result, analysis=dataclasses.replace(result.analysis, profiles=()))
    histogram = plot.plot_radius_histogram(result)
    assert not any("target" in label for label in labels(histogram))
    assert f"window radius {result.analysis.global_radius} px" in labels(histogram)
    assert texts(plot.plot_cumulative(result)) == ["no profiles: the radius was given"]


def test_the_drift_of_a_scan_is_a_map_with_arrows():
    result = make_result((12, 15), flagged={20: 1, 33: 8}, fit=True)
    ax = plot.plot_center_drift(result)
    drawn = ax.images[0].get_array()
    used = ~result.analysis.excluded
    measured = result.analysis.measured_centers
    expected = np.hypot(*(measured - np.median(measured[used], axis=0)).T)
    np.testing.assert_allclose(drawn.ravel()[used], expected[used])
    assert drawn.mask.ravel().nonzero()[0].tolist() == [20, 33]
    marks = line(ax, "flagged, left out (2)")
    assert list(zip(marks.get_ydata(), marks.get_xdata(), strict=True)) == [(1, 5), (2, 3)]
    (arrows,) = [c for c in ax.collections if isinstance(c, Quiver)]
    assert len(arrows.U) == 178
    # The centre moves to larger y from row to row: on a picture with y down, the arrows of the last row point down.
    assert np.mean(arrows.V[-15:]) < np.mean(arrows.V[:15])
    assert "residual rms y 0.123, x 0.0456 px" in ax.get_title()


def test_arrows_of_a_large_scan_are_means_of_blocks():
    ax = plot.plot_center_drift(make_result((100, 130), drift=0.02))
    (arrows,) = [c for c in ax.collections if isinstance(c, Quiver)]
    assert len(arrows.U) <= 16 * 16


def test_the_drift_of_a_series_is_two_lines():
    result = make_result((50,), flagged={9: 8})
    ax = plot.plot_center_drift(result)
    moved = result.analysis.measured_centers - np.median(np.delete(result.analysis.measured_centers, 9, axis=0), axis=0)
    moved[9] = np.nan
    for axis, name in enumerate("yx"):
        np.testing.assert_allclose(line(ax, name).get_ydata(), moved[:, axis])
    assert line(ax, "flagged, left out (1)").get_xdata().tolist() == [9]
    assert "rms" not in ax.get_title()


@pytest.mark.parametrize("scan", [(20,), (4, 5)])
def test_one_centre_for_all(scan):
    ax = plot.plot_center_drift(make_result(scan, drift=0.0))
    assert texts(ax) == ["one centre for all patterns"]


def test_the_retention_of_a_scan_is_a_map_with_target_and_minimum_on_the_bar():
    kept = np.linspace(0.94, 0.999, 180)
    result = make_result((12, 15), retentions=kept, flagged={100: 8})
    ax = plot.plot_retention_map(result)
    drawn = ax.images[0].get_array()
    np.testing.assert_allclose(drawn.ravel()[:100], kept[:100])
    assert drawn.mask.ravel().nonzero()[0].tolist() == [100]
    on_bar = {drawn.get_gid(): drawn.get_ydata()[0] for drawn in ax.child_axes[0].lines if drawn.get_gid()}
    assert on_bar == {"target": 0.98, "minimum": 0.95}
    below = int((kept < 0.95).sum())
    assert line(ax, f"below the minimum ({below})").get_xdata().size == below
    used = np.delete(kept, 100)
    assert f"mean {used.mean():.4f}, lowest 0.9400" in ax.get_title()


def test_the_retention_of_a_series_is_points_with_lines():
    kept = np.r_[np.full(49, 0.99), 0.9]
    ax = plot.plot_retention_map(make_result((50,), retentions=kept, flagged={2: 4}))
    points = line(ax, "patterns").get_ydata()
    assert np.isnan(points[2])
    np.testing.assert_array_equal(np.delete(points, 2), np.delete(kept, 2))
    assert line(ax, "target 0.98").get_ydata() == [0.98, 0.98]
    assert line(ax, "minimum 0.95").get_ydata() == [0.95, 0.95]
    assert line(ax, "below the minimum").get_xdata().tolist() == [49]


@pytest.mark.parametrize("scan", [(6,), (2, 3)])
def test_no_retention_at_all(scan):
    result = make_result(scan, retentions=np.full(6, np.nan))
    ax = plot.plot_retention_map(result)
    ax.figure.canvas.draw()
    assert texts(ax) == ["no pattern has a retention"]
    assert "mean –, lowest –" in ax.get_title()


def test_profiles_with_target_and_radius():
    result = make_result((90,), flagged={0: 8})
    ax = plot.plot_cumulative(result)
    drawn = [curve for curve in ax.lines if curve.get_gid() == "profile"]
    assert len(drawn) == 10
    for curve, profile in zip(drawn, result.analysis.profiles, strict=True):
        np.testing.assert_array_equal(curve.get_ydata(), profile.cumulative)
        np.testing.assert_array_equal(curve.get_xdata(), np.arange(len(profile.cumulative)))
    assert [curve.get_linestyle() for curve in drawn] == ["--"] + ["-"] * 9
    assert line(ax, "target 0.98").get_ydata() == [0.98, 0.98]
    radius = result.analysis.global_radius
    assert line(ax, f"window radius {radius} px").get_xdata() == [radius, radius]


def test_the_page_says_what_was_done(tmp_path):
    result = make_result((24, 30), input_name="/somewhere/scan$1_$x_{2}.h5")
    figure = plot.crop_figure(result)
    heading = figure.get_suptitle()
    side = result.analysis.window[0]
    used = result.validation.used
    assert heading.splitlines()[0] == "scan$1_$x_{2}.h5"
    for fact in (
        "720 patterns (24 × 30 scan, 64 × 64 → ",
        f"{side} × {side} px)",
        f"{result.saved:.1%} of the size saved",
        f"mean {used.mean():.4f}, lowest {used.min():.4f}",
        "status: done",
    ):
        assert fact in heading
    assert len(figure.axes) == 6
    assert tuple(figure.get_size_inches()) == (15, 9)
    target = tmp_path / "page.png"
    plot.save_crop_figure(result, target, dpi=60)
    assert imread(target).shape[:2] == (540, 900)
    assert [p.name for p in tmp_path.iterdir()] == ["page.png"]


CASES = {
    "one pattern": {"scan": (1,), "frame": (8, 8), "radius": 3},
    "one dark pattern": {
        "scan": (1,),
        "frame": (8, 8),
        "radius": 3,
        "mean": np.zeros((8, 8)),
        "retentions": np.full(1, np.nan),
    },
    "all left out": {"scan": (3, 4), "flagged": dict.fromkeys(range(12), 1)},
    "wide frames": {"scan": (3, 40), "frame": (16, 300), "radius": 20},
    "one row": {"scan": (1, 25)},
    "three axes": {"scan": (2, 3, 4)},
    "constant": {"mean": np.full((64, 64), 2.0), "retentions": np.ones(180), "drift": 0.0},
    "letters that the font lacks": {"input_name": "走査\n\udcff.h5"},
    "empty input": {"input_bytes": 0},
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_inputs_at_the_edge_are_drawn(case, tmp_path):
    plot.save_crop_figure(make_result(**case), tmp_path / "page.png", dpi=40)
    assert (tmp_path / "page.png").stat().st_size > 10_000


@pytest.mark.parametrize("scan", [(1000, 1000), (1_000_000,)])
def test_a_million_patterns(scan, tmp_path):
    result = make_result(scan, drift=1e-5, flagged=dict.fromkeys(range(0, 1_000_000, 97), 8))
    figure = plot.crop_figure(result)
    for ax in figure.axes:
        for drawn in ax.lines:
            assert drawn.get_xdata().__len__() <= 20_000
    plot.save_crop_figure(result, tmp_path / "page.png", dpi=40)


def test_thinning_keeps_the_outliers():
    values = np.random.default_rng(0).normal(size=100_003)
    values[[7, 100_002]] = 50, -50
    values[500:900] = np.nan
    shown = extremes(values, 1000)
    assert len(shown) <= 1002
    assert {7, 100_002} <= set(shown.tolist())
    assert np.all(np.diff(shown) > 0)


def test_block_means_leave_out_what_is_missing():
    grid = np.array([[1.0, np.nan, 5.0], [3.0, 2.0, np.nan], [np.nan, np.nan, 7.0]])
    np.testing.assert_array_equal(block_mean(grid, (2, 2)), [[2.0, 5.0], [np.nan, 7.0]])


def test_flag_words_are_those_of_the_crop():
    assert flag_words(Flag.EMPTY | Flag.OFF_FRAME) == "empty, off frame"


@pytest.mark.parametrize(
    ("scan", "grid"), [((4, 5), (4, 5)), ((1, 4, 5), (4, 5)), ((20,), None), ((1, 20), None), ((2, 2, 5), None)]
)
def test_which_scans_become_maps(scan, grid):
    assert scan_grid(make_result(scan).analysis) == grid


def test_long_names_are_shortened_in_the_middle():
    name = "a" * 50 + "b" * 50 + ".h5"
    short = short_name("/x/" + name, 40)
    assert len(short) == 40
    assert short.startswith("aaa")
    assert short.endswith("bbb.h5")


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.partition(".")[0] == "matplotlib":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    for draw in (plot.crop_figure, *PLOTS):
        with pytest.raises(MissingDependencyError, match=r"pip install \"stackalign\[plot\]\""):
            draw(make_result())
