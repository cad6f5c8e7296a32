"""Centres are right or flagged: the direct beam, windows on rings, and what has a centre only by chance."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from stackalign.diffraction import autocenter
from stackalign.diffraction._center_beam import _blurred
from stackalign.diffraction._center_sectors import agreement
from stackalign.diffraction._center_smooth import uneven

SIDE = 192
RINGS = ((22.0, 180.0), (37.0, 90.0), (48.0, 70.0), (63.0, 45.0))


def _away(center) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.indices((SIDE, SIDE)).astype(float)
    return y - center[0], x - center[1]


def _rings(center, seed: int) -> np.ndarray:
    r = np.hypot(*_away(center))
    clean = 90 * np.exp(-r / 25) + 8
    clean += sum(h * np.exp(-0.5 * ((r - q) / 1.4) ** 2) for q, h in RINGS)
    return np.random.default_rng(seed).poisson(clean).astype(np.float32)


def _disks(center, seed: int, radius: float, ratio: float) -> np.ndarray:
    """Disks on a lattice, none of which has a partner; the strongest has a share of the direct one's height."""
    rng = np.random.default_rng(seed)
    clean = np.full((SIDE, SIDE), 0.4)
    for h in range(-5, 6):
        for k in range(-5, 6):
            d = h * np.array((29.0, -6.0)) + k * np.array((8.0, 31.0))
            height = 200.0 if h == k == 0 else 200 * ratio * rng.random() ** 2 * np.exp(-((np.hypot(*d) / 110) ** 2))
            away = np.hypot(*_away(np.asarray(center) + d))
            clean += height / (1 + np.exp(np.clip((away - radius) / 0.6, -50, 50)))
    return rng.poisson(clean).astype(np.uint16)


@pytest.mark.parametrize(("radius", "seed"), [(1.5, 0), (5.0, 1), (7.0, 2)])
def test_the_brightest_disk_is_the_beam(radius, seed) -> None:
    center = (101.3, 88.8)
    found = autocenter(_disks(center, seed, radius, 0.4))
    assert found.kind == ("beam",)
    assert found.ok
    error = np.hypot(*(found.center - center))
    assert error < 0.2
    assert error < 4 * float(found.sigma) < 2.0


@pytest.mark.parametrize("seed", [0, 1])
def test_the_rest_need_not_be_round_about_a_beam_that_is_far_brighter(seed) -> None:
    """Few weak spots on one side, and a bright edge of a grid: nothing of them is round about the beam."""
    rng = np.random.default_rng(seed)
    center = np.array((88.4, 104.6))
    y, x = np.indices((SIDE, SIDE)).astype(float)
    clean = np.full((SIDE, SIDE), 2.0) + 2.0 / (1 + np.exp(-(x + 0.4 * y - 190) / 3))
    for place in center + rng.uniform(-70, 70, (7, 2)):
        clean += rng.uniform(5, 30) * np.exp(-((y - place[0]) ** 2 + (x - place[1]) ** 2) / 8)
    clean += 150 / (1 + np.exp(np.clip((np.hypot(*_away(center)) - 4.0) / 0.5, -40, 40)))
    found = autocenter(rng.poisson(clean).astype(np.uint16))
    assert found.ok
    assert np.hypot(*(found.center - center)) < 0.3


def test_a_bright_smooth_hump_is_no_beam() -> None:
    """Far brighter than any spot and round by itself, but without an outline, and off the rings' centre."""
    rng = np.random.default_rng(4)
    center = np.array((101.3, 88.8))
    y, x = np.indices((SIDE, SIDE)).astype(float)
    clean = 3 + 150 * np.exp(-((y - 70) ** 2 + (x - 120) ** 2) / (2 * 14**2))
    for place in center + rng.uniform(-80, 80, (9, 2)):
        clean += rng.uniform(5, 30) * np.exp(-((y - place[0]) ** 2 + (x - place[1]) ** 2) / 8)
    assert not autocenter(rng.poisson(clean).astype(np.uint16)).ok


def test_rings_of_a_texture_are_believed() -> None:
    rng = np.random.default_rng(5)
    center = (95.4, 101.7)
    angle, r = np.arctan2(*_away(center)), np.hypot(*_away(center))
    clean = 60 * np.exp(-r / 25) + 4
    for k, (radius, height) in enumerate(RINGS):
        clean += height * (1 + 0.75 * np.cos(2 * angle + k)) * np.exp(-0.5 * ((r - radius) / 1.4) ** 2)
    found = autocenter(rng.poisson(clean).astype(np.float32))
    assert found.kind == ("rings",)
    assert found.ok
    assert np.hypot(*(found.center - center)) < 0.3


