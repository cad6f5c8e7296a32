"""Centres of powders and crystals behind a beam block, with walk-off, far off the middle, on backgrounds."""

import json

import numpy as np
import pytest

from stackalign.diffraction import autocenter
from stackalign.diffraction.synthetic import beam_block, lattice, powder, powder_profile
from stackalign.errors import DataError, StackalignWarning

SIZE = 512


def _centers(count: int, seed: int) -> np.ndarray:
    return 255.5 + np.random.default_rng(seed).uniform(-0.06 * SIZE, 0.06 * SIZE, (count, 2))


@pytest.mark.parametrize("walkoff", [0.0, 0.6, 0.9])
def test_powders(walkoff: float) -> None:
    centers = _centers(4, 11)
    patterns = [powder(SIZE, tuple(c), k, walkoff) for k, c in enumerate(centers)]
    found = autocenter(np.stack([p.image for p in patterns]), mask=patterns[0].mask)
    error = np.hypot(*(found.center - centers).T)
    assert np.median(error) <= 0.1
    assert error.max() <= 0.3
    assert np.abs((found.center - centers).mean(axis=0)).max() < 0.1
    assert set(found.kind) == {"rings"}
    assert found.ok


@pytest.mark.parametrize(("walkoff", "seed"), [(0.6, 11), (0.9, 5)])
def test_lattices_do_not_jump(walkoff: float, seed: int) -> None:
    """A neighbouring centre of inversion is 15 pixels away."""
    centers = _centers(4, seed)
    patterns = [lattice(SIZE, tuple(c), k, walkoff) for k, c in enumerate(centers)]
    found = autocenter(np.stack([p.image for p in patterns]), mask=patterns[0].mask)
    assert np.hypot(*(found.center - centers).T).max() < 0.05
    assert set(found.kind) == {"pairs"}
    assert found.ok
    assert (found.runner_scores[:, 0] < 0.85).all()
    rivals = np.hypot(*(found.runners_up[:, 0] - centers).T)
    assert (rivals > 10).all()


def test_dense_lattice_of_a_large_image() -> None:
    """Seen from afar it is one round patch, the middle of which is not the centre."""
    pattern = lattice(2048, (1003.5, 1064.9), 0, 0.6)
    found = autocenter(pattern.image, mask=pattern.mask)
    assert found.kind == ("pairs",)
    assert np.abs(found.center - (1003.5, 1064.9)).max() < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("walkoff", [0.6, 0.9])
def test_lattices_of_many_centers(walkoff: float) -> None:
    for k, center in enumerate(_centers(24, 3)):
        pattern = lattice(SIZE, tuple(center), k, walkoff)
        assert np.abs(autocenter(pattern.image, mask=pattern.mask).center - center).max() < 0.1


@pytest.mark.parametrize("size", [128, 129])
@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_gaussian_has_its_exact_center(size: int, shift: float) -> None:
    center = size // 2 + shift
    y, x = np.indices((size, size))
    found = autocenter(np.exp(-((y - center) ** 2 + (x - center) ** 2) / 200.0))
    np.testing.assert_allclose(found.center, center, rtol=0, atol=1e-3)


@pytest.mark.parametrize("make", [powder, lattice])
def test_far_off_the_middle(make) -> None:
    center = (150.25, 340.75)
    pattern = make(SIZE, center, 1, 0.5)
    assert np.abs(autocenter(pattern.image, mask=pattern.mask).center - center).max() < 0.2


@pytest.mark.parametrize("make", [powder, lattice])
def test_direct_beam_visible(make) -> None:
    center = (262.3, 240.6)
    pattern = make(SIZE, center, 2, 0.5, blocked=False)
    assert np.abs(autocenter(pattern.image).center - center).max() < 0.1
    y, x = np.indices(pattern.image.shape)
    beam = 2e4 * np.exp(-((y - center[0]) ** 2 + (x - center[1]) ** 2) / 18)
    assert np.abs(autocenter(pattern.image + beam).center - center).max() < 0.1


