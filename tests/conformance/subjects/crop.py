"""Windows of patterns."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from conformance._op import EXACT, SUM, Branch, Case, Field, Op, Sample, sum_of_pixels
from conformance.definitions import assert_close, correct_sum, usable
from conformance.inputs import random_mask, random_stack
from stackalign.backends._protocol import KERNEL_DTYPES


def _windows() -> Iterator[Case]:
    for dtype in KERNEL_DTYPES:
        for shape in [(1, 1), (3, 5), (37, 41), (20, 300)]:
            for kind in ("none", "shared", "each"):

                def windows(rng, shape=shape, kind=kind, dtype=dtype):
                    patterns = random_stack(rng, shape, dtype)
                    if dtype.startswith("float"):
                        patterns[2, 0] = np.nan
                    corners = rng.integers(-max(shape), max(shape), (len(patterns), 2))
                    corners[0] = 0
                    corners[1] = 5 * max(shape)  # the whole window is outside
                    mask = random_mask(rng, len(patterns), shape, kind)
                    return {"patterns": patterns, "mask": mask, "corners": corners, "shape": (7, 10), "out": None}

                yield Case(f"{shape[0]}x{shape[1]}-mask_{kind}", dtype, windows)


def _definition(found: dict[str, np.ndarray], inputs: dict[str, Any]) -> None:
    patterns, (height, width) = inputs["patterns"], inputs["shape"]
    used = np.broadcast_to(usable(patterns, inputs["mask"]), patterns.shape)
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
        assert_close(found["sums"][k], correct_sum(values), float(np.abs(values.astype(np.float64)).sum()))
    assert found["windows"].shape == (len(patterns), height, width)


def _branches(sample: Sample) -> Iterator[Branch]:
    given = {"patterns": sample.patterns, "mask": sample.mask, "corners": sample.corners}
    yield Branch("", {**given, "shape": (19, 45), "out": None})


OPERATIONS = (
    Op(
        "crop_windows",
        ("crop_windows",),
        {"windows": Field(EXACT), "sums": Field(SUM, sum_of_pixels("sums"))},
        _windows,
        _branches,
        _definition,
    ),
)
