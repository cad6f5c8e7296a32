"""The reference backend against the definitions of its results, computed another way: correctly rounded sums.

Every other backend is compared with the reference, so this is what the reference itself is compared with.
"""

import math
from typing import Any

import numpy as np

from stackalign.backends._protocol import FAR

__all__ = ["DEFINITIONS"]

NEAR = 1e-12
"""Relative to the sum of magnitudes, for float64 sums in a fixed order against correctly rounded ones."""


def _used(patterns: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    return np.isfinite(patterns) & (True if mask is None else mask)


def _sum(values: np.ndarray) -> float | int:
    """The sum, exact for integers and correctly rounded for floats."""
    return math.fsum(values.tolist()) if values.dtype.kind == "f" else sum(values.tolist())


def _squares(shape: tuple[int, int], center: np.ndarray) -> np.ndarray:
    y, x = np.indices(shape)
    return (y - center[0]) ** 2 + (x - center[1]) ** 2


def _close(found: float, wanted: float, magnitude: float) -> None:
    assert abs(found - wanted) <= NEAR * magnitude, (found, wanted)


def _check_radius(values: np.ndarray, r2: np.ndarray, fraction: float, radius: int) -> None:
    """The radius is the first one that reaches the fraction, or the last one where none does."""
    wanted = fraction * float(_sum(values))

    def reaches(i: int) -> bool:
        return float(_sum(values[r2 <= i * i])) >= wanted

    # Sums of values that are not negative grow with the radius: the one before decides for all.
    smaller = range(max(0, radius - 1), radius) if (values >= 0).all() else range(radius)
    assert not any(reaches(i) for i in smaller)
    if not reaches(radius):
        assert r2.max() <= radius**2
        assert r2.max() > (radius - 1) ** 2


def _summary(found: dict[str, np.ndarray], inputs: dict[str, Any]) -> None:
    patterns, centers, fractions = inputs["patterns"], inputs["centers"], inputs["fractions"]
    shape = patterns.shape[1:]
    y, x = np.indices(shape)
    for k, (pattern, used) in enumerate(zip(patterns, _used(patterns, inputs["mask"]), strict=True)):
        values = pattern[used]
        total, magnitude = _sum(values), float(np.abs(values.astype(np.float64)).sum())
        if values.dtype.kind == "f":
            _close(found["total"][k], total, magnitude)
        else:
            assert found["total"][k] == total
        assert found["n_valid"][k] == values.size
        extrema = (values.min(), values.max()) if values.size else (np.nan, np.nan)
        np.testing.assert_array_equal((found["minimum"][k], found["maximum"][k]), extrema)
        center = found["centers"][k]
        if centers is not None:
            np.testing.assert_array_equal(center, centers[k])
        elif total == 0:
            np.testing.assert_array_equal(center, [(n - 1) / 2 for n in shape])
        else:
            for c, position in zip(center, (y[used], x[used]), strict=True):
                moments = position * values.astype(np.float64)
                scale = (np.abs(moments).sum() + abs(c) * magnitude) / abs(total)
                _close(c, math.fsum(moments.tolist()) / total, scale)
        if np.abs(center).max() > FAR:
            assert (found["radii"][k] == -1).all()
            continue
        for fraction, radius in zip(fractions, found["radii"][k].tolist(), strict=True):
            if values.size:
                _check_radius(values, _squares(shape, center)[used], fraction, radius)
            else:
                assert radius == 0


def _cumulative(found: dict[str, np.ndarray], inputs: dict[str, Any]) -> None:
    patterns, n = inputs["patterns"], inputs["n_radii"]
    used = _used(patterns, inputs["mask"])
    for k, pattern in enumerate(patterns):
        values, r2 = pattern[used[k]], _squares(pattern.shape, inputs["centers"][k])[used[k]]
        wanted = [_sum(values[r2 <= i * i]) for i in range(n)]
        magnitude = float(np.abs(values.astype(np.float64)).sum())
        np.testing.assert_allclose(found["cumulative"][k], wanted, rtol=0, atol=NEAR * magnitude)


def _windows(found: dict[str, np.ndarray], inputs: dict[str, Any]) -> None:
    patterns, (height, width) = inputs["patterns"], inputs["shape"]
    used = np.broadcast_to(_used(patterns, inputs["mask"]), patterns.shape)
    for k, (y0, x0) in enumerate(inputs["corners"].tolist()):
        kept = []
        for (i, j), pixel in np.ndenumerate(found["windows"][k]):
            y, x = y0 + i, x0 + j
            if 0 <= y < patterns.shape[1] and 0 <= x < patterns.shape[2]:
                np.testing.assert_equal(pixel, patterns[k, y, x])
                kept.append(patterns[k, y, x] if used[k, y, x] else patterns.dtype.type(0))
            else:
                assert pixel == 0
        values = np.array(kept, patterns.dtype)
        _close(found["sums"][k], _sum(values), float(np.abs(values.astype(np.float64)).sum()))
    assert found["windows"].shape == (len(patterns), height, width)


def _statistics(found: dict[str, np.ndarray], inputs: dict[str, Any]) -> None:
    stack = inputs["stack"]
    used = np.broadcast_to(_used(stack, inputs["mask"]), stack.shape)
    for at in np.ndindex(stack.shape[1:]):
        values = stack[(slice(None), *at)][used[(slice(None), *at)]].astype(np.float64)
        n = values.size
        mean = math.fsum(values.tolist()) / n if n else 0.0
        extrema = (values.min(), values.max()) if n else (np.nan, np.nan)
        assert found["count"][at] == n
        np.testing.assert_array_equal((found["minimum"][at], found["maximum"][at]), extrema)
        _close(found["mean"][at], mean, float(np.abs(values).sum()))
        m2 = math.fsum(((values - mean) ** 2).tolist())
        # The mean is rounded, and each deviation from it misses by as much.
        rounding = n * (2.0**-52 * max(np.abs(values), default=0.0)) ** 2
        assert abs(found["m2"][at] - m2) <= NEAR * m2 + 4 * rounding


def _bins(found: dict[str, np.ndarray], inputs: dict[str, Any]) -> None:
    images, (fy, fx) = inputs["images"], inputs["factors"]
    used = np.broadcast_to(_used(images, inputs["mask"]), images.shape)
    assert found["means"].dtype == (np.float64 if images.dtype == np.float64 else np.float32)
    assert found["means"].shape == (len(images), images.shape[1] // fy, images.shape[2] // fx)
    for (n, y, x), mean in np.ndenumerate(found["means"]):
        block = n, slice(y * fy, y * fy + fy), slice(x * fx, x * fx + fx)
        values = images[block][used[block]].astype(np.float64)
        assert found["counts"][n, y, x] == values.size
        if values.size:
            rounding = np.finfo(found["means"].dtype).eps + values.size * np.finfo(np.float64).eps
            wanted = math.fsum(values.tolist()) / values.size
            assert abs(mean - wanted) <= rounding * np.abs(values).max()
        else:
            assert np.isnan(mean)


def _bin_sums(found: dict[str, np.ndarray], inputs: dict[str, Any]) -> None:
    images, table = inputs["images"], inputs["table"]
    used = np.broadcast_to(_used(images, inputs["mask"]), images.shape).reshape(len(images), -1)
    values = images.reshape(len(images), -1).astype(np.float64)
    weights = np.ones(table.labels.shape) if table.weights is None else table.weights.astype(np.float64)
    if values.size > 20000:  # one sum at a time takes long
        return
    for n, b in np.ndindex(found["bin_weight"].shape):
        pixel, entry = np.nonzero(table.labels == b)
        w, v = (a[used[n, pixel]] for a in (weights[pixel, entry], values[n, pixel]))
        total = math.fsum(w.tolist())
        assert found["bin_weight"][n, b] == total
        if total == 0:
            assert np.isnan(found["bin_mean"][n, b])
            assert found["bin_m2"][n, b] == 0
            continue
        mean = math.fsum((w * v).tolist()) / total
        largest = np.abs(v).max()
        assert abs(found["bin_mean"][n, b] - mean) <= NEAR * largest
        m2 = math.fsum((w * (v - mean) ** 2).tolist())
        assert abs(found["bin_m2"][n, b] - m2) <= NEAR * m2 + total * (2.0**-44 * largest) ** 2


DEFINITIONS = {
    "bin_sums": _bin_sums,
    "bin_mean": _bins,
    "pattern_summary": _summary,
    "radial_cumulative": _cumulative,
    "crop_windows": _windows,
    "stack_statistics": _statistics,
}
"""Operation to a function that checks (results, inputs)."""