def test_faint_rings_on_a_strong_background() -> None:
    center = (236.3, 228.3)
    y, x = np.indices((SIZE, SIZE))
    r = np.hypot(y - center[0], x - center[1])
    rings = 2 * (powder_profile(r) - 200 * (0.6 * np.exp(-r / 60) + 0.05))
    background = 2000 * np.exp(-((y - 300) ** 2 + (x - 200) ** 2) / 45000) + 200
    image = np.random.default_rng(0).poisson(background + rings).astype(np.float32)
    mask = beam_block(SIZE)
    image[~mask] = 3
    assert np.abs(autocenter(image, mask=mask).center - center).max() < 0.3


def test_what_is_under_the_mask_does_not_matter() -> None:
    pattern = lattice(256, (120.3, 133.8), 0, 0.3)
    expected = autocenter(pattern.image, mask=pattern.mask)
    for value in (np.nan, 1e6, -5.0):
        image = np.where(pattern.mask, pattern.image, np.float32(value))
        np.testing.assert_allclose(autocenter(image, mask=pattern.mask).center, expected.center, rtol=0, atol=1e-4)


def test_real_powder_and_crystal(chromium, graphite) -> None:
    first, second, mask = chromium
    found = autocenter(np.stack([first, second]), mask=mask)
    assert np.abs(found.center - [(974.1, 1108.2), (957.3, 1077.7)]).max() < 3
    assert np.abs(found.center[0] - found.center[1] - [16.8, 30.5]).max() < 1.5
    image, mask = graphite
    assert np.abs(autocenter(image, mask=mask).center - [1112.6, 1011.3]).max() < 1.5


def test_simulated_crystal(mos2) -> None:
    np.testing.assert_allclose(autocenter(mos2).center, 124.5, rtol=0, atol=0.1)


def test_result_and_flags() -> None:
    found = autocenter(np.ones((40, 60)))
    assert found.flags == (("constant",),)
    assert found.center.tolist() == [19.5, 29.5]
    assert found.confidence == 0
    assert json.dumps(found.to_dict())
    noise = autocenter(np.random.default_rng(0).random((100, 120)))
    assert noise.flags == (("uncertain",),)
    several = autocenter(np.random.default_rng(0).random((2, 32, 32)))
    assert several.center.shape == (2, 2)
    assert several.runners_up.shape == (2, 5, 2)


def test_bad_input() -> None:
    image = np.random.default_rng(0).normal(size=(32, 32))
    with pytest.raises(DataError, match="at least 8 pixels"):
        autocenter(np.ones((3, 3)))
    with pytest.raises(DataError, match="mask must have the shape"):
        autocenter(image, mask=np.ones((31, 32), bool))
    with pytest.raises(DataError, match="~mask"):
        autocenter(image, mask=np.zeros((32, 32), bool))
    with pytest.raises(TypeError, match="real numbers"):
        autocenter(image * 1j)
    few = np.zeros((32, 32), bool)
    few[:6, :6] = True
    with pytest.warns(StackalignWarning, match="~mask"):
        autocenter(image, mask=few)
    assert autocenter(np.full((32, 32), np.nan)).flags == (("constant",),)
    assert np.isfinite(autocenter(image.astype(np.float16)).center).all()
    assert np.isfinite(autocenter((100 * image).astype(np.int8)).center).all()


@pytest.mark.parametrize("hidden", [(0, 130, 118, 138), (118, 138, 118, 138), (98, 158, 98, 158)])
@pytest.mark.parametrize("sigma", [8.0, 20.0])
def test_a_beam_behind_a_block_has_its_exact_centre(hidden, sigma) -> None:
    """A block that is not about the centre must not draw it to itself."""
    top, bottom, left, right = hidden
    rows, columns = np.indices((256, 256))
    mask = np.ones((256, 256), bool)
    mask[top:bottom, left:right] = False
    image = 1e-9 * np.exp(-((rows - 133.25) ** 2 + (columns - 118.5) ** 2) / (2 * sigma**2))
    found = autocenter(image, mask=mask)
    # Of a narrow beam behind a wide block there is next to nothing left to see.
    far = sigma < 10 and right - left > 50
    np.testing.assert_allclose(found.center, (133.25, 118.5), atol=0.7 if far else 0.02)