def test_of_two_disks_as_bright_none_is_known_to_be_the_beam() -> None:
    image = _disks((101.3, 88.8), 1, 5.0, 0.4)
    second = _disks((130.3, 82.8), 1, 5.0, 0.4)  # The whole pattern again, moved by a lattice vector.
    found = autocenter(np.maximum(image, second))
    assert found.flags == (("uncertain",),)
    assert float(found.sigma) > 5
    assert "times as strong" in found.reasons[0]
    assert "State the centre" in found.reasons[0]


def test_the_beam_stands_out_of_many_disks_that_are_alike() -> None:
    center = np.array((101.3, 88.8))
    rng = np.random.default_rng(7)
    clean = np.full((SIDE, SIDE), 0.4)
    for h in range(-3, 4):
        for k in range(-3, 4):
            height = 200.0 if h == k == 0 else rng.uniform(60, 118)
            place = center + h * np.array((29.0, -6.0)) + k * np.array((8.0, 31.0))
            clean += height / (1 + np.exp(np.clip((np.hypot(*_away(place)) - 6.0) / 0.6, -50, 50)))
    found = autocenter(rng.poisson(clean).astype(np.uint16))
    assert found.ok
    assert np.hypot(*(found.center - center)) < 0.3


def test_two_hot_pixels_that_touch_are_not_the_beam() -> None:
    center = (101.3, 88.8)
    image = _disks(center, 3, 3.0, 0.4)
    image[40, 150] = image[41, 151] = 60000
    found = autocenter(image)
    assert not found.ok or np.hypot(*(found.center - center)) < 0.5
    assert np.hypot(*(found.center - (40, 150))) > 20


def test_a_hot_pixel_is_not_the_beam() -> None:
    center = (101.3, 88.8)
    image = _disks(center, 3, 5.0, 0.4)
    image[40, 150] = 60000
    found = autocenter(image)
    assert not found.ok or np.hypot(*(found.center - center)) < 0.5
    assert np.hypot(*(found.center - (40, 150))) > 20


def test_a_window_on_rings_gives_their_centre_with_its_error() -> None:
    center = (95.4, 101.7)
    mask = np.zeros((SIDE, SIDE), bool)
    mask[12:90, 10:100] = True
    found = autocenter(_rings(center, 0), mask=mask)
    error = np.hypot(*(found.center - center))
    assert found.ok
    assert error < 1.5
    assert error < 4 * float(found.sigma)


@pytest.mark.filterwarnings("ignore::stackalign.errors.MaskWarning")
def test_a_narrow_window_on_rings_is_flagged() -> None:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[20:50, 20:50] = True
    found = autocenter(_rings((95.4, 101.7), 0), mask=mask)
    assert found.flags == (("uncertain",),)
    assert float(found.sigma) > 5


def test_full_rings_have_a_small_error() -> None:
    center = (95.4, 101.7)
    found = autocenter(_rings(center, 1))
    assert found.ok
    assert found.reasons == ("",)
    assert np.hypot(*(found.center - center)) < 4 * float(found.sigma) < 0.4


def test_rings_off_the_detector_are_found_or_flagged() -> None:
    for row in (-6.0, -30.0):
        center = (row, 80.0)
        found = autocenter(_rings(center, 2))
        assert np.hypot(*(found.center - center)) < 1 if found.ok else float(found.sigma) > 1


def test_sectors_of_rings_predict_each_other_and_those_of_spots_do_not() -> None:
    center = np.array((95.4, 101.7))
    valid = np.ones((SIDE, SIDE), bool)
    rings = agreement(_rings(center, 3), valid, center)
    assert rings.coherence > 0.95
    spots = np.random.default_rng(0).poisson(5.0, (SIDE, SIDE)).astype(np.float32)
    places = np.random.default_rng(1).integers(5, SIDE - 5, (25, 2))
    for y, x in places:
        spots[y - 1 : y + 2, x - 1 : x + 2] += 300
    assert agreement(spots - spots.mean(), valid, center).coherence < 0.5


def test_a_quarter_of_rings_is_climbed_although_the_profile_follows() -> None:
    """The profile of a quadrant about a wrong centre is as sharp as the right one; only its sectors tell."""
    center = (60.3, 70.8)
    dy, dx = _away(center)
    found = autocenter(_rings(center, 4), mask=(dy > 6) & (dx > 6))
    assert np.hypot(*(found.center - center)) < 4 * float(found.sigma) + 0.05
    assert float(found.sigma) < 1.5


