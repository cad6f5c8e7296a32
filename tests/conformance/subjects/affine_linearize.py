"""Sums of a linearization."""

from collections.abc import Iterator

import numpy as np

from conformance._op import Branch, Case, Field, Inputs, Op, Sample
from conformance.inputs import SIZES, candidates, random_matrices, random_plane

LINEAR = 1e-6
"""Relative to `linear_scale`: float32 products of samples that are themselves float32."""


def linear_scale(sums: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Magnitude (B, 1, 42) of the sums of a linearization: what the sums of squares of a problem allow its products.

    Samples and slopes are rounded like the pixels that they are made of, so they are taken for at least 1.
    """
    n, _, _, rr, vv, _ = (total := np.sqrt(sums.sum(axis=1, keepdims=True).clip(0)))[..., :6].T
    rr, vv = np.maximum(rr, n), np.maximum(vv, n)
    j = total[..., [24, 27, 29, 36, 39, 41]].T
    y, x = (side / 2 for side in shape)
    j += (j > 0) * n * np.array([y, x, 1, y, x, 1])[:, None, None]
    entries = [*(n * j), *(rr * j), *(vv * j)]
    powers = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
    squares = [j[a] * j[b] for a, b in powers]
    squares += [j[a] * j[b] for a, b in ((0, 3), (0, 4), (0, 5), (1, 4), (2, 4), (2, 5))]
    squares += [j[a + 3] * j[b + 3] for a, b in powers]
    return np.stack([n * n, n * rr, n * vv, rr * rr, vv * vv, rr * vv, *entries, *squares]).T


def _scale(wanted: dict[str, np.ndarray], inputs: Inputs) -> np.ndarray:
    scale = linear_scale(wanted["linear_sums"], inputs["reference"].shape[1:])
    scale[..., 0] = 0.0  # the number of pixels is exact
    return scale


def _linearizations() -> Iterator[Case]:
    for size, (shape, moving_shape) in SIZES.items():
        for kind, holes in (("diagonal", 0.0), ("diagonal", 0.1), ("rotated", 0.1), ("mixed", 0.4)):
            for tile in (0, 16, 40):

                def linearize(rng, a=shape, b=moving_shape, kind=kind, holes=holes, tile=tile):
                    return {
                        "reference": random_plane(rng, (5, *a), holes),
                        "moving": random_plane(rng, (5, *b), holes),
                        "slopes": random_plane(rng, (5, 2, *a), holes) if kind == "mixed" or tile == 40 else None,
                        "matrices": random_matrices(rng, 1, 5, kind)[0],
                        "tile": tile,
                        "diagonal": kind == "diagonal",
                    }

                yield Case(f"{size}-{kind}-holes_{holes}-tile_{tile}", "float32", linearize)

    for diagonal in (True, False):

        def edges(rng, diagonal=diagonal):
            m = np.tile([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], (10, 1, 1))  # the first is the identity
            m[1, :, 2] = 2.0, -3.0  # exact hits, with NaN beside
            m[2, :, 2] = 0.5, 7.0  # on an edge along x alone
            m[3, :, 2] = -4.0, 0.25
            m[4] = [[0.5, 0.0, 0.0], [0.0, 0.5, 0.5]]  # on every other pixel
            m[5] = [[-1.0, 0.0, 36.0], [0.0, -1.0, 40.0]]  # upside down
            m[6, :, 2] = 36.0, 40.0  # the last pixel alone
            m[7, :, 2] = 1.0 - 2.0**-30, 3.0  # the weight is rounded to 1
            m[8, :, 2] = 100.0, 0.0  # no overlap
            m[9, :, 2] = 36.0, 40.0
            if not diagonal:
                m[4] = [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]  # transposed, exact hits without a diagonal
                m[6] = [[1.0, 0.02, -0.3], [-0.03, 0.97, 0.7]]  # positions that round to whole numbers, and must
                m[7] = [[1.0, 0.5, 0.0], [0.0, 1.0, 0.0]]
            planes = {"reference": random_plane(rng, (10, 37, 41), 0.1), "moving": random_plane(rng, (10, 37, 41), 0.3)}
            return {**planes, "slopes": None, "matrices": m, "tile": 0, "diagonal": diagonal}

        kind = "diagonal" if diagonal else "general"
        yield Case(f"edges-{kind}", "float32", edges)

        def constant(rng, diagonal=diagonal):
            reference, moving = random_plane(rng, (3, 20, 70), 0.1), random_plane(rng, (3, 20, 70), 0.1)
            reference[0], moving[1], reference[2] = 0.0, 0.7, np.nan
            m = random_matrices(rng, 1, 3, "diagonal")[0]
            planes = {"reference": reference, "moving": moving}
            return {**planes, "slopes": None, "matrices": m, "tile": 16, "diagonal": diagonal}

        yield Case(f"constant_and_empty-{kind}", "float32", constant)


def _branches(sample: Sample) -> Iterator[Branch]:
    """Tiles of which the last are smaller, and the whole image."""
    rng = np.random.default_rng(23)
    noise = rng.normal(size=(2, *sample.patterns.shape)).astype(np.float32)
    noise[0][~np.isfinite(sample.patterns)] = np.nan
    # As among the samples: planes of 99 on either side.
    padded = np.full((2, len(noise[0]) + 2, *sample.patterns.shape[1:]), 99, np.float32)
    padded[:, 1:-1] = noise
    padded[1, 1:-1, ::7, ::5] = np.nan
    fixed, moved = padded[:, 1:-1]
    every = candidates(len(fixed)).swapaxes(0, 1)
    slopes = np.full((len(padded[0]), 2, *sample.patterns.shape[1:]), 99, np.float32)
    slopes[1:-1] = rng.normal(size=slopes[1:-1].shape)
    slopes[1:-1, 0, ::9, ::4] = slopes[1:-1, 1, 4::9, ::4] = np.nan
    for k in (0, 1, 8, -9, -7, -6, -5, -3, -2):
        diagonal = bool((every[k, :, [0, 1], [1, 0]] == 0).all())
        for tile in (0, 20, 40):
            inputs = {
                "reference": fixed,
                "moving": moved,
                "slopes": slopes[1:-1] if tile == 40 else None,
                "matrices": np.ascontiguousarray(every[k]),
                "tile": tile,
                "diagonal": diagonal,
            }
            yield Branch(f"candidate {k}, tile {tile}", inputs)


OPERATIONS = (
    Op(
        "linearize_affine",
        ("linearize_affine",),
        {"linear_sums": Field(LINEAR, _scale)},
        _linearizations,
        _branches,
        of_planes=True,
    ),
)
