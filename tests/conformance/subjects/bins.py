"""Sums over bins of a table."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from conformance._op import EXACT, SUM, Branch, Case, Field, Inputs, Op, Sample, largest_pixel
from conformance.definitions import NEAR, usable
from conformance.inputs import random_mask, random_stack
from stackalign.backends._bins import WEIGHT_STEP, BinTable
from stackalign.backends._protocol import KERNEL_DTYPES


def _tables(rng, pixels, n_bins, entries, weighted):
    labels = rng.integers(0, n_bins + 1, (pixels, entries)).astype(np.int32)
    labels[labels == n_bins // 2] = n_bins  # an empty bin
    weights = rng.integers(0, 2**24 + 1, (pixels, entries)) * WEIGHT_STEP if weighted else None
    return BinTable(labels, None if weights is None else weights.astype(np.float32), n_bins)


def _binned() -> Iterator[Case]:
    for dtype in KERNEL_DTYPES:
        for shape, n_bins in [((1, 1), 1), ((3, 5), 40), ((37, 41), 7), ((20, 300), 100), ((640, 320), 30)]:
            for kind in ("none", "shared", "each"):
                for entries, weighted in ((1, False), (2, True), (2, False), (1, True), (4, True)):
                    if (shape[0] == 640 or dtype not in ("uint16", "float32")) and (entries, kind) != (1, "none"):
                        continue

                    def sums(rng, shape=shape, n_bins=n_bins, kind=kind, dtype=dtype, e=entries, weighted=weighted):
                        n = 2 if shape[0] == 640 else 6
                        images = random_stack(rng, shape, dtype, n=n, low=0.0 if dtype.startswith("u") else -5.0)
                        if n == 6 and dtype.startswith("float"):
                            images[3, 0, : shape[1] // 2 + 1] = np.nan
                            images[4, :, 0] = np.inf
                            images[5, shape[0] // 2] = -np.inf
                        table = _tables(rng, shape[0] * shape[1], n_bins, e, weighted)
                        return {"images": images, "mask": random_mask(rng, n, shape, kind), "table": table}

                    name = f"{shape[0]}x{shape[1]}-{n_bins}_bins-mask_{kind}-{entries}{'w' if weighted else ''}"
                    yield Case(name, dtype, sums)

        def far_from_zero(rng, dtype=dtype):
            """Squares cancel: numbers near 30000 that differ by a few."""
            images = (30000 + rng.poisson(4, (2, 37, 41))).astype(dtype)
            return {"images": images, "mask": None, "table": _tables(rng, 37 * 41, 5, 1, False)}

        if dtype != "uint8":
            yield Case("far_from_zero", dtype, far_from_zero)


def _definition(found: dict[str, np.ndarray], inputs: dict[str, Any]) -> None:
    images, table = inputs["images"], inputs["table"]
    used = np.broadcast_to(usable(images, inputs["mask"]), images.shape).reshape(len(images), -1)
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


def _squares(wanted: dict[str, np.ndarray], inputs: Inputs) -> float:
    """The square of the largest pixel, in each entry of the fullest bin."""
    return largest_pixel(wanted, inputs) ** 2 * max(1.0, float(wanted["bin_weight"].max(initial=0.0)))


def _branches(sample: Sample) -> Iterator[Branch]:
    rng = np.random.default_rng(29)
    for entries, n_bins in ((1, 9), (3, 150)):
        labels = rng.integers(0, n_bins + 1, (sample.patterns[0].size, entries)).astype(np.int32)
        labels[labels == 4] = n_bins
        weights = (rng.integers(0, 2**24 + 1, labels.shape) * WEIGHT_STEP).astype(np.float32)
        table = BinTable(labels, weights if entries > 1 else None, n_bins)
        yield Branch(f"{entries} entries", {"images": sample.patterns, "mask": sample.mask, "table": table})


OPERATIONS = (
    Op(
        "bin_sums",
        ("azimuthal_average",),
        {"bin_weight": Field(EXACT), "bin_mean": Field(SUM, largest_pixel), "bin_m2": Field(SUM, _squares)},
        _binned,
        _branches,
        _definition,
    ),
)
