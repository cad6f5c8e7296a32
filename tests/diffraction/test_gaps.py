"""The largest number of a type marks a gap of a detector, unless it is a count of 16 bits or a hot pixel."""

import numpy as np
import pytest

from stackalign.diffraction import autocenter, azimuthal_average, bragg_peaks, nfold
from stackalign.diffraction.synthetic import lattice
from stackalign.errors import MaskWarning


@pytest.mark.parametrize("kind", ["uint16", "uint32", "int16", "int32"])
def test_gaps_are_left_out_and_said(kind) -> None:
    pattern = lattice(192, (100.2, 92.7), 1, blocked=False)
    image = pattern.image.astype(kind)
    seen = np.ones(image.shape, bool)
    seen[60:64] = seen[:, 120:124] = False
    image[~seen] = np.iinfo(kind).max
    with pytest.warns(MaskWarning, match=f"largest number of {kind}"):
        found = bragg_peaks(image)
    np.testing.assert_array_equal(found.position, bragg_peaks(image, mask=seen).position)
    with pytest.warns(MaskWarning, match=f"largest number of {kind}"):
        center = autocenter(image)
    np.testing.assert_array_equal(center.center, autocenter(image, mask=seen).center)
    with pytest.warns(MaskWarning, match=f"largest number of {kind}"):
        profile = azimuthal_average(image, (100.2, 92.7))
    np.testing.assert_array_equal(
        profile.intensity, azimuthal_average(image, (100.2, 92.7), mask=seen).intensity
    )  # fmt: skip


def test_saturated_pixels_are_no_gaps() -> None:
    image = np.minimum(lattice(128, seed=2, blocked=False).image * 300, 65535).astype(np.uint16)
    assert (image == 65535).sum() > 10
    assert len(bragg_peaks(image)) > 5


def test_a_line_of_one_pixel_and_a_corner_are_gaps_of_16_bits() -> None:
    image = lattice(128, seed=2, blocked=False).image.astype(np.uint16)
    seen = np.ones(image.shape, bool)
    seen[40], seen[100:, 110:] = False, False
    image[~seen] = 65535
    with pytest.warns(MaskWarning, match="largest number of uint16"):
        found = nfold(image, 2, center=(63.5, 63.5))
    np.testing.assert_array_equal(found, nfold(image, 2, center=(63.5, 63.5), mask=seen))


def test_hot_pixels_and_a_saturated_beam_of_16_bits_are_no_gaps() -> None:
    rng = np.random.default_rng(1)
    image = lattice(128, seed=2, blocked=False).image.astype(np.uint16)
    hot = image.copy()
    hot[tuple(rng.integers(0, 128, (2, 20)))] = 65535
    y, x = np.indices(image.shape)
    beam = np.minimum(image + 2e6 * np.exp(-((y - 63) ** 2 + (x - 63) ** 2) / 60), 65535).astype(np.uint16)
    for pattern in (hot, beam, np.stack([hot, image])):
        azimuthal_average(pattern, (63.5, 63.5))  # a warning is an error
