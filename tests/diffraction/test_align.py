"""Alignment under a fixed beam block: the shifts of scikit-image, fractions of pixels, real drift, and bad input."""

import json
from itertools import islice

import numpy as np
import pytest

from stackalign.diffraction import align, ialign, track_peak
from stackalign.diffraction.synthetic import lattice, powder
from stackalign.errors import DataError, StackalignWarning

MIDDLE = 255.5


def _series(make, shifts, size: int = 512):
    """A reference and images of the same sample, moved by these shifts, with noise of their own."""
    middle = 0.5 * (size - 1)
    first = make(size, (middle, middle), seed=0)
    clean = [make(size, (middle + y, middle + x), seed=0, noise=False).image for y, x in shifts]
    rng = np.random.default_rng(7)
    return first, np.stack([rng.poisson(image) for image in clean]).astype(np.float32)


@pytest.mark.parametrize("make", [powder, lattice])
def test_fractions_of_pixels(make) -> None:
    shifts = np.random.default_rng(3).uniform(-12, 12, (16, 2))
    reference, images = _series(make, shifts)
    found = align(images, reference.image, mask=reference.mask)
    error = found.shift + shifts
    assert np.sqrt((error**2).mean(axis=0)).max() <= 0.02
    assert found.ok
    assert (found.score > found.second_score).all()
    assert (found.overlap > 0.8).all()


def test_whole_pixels_as_scikit_image() -> None:
    registration = pytest.importorskip("skimage.registration", reason="scikit-image is the oracle")
    size = 128
    rng = np.random.default_rng(4)
    shifts = rng.integers(-9, 10, (32, 2))
    for make in (powder, lattice):
        reference, images = _series(make, shifts[::2] if make is powder else shifts[1::2], size)
        found = align(images, reference.image, mask=reference.mask, subpixel=False)
        for image, shift in zip(images, found.shift, strict=True):
            expected, *_ = registration.phase_cross_correlation(
                reference.image.astype(float),
                image.astype(float),
                reference_mask=reference.mask,
                moving_mask=reference.mask,
            )
            np.testing.assert_array_equal(shift, expected)


def test_one_mask_for_each_image() -> None:
    shifts = np.array([(4.0, 3.0), (-6.0, 2.0)])
    reference, images = _series(powder, shifts, 256)
    masks = np.repeat(reference.mask[None], 2, axis=0)
    images[0, 30:80, 150:200] = 1e4
    masks[0, 30:80, 150:200] = False
    images[1, 200:, :50] = np.nan
    found = align(images, reference.image, mask=masks, reference_mask=reference.mask)
    assert np.abs(found.shift + shifts).max() < 0.1
    assert np.isnan(found.image[0]).sum() > np.isnan(found.image[1]).sum() / 3
    assert np.nanmax(found.image[0]) < 1e3


def test_interpolated_once_and_filled() -> None:
    reference, images = _series(powder, [(3.0, -2.0)], 128)
    whole = align(images[0], reference.image, mask=reference.mask, subpixel=False, fill_value=-1.0)
    assert whole.shift.tolist() == [-3.0, 2.0]
    assert whole.image.shape == (128, 128)
    np.testing.assert_array_equal(
        whole.image[:125, 2:][reference.mask[3:, :126]], images[0, 3:, :126][reference.mask[3:, :126]]
    )
    assert (whole.image[125:] == -1).all()
    assert (whole.image[:125, 2:][~reference.mask[3:, :126]] == -1).all()
    along = align(images[0], reference.image, mask=reference.mask, subpixel=False, fill_masked=False)
    np.testing.assert_array_equal(along.image[:125, 2:], images[0, 3:, :126])
    assert json.dumps(whole.to_dict())


def test_chromium(chromium) -> None:
    first, second, mask = chromium
    found = align(second, first, mask=mask, background=True, max_shift=64)
    assert np.abs(found.shift - [16.8, 30.5]).max() < 1.5
    plain = align(second, first, mask=mask, max_shift=64, subpixel=False)
    np.testing.assert_array_equal(plain.shift, [17, 27])


