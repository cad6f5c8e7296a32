"""Statistics over the frames of a stack."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from conformance._op import EXACT, SUM, Branch, Case, Field, Op, Sample
from conformance.definitions import NEAR, assert_close, usable
from conformance.inputs import random_mask, random_pixels, random_stack
from stackalign.backends._protocol import KERNEL_DTYPES


def _statistics() -> Iterator[Case]:
    for dtype in KERNEL_DTYPES:
        for shape in [(1, 1), (3, 5), (37, 41), (20, 300)]:
            for kind in ("none", "shared", "each"):

                def statistics(rng, shape=shape, kind=kind, dtype=dtype):
                    stack = random_stack(rng, shape, dtype, n=9)
                    if dtype.startswith("float"):
                        stack[2, 0] = np.inf
                        stack[:, -1, -1] = np.nan
                    return {"stack": stack, "mask": random_mask(rng, len(stack), shape, kind)}

                yield Case(f"{shape[0]}x{shape[1]}-mask_{kind}", dtype, statistics)

        def offset(rng, dtype=dtype):
            stack = random_pixels(rng, (40, 6, 7), dtype)
            base = 1e9 if dtype.startswith("float") else np.iinfo(dtype).max // 2
            return {"stack": (stack + np.asarray(base, dtype)).astype(dtype), "mask": None}

        yield Case("large_offset", dtype, offset)


def _definition(found: dict[str, np.ndarray], inputs: dict[str, Any]) -> None:
    stack = inputs["stack"]
    used = np.broadcast_to(usable(stack, inputs["mask"]), stack.shape)
    for at in np.ndindex(stack.shape[1:]):
        values = stack[(slice(None), *at)][used[(slice(None), *at)]].astype(np.float64)
        n = values.size
        mean = math.fsum(values.tolist()) / n if n else 0.0
        extrema = (values.min(), values.max()) if n else (np.nan, np.nan)
        assert found["count"][at] == n
        np.testing.assert_array_equal((found["minimum"][at], found["maximum"][at]), extrema)
        assert_close(found["mean"][at], mean, float(np.abs(values).sum()))
        m2 = math.fsum(((values - mean) ** 2).tolist())
        # The mean is rounded, and each deviation from it misses by as much.
        rounding = n * (2.0**-52 * max(np.abs(values), default=0.0)) ** 2
        assert abs(found["m2"][at] - m2) <= NEAR * m2 + 4 * rounding


def _branches(sample: Sample) -> Iterator[Branch]:
    yield Branch("", {"stack": sample.patterns, "mask": sample.mask})


OPERATIONS = (
    Op(
        "stack_statistics",
        ("stack_statistics",),
        {
            **dict.fromkeys(("count", "minimum", "maximum"), Field(EXACT)),
            "mean": Field(EXACT),  # the sum is taken in the order of the frames
            "m2": Field(SUM, lambda wanted, inputs: np.nanmax(wanted["m2"], initial=0.0) + wanted["m2"]),
        },
        _statistics,
        _branches,
        _definition,
    ),
)
