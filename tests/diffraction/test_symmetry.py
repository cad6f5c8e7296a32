"""Averages by symmetry of whole patterns."""

import numpy as np
import pytest

from stackalign.diffraction import nfold, reflection
from stackalign.diffraction.synthetic import powder
from stackalign.errors import DataError


@pytest.mark.parametrize("fold", [2, 3, 6, 7])
def test_fills_the_block(fold: int) -> None:
    pattern = powder(512, (250.4, 261.7), noise=False)
    whole = powder(512, (250.4, 261.7), noise=False, blocked=False).clean
    found = nfold(pattern.image, fold, center=pattern.center, mask=pattern.mask)
    assert found.dtype == np.float32
    y, x = np.indices(whole.shape)
    near = np.hypot(y - 250.4, x - 261.7) > 20
    filled = ~pattern.mask & np.isfinite(found) & near
    assert filled.sum() > 0.8 * (~pattern.mask & near).sum() or fold == 2
    assert np.abs(found[filled] - whole[filled]).max() < 0.04 * 200


def test_corners_keep_what_they_have() -> None:
    found = nfold(np.ones((64, 50)), 6, center=(20, 33))
    np.testing.assert_allclose(found, 1, rtol=0, atol=1e-6)


def test_filled_where_nothing_is_seen() -> None:
    image = np.ones((41, 41))
    mask = np.ones(image.shape, bool)
    mask[15:26, 15:26] = False
    assert np.isnan(nfold(image, 4, mask=mask)[20, 20])
    assert nfold(image, 4, mask=mask, fill_value=-3.0)[20, 20] == -3
    assert (nfold(image, 4, mask=mask, fill_value=0.0)[mask] == 1).all()


def test_stacks_and_centers() -> None:
    stack = np.random.default_rng(0).random((3, 32, 40)).astype(np.float32)
    centers = np.array([(15.5, 19.5), (14, 20), (16.2, 18)])
    found = nfold(stack, 3, center=centers)
    for image, center, one in zip(stack, centers, found, strict=True):
        np.testing.assert_array_equal(nfold(image, 3, center=center), one)


def test_reflection() -> None:
    image = np.random.default_rng(0).random((32, 32))
    np.testing.assert_allclose(reflection(image, 90.0), 0.5 * (image + image[:, ::-1]), rtol=0, atol=1e-12)
    np.testing.assert_allclose(reflection(image, 0.0), 0.5 * (image + image[::-1]), rtol=0, atol=1e-12)
    mask = np.ones(image.shape, bool)
    mask[:, 20:] = False
    np.testing.assert_allclose(reflection(image, 90.0, mask=mask)[:, 20:], image[:, :12][:, ::-1], rtol=0, atol=1e-12)


def test_bad_input() -> None:
    image = np.ones((16, 16))
    with pytest.raises(ValueError, match=r"whole number of parts of a turn, as 6, got 1\.7"):
        nfold(image, 1.7)
    with pytest.raises(DataError, match="mask must have the shape"):
        nfold(image, 2, mask=np.ones((3, 3), bool))
    with pytest.raises(DataError, match="~mask"):
        nfold(image, 2, mask=np.zeros((16, 16), bool))
    with pytest.raises(TypeError, match="real numbers"):
        nfold(image * 1j, 2)
    with pytest.raises(ValueError, match="finite"):
        nfold(image, 2, center=(np.nan, 1))
    assert (nfold(np.ones((3, 3)), 3) == 1).all()
    assert (nfold(np.full((8, 8), 7, np.int8), 5) == 7).all()
