"""Means over transforms."""

from collections.abc import Iterator

import numpy as np

from conformance._op import Branch, Case, Field, Op, Sample, largest_pixel
from conformance.inputs import random_mask, random_matrices, random_stack
from stackalign.backends._protocol import KERNEL_DTYPES

AVERAGE = {"float32": 1e-6, "float64": 1e-14}
"""Relative to the largest valid pixel, by type of the result: sums of a few products, fused or not."""


def _averaged() -> Iterator[Case]:
    for dtype in KERNEL_DTYPES:
        for shape in ((1, 1), (2, 3), (37, 41), (40, 300)):
            for kind in ("none", "shared", "each"):
                for for_all in (True, False):
                    if shape[1] == 300 and (dtype not in ("uint16", "float32") or kind != "shared"):
                        continue

                    def mean(rng, shape=shape, kind=kind, dtype=dtype, for_all=for_all):
                        images = random_stack(rng, shape, dtype, n=10, low=0.0 if dtype.startswith("u") else -5.0)
                        if dtype.startswith("float"):
                            images[3, 0, : shape[1] // 2 + 1] = np.nan
                            images[4, :, 0] = np.inf
                        m = random_matrices(rng, 1 if for_all else 10, 5, "mixed")
                        m[:, 0] = [[1, 0, 0], [0, 1, 0]]
                        m[:, 1] = [[-1, 0, shape[0] - 1], [0, -1, shape[1] - 1.5]]
                        return {"images": images, "mask": random_mask(rng, 10, shape, kind), "matrices": m}

                    name = f"{shape[0]}x{shape[1]}-mask_{kind}-{'shared' if for_all else 'own'}"
                    yield Case(name, dtype, mean)


def _branches(sample: Sample) -> Iterator[Branch]:
    n, height, width = sample.patterns.shape
    angles = np.radians([0.0, 90.0, 77.0, 200.0])
    turns = np.array([[[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]] for a in angles])
    turns[:2] = [[[1, 0], [0, 1]], [[0, -1], [1, 0]]]
    shared, own = [[0.4 * height, 0.6 * width]], [[0.3 * k, 0.5 * width] for k in range(n)]
    for name, about in (("shared", np.array(shared)), ("own", np.array(own))):
        offsets = about[:, None] - np.einsum("tij,nj->nti", turns, about)
        m = np.concatenate([np.broadcast_to(turns, (len(about), 4, 2, 2)), offsets[..., None]], axis=-1)
        yield Branch(name, {"images": sample.patterns, "mask": sample.mask, "matrices": np.ascontiguousarray(m)})


OPERATIONS = (
    Op(
        "affine_average",
        ("rotational_average", "mirror_average"),
        {"samples": Field(AVERAGE, largest_pixel)},
        _averaged,
        _branches,
    ),
)
