"""Means of bins."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from conformance._op import EXACT, Branch, Case, Field, Op, Sample, largest_pixel
from conformance.definitions import usable
from conformance.inputs import random_mask, random_stack
from stackalign.backends._protocol import KERNEL_DTYPES

MEAN = {"float32": 1e-6, "float64": 1e-14}
"""Relative to the largest valid pixel: float64 sums of a few pixels in any order, and the last bit of the result."""
ON_HOST = {"float32": 2e-9, "float64": 1e-14}


def _bins() -> Iterator[Case]:
    for dtype in KERNEL_DTYPES:
        for shape, factors in [((1, 1), (1, 1)), ((5, 7), (5, 7)), ((37, 41), (4, 3)), ((20, 300), (3, 2))]:
            for kind in ("none", "shared", "each"):

                def bins(rng, shape=shape, factors=factors, kind=kind, dtype=dtype):
                    images = random_stack(rng, shape, dtype, low=0.0 if dtype.startswith("u") else -5.0)
                    if dtype.startswith("float"):
                        images[3, 0, : shape[1] // 2 + 1] = np.nan
                        images[4, :, 0] = np.inf
                    return {"images": images, "mask": random_mask(rng, len(images), shape, kind), "factors": factors}

                yield Case(f"{shape[0]}x{shape[1]}-by_{factors[0]}x{factors[1]}-mask_{kind}", dtype, bins)


def _definition(found: dict[str, np.ndarray], inputs: dict[str, Any]) -> None:
    images, (fy, fx) = inputs["images"], inputs["factors"]
    used = np.broadcast_to(usable(images, inputs["mask"]), images.shape)
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


def _branches(sample: Sample) -> Iterator[Branch]:
    for factors in ((3, 4), (12, 37)):
        yield Branch(f"by {factors}", {"images": sample.patterns, "mask": sample.mask, "factors": factors})


OPERATIONS = (
    Op(
        "bin_mean",
        ("bin_mean",),
        {"means": Field(MEAN, largest_pixel, ON_HOST), "counts": Field(EXACT)},
        _bins,
        _branches,
        _definition,
    ),
)
