"""Moments and radii of patterns."""

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from conformance._op import EXACT, SUM, Branch, Case, Field, Op, Sample, sum_of_pixels
from conformance.definitions import NEAR, assert_close, correct_sum, usable
from conformance.inputs import SHAPES, beside_a_radius, random_centers, random_mask, random_stack
from stackalign.backends._protocol import FAR, KERNEL_DTYPES

FRACTIONS = (0.98, 0.5, 1.0, 0.07)


def _summaries() -> Iterator[Case]:
    for dtype in KERNEL_DTYPES:
        floats = dtype.startswith("float")
        for shape in SHAPES:
            for kind in ("none", "shared", "each", "trivial"):

                def make(rng, shape=shape, kind=kind, dtype=dtype):
                    patterns = random_stack(rng, shape, dtype)
                    centers = None if kind in ("none", "each") else random_centers(rng, len(patterns), shape)
                    mask = random_mask(rng, len(patterns), shape, kind)
                    return {"patterns": patterns, "mask": mask, "centers": centers, "fractions": FRACTIONS}

                yield Case(f"{shape[0]}x{shape[1]}-mask_{kind}", dtype, make)
        if not dtype.startswith("u"):
            yield Case("negative", dtype, partial(_negative, dtype=dtype))
        if floats:
            yield Case("nan_and_inf", dtype, partial(_invalid, dtype=dtype))
            yield Case("nan_border", dtype, partial(_border, dtype=dtype))
            yield Case("dynamic_range", dtype, partial(_dynamic, dtype=dtype))
        else:
            yield Case("largest_value", dtype, partial(_largest, dtype=dtype))
        yield Case("single_counts", dtype, partial(_sparse, dtype=dtype))
        yield Case("beside_a_radius", dtype, partial(_beside, dtype=dtype))
        yield Case("no_fractions", dtype, partial(_no_fractions, dtype=dtype))


def _negative(rng, dtype):
    patterns = random_stack(rng, (13, 17), dtype, low=-30.0)
    patterns[2] = -patterns[2]
    centers = None if dtype == "int16" else np.tile([6.0, 8.25], (len(patterns), 1))
    return {"patterns": patterns, "mask": None, "centers": centers, "fractions": FRACTIONS}


def _invalid(rng, dtype):
    patterns = random_stack(rng, (13, 17), dtype)
    patterns[2, 3, 4] = np.nan
    patterns[3, 0] = np.inf
    patterns[4] = -np.inf
    patterns[5, :, ::2] = np.nan
    return {"patterns": patterns, "mask": None, "centers": None, "fractions": FRACTIONS}


def _border(rng, dtype):
    patterns = random_stack(rng, (14, 16), dtype)
    patterns[:, [0, -1]] = np.nan
    patterns[:, :, [0, -1]] = np.nan
    mask = random_mask(rng, len(patterns), (14, 16), "shared")
    centers = np.tile([0.0, 15.0], (len(patterns), 1))
    return {"patterns": patterns, "mask": mask, "centers": centers, "fractions": FRACTIONS}


def _dynamic(rng, dtype):
    patterns = (10.0 ** rng.uniform(-20, 20, (6, 19, 23))).astype(dtype)
    patterns[0] = 0.1  # every comparison is a tie or nearly one
    return {"patterns": patterns, "mask": None, "centers": None, "fractions": FRACTIONS}


def _largest(rng, dtype):
    patterns = np.full((2, 33, 35), np.iinfo(dtype).max, dtype)
    return {"patterns": patterns, "mask": None, "centers": None, "fractions": FRACTIONS}


def _sparse(rng, dtype):
    patterns = (rng.random((6, 24, 24)) < 0.02).astype(dtype)
    return {"patterns": patterns, "mask": None, "centers": None, "fractions": FRACTIONS}


def _beside(rng, dtype):
    patterns, centers = beside_a_radius(dtype)
    return {"patterns": patterns, "mask": None, "centers": centers, "fractions": FRACTIONS}


def _no_fractions(rng, dtype):
    patterns = random_stack(rng, (9, 10), dtype)
    return {"patterns": patterns, "mask": None, "centers": None, "fractions": ()}


