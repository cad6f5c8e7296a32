"""Second moments of patterns."""

import math
from collections.abc import Iterator

import numpy as np

from conformance._op import SUM, Branch, Case, Field, Inputs, Op, Sample
from conformance.definitions import usable
from conformance.inputs import SHAPES, random_centers, random_mask, random_stack
from stackalign.backends._protocol import KERNEL_DTYPES


def _moments() -> Iterator[Case]:
    for dtype in KERNEL_DTYPES:
        for shape in SHAPES:
            for kind in ("none", "shared", "each"):

                def moments(rng, shape=shape, kind=kind, dtype=dtype):
                    patterns = random_stack(rng, shape, dtype, low=0.0 if dtype.startswith("u") else -5.0)
                    if dtype.startswith("float"):
                        patterns[2, 0] = np.nan
                        patterns[3, -1, -1] = -np.inf
                    centers = random_centers(rng, len(patterns), shape)
                    return {"patterns": patterns, "mask": random_mask(rng, 6, shape, kind), "centers": centers}

                yield Case(f"{shape[0]}x{shape[1]}-mask_{kind}", dtype, moments)

        def largest(rng, dtype=dtype):
            top = np.iinfo(dtype).max if np.dtype(dtype).kind in "iu" else 1e30
            return {"patterns": np.full((2, 33, 35), top, dtype), "mask": None, "centers": np.full((2, 2), 16.25)}

        yield Case("largest_value", dtype, largest)


def _distances(inputs: Inputs) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.indices(inputs["patterns"].shape[1:], dtype=np.float64)
    cy, cx = inputs["centers"].T[:, :, None, None]
    return y - cy, x - cx


def _scale(wanted: dict[str, np.ndarray], inputs: Inputs) -> np.ndarray:
    """The sum of the magnitudes of the terms, for each sum."""
    values = np.where(usable(inputs["patterns"], inputs["mask"]), np.abs(inputs["patterns"].astype(np.float64)), 0.0)
    dy, dx = map(np.abs, _distances(inputs))
    return np.stack(
        [(values * term).sum(axis=(1, 2)) for term in (np.ones_like(dy), dy * dy, dy * dx, dx * dx)], axis=1
    )


def _definition(found: dict[str, np.ndarray], inputs: Inputs) -> None:
    patterns, limit = inputs["patterns"], SUM * _scale(found, inputs)
    every = np.broadcast_to(usable(patterns, inputs["mask"]), patterns.shape)
    for k, (pattern, used, dy, dx) in enumerate(zip(patterns, every, *_distances(inputs), strict=True)):
        p, y, x = pattern[used].astype(np.float64), dy[used], dx[used]
        for j, term in enumerate((p, p * y * y, p * y * x, p * x * x)):
            assert abs(found["moment_sums"][k, j] - math.fsum(term.tolist())) <= limit[k, j]


def _branches(sample: Sample) -> Iterator[Branch]:
    yield Branch("", {"patterns": sample.patterns, "mask": sample.mask, "centers": sample.centers})


OPERATIONS = (
    Op("second_moments", ("second_moments",), {"moment_sums": Field(SUM, _scale)}, _moments, _branches, _definition),
)
