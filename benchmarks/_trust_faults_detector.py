"""Faults of detectors, fields of view and noise in pairs of images; `_trust_faults.FAULTS` has their names."""

import numpy as np
from scipy.ndimage import gaussian_filter, zoom

from _trust_view import Pair, View


def saturated(v: View, images: Pair) -> Pair:
    return images[0], np.minimum(images[1], np.quantile(images[1], v.rng.uniform(0.4, 0.9)))


def both_saturated(v: View, images: Pair) -> Pair:
    share = v.rng.uniform(0.4, 0.9)
    return np.minimum(images[0], np.quantile(images[0], share)), np.minimum(images[1], np.quantile(images[1], share))


def gain_pattern(v: View, images: Pair) -> Pair:
    gain = 1 + v.rng.uniform(0.02, 0.3) * v.rng.normal(size=v.shape)
    return tuple((image - image.min()) * gain for image in images)  # type: ignore[return-value]


def smooth_gain(v: View, images: Pair) -> Pair:
    """An uneven, structured gain of several pixels that stands still, as of a scintillator or a fibre bundle."""
    gain = gaussian_filter(v.rng.normal(size=v.shape), v.rng.uniform(1.0, 4.0))
    gain = 1 + v.rng.uniform(0.05, 0.3) * gain / gain.std()
    return tuple((image - image.min()) * gain for image in images)  # type: ignore[return-value]


def column_gain(v: View, images: Pair) -> Pair:
    gain = 1 + v.rng.uniform(0.05, 0.3) * v.rng.normal(size=v.shape[1])
    return tuple((image - image.min()) * gain for image in images)  # type: ignore[return-value]


def dead_columns(v: View, images: Pair) -> Pair:
    dead = v.rng.random(v.shape[1]) < v.rng.uniform(0.01, 0.1)
    level = images[0].min() - v.rng.uniform(0, 3)
    return tuple(np.where(dead[None, :], level, image) for image in images)  # type: ignore[return-value]


def hot_pixels(v: View, images: Pair) -> Pair:
    hot = v.rng.random(v.shape) < 10 ** v.rng.uniform(-4, -2)
    level = 10 ** v.rng.uniform(0.5, 2) * v.rng.uniform(0.5, 1.5, v.shape)
    return tuple(image + hot * level for image in images)  # type: ignore[return-value]


def hot_clusters(v: View, images: Pair) -> Pair:
    """Faults of several pixels that stand still: dust, scratches, blooming."""
    spots = gaussian_filter((v.rng.random(v.shape) < 0.002).astype(float), v.rng.uniform(0.8, 2.0))
    still = v.rng.choice([-1, 1]) * v.rng.uniform(1.0, 8.0) * spots / max(float(spots.max()), 1e-12)
    return tuple(image + still for image in images)  # type: ignore[return-value]


def background(v: View, images: Pair) -> Pair:
    """Smooth light that stands still, several times the scene's contrast."""
    light = gaussian_filter(v.rng.normal(size=v.shape), min(v.shape) / v.rng.uniform(4, 10), mode="nearest")
    still = v.rng.uniform(1.0, 6.0) * light / light.std()
    return tuple(image + still for image in images)  # type: ignore[return-value]


def stamped(v: View, images: Pair) -> Pair:
    """Characters of a time stamp or a scale bar in one corner, which stand still."""
    height, width = (max(8, n // 8) for n in v.shape)
    stamp = zoom((v.rng.random((3, width // 3 + 1)) < 0.5).astype(float), (height / 3, 3), order=0)[:height, :width]
    level = v.rng.uniform(2, 8)
    out = []
    for image in images:
        image = image.copy()
        corner = image[-stamp.shape[0] :, : stamp.shape[1]]
        corner[...] = np.where(stamp > 0, image.mean() + level, corner)
        out.append(image)
    return out[0], out[1]


def row_noise(v: View, images: Pair) -> Pair:
    size = v.rng.uniform(0.1, 0.6)
    return tuple(image + size * v.rng.normal(size=(v.shape[0], 1)) for image in images)  # type: ignore[return-value]


def pink_noise(v: View, images: Pair) -> Pair:
    size = v.rng.uniform(0.1, 0.5)
    noises = [gaussian_filter(v.rng.normal(size=v.shape), v.rng.uniform(1.0, 4.0)) for _ in images]
    return tuple(i + size * n / n.std() for i, n in zip(images, noises, strict=True))  # type: ignore[return-value]


def partly_outside(v: View, images: Pair) -> Pair:
    """Beyond the moving image's field of view its frame is filled with one value."""
    moving = images[1].copy()
    axis, share = int(v.rng.integers(2)), v.rng.uniform(0.1, 0.4)
    n = int(share * v.shape[axis])
    rows = np.moveaxis(moving, axis, 0)
    rows[slice(0, n) if v.rng.random() < 0.5 else slice(-n, None)] = v.rng.choice([0.0, moving.min() - 2.0])
    return images[0], moving


def framed(v: View, images: Pair) -> Pair:
    """Both images have a frame of one value, which stands still."""
    n = int(v.rng.uniform(0.04, 0.15) * min(v.shape))
    level = images[0].min() - v.rng.uniform(0.0, 3.0)
    return tuple(np.pad(image[n:-n, n:-n], n, constant_values=level) for image in images)  # type: ignore[return-value]


def round_field(v: View, images: Pair) -> Pair:
    """Both images are seen through a round aperture that stands still."""
    seen = np.hypot(*v.unit) < v.rng.uniform(0.7, 1.0)
    level = images[0].min() - v.rng.uniform(0.0, 2.0)
    return tuple(np.where(seen, image, level) for image in images)  # type: ignore[return-value]


def coarse_pixels(v: View, images: Pair) -> Pair:
    """The moving image was taken with pixels of twice or three times the size, and brought to the reference's grid."""
    factor = int(v.rng.integers(2, 4))
    height, width = (n - n % factor for n in v.shape)
    moving = images[1].copy()
    binned = moving[:height, :width].reshape(height // factor, factor, width // factor, factor).mean(axis=(1, 3))
    moving[:height, :width] = binned.repeat(factor, axis=0).repeat(factor, axis=1)
    return images[0], moving
