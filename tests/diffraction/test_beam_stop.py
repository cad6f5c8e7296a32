"""Beam stops: found where they were drawn, and never on patterns without one."""

import numpy as np
import pytest
from scipy import ndimage

from stackalign import diffraction
from stackalign.crop import CroppingConfig, crop_array
from stackalign.errors import DataError, MaskError


def bar(shape, start, end, half, half_at_end=None) -> np.ndarray:
    """True within a trapezoid from one point to another."""
    y, x = np.indices(shape).astype(float)
    way = np.subtract(end, start)
    length = np.hypot(*way)
    along = ((y - start[0]) * way[0] + (x - start[1]) * way[1]) / length
    beside = np.abs((x - start[1]) * way[0] - (y - start[0]) * way[1]) / length
    half_at_end = half if half_at_end is None else half_at_end
    return (along <= length) & (beside <= half + (half_at_end - half) * along / length)


def disc(shape, center, radius) -> np.ndarray:
    y, x = np.indices(shape)
    return np.hypot(y - center[0], x - center[1]) <= radius


def radius_about(shape, center) -> np.ndarray:
    y, x = np.indices(shape).astype(float)
    return np.hypot(y - center[0], x - center[1])


def rings(shape, center, rng) -> np.ndarray:
    r = radius_about(shape, center)
    clean = 150 * np.exp(-r / 40) + 6
    for radius in (20, 45, 61, 90):
        clean += 70 * np.exp(-0.5 * ((r - radius) / 3) ** 2)
    return clean


def spots(shape, center, rng) -> np.ndarray:
    y, x = np.indices(shape).astype(float)
    clean = 80 * np.exp(-radius_about(shape, center) / 50) + 5
    for h in range(-9, 10):
        for k in range(-9, 10):
            at = center[0] + 19 * h + 4 * k, center[1] - 4 * h + 21 * k
            clean += rng.uniform(20, 500) * np.exp(-0.5 * ((y - at[0]) ** 2 + (x - at[1]) ** 2) / 1.6**2)
    return clean


def bright_disk(shape, center, rng) -> np.ndarray:
    return 200 / (1 + np.exp((radius_about(shape, center) - 70) / 2)) + 8


def overlapping_disks(shape, center, rng) -> np.ndarray:
    clean = np.full(shape, 2.0)
    for h in range(-3, 4):
        for k in range(-3, 4):
            clean += rng.uniform(20, 90) * disc(shape, (center[0] + 55 * h, center[1] + 55 * k), 23)
    return ndimage.gaussian_filter(clean, 1)


def bands(shape, center, rng) -> np.ndarray:
    y, x = np.indices(shape)
    clean = 60 + 100 * np.exp(-radius_about(shape, center) / 60)
    for angle, offset, half in ((0.3, 10, 6), (1.4, -25, 3), (2.2, 30, 9), (2.9, 0, 2)):
        away = (y - center[0]) * np.cos(angle) + (x - center[1]) * np.sin(angle) - offset
        clean *= 1 - 0.5 * (np.abs(away) < half)
    return ndimage.gaussian_filter(clean, 1)


def fringes(shape, center, rng) -> np.ndarray:
    y, x = np.indices(shape)
    inside = radius_about(shape, center) < 0.35 * min(shape)
    return 3 + inside * (25 * (1 + np.cos(0.12 * x + 0.07 * y)) + 40 * np.exp(-radius_about(shape, center) / 20))


def vignette(shape, center, rng) -> np.ndarray:
    return np.where(radius_about(shape, (shape[0] / 2, shape[1] / 2)) < 0.52 * max(shape), 40.0, 0.0)