def _cumulative() -> Iterator[Case]:
    for dtype in KERNEL_DTYPES:
        for shape in [(1, 1), (3, 5), (37, 41), (20, 300)]:
            for kind in ("none", "shared", "each"):

                def cumulative(rng, shape=shape, kind=kind, dtype=dtype):
                    patterns = random_stack(rng, shape, dtype, low=0.0 if dtype.startswith("u") else -5.0)
                    if dtype.startswith("float"):
                        patterns[3, 0, 0] = np.nan
                    # Without the far one, which has no rings.
                    centers = np.delete(
                        random_centers(rng, len(patterns) + 1, shape), 3, axis=0
                    )  # a far one has no rings
                    mask = random_mask(rng, len(patterns), shape, kind)
                    return {"patterns": patterns, "mask": mask, "centers": centers, "n_radii": shape[1] + 3}

                yield Case(f"{shape[0]}x{shape[1]}-mask_{kind}", dtype, cumulative)

        def beside(rng, dtype=dtype):
            patterns, centers = beside_a_radius(dtype)
            return {"patterns": patterns, "mask": None, "centers": centers, "n_radii": 23}

        yield Case("beside_a_radius", dtype, beside)


def _squares(shape: tuple[int, int], center: np.ndarray) -> np.ndarray:
    y, x = np.indices(shape)
    return (y - center[0]) ** 2 + (x - center[1]) ** 2


def _check_radius(values: np.ndarray, r2: np.ndarray, fraction: float, radius: int) -> None:
    """The radius is the first one that reaches the fraction, or the last one where none does."""
    wanted = fraction * float(correct_sum(values))

    def reaches(i: int) -> bool:
        return float(correct_sum(values[r2 <= i * i])) >= wanted

    # Sums of values that are not negative grow with the radius: the one before decides for all.
    smaller = range(max(0, radius - 1), radius) if (values >= 0).all() else range(radius)
    assert not any(reaches(i) for i in smaller)
    if not reaches(radius):
        assert r2.max() <= radius**2
        assert r2.max() > (radius - 1) ** 2


def _summary_definition(found: dict[str, np.ndarray], inputs: dict[str, Any]) -> None:
    patterns, centers, fractions = inputs["patterns"], inputs["centers"], inputs["fractions"]
    shape = patterns.shape[1:]
    y, x = np.indices(shape)
    for k, (pattern, used) in enumerate(zip(patterns, usable(patterns, inputs["mask"]), strict=True)):
        values = pattern[used]
        total, magnitude = correct_sum(values), float(np.abs(values.astype(np.float64)).sum())
        if values.dtype.kind == "f":
            assert_close(found["total"][k], total, magnitude)
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
                assert_close(c, math.fsum(moments.tolist()) / total, scale)
        if np.abs(center).max() > FAR:
            assert (found["radii"][k] == -1).all()
            continue
        for fraction, radius in zip(fractions, found["radii"][k].tolist(), strict=True):
            if values.size:
                _check_radius(values, _squares(shape, center)[used], fraction, radius)
            else:
                assert radius == 0


def _cumulative_definition(found: dict[str, np.ndarray], inputs: dict[str, Any]) -> None:
    patterns, n = inputs["patterns"], inputs["n_radii"]
    used = usable(patterns, inputs["mask"])
    for k, pattern in enumerate(patterns):
        values, r2 = pattern[used[k]], _squares(pattern.shape, inputs["centers"][k])[used[k]]
        wanted = [correct_sum(values[r2 <= i * i]) for i in range(n)]
        magnitude = float(np.abs(values.astype(np.float64)).sum())
        np.testing.assert_allclose(found["cumulative"][k], wanted, rtol=0, atol=NEAR * magnitude)


def _summary_branches(sample: Sample) -> Iterator[Branch]:
    # Without fractions nothing separates a block's patterns but what the sums themselves need.
    fractions = (0.9, 0.25, 0.5, 1.0, 1.0 - 2.0**-53)
    for given, some in ((None, fractions), (sample.centers, fractions), (None, ())):
        name = f"{len(some)} fractions, centers {'found' if given is None else 'given'}"
        yield Branch(name, {"patterns": sample.patterns, "mask": sample.mask, "centers": given, "fractions": some})


def _cumulative_branches(sample: Sample) -> Iterator[Branch]:
    # More radii than the kernel takes at a time where the frame is wide.
    n_radii = 300 if sample.patterns.shape[2] > 256 else 40
    given = {"patterns": sample.patterns, "mask": sample.mask, "centers": sample.centers, "n_radii": n_radii}
    yield Branch("", given)


OPERATIONS = (
    Op(
        "pattern_summary",
        ("pattern_summary", "centroid", "retention_radius"),
        dict.fromkeys(("total", "minimum", "maximum", "n_valid", "centers", "radii"), Field(EXACT)),
        _summaries,
        _summary_branches,
        _summary_definition,
    ),
    Op(
        "radial_cumulative",
        ("radial_cumulative",),
        {"cumulative": Field(SUM, sum_of_pixels("cumulative"))},
        _cumulative,
        _cumulative_branches,
        _cumulative_definition,
    ),
)
