"""Alignments are right or flagged: unrelated images, and what stands still beside what moves."""

import numpy as np
import pytest

from stackalign.diffraction import align, ialign
from stackalign.diffraction._align_trust import without_hot_pixels
from stackalign.diffraction.synthetic import lattice, powder

SIDE = 192
MIDDLE = 0.5 * (SIDE - 1)


def _pair(make, shift, *, blocked=False, factor=1.0, seed=3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two noisy patterns of one sample, moved by a shift, and their mask."""
    rng = np.random.default_rng(seed)
    clean = [
        make(SIDE, (MIDDLE + a * shift[0], MIDDLE + a * shift[1]), seed=1, noise=False, blocked=blocked) for a in (0, 1)
    ]
    one, two = (rng.poisson(c.clean * factor).astype(np.float32) for c in clean)
    return one, two, clean[0].mask


@pytest.mark.parametrize("make", [powder, lattice])
@pytest.mark.parametrize("shift", [(0.0, 0.0), (4.3, -6.2)])
def test_true_pairs_are_not_flagged(make, shift) -> None:
    for blocked in (False, True):
        one, two, mask = _pair(make, shift, blocked=blocked)
        found = align(two, one, mask=mask)
        assert found.ok
        assert found.reasons == ("",)
        assert np.abs(found.shift + shift).max() < 0.1
        assert found.significance > 10


def test_weak_pairs_are_not_flagged() -> None:
    one, two, _ = _pair(powder, (3.0, 2.0), factor=0.02)
    found = align(two, one)
    assert found.ok
    assert np.abs(found.shift - np.array((-3.0, -2.0))).max() < 0.5


@pytest.mark.parametrize("mean", [0.1, 4.0, 300.0])
def test_noise_is_no_pair(mean) -> None:
    rng = np.random.default_rng(0)
    images = rng.poisson(mean, (4, SIDE, SIDE)).astype(np.float32)
    found = align(images[1:], images[0])
    assert all("insignificant" in flags for flags in found.flags)
    assert "standard deviations" in found.reasons[0]


def test_another_sample_is_no_pair() -> None:
    rng = np.random.default_rng(1)
    crystal = rng.poisson(lattice(SIDE, seed=0, noise=False, blocked=False).clean).astype(np.float32)
    assert "insignificant" in align(crystal, rng.poisson(10.0, crystal.shape).astype(np.float32)).flags[0]


def test_hot_pixels_do_not_hold_an_image() -> None:
    shift = np.array((-6.0, 4.0))
    one, two, _ = _pair(powder, shift)
    places = tuple(np.random.default_rng(2).integers(0, SIDE, (2, 25)))
    one[places] = two[places] = 60000
    for options in ({}, {"background": True}):
        found = align(two, one, **options)
        assert np.abs(found.shift + shift).max() < 0.5
        assert found.ok
    assert np.nanmax(align(two, one).image) > 1000  # The images themselves keep them.


def test_hot_pixels_that_touch_do_not_hold_an_image() -> None:
    shift = np.array((7.4, 0.2))
    one, two, _ = _pair(lattice, shift)
    for image in (one, two):
        image[100, 80:82] = image[30, 150] = image[31, 151] = 60000
    found = align(two, one)
    assert np.abs(found.shift + shift).max() < 0.5
    assert found.ok


def test_a_stack_is_judged_image_by_image() -> None:
    one, two, _ = _pair(lattice, (3.5, -2.5))
    noise = np.random.default_rng(8).poisson(5.0, one.shape).astype(np.float32)
    held = one + np.random.default_rng(9).poisson(4000, one.shape).astype(np.float32)
    gap = two.copy()
    gap[40:44] = np.nan
    stack = np.stack([two, noise, held, gap, two])
    together = align(stack, one)
    alone = [align(image, one) for image in stack]
    assert together.flags == tuple(a.flags[0] for a in alone)
    assert together.flags[0] == together.flags[3] == together.flags[4] == ()
    assert "insignificant" in together.flags[1]
    assert together.significance == pytest.approx([float(a.significance) for a in alone], rel=1e-4)


def test_a_halo_that_stands_still_is_named() -> None:
    shift = np.array((7.0, -5.0))
    one, two, _ = _pair(powder, shift)
    y, x = np.indices((SIDE, SIDE))
    halo = (4000 * np.exp(-((y - 95) ** 2 + (x - 95) ** 2) / 3000)).astype(np.float32)
    held = align(two + halo, one + halo)
    assert np.abs(held.shift).max() < 2
    assert "inconsistent" in held.flags[0]
    assert "subtract a background" in held.reasons[0]
    free = align(two + halo, one + halo, background=6.0)
    assert np.abs(free.shift + shift).max() < 0.5


def test_a_gain_pattern_that_stands_still_is_named() -> None:
    shift = np.array((8.0, 6.0))
    rng = np.random.default_rng(5)
    gain = 1 + 0.06 * rng.standard_normal((SIDE, SIDE))
    weak = [
        300 + 0.4 * powder(SIDE, (MIDDLE + a * 8, MIDDLE + a * 6), noise=False, blocked=False).clean for a in (0, 1)
    ]
    one, two = (rng.poisson(w * gain).astype(np.float32) for w in weak)
    found = align(two, one)
    assert np.abs(found.shift).max() < 1
    assert "inconsistent" in found.flags[0]
    even = [rng.poisson(w).astype(np.float32) for w in weak]
    assert np.abs(align(even[1], even[0]).shift + shift).max() < 0.5


def test_a_stream_has_the_same_flags() -> None:
    one, two, _ = _pair(powder, (2.0, 3.0))
    noise = np.random.default_rng(6).poisson(5.0, one.shape).astype(np.float32)
    together = align(np.stack([two, noise]), one)
    apart = list(ialign([two, noise], one, batch=1))
    assert [a.flags[0] for a in apart] == list(together.flags)
    assert [a.reasons[0] for a in apart] == list(together.reasons)


def _spots(seed: int, center: tuple[float, float], height: float = 150.0) -> np.ndarray:
    """A crystal with strengths and vectors of its own."""
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, np.pi)
    first, second = (rng.uniform(15, 21) * np.array((np.sin(a), np.cos(a))) for a in (angle, angle + 1.4))
    y, x = np.indices((SIDE, SIDE)).astype(float)
    clean = np.zeros((SIDE, SIDE))
    for h in range(-6, 7):
        for k in range(-6, 7):
            place = np.asarray(center) + h * first + k * second
            clean += height * rng.exponential() * np.exp(-((y - place[0]) ** 2 + (x - place[1]) ** 2) / 5)
    return clean


@pytest.mark.parametrize("seed", [0, 10, 20])
def test_two_crystals_under_one_bright_halo_do_not_belong_together(seed) -> None:
    rng = np.random.default_rng(seed)
    y, x = np.indices((SIDE, SIDE)) - MIDDLE
    halo = 10 + 900 * np.exp(-(np.hypot(y, x) ** 2) / (2 * 30**2))
    center = (MIDDLE, MIDDLE)
    images = [rng.poisson(halo + _spots(seed + k, center)).astype(np.float32) for k in (1, 2, 1)]
    other = align(images[1], images[0])
    assert "inconsistent" in other.flags[0]
    assert align(images[2], images[0]).ok


@pytest.mark.parametrize("kind", ["halo", "gain of pixels", "gain of rows", "nothing"])
def test_what_stands_still_is_named_however_short_the_movement(kind) -> None:
    shift = np.array((1.1, -0.8))
    rng = np.random.default_rng(7)
    still, gain = 60.0 * np.ones((SIDE, SIDE)), np.ones((SIDE, SIDE))
    if kind == "halo":
        y, x = np.indices((SIDE, SIDE)) - MIDDLE
        still = 3000 * np.exp(-(y**2 + x**2) / 3000)
    if kind.startswith("gain"):
        still *= 5
        gain = 1 + 0.08 * rng.standard_normal((SIDE, SIDE if "pixels" in kind else 1))
    one, two = (
        rng.poisson((still + 0.4 * powder(SIDE, MIDDLE + a * shift, noise=False, blocked=False).clean) * gain)
        for a in (0, 1)
    )
    found = align(two.astype(np.float32), one.astype(np.float32))
    if kind == "nothing":
        assert found.ok
        assert np.abs(found.shift + shift).max() < 0.1
    else:
        assert np.abs(found.shift + shift).max() > 0.5
        assert "inconsistent" in found.flags[0]


@pytest.mark.parametrize("seed", [0, 10, 20])
def test_a_fixed_lattice_that_is_twice_as_strong_is_noticed(seed) -> None:
    rng = np.random.default_rng(seed)
    fixed = 20 + _spots(seed + 5, (MIDDLE + 7, MIDDLE - 4), 300.0)
    moved = [fixed + _spots(seed + 1, (MIDDLE + a * 6.3, MIDDLE - a * 4.4)) for a in (0, 1)]
    one, two = (rng.poisson(clean).astype(np.float32) for clean in moved)
    assert not align(two, one).ok


@pytest.mark.parametrize("strength", [1.0, 2.0, 4.0])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_lattice_that_stands_still_and_is_stronger_is_named(seed, strength) -> None:
    rng = np.random.default_rng(seed)
    shift = np.array([(5.3, 2.1), (-4.2, 6.4), (0.4, -7.7)][seed - 1])
    still = 5 + strength * _spots(seed + 70, (MIDDLE - 9, MIDDLE + 6))
    one, two = (
        rng.poisson(still + _spots(seed, (MIDDLE + a * shift[0], MIDDLE + a * shift[1]))).astype(np.float32)
        for a in (0, 1)
    )
    found = align(two, one)
    assert np.abs(found.shift + shift).max() > 1 or not found.ok
    assert "inconsistent" in found.flags[0]
    alone = [
        rng.poisson(5 + _spots(seed, (MIDDLE + a * shift[0], MIDDLE + a * shift[1]))).astype(np.float32) for a in (0, 1)
    ]
    assert align(alone[1], alone[0]).ok


def test_spots_that_change_by_a_few_percent_have_not_moved() -> None:
    for seed in range(4):
        rng = np.random.default_rng(seed)
        shift = rng.uniform(-6, 6, 2)
        one, two = (
            _spots(seed, (MIDDLE + a * shift[0], MIDDLE + a * shift[1]))
            + 0.1 * a * _spots(seed, (MIDDLE + a * shift[0], MIDDLE + a * shift[1])) * rng.uniform(-1, 1)
            for a in (0, 1)
        )
        found = align(rng.poisson(two + 5).astype(np.float32), rng.poisson(one + 5).astype(np.float32))
        assert found.ok
        assert np.abs(found.shift + shift).max() < 0.2


def test_logarithms_of_true_pairs_are_significant() -> None:
    one, two, _ = _pair(lattice, (3.3, -5.8))
    images = [np.log1p(image) for image in (one, two)]
    found = align(np.rint(255 * images[1] / 12), np.rint(255 * images[0] / 12))
    assert found.ok
    assert np.abs(found.shift + np.array((3.3, -5.8))).max() < 0.1


@pytest.mark.parametrize("mean", [0.0005, 0.001, 0.01, 0.05, 0.3])
def test_single_electrons_are_no_hot_pixels(mean) -> None:
    image = np.random.default_rng(1).poisson(mean, (256, 256)).astype(np.uint16)
    np.testing.assert_array_equal(without_hot_pixels(image[None])[0], image)
    hot = image.copy()
    hot[[40, 100, 200], [50, 101, 30]] = 400, 60, 30
    cleaned = without_hot_pixels(hot[None])[0]
    assert cleaned[[40, 100, 200], [50, 101, 30]].max() <= 2
    assert np.count_nonzero(cleaned != image) <= 3
