"""The image of the scan, what smaller radii save, calibrated axes, and the remark on a beam that the frame cuts."""

import re

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="pictures need matplotlib")

from stackalign import plot
from stackalign.crop import CroppingConfig, crop_array, crop_file
from stackalign.io import Calibration, create_stack

QUIET = {"visualization": False, "verbose": False}


def scan(center=(24, 27), n=12, wide=None):
    """Beams of one size, one of them wider."""
    y, x = np.indices((50, 54))
    rng = np.random.default_rng(2)
    sizes = [8.0 if k != wide else 60.0 for k in range(n)]
    beams = [600 * np.exp(-((y - center[0]) ** 2 + (x - center[1]) ** 2) / s) for s in sizes]
    return rng.poisson(np.stack(beams)).astype(np.uint16)


def result_of(stack, **options):
    return crop_array(stack, CroppingConfig(**QUIET, **options))[1]


def test_the_scan_is_an_image_with_the_patterns_that_stand_out() -> None:
    stack = scan(wide=7).reshape(3, 4, 50, 54)
    stack[2, 1] = 0
    result = result_of(stack)
    ax = plot.plot_scan_image(result)
    (image,) = ax.get_images()
    np.testing.assert_array_equal(np.asarray(image.get_array()), result.analysis.total.reshape(3, 4))
    marks = {line.get_label().split(" (")[0]: line.get_xydata() for line in ax.get_lines()}
    assert (3, 1) in {tuple(place) for place in marks["largest radii"]}  # (x, y) of pattern 7
    assert [tuple(place) for place in marks["flagged, left out"]] == [(1, 2)]
    assert "pattern 7 (1, 3)" in ax.get_title()


def test_a_series_is_a_line() -> None:
    result = result_of(scan())
    ax = plot.plot_scan_image(result)
    assert not ax.get_images()
    np.testing.assert_array_equal(ax.get_lines()[0].get_ydata(), result.analysis.total)


def test_the_curve_tells_what_a_crop_with_that_percentile_saves() -> None:
    stack = scan(n=40, wide=11)
    ax = plot.plot_saved_by_percentile(result_of(stack))
    curve = dict(zip(*(axis.tolist() for axis in ax.get_lines()[0].get_data()), strict=True))
    for percentile in (60, 95, 100):
        policy = {} if percentile == 100 else {"radius_policy": float(percentile)}
        assert curve[percentile] == pytest.approx(100 * result_of(stack, min_retention=0.1, **policy).saved)
    assert curve[95] > curve[100] + 10


def test_windows_have_axes_in_the_unit_of_the_detector(tmp_path) -> None:
    stack = scan()
    known = Calibration((0.5, 0.25), "mrad", (24.0, 27.0))
    with create_stack(tmp_path / "in.h5", stack.shape, stack.dtype, scan_shape=(12,), calibration=known) as writer:
        writer.write(stack)
        writer.finish({})
    result = crop_file(tmp_path / "in.h5", tmp_path / "out.h5", CroppingConfig(**QUIET))
    ax = plot.plot_mean_window(result)
    assert {"x (mrad)", "y (mrad)"} <= {second.get_label() for second in ax.child_axes}
    plain = plot.plot_mean_window(result_of(stack))
    assert not any("(" in second.get_label() for second in plain.child_axes)


def test_colours_of_the_retention_show_no_structure_of_rounding() -> None:
    stack = np.repeat(scan(n=1), 12, axis=0).reshape(3, 4, 50, 54)
    ax = plot.plot_retention_map(result_of(stack, target_retention=0.9, min_retention=0.8))
    low, high = ax.get_images()[0].get_clim()
    assert high - low >= 0.0099


def test_the_page_has_all_figures(tmp_path) -> None:
    plot.write_crop_report([result_of(scan().reshape(3, 4, 50, 54))], tmp_path / "page.html")
    texts = re.findall(r'<img alt="([^"]+)"', (tmp_path / "page.html").read_text())
    assert len(texts) == 3
    assert "what smaller radii save" in texts[1]


@pytest.mark.parametrize(
    ("center", "sides"),
    [((24, 0), "left"), ((1, 27), "top"), ((49, 52), "bottom, right"), ((24, 27), None), ((24, 8), None)],
)
def test_a_beam_that_the_frame_cuts_is_said(center, sides) -> None:
    notes = [note for note in result_of(scan(center)).analysis.notes if "touches the frame's edge" in note]
    assert bool(notes) == (sides is not None)
    if sides:
        assert f"edge ({sides})" in notes[0]


def test_spots_and_faults_at_the_edge_are_no_cut_beam() -> None:
    stack = scan()
    stack[:, 10, 0] = 4000  # a hot pixel
    stack[:, 0, 20:26] += 60  # a weak spot
    assert not [note for note in result_of(stack).analysis.notes if "touches the frame's edge" in note]
    cut = result_of(scan((24, 0)), center_method="manual", manual_center=(24.0, 0.0))
    assert not [note for note in cut.analysis.notes if "touches the frame's edge" in note]


def test_no_pattern_that_counts_is_drawn_too() -> None:
    stack = scan(n=5)
    result = result_of(stack)
    excluded = np.ones(5, np.bool_)
    import dataclasses

    bare = dataclasses.replace(result, analysis=dataclasses.replace(result.analysis, excluded=excluded))
    figure = plot.crop_choice_figure(bare)
    figure.canvas.draw()


def test_bright_and_dark_field_are_images_of_their_own() -> None:
    stack = scan(wide=7).reshape(3, 4, 50, 54)
    result = result_of(stack)
    for field in ("bright", "dark"):
        ax = plot.plot_scan_image(result, field=field)
        (image,) = ax.get_images()
        expected = getattr(result.virtual, field).reshape(3, 4)
        np.testing.assert_array_equal(np.asarray(image.get_array()), expected)
        assert field in ax.get_title().lower()
    assert len(plot.crop_choice_figure(result).axes) >= 4
    assert len(plot.crop_choice_figure(result_of(scan())).axes) == 2
    with pytest.raises(ValueError, match="total, bright or dark"):
        plot.plot_scan_image(result, field="light")


def test_examples_are_drawn_before_and_after() -> None:
    stack = scan(wide=7).reshape(3, 4, 50, 54)
    result = result_of(stack)
    figure = plot.crop_examples_figure(result)
    before, after = figure.axes[:2]
    assert "Pattern 7 (1, 3): largest radius" in before.get_title()
    np.testing.assert_array_equal(np.asarray(before.get_images()[0].get_array()), stack[1, 3])
    height, width = result.analysis.window
    assert np.ptp(after.get_xlim()) == width
    assert np.ptp(after.get_ylim()) == height