def test_background_takes_a_halo_that_stands_still_away() -> None:
    size = 256
    reference, images = _series(powder, [(5.0, 6.0)], size)
    y, x = np.indices((size, size))
    halo = 3000 * np.exp(-((y - 127) ** 2 + (x - 127) ** 2) / 5000)
    plain = align(images[0] + halo, reference.image + halo, mask=reference.mask)
    found = align(images[0] + halo, reference.image + halo, mask=reference.mask, background=8.0)
    assert np.abs(plain.shift).max() < 1
    assert np.abs(np.subtract(found.shift, [-5, -6])).max() < 0.3


def test_a_stream_gives_what_a_stack_gives() -> None:
    reference, images = _series(lattice, [(1.0, 2.0), (-3.0, 4.0), (2.5, -1.25)], 128)
    together = align(images, reference.image, mask=reference.mask)
    apart = list(ialign(iter(images), reference.image, mask=reference.mask, batch=2))
    np.testing.assert_array_equal([a.shift for a in apart], together.shift)
    np.testing.assert_array_equal([a.image for a in apart], together.image)

    def endless():
        while True:
            yield images[0]

    first = list(islice(ialign(endless(), mask=reference.mask), 3))
    assert np.abs([a.shift for a in first]).max() < 1e-5
    with pytest.raises(DataError, match="image 1 of the stream"):
        list(ialign([images[0], images[0][:5]]))
    with pytest.raises(ValueError, match="batch"):
        list(ialign([images[0]], batch=0))


def test_track_peak() -> None:
    y, x = np.indices((64, 64))
    path = np.array([(0.0, 0.0), (1.25, -0.5), (2.5, -1.0), (-2.0, 3.0)])
    images = np.stack([np.exp(-((y - 30 - a) ** 2 + (x - 40 - b) ** 2) / 18) for a, b in path])
    images[:, :8] = 5.0
    found = track_peak(images, slice(12, 56), slice(20, 60))
    assert np.abs(found - path).max() < 0.01
    np.testing.assert_array_equal(track_peak(iter(images), slice(12, 56), slice(20, 60)), found)
    assert np.abs(found[0]).max() < 1e-5
    assert track_peak(images, slice(12, 56), slice(20, 60), reference=images[1])[0, 0] == pytest.approx(-1.25, abs=0.01)
    assert track_peak(iter([])).shape == (0, 2)
    with pytest.raises(DataError, match="no pixel"):
        track_peak(images, slice(5, 5))
    with pytest.raises(DataError, match=r"series \(N, H, W\)"):
        track_peak(images[0])


def test_bad_input() -> None:
    image = np.random.default_rng(0).normal(size=(32, 32))
    with pytest.raises(DataError, match=r"mask must have the shape \(32, 32\)"):
        align(image, image, mask=np.ones((32, 31), bool))
    with pytest.raises(TypeError, match="astype"):
        align(image, image, mask=np.ones((32, 32)))
    with pytest.raises(DataError, match="~mask"):
        align(image, image, mask=np.zeros((32, 32), bool))
    few = np.zeros((32, 32), bool)
    few[:6, :6] = True
    with pytest.warns(StackalignWarning, match="~mask"):
        align(image, image, mask=few)
    with pytest.raises(TypeError, match="real numbers"):
        align(image + 1j, image)
    with pytest.raises(DataError, match="reference must be one image"):
        align(image, image[:, :31])
    with pytest.raises(ValueError, match="sigma"):
        align(image, image, background=-1.0)
    with pytest.raises(TypeError, match="getmaskarray"):
        align(np.ma.masked_array(image), image)
    assert align(np.ones((32, 32)), image).flags == (("constant",),)
    assert np.abs(align(image[:3, :3], image[:3, :3]).shift).max() < 1e-5
    y, x = np.indices((32, 32))
    spot = [np.exp(-((y - 16 - d) ** 2 + (x - 16) ** 2) / 50) for d in (0, 5)]
    assert align(spot[1], spot[0], max_shift=2).flags == (("on_bound",),)
    assert align(spot[1], spot[0]).ok
    with pytest.raises(ValueError, match="max_shift"):
        align(image, image, max_shift=-1)
