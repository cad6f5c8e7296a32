"""Resampled images."""

from collections.abc import Iterator

import numpy as np

from conformance._op import Branch, Case, Field, Op, Sample, largest_pixel
from conformance.inputs import candidates, random_mask, random_matrices, random_pixels, random_stack
from stackalign.backends._protocol import KERNEL_DTYPES

LIMIT = {"float32": 1e-6, "float64": 1e-14}
"""Relative to the largest valid pixel, by type of the result: a few operations, fused or not, and for order 3 sums of
16 products in any order."""
ON_HOST = 1e-11


def _transforms(rng, n):
    """Diagonal, turned, upside down, exact hits, and far away, in turns."""
    m = random_matrices(rng, 1, n, "mixed")[0]
    m[0] = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    if n > 1:
        m[1] = [[0.0, 1.0, 0.0], [1.0, 0.0, -1.0]]  # transposed: exact hits without a diagonal
        m[2] = [[1.0, 0.0, 0.5], [0.0, 0.5, -1.0]]  # halfway between pixels, and every other one exactly
        m[3, :, 2] = 0.0, 1e9
        m[4] = [[0.0, 0.0, 2.0], [0.0, 0.0, 1.0 - 2.0**-30]]  # one pixel for all; the weight is rounded to 1 in float32
    return m


def _resampled() -> Iterator[Case]:
    for dtype in KERNEL_DTYPES:
        for shape, output in [((1, 1), (1, 1)), ((1, 7), (3, 9)), ((3, 2), (3, 2)), ((37, 41), (37, 41))]:
            for kind in ("none", "shared", "each"):
                for order in (0, 1, 3):

                    def resample(rng, shape=shape, output=output, kind=kind, order=order, dtype=dtype):
                        several = kind == "each"
                        images = random_stack(rng, shape, dtype, n=7 if several else 1)
                        if not several:
                            images = random_pixels(rng, (1, *shape), dtype)
                        if dtype.startswith("float") and shape[0] > 1:
                            images[0, 1, 1] = np.nan
                            images[-1, -1, 0] = -np.inf
                        return {
                            "images": images,
                            "mask": random_mask(rng, len(images), shape, kind),
                            "matrices": _transforms(rng, 7 if several else 9),
                            "shape": output,
                            "order": order,
                        }

                    yield Case(f"{shape[0]}x{shape[1]}-mask_{kind}-order_{order}", dtype, resample)

        for order in (1, 3):

            def holes(rng, order=order, dtype=dtype):
                images = random_pixels(rng, (4, 70, 33), dtype)
                mask = np.ones(images.shape, np.bool_)
                mask[0, 20:29] = mask[0, :, 5:9] = False  # rows without any, as well
                mask[1, 3:] = False
                mask[2] = False
                mask[3, ::2, ::3] = False
                m = random_matrices(rng, 1, 4, "mixed")[0]
                m[1] = [[0.02, 0.0, 0.1], [0.0, 0.9, 0.3]]
                return {"images": images, "mask": mask, "matrices": m, "shape": (66, 50), "order": order}

            yield Case(f"holes-order_{order}", dtype, holes)


def _branches(sample: Sample) -> Iterator[Branch]:
    n, height, width = sample.patterns.shape
    m = candidates(n)[:, -12:].reshape(-1, 2, 3)
    m[12] = m[24] = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]  # meets the infinite ones
    m[:3] = [[1.0, 0.0, 0.5], [0.0, 1.0, 0.5]], [[1.0, 0.0, -1.0], [0.0, 1.0, 1.0]], [[0.9, 0.1, 0], [0, 1, 1]]
    for order in (0, 1, 3):
        # All steps are taken in the same order but for the divisions of what fills holes.
        slack = 1.0 if order == 3 else 0.0
        geometry = {"shape": (height + 3, width - 2), "order": order}
        own = {"images": sample.patterns, "mask": sample.mask, "matrices": np.ascontiguousarray(m[::12])}
        first = None if sample.mask is None else sample.mask[:1]
        through_all = {"images": sample.patterns[:1], "mask": first, "matrices": m}
        yield Branch(f"order {order}, each its own", {**own, **geometry}, slack)
        yield Branch(f"order {order}, one through all", {**through_all, **geometry}, slack)


OPERATIONS = (
    Op(
        "resample_affine",
        ("resample_affine",),
        {"samples": Field(LIMIT, largest_pixel, ON_HOST)},
        _resampled,
        _branches,
    ),
)
