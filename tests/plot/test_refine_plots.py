"""Pictures and the page of a refinement, without any simulation."""

from pathlib import Path

import numpy as np
import pytest

from stackalign.plot.refine import disks_figure, plot_correlations, plot_position_map, plot_scores, refinement_figure
from stackalign.plot.refine_report import RefinedStep, write_refinement_report
from stackalign.refine import DisplayFrame, RefinementResult

NAMES = ("tilt_x", "tilt_y", "thickness", "blur")


@pytest.fixture
def result(rng: np.random.Generator) -> RefinementResult:
    scan = [
        {"stage": "scan", "score": 0.9 - abs(t - 500) / 1e3 - 0.1 * k, "thickness": float(t)}
        for t in range(300, 801, 50)
        for k in range(2)
    ]
    fine = [{"stage": "fine", "score": 0.95, "thickness": 512.0, "blur": 1.2, "tilt_x": 0.01, "tilt_y": -0.02}]
    return RefinementResult(
        names=NAMES,
        values={"tilt_x": 0.01, "tilt_y": -0.02, "thickness": 512.0, "blur": 1.2, "gl": 40.0, "rotation": 0.0},
        covariance=np.diag([1e-6, 1e-6, 4.0, 0.01]),
        correlation=np.eye(4),
        score=0.95,
        disk_scores={(0, 0, 0): 0.97, (0, 0, 2): 0.93},
        frame=DisplayFrame(0.3, 40.0, (10.0, 10.0), tilt=(0.01, -0.02)),
        wavenumber=40.0,
        position_map=rng.random((5, 7)),
        map_tilts=np.array([[-0.3, 0.2], [0.3, -0.2]]),
        history=(*scan, *fine),
        n_decompositions=1,
        n_tilts=100,
        n_evaluations=len(scan) + 1,
        seconds=1.5,
        warnings=("poor: <not> alike",),
    )


def test_disks_stand_above_each_other(rng: np.random.Generator) -> None:
    measured = rng.random((10, 8, 9))
    measured[0, 0, 0] = np.nan
    simulated = rng.random((10, 8, 9))
    figure = disks_figure(measured, simulated, [f"g{d}" for d in range(10)], list(np.linspace(0.5, 0.9, 10)))
    drawn = [ax for ax in figure.axes if ax.images]
    assert len(drawn) == 30
    top, middle, bottom = drawn[:24:8]
    np.testing.assert_array_equal(top.images[0].get_array()[1:], measured[0, 1:])
    np.testing.assert_array_equal(middle.images[0].get_array(), simulated[0])
    np.testing.assert_allclose(bottom.images[0].get_array()[1:], (measured - simulated)[0, 1:])
    assert top.images[0].get_clim() == middle.images[0].get_clim()
    assert bottom.images[0].get_array().mask[0, 0]
    assert top.get_title() == "g0\nr = 0.500"
    with pytest.raises(ValueError, match="with D names"):
        disks_figure(measured, simulated, ["one"])


def test_the_map_is_where_the_tilts_are(result: RefinementResult) -> None:
    ax = plot_position_map(result)
    (image,) = ax.images
    left, right, bottom, top = image.get_extent()
    np.testing.assert_allclose([left + 0.05, right - 0.05, bottom + 0.05, top - 0.05], [-0.3, 0.3, -0.2, 0.2])
    assert image.origin == "upper"
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), [[0.01, -0.02]])


def test_scores_show_the_best_of_the_scan(result: RefinementResult) -> None:
    ax = plot_scores(result, "thickness")
    scan = ax.lines[0].get_xydata()
    np.testing.assert_array_equal(scan[:, 0], np.arange(300, 801, 50))
    np.testing.assert_allclose(scan[:, 1], 0.9 - np.abs(scan[:, 0] - 500) / 1e3)
    assert "512 ± 2 Å" in ax.get_title()
    assert [text.get_text() for text in plot_scores(result, "gl").texts] == ["not varied"]


def test_correlations_are_written_out(result: RefinementResult) -> None:
    ax = plot_correlations(result)
    assert [label.get_text() for label in ax.get_xticklabels()] == list(NAMES)
    assert [text.get_text() for text in ax.texts].count("1.00") == 4
    shown = [ax.get_title().split("\n")[0] for ax in refinement_figure(result).axes if ax.get_title()]
    drawn = ["score over tilts, global scan", "correlation of the parameters"]
    assert shown == [*drawn, "score against thickness", "score against blur"]


def test_the_page(result: RefinementResult, rng: np.random.Generator, tmp_path: Path) -> None:
    disks = (rng.random((2, 8, 8)), rng.random((2, 8, 8)))
    steps = [
        RefinedStep("orientation", result, None, [("mirrored", 0.9, 512.0), ("as it is", 0.3, 700.0)]),
        RefinedStep("thickness & tilt", result, disks),
    ]
    path = tmp_path / "page.html"
    record = {"command": "stackalign refine a.toml", "inputs": [{"path": "a.toml", "fingerprint": "123"}]}
    write_refinement_report(steps, path, title="Si", provenance=record)
    text = path.read_text()
    assert text.count("<img ") == 3
    for words in ("poor: &lt;not&gt; alike", "thickness &amp; tilt", "mirrored", "held", "stackalign refine a.toml"):
        assert words in text
    with pytest.raises(ValueError, match="at least one step"):
        write_refinement_report([], path)
