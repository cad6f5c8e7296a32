"""Scores of affine candidates."""

from collections.abc import Iterator

import numpy as np

from conformance._op import EXACT, Branch, Case, Field, Inputs, Op, Sample
from conformance.inputs import SIZES, candidates, random_matrices, random_plane
from stackalign.backends import load

SCORE = 1e-7
"""Absolute: float32 products and short float32 sums in an order of the backend's own, of images whose pixels vary as
much as they are large."""
FEW = 64
"""Of fewer pixels all may by chance differ less than they are away from zero: five times the tolerance."""


def _scores() -> Iterator[Case]:
    for size, (shape, moving_shape) in SIZES.items():
        for kind, holes in (("diagonal", 0.0), ("diagonal", 0.1), ("rotated", 0.1), ("mixed", 0.4)):
            for problems, n in ((1, 1), (1, 7), (3, 7)):

                def score(rng, a=shape, b=moving_shape, kind=kind, holes=holes, problems=problems, n=n):
                    moving = random_plane(rng, (problems, *b), holes)
                    reference = random_plane(rng, (problems, *a), holes)
                    return {
                        "reference": reference,
                        "moving": moving,
                        "matrices": random_matrices(rng, problems, n, kind),
                    }

                yield Case(f"{size}-{kind}-holes_{holes}-{problems}x{n}", "float32", score)
    yield Case("special_matrices", "float32", _special_matrices)
    yield Case("constant_and_empty", "float32", _constant_planes)
    yield Case("large_group", "float32", _large_group)
    yield Case("far_from_zero", "float32", _planes_far_from_zero)


def _special_matrices(rng):
    reference = random_plane(rng, (2, 37, 41), 0.0)
    moving = reference.copy()
    moving[0, 5::9, 7::8] = np.nan
    m = np.tile([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], (2, 9, 1, 1))  # the first is the identity
    m[:, 1, :, 2] = 2.0, -3.0  # exact hits, with NaN beside
    m[:, 2, :, 2] = 100.0, 0.0  # no overlap
    m[:, 3, :, 2] = 0.0, -1e9
    m[:, 4, :, 2] = 36.0, 40.0  # a single pixel
    m[:, 5, :, 2] = 1.0 - 2.0**-30, 3.0  # the weight is rounded to 1
    m[:, 6, 0] = -1.0, 0.0, 36.0  # upside down
    m[:, 7, :, :2] = [[0.0, 1.0], [1.0, 0.0]]  # transposed, exact hits without a diagonal
    m[:, 8, :, :2] = 0.0  # every pixel meets the same one
    return {"reference": reference, "moving": moving, "matrices": m}


def _constant_planes(rng):
    reference = random_plane(rng, (3, 20, 70), 0.1)
    moving = random_plane(rng, (3, 20, 70), 0.1)
    reference[0] = 0.0
    moving[1] = 0.7
    reference[2] = np.nan
    return {"reference": reference, "moving": moving, "matrices": random_matrices(rng, 3, 6, "mixed")}


def _large_group(rng):
    m = random_matrices(rng, 2, 70, "diagonal")
    m[:, :60, 1] = 0.0, 1.0, 0.125
    planes = {name: random_plane(rng, (2, 33, 65), 0.1) for name in ("reference", "moving")}
    return {**planes, "matrices": m}


def _planes_far_from_zero(rng):
    m = random_matrices(rng, 3, 12, "mixed")
    planes = {name: random_plane(rng, (3, 70, 100), 0.1) for name in ("reference", "moving")}
    for each in planes.values():
        each += np.float32([1.0, -5.0, 30.0])[:, None, None]
    return {**planes, "matrices": m}


def _scale(wanted: dict[str, np.ndarray], inputs: Inputs) -> np.ndarray:
    return np.where(wanted["overlap"] < FEW, 5.0, 1.0)


def _branches(sample: Sample) -> Iterator[Branch]:
    rng = np.random.default_rng(21)
    # Noise, with what is valid in the sample: where pixels differ less than they are away from zero, float32 sums of
    # their squares say little, and a tolerance would have to be wide.
    noise = np.where(np.isfinite(sample.patterns), rng.normal(size=sample.patterns.shape), np.nan)
    planes = load("reference").standardise(noise, sample.mask, 0.0, 1)
    # The moving images once like the reference, once with holes, larger and shifted, so that taps lie beyond its size.
    larger = np.pad(planes, ((0, 0), (7, 60), (4, 2)), mode="wrap")
    clean = np.nan_to_num(larger)
    larger[:, ::7, ::5] = np.nan
    m = candidates(len(planes))
    for name, moving in (("same", planes), ("larger", larger), ("clean", clean)):
        # As among the samples: planes of 99 on either side, which a wrong problem or index would meet.
        padded = np.full((2, planes.shape[0] + 2, *moving.shape[1:]), 99, np.float32)
        padded[0, 1:-1, : planes.shape[1], : planes.shape[2]] = planes
        padded[1, 1:-1] = moving
        fixed, moved = np.ascontiguousarray(padded[0, 1:-1, : planes.shape[1], : planes.shape[2]]), padded[1, 1:-1]
        yield Branch(name, {"reference": fixed, "moving": moved, "matrices": m})
    far = {"reference": fixed + np.float32(30), "moving": moved - np.float32(30), "matrices": m}
    yield Branch("far from 0", far, 10.0)
    for contrast in (1.0, 1.001):  # what varies by so little is taken for constant
        constant = np.full_like(fixed, 0.7)
        constant[:, ::3] *= np.float32(contrast)
        yield Branch("from a constant", {"reference": constant, "moving": fixed, "matrices": m})
        yield Branch("of a constant", {"reference": fixed, "moving": constant, "matrices": m})


OPERATIONS = (
    Op(
        "score_affine",
        ("score_affine",),
        {"scores": Field(SCORE, _scale), "overlap": Field(EXACT)},
        _scores,
        _branches,
        of_planes=True,
    ),
)
