"""Rows and columns of one value are left out, unless they are what an image shows."""

import numpy as np
import pytest

import stackalign as sa
from stackalign.registration import create_test_pair
from stackalign.registration._dead_lines import without_dead_lines


@pytest.mark.parametrize("dtype", ["float64", "uint16"])
@pytest.mark.parametrize("lines", ["columns", "rows", "bar", "frame"])
def test_lines_that_stand_still_do_not_pull(lines, dtype) -> None:
    pair = create_test_pair((120, 130), "shift", (3.3, -2.6), noise=0.03, seed=4)
    images = []
    for image in (pair.reference, pair.moving):
        values = np.rint(5000 + 500 * (image - image.mean()) / image.std())
        if lines == "columns":
            values[:, [11, 12, 40, 77, 101]] = 0
        elif lines == "rows":
            values[[0, 30, 31, 99]] = 60000
        elif lines == "bar":
            values[:, 50:75] = 100
        else:
            values = np.pad(values[8:-8, 8:-8], 8, constant_values=2000)
        images.append(values.astype(dtype))
    kept = [image.copy() for image in images]
    result = sa.register(*images)
    assert result.ok, result.remarks
    np.testing.assert_allclose(result.parameters, (3.3, -2.6), atol=0.02)
    assert all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(images, kept, strict=True))


def test_an_empty_background_is_what_an_image_shows() -> None:
    y, x = np.indices((90, 100)).astype(float)
    blob = np.exp(-0.5 * ((y - 40) ** 2 + (x - 50) ** 2) / 36)
    images = np.stack([np.where(blob > 0.01, blob, 0.0), np.where(blob > 0.5, 1.0, 0.0), np.zeros_like(blob)])
    assert without_dead_lines(images)[0] is images
    images[0, :, 50] = 7.0
    (found,) = without_dead_lines(images)
    assert np.isnan(found[0, :, 50]).all()
    assert np.isnan(found).sum() == 90
    assert images[0, 0, 50] == 7.0
