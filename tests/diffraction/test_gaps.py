"""The largest number of a type of 32 bits marks a gap of a detector; of 16 bits it may be a count."""

import numpy as np
import pytest

from stackalign.diffraction import autocenter, azimuthal_average, bragg_peaks
from stackalign.diffraction.synthetic import lattice
from stackalign.errors import MaskWarning


def test_gaps_are_left_out_and_said() -> None:
    pattern = lattice(192, (100.2, 92.7), 1, blocked=False)
    image = pattern.image.astype(np.uint32)
    seen = np.ones(image.shape, bool)
    seen[60:64] = seen[:, 120:124] = False
    image[~seen] = np.iinfo(np.uint32).max
    with pytest.warns(MaskWarning, match="largest number of uint32"):
        found = bragg_peaks(image)
    np.testing.assert_array_equal(found.position, bragg_peaks(image, mask=seen).position)
    with pytest.warns(MaskWarning, match="largest number of uint32"):
        center = autocenter(image)
    np.testing.assert_array_equal(center.center, autocenter(image, mask=seen).center)
    with pytest.warns(MaskWarning, match="largest number of uint32"):
        profile = azimuthal_average(image, (100.2, 92.7))
    np.testing.assert_array_equal(
        profile.intensity, azimuthal_average(image, (100.2, 92.7), mask=seen).intensity
    )  # fmt: skip


def test_saturated_pixels_are_no_gaps() -> None:
    image = np.minimum(lattice(128, seed=2, blocked=False).image * 300, 65535).astype(np.uint16)
    assert (image == 65535).sum() > 10
    assert len(bragg_peaks(image)) > 5
