"""Pages about registrations show what was compared: the same pixels, masked, without the background."""

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from stackalign.diffraction.synthetic import powder
from stackalign.plot import registration as plots
from stackalign.plot.registration_report import write_registration_report
from stackalign.registration import create_test_pair, random_scene, register
from stackalign.registration.files import align_file

SHIFT = (5, 6)


@pytest.fixture(scope="module")
def aligned(tmp_path_factory):
    """A pattern that moved under a halo and a beam block that did not."""
    folder = tmp_path_factory.mktemp("aligned")
    pattern = powder(256)
    y, x = np.indices(pattern.image.shape)
    halo = 3000 * np.exp(-((y - 127) ** 2 + (x - 127) ** 2) / 5000)
    mask = pattern.mask & np.roll(pattern.mask, SHIFT, (0, 1))
    np.save(folder / "reference.npy", pattern.image + halo)
    np.save(folder / "moved.npy", np.roll(pattern.image, SHIFT, (0, 1)) + halo)
    return align_file(
        folder / "moved.npy", folder / "out.npy", folder / "reference.npy", reference_mask=mask, moving_mask=mask,
        background=8.0, device="cpu",
    ), mask  # fmt: skip


def heading(ax) -> str:
    return "\n".join([ax.get_title(), *(t.get_text() for t in ax.texts)])


def picture(ax):
    return np.ma.asarray(ax.images[0].get_array())


def highest(ax) -> tuple[float, float]:
    """Shift (dy, dx) at the maximum of the map of scores."""
    scores = picture(ax)
    left, right, bottom, top = ax.images[0].get_extent()
    n = len(scores)
    row, column = np.unravel_index(int(scores.argmax()), scores.shape)
    return top + (row + 0.5) * (bottom - top) / n, left + (column + 0.5) * (right - left) / n


@pytest.fixture(scope="module")
def figure(aligned):
    done, _ = aligned
    shown = done.preview
    return plots.registration_figure(
        done.results[shown.frame], shown.reference, shown.moving, shown.aligned, compared=shown.compared
    )


def test_the_map_of_scores_has_its_maximum_at_the_result(aligned, figure) -> None:
    result = aligned[0].results[0]
    assert np.hypot(*(result.parameters + SHIFT)) < 0.5
    surface = figure.axes[2]
    assert np.hypot(*(np.array(highest(surface)) - result.parameters)) < max(0.15, 2 * result.sigma.max())
    assert picture(surface).max() == pytest.approx(result.score, abs=0.002)


def test_the_mask_is_seen_and_counted(aligned, figure) -> None:
    _, mask = aligned
    for ax in (figure.axes[0], figure.axes[3]):
        assert f"{mask.mean():.1%} valid" in heading(ax)
        assert not mask.all()
        np.testing.assert_array_equal(np.ma.getmaskarray(picture(ax)), ~mask)


def test_both_differences_are_of_the_same_pixels(aligned, figure) -> None:
    _, mask = aligned
    before, after = (picture(figure.axes[k]) for k in (1, 4))
    seen = ~np.ma.getmaskarray(before)
    np.testing.assert_array_equal(seen, ~np.ma.getmaskarray(after))
    assert not (seen & ~mask).any()
    assert seen.mean() > 0.8 * mask.mean()
    assert np.ma.sqrt((after**2).mean()) < 0.7 * np.ma.sqrt((before**2).mean())


def test_the_page_says_what_was_compared(aligned, tmp_path) -> None:
    write_registration_report([aligned[0]], tmp_path / "page.html")
    assert "without their Gaussian mean of 8 px" in (tmp_path / "page.html").read_text()


def test_a_run_that_had_nothing_left_to_align_has_a_page(tmp_path) -> None:
    from dataclasses import replace

    pair = create_test_pair((64, 64), "shift", (1.0, 2.0), noise=0.02, seed=0)
    for name in ("reference", "moving"):
        np.save(tmp_path / f"{name}.npy", getattr(pair, name))
    done = align_file(tmp_path / "moving.npy", tmp_path / "out.npy", tmp_path / "reference.npy", device="cpu")
    write_registration_report([replace(done, preview=None)], tmp_path / "page.html")
    assert "Parameters" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize("model", ["shift", "rigid"])
def test_large_images_are_scored_as_a_whole(model, monkeypatch) -> None:
    """The middle of these says something else than the whole: it did not move with the rest."""
    scene = random_scene((200, 200), 3)
    truth = (2.5, -1.5, *([0.5] if model == "rigid" else []))
    pair = create_test_pair((96, 80), model, truth, scene=scene, noise=0.02, seed=0)
    moving = pair.moving.copy()
    moving[36:60, 28:52] = np.roll(pair.moving, (1, 1), (0, 1))[36:60, 28:52]
    monkeypatch.setattr(plots, "LARGEST_SURFACE", 30)
    monkeypatch.setattr(plots, "SURFACE_POINTS", 21)
    result = register(pair.reference, moving, model=model, device="cpu")
    surface = plots.plot_score_surface(result, pair.reference, moving, extent=1.5)
    assert np.hypot(*(np.array(highest(surface)) - result.parameters[:2])) < 0.25
    assert ("every 4 px" in heading(surface)) == (model == "rigid")
