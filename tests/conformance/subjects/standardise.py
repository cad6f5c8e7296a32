"""Standardised planes."""

from collections.abc import Iterator

import numpy as np

from conformance._op import Branch, Case, Field, Op, Sample
from conformance.inputs import random_mask, random_pixels, random_stack
from stackalign.backends._protocol import KERNEL_DTYPES

PLANE = 1e-6
"""Absolute: float32 of a float64 number whose sums are taken in another order, at most the last bit of values up to 30
where that order decides the rounding."""


def _planes() -> Iterator[Case]:
    for dtype in KERNEL_DTYPES:
        for shape in [(1, 1), (3, 5), (37, 41), (20, 300)]:
            for kind in ("none", "shared", "each"):
                for smooth in (0.0, 1.3):

                    def standardise(rng, shape=shape, kind=kind, smooth=smooth, dtype=dtype):
                        images = random_stack(rng, shape, dtype)
                        if dtype.startswith("float"):
                            images[3, 0] = np.nan
                            images[4, -1, -1] = np.inf
                        return {"images": images, "mask": random_mask(rng, len(images), shape, kind), "smooth": smooth}

                    name = f"{shape[0]}x{shape[1]}-mask_{kind}-smooth_{smooth}"
                    yield Case(name, dtype, standardise)

        def offset(rng, dtype=dtype):
            images = np.minimum(random_pixels(rng, (3, 19, 23), dtype), 100)
            base = 1e6 if dtype.startswith("float") else np.iinfo(dtype).max - 100
            return {"images": (images + np.asarray(base, dtype)).astype(dtype), "mask": None, "smooth": 0.0}

        yield Case("large_offset", dtype, offset)


def _branches(sample: Sample) -> Iterator[Branch]:
    for smooth in (0.0, 0.7, 5.0):  # wider than the image is high as well
        yield Branch(f"smooth {smooth}", {"images": sample.patterns, "mask": sample.mask, "smooth": smooth})


OPERATIONS = (Op("standardise", ("prepare_pair",), {"planes": Field(PLANE)}, _planes, _branches),)