def gaps_and_dead_lines(shape, center, rng) -> np.ndarray:
    clean = rings(shape, center, rng)
    clean[shape[0] // 2 - 2 : shape[0] // 2 + 2] = 0
    clean[:, shape[1] // 2 - 2 : shape[1] // 2 + 2] = 0
    clean[: shape[0] // 3, 40] = 0
    return clean


PATTERNS = {f.__name__: f for f in (rings, spots, bright_disk)}
OTHERS = (overlapping_disks, bands, fringes, vignette, gaps_and_dead_lines)
WITHOUT = PATTERNS | {f.__name__: f for f in OTHERS}
SHAPE, CENTER = (240, 256), (118.0, 131.0)
STOPS = {
    "bar from above": bar(SHAPE, (0, 120), (130, 131), 9),
    "bar that tapers, from a corner": bar(SHAPE, (0, 0), (122, 128), 12, 6),
    "needle from the right": bar(SHAPE, (90, 255), (119, 134), 3, 2),
    "disc on a stem from below": bar(SHAPE, (239, 100), CENTER, 3) | disc(SHAPE, CENTER, 14),
    "disc on a stem from the left": bar(SHAPE, (140, 0), CENTER, 4) | disc(SHAPE, CENTER, 12),
}


def seen(clean: np.ndarray, hidden: np.ndarray, seed: int, counts: float = 1.0) -> np.ndarray:
    """Counts behind a stop whose edge is a little soft, and which lets a hundredth through."""
    through = 1 - 0.99 * ndimage.gaussian_filter(hidden.astype(float), 0.7)
    return np.random.default_rng(seed).poisson(clean * through * counts)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("stop", STOPS)
def test_found_where_it_is(pattern, stop) -> None:
    """Nothing is masked that is farther than 3 pixels, and next to nothing of the shadow is left."""
    hidden = STOPS[stop]
    clean = PATTERNS[pattern](SHAPE, CENTER, np.random.default_rng(1))
    valid = diffraction.find_beam_stop(seen(clean, hidden, 2, 4.0), margin=0)
    assert (~valid)[hidden].mean() > 0.9
    assert ndimage.distance_transform_edt(~hidden)[~valid].max() <= 3.0
    wider = diffraction.find_beam_stop(seen(clean, hidden, 2, 4.0), margin=3)
    assert (~wider)[~valid].all()
    assert (~wider).sum() > (~valid).sum()


@pytest.mark.parametrize("counts", [0.02, 0.3, 30.0])
@pytest.mark.parametrize("pattern", WITHOUT)
def test_nothing_is_found_without_one(pattern, counts) -> None:
    rng = np.random.default_rng(4)
    for shape in ((240, 256), (128, 128), (96, 300)):
        center = np.array(shape) * rng.uniform(0.35, 0.65, 2)
        image = rng.poisson(WITHOUT[pattern](shape, center, rng) * counts).astype(float)
        image[rng.integers(0, shape[0], 9), rng.integers(0, shape[1], 9)] += 5e4  # hot pixels
        assert diffraction.find_beam_stop(image).all(), shape


@pytest.mark.parametrize("fill", [0.0, np.nan, 65535.0])
def test_gaps_that_are_known_do_not_matter(fill) -> None:
    hidden = STOPS["bar from above"]
    image = seen(rings(SHAPE, CENTER, None), hidden, 5, 4.0).astype(float)
    mask = np.ones(SHAPE, np.bool_)
    mask[60:64], mask[:, 126:130] = False, False
    image[~mask] = fill
    valid = diffraction.find_beam_stop(image, mask=mask, margin=0)
    assert (~valid)[hidden].mean() > 0.9
    assert ndimage.distance_transform_edt(~hidden)[~valid].max() <= 3.0


@pytest.mark.parametrize("image", [np.zeros((64, 64)), np.full((64, 64), np.nan), np.ones((8, 2000)), np.eye(64)])
def test_images_without_anything(image) -> None:
    assert diffraction.find_beam_stop(image).all()


def test_bad_input_is_refused() -> None:
    image = np.ones((64, 64))
    with pytest.raises(DataError, match="mean of a stack"):
        diffraction.find_beam_stop(image[None])
    with pytest.raises(TypeError, match="real numbers"):
        diffraction.find_beam_stop(image * 1j)
    with pytest.raises(ValueError, match="margin"):
        diffraction.find_beam_stop(image, margin=-1)
    with pytest.raises(MaskError, match="shape"):
        diffraction.find_beam_stop(image, mask=np.ones((3, 3), np.bool_))


def test_from_a_stream_of_faint_patterns() -> None:
    """No single pattern shows it; the mean over the stream does, with hot pixels and a gap at the type's top."""
    hidden = STOPS["disc on a stem from below"]
    clean = rings(SHAPE, CENTER, None)
    images = np.stack([seen(clean, hidden, k, 0.02) for k in range(200)]).astype(np.uint16)
    images[:, 30:33] = 65535
    images[:, 200, 7] = 900
    stopped = diffraction.mask_from_collection(images, limits=None, detect=True, beam_stop=True, device="cpu")
    plain = diffraction.mask_from_collection(images, limits=None, detect=True, device="cpu")
    shadow = plain.mask & ~stopped.mask
    assert shadow[hidden].mean() > 0.9
    assert ndimage.distance_transform_edt(~hidden)[shadow].max() <= 5.0  # with the margin
    assert stopped.counts["beam_stop"] >= shadow.sum()
    assert stopped.provenance["parameters"]["beam_stop"] is True
    assert "beam_stop" not in plain.counts


def test_a_crop_says_so_and_leaves_it_out() -> None:
    hidden = bar((96, 96), (0, 50), (52, 48), 4)
    y, x = np.indices((96, 96))
    clean = 60 * np.exp(-((y - 47) ** 2 + (x - 48) ** 2) / 400) + 4
    scan = np.stack([seen(clean, hidden, k) for k in range(16)]).astype(np.uint16)
    config = CroppingConfig(visualization=False, verbose=False)
    assert not any("detector faults" in words for words in crop_array(scan, config)[1].analysis.notes)
    said = crop_array(scan, config)[1].analysis.notes
    assert any("a beam stop hides" in words and "--mask auto" in words for words in said), said
    masked = crop_array(scan, config, mask="auto")[1]
    assert "behind a beam stop" in masked.analysis.notes[0]
    assert not any("beam stop hides" in words for words in masked.analysis.notes)
    clear = np.random.default_rng(0).poisson(clean, (16, 96, 96)).astype(np.uint16)
    assert not any("beam stop" in words for words in crop_array(clear, config)[1].analysis.notes)


@pytest.mark.parametrize(
    ("name", "inside", "around"),
    [
        # Rectangles that were read off the pictures: all within the first is hidden, all beyond the second is not.
        ("Cr_1.tif", np.s_[100:1050, 1080:1125], np.s_[0:1180, 960:1240]),
        ("Cr_2.tif", np.s_[100:1050, 1080:1125], np.s_[0:1180, 960:1240]),
        ("bismuth.dm4", np.s_[10:145, 97:103], np.s_[0:160, 84:116]),
        ("graphite.tif", np.s_[500:1200, 985:1050], np.s_[0:1300, 860:1200]),
        ("hotspots.tif", np.s_[10:200, 40:52], np.s_[0:216, 22:70]),
    ],
)
def test_real_patterns(shared_data, name, inside, around) -> None:
    image = np.squeeze(np.asarray(diffraction.diffread(shared_data / "diffraction" / name), np.float64))
    valid = diffraction.find_beam_stop(image)
    assert not valid[inside].any()
    beyond = np.ones(valid.shape, np.bool_)
    beyond[around] = False
    if name == "graphite.tif":
        beyond[1050:, 430:490] = False  # dark columns from below, which end within the frame
    assert valid[beyond].all()
