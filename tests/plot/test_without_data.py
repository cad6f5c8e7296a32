"""Figures of what has nothing to show say so."""

import numpy as np
import pytest

from stackalign import ops, plot

pytest.importorskip("matplotlib")


def said(axes) -> str:
    return " ".join(text.get_text() for text in axes.texts) + axes.get_title()


def test_images_without_common_pixels() -> None:
    image = np.arange(12.0).reshape(3, 4)
    assert "no common pixels" in said(plot.plot_difference(image, np.full((3, 4), np.nan)))
    assert "no common pixels" not in said(plot.plot_difference(image, image[::-1]))


def test_no_displacements() -> None:
    from stackalign.plot.registration import plot_displacements

    assert "no region says anything" in said(plot_displacements(np.empty((0, 6)), np.ones((8, 8))))


def test_persistence() -> None:
    image = np.zeros((9, 9))
    image[2, 3], image[6, 6] = 5.0, 3.0
    axes = plot.plot_persistence(ops.persistence_pairs(image), 2.0)
    assert "2 of 2 maxima are peaks" in said(axes)
    assert "1 of 2 maxima are peaks" in said(plot.plot_persistence(ops.persistence_pairs(image), 4.0))


def test_no_candidates() -> None:
    from stackalign.plot._solar_search import plot_history_scatter

    assert "no candidate was scored" in said(plot_history_scatter(()))