def test_thin_strips() -> None:
    for shape in ((8, 700), (900, 9)):
        found = autocenter(np.random.default_rng(0).random(shape))
        assert found.flags == (("uncertain",),)


def test_a_real_beam_among_spots(stem_data) -> None:
    from stackalign.diffraction import diffread

    images = diffread(stem_data / "blockfile" / "test1.blo").images
    found = autocenter(images[:2])
    assert np.abs(found.center - (72, 73)).max() < 1
    assert found.ok


@pytest.mark.parametrize(("shape", "sigma"), [((64, 41), 2.0), ((64, 41), 3.5), ((20, 90), 12.0)])
def test_wide_gaussians_by_products_are_those_of_filters(shape, sigma) -> None:
    image = np.random.default_rng(0).random(shape).astype(np.float32)
    assert np.allclose(_blurred(image, sigma), gaussian_filter(image, sigma, mode="constant"), atol=1e-6)


def test_clean_rings_of_a_large_frame_have_their_centre() -> None:
    y, x = np.indices((400, 360)).astype(float)
    center = np.array((171.37, 203.81))
    r = np.hypot(y - center[0], x - center[1])
    clean = 500 * np.exp(-r / 60) + sum(h * np.exp(-0.5 * ((r - q) / 4.0) ** 2) for q, h in RINGS)
    found = autocenter(clean.astype(np.float32))
    assert np.abs(found.center - center).max() < 0.02
    assert found.ok


@pytest.mark.parametrize("kind", ["rings", "beam"])
def test_images_of_a_scan_are_looked_at_near_its_centres_and_not_held_there(kind, monkeypatch) -> None:
    centers = np.array([(95.0 + 0.3 * k, 99.0 - 0.2 * k) for k in range(6)])
    centers[3] += (14.0, -11.0)
    if kind == "rings":
        images = np.array([_rings(c, k) for k, c in enumerate(centers)])
    else:
        images = np.array([_disks(c, 4, 4.0, 0.3) for c in centers])
    images[5] = np.random.default_rng(0).poisson(20.0, images[5].shape)
    guide = autocenter(images[[0, 4]])
    assert set(guide.kind) == {kind}
    searched = []
    from stackalign.diffraction import center

    full = center.inversions_of
    monkeypatch.setattr(center, "inversions_of", lambda *given: searched.append(1) or full(*given))
    found = autocenter(images, guide=guide)
    assert len(searched) == 2  # The one that has moved away, and the one without a pattern.
    assert [bool(flags) for flags in found.flags] == [False] * 5 + [True]
    assert np.abs(found.center - centers)[:5].max() < 0.3
    assert (np.abs(found.center - centers)[:5] < 4 * found.sigma[:5, None]).all()


def test_a_narrow_window_on_clean_rings_leaves_a_direction_open() -> None:
    """A gain that hides the noise makes the image a function of the distance, about many centres."""
    center = (95.4, 101.7)
    for low, high in ((20, 60), (20, 90)):
        mask = np.zeros((SIDE, SIDE), bool)
        mask[low:high, 20:80] = True
        r = np.hypot(*_away(center))
        clean = 90 * np.exp(-r / 25) + sum(h * np.exp(-0.5 * ((r - q) / 1.4) ** 2) for q, h in RINGS)
        image = 100 + 40 * np.random.default_rng(0).poisson(20 * clean)
        found = autocenter(image.astype(np.float32), mask=mask)
        error = np.hypot(*(found.center - center))
        assert not found.ok or error < max(0.1, 4 * float(found.sigma))


def test_what_differs_on_a_ring_is_left_by_any_centre() -> None:
    """Noise of a tenth of the variance is told from rings by neighbours at the same distance, spots are too."""
    center = np.array([131.4, 120.7])
    radius = np.hypot(*(np.indices((256, 256)) - center[:, None, None]))
    rings = sum(np.exp(-((radius - r) ** 2) / (2 * 3.0**2)) for r in (30.0, 52.0, 75.0, 96.0))
    noise = np.sqrt(0.1 * rings.var()) * np.random.default_rng(3).standard_normal(rings.shape)
    valid = np.ones(rings.shape, bool)
    valid[100:140, :130] = False
    assert uneven(rings, valid, center + 0.7) < 0.01
    assert uneven(rings + noise + 1e7, valid, center) == pytest.approx(0.1 / 1.1, rel=0.1)
