"""Inputs of functions on files and of test data that are rarely wrong."""

import numpy as np
import pytest

from stackalign import diffraction
from stackalign.diffraction._file_inputs import check_centers
from stackalign.diffraction.masks import PixelStatistics
from stackalign.errors import DataError


def test_a_centre_for_each_image() -> None:
    centers = [(3.0, 4.0), (5.5, 6.5)]
    np.testing.assert_array_equal(check_centers(centers, (2, 8, 9), "scan"), centers)
    for wrong, words in [
        (centers[:1], r"centers of scan must have the shape \(2, 2\), got \(1, 2\)"),
        ([(3.0, 4.0), (np.nan, 1.0)], "the centre of image 1 of scan is not a number"),
        ([(3.0, 4.0), (80.0, 1.0)], "is far outside of the images of scan"),
    ]:
        with pytest.raises(DataError, match=words):
            check_centers(wrong, (2, 8, 9), "scan")


def test_statistics_before_the_first_image_are_nothing() -> None:
    statistics = PixelStatistics("cpu")
    assert statistics.arrays() == {}
    statistics.restore({})
    statistics.include(np.arange(24.0).reshape(2, 3, 4))
    again = PixelStatistics("cpu")
    again.restore(statistics.arrays())
    assert again.n_images == 2
    for name, values in statistics.arrays().items():
        np.testing.assert_array_equal(again.arrays()[name], values)


def test_a_kind_of_test_pattern_that_is_not_known() -> None:
    with pytest.raises(ValueError, match=r"kind must be one of \['lattice', 'powder'\], got 'glass'"):
        diffraction.create_test_pattern("glass")
