"""Pictures of centres and alignments."""

import numpy as np
import pytest

from stackalign.diffraction import align, autocenter
from stackalign.diffraction.synthetic import powder

pytest.importorskip("matplotlib", reason="pictures need matplotlib")


def test_center_and_alignment() -> None:
    from stackalign.plot.diffraction import plot_alignment, plot_center

    pattern = powder(128, (60.0, 66.0))
    found = autocenter(pattern.image, mask=pattern.mask)
    axes = plot_center(pattern.image, found, mask=pattern.mask)
    assert "by rings" in axes.get_title() + axes.get_title(loc="left")
    other = powder(128, (63.0, 64.0), seed=1)
    both = align(np.stack([pattern.image, other.image]), pattern.image, mask=pattern.mask)
    before, after = plot_alignment(pattern.image, other.image, both, frame=1)
    spread = [float(np.nanstd(np.ma.filled(ax.images[0].get_array(), np.nan))) for ax in (before, after)]
    assert spread[1] < spread[0]
    assert tuple(before.images[0].get_extent()) == (-0.5, 127.5, 127.5, -0.5)
