"""One table of inputs: operation, name, and how to make them. Every backend meets every row."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from stackalign.backends._bins import WEIGHT_STEP, BinTable
from stackalign.backends._lags import intersection, possible
from stackalign.backends._protocol import KERNEL_DTYPES, Lags

SHAPES = [(1, 1), (1, 7), (9, 1), (3, 5), (8, 8), (37, 41), (20, 300)]
"""(H, W): single pixel, row, column, odd, a whole group of rows, odd above one group, wider than the lanes."""


@dataclass(frozen=True)
class Case:
    """Inputs of one call at the level of the protocol."""

    operation: str
    name: str
    dtype: str
    make: Callable[[np.random.Generator], dict]

    def __str__(self) -> str:
        return f"{self.operation}-{self.name}-{self.dtype}"


def _pixels(rng, shape, dtype, low=0.0):
    """Poisson-like values of a type, negative ones only where `low` asks for them."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        values = rng.gamma(0.6, 20.0, shape) + low * rng.random(shape)
        return values.astype(kind)
    top = min(np.iinfo(kind).max, 60000)
    return (rng.poisson(np.minimum(rng.gamma(0.6, 20.0, shape), top)) + np.rint(low * rng.random(shape))).astype(kind)


def _centers(rng, n, shape):
    """Integer, half, arbitrary, outside, and too far."""
    h, w = shape
    some = np.array([[h // 2, w // 2], [h / 2, w / 2], [-3.25, w + 2.5], [2e6, 0.0], [0.1, 0.3]])
    return np.concatenate([some, rng.uniform(-1, max(shape), (max(0, n - 5), 2))])[:n]


def _stack(rng, shape, dtype, n=6, low=0.0):
    patterns = _pixels(rng, (n, *shape), dtype, low)
    patterns[0] = patterns[0, 0, 0]  # constant
    if n > 1:
        patterns[1] = 0  # empty
    return patterns


def _mask(rng, n, shape, kind):
    if kind == "none":
        return None
    if kind == "shared":
        return rng.random((1, *shape)) < 0.7
    if kind == "each":
        mask = rng.random((n, *shape)) < 0.7
        mask[-1] = False
        return mask
    return np.ones((1, *shape), np.bool_)


def _beside_a_radius(dtype):
    """One pixel per pattern, at a squared distance of i*i and at the next float above: inside i, and not."""
    i = np.repeat(np.arange(1, 21), 2)
    next_square = np.spacing(i * i * 1.0) * np.tile([0.25, 1.0], 20)
    patterns = np.zeros((40, 21, 24), dtype)
    patterns[np.arange(40), 10, 3 + i] = 3
    centers = np.stack([10 + np.sqrt(next_square), np.full(40, 3.0)], axis=1)
    return patterns, centers


FRACTIONS = (0.98, 0.5, 1.0, 0.07)


def _summaries():
    for dtype in KERNEL_DTYPES:
        floats = dtype.startswith("float")
        for shape in SHAPES:
            for kind in ("none", "shared", "each", "trivial"):

                def make(rng, shape=shape, kind=kind, dtype=dtype):
                    patterns = _stack(rng, shape, dtype)
                    centers = None if kind in ("none", "each") else _centers(rng, len(patterns), shape)
                    mask = _mask(rng, len(patterns), shape, kind)
                    return {"patterns": patterns, "mask": mask, "centers": centers, "fractions": FRACTIONS}

                yield Case("pattern_summary", f"{shape[0]}x{shape[1]}-mask_{kind}", dtype, make)
        if not dtype.startswith("u"):

            def negative(rng, dtype=dtype):
                patterns = _stack(rng, (13, 17), dtype, low=-30.0)
                patterns[2] = -patterns[2]
                centers = None if dtype == "int16" else np.tile([6.0, 8.25], (len(patterns), 1))
                return {"patterns": patterns, "mask": None, "centers": centers, "fractions": FRACTIONS}

            yield Case("pattern_summary", "negative", dtype, negative)
        if floats:

            def invalid(rng, dtype=dtype):
                patterns = _stack(rng, (13, 17), dtype)
                patterns[2, 3, 4] = np.nan
                patterns[3, 0] = np.inf
                patterns[4] = -np.inf
                patterns[5, :, ::2] = np.nan
                return {"patterns": patterns, "mask": None, "centers": None, "fractions": FRACTIONS}

            yield Case("pattern_summary", "nan_and_inf", dtype, invalid)

            def border(rng, dtype=dtype):
                patterns = _stack(rng, (14, 16), dtype)
                patterns[:, [0, -1]] = np.nan
                patterns[:, :, [0, -1]] = np.nan
                mask = _mask(rng, len(patterns), (14, 16), "shared")
                centers = np.tile([0.0, 15.0], (len(patterns), 1))
                return {"patterns": patterns, "mask": mask, "centers": centers, "fractions": FRACTIONS}

            yield Case("pattern_summary", "nan_border", dtype, border)

            def dynamic(rng, dtype=dtype):
                patterns = (10.0 ** rng.uniform(-20, 20, (6, 19, 23))).astype(dtype)
                patterns[0] = 0.1  # every comparison is a tie or nearly one
                return {"patterns": patterns, "mask": None, "centers": None, "fractions": FRACTIONS}

            yield Case("pattern_summary", "dynamic_range", dtype, dynamic)
        else:

            def largest(rng, dtype=dtype):
                patterns = np.full((2, 33, 35), np.iinfo(dtype).max, dtype)
                return {"patterns": patterns, "mask": None, "centers": None, "fractions": FRACTIONS}

            yield Case("pattern_summary", "largest_value", dtype, largest)

        def sparse(rng, dtype=dtype):
            patterns = (rng.random((6, 24, 24)) < 0.02).astype(dtype)
            return {"patterns": patterns, "mask": None, "centers": None, "fractions": FRACTIONS}

        yield Case("pattern_summary", "single_counts", dtype, sparse)

        def beside(rng, dtype=dtype):
            patterns, centers = _beside_a_radius(dtype)
            return {"patterns": patterns, "mask": None, "centers": centers, "fractions": FRACTIONS}

        yield Case("pattern_summary", "beside_a_radius", dtype, beside)

        def no_fractions(rng, dtype=dtype):
            patterns = _stack(rng, (9, 10), dtype)
            return {"patterns": patterns, "mask": None, "centers": None, "fractions": ()}

        yield Case("pattern_summary", "no_fractions", dtype, no_fractions)


def _others():
    for dtype in KERNEL_DTYPES:
        for shape in [(1, 1), (3, 5), (37, 41), (20, 300)]:
            for kind in ("none", "shared", "each"):

                def cumulative(rng, shape=shape, kind=kind, dtype=dtype):
                    patterns = _stack(rng, shape, dtype, low=0.0 if dtype.startswith("u") else -5.0)
                    if dtype.startswith("float"):
                        patterns[3, 0, 0] = np.nan
                    centers = np.delete(_centers(rng, len(patterns) + 1, shape), 3, axis=0)  # a far one has no rings
                    mask = _mask(rng, len(patterns), shape, kind)
                    return {"patterns": patterns, "mask": mask, "centers": centers, "n_radii": shape[1] + 3}

                yield Case("radial_cumulative", f"{shape[0]}x{shape[1]}-mask_{kind}", dtype, cumulative)

                def windows(rng, shape=shape, kind=kind, dtype=dtype):
                    patterns = _stack(rng, shape, dtype)
                    if dtype.startswith("float"):
                        patterns[2, 0] = np.nan
                    corners = rng.integers(-max(shape), max(shape), (len(patterns), 2))
                    corners[0] = 0
                    corners[1] = 5 * max(shape)  # the whole window is outside
                    mask = _mask(rng, len(patterns), shape, kind)
                    return {"patterns": patterns, "mask": mask, "corners": corners, "shape": (7, 10), "out": None}

                yield Case("crop_windows", f"{shape[0]}x{shape[1]}-mask_{kind}", dtype, windows)

                def statistics(rng, shape=shape, kind=kind, dtype=dtype):
                    stack = _stack(rng, shape, dtype, n=9)
                    if dtype.startswith("float"):
                        stack[2, 0] = np.inf
                        stack[:, -1, -1] = np.nan
                    return {"stack": stack, "mask": _mask(rng, len(stack), shape, kind)}

                yield Case("stack_statistics", f"{shape[0]}x{shape[1]}-mask_{kind}", dtype, statistics)

        def beside(rng, dtype=dtype):
            patterns, centers = _beside_a_radius(dtype)
            return {"patterns": patterns, "mask": None, "centers": centers, "n_radii": 23}

        yield Case("radial_cumulative", "beside_a_radius", dtype, beside)

        def offset(rng, dtype=dtype):
            stack = _pixels(rng, (40, 6, 7), dtype)
            base = 1e9 if dtype.startswith("float") else np.iinfo(dtype).max // 2
            return {"stack": (stack + np.asarray(base, dtype)).astype(dtype), "mask": None}

        yield Case("stack_statistics", "large_offset", dtype, offset)


def _planes():
    for dtype in KERNEL_DTYPES:
        for shape in [(1, 1), (3, 5), (37, 41), (20, 300)]:
            for kind in ("none", "shared", "each"):
                for smooth in (0.0, 1.3):

                    def standardise(rng, shape=shape, kind=kind, smooth=smooth, dtype=dtype):
                        images = _stack(rng, shape, dtype)
                        if dtype.startswith("float"):
                            images[3, 0] = np.nan
                            images[4, -1, -1] = np.inf
                        return {"images": images, "mask": _mask(rng, len(images), shape, kind), "smooth": smooth}

                    name = f"{shape[0]}x{shape[1]}-mask_{kind}-smooth_{smooth}"
                    yield Case("standardise", name, dtype, standardise)

        def offset(rng, dtype=dtype):
            images = np.minimum(_pixels(rng, (3, 19, 23), dtype), 100)
            base = 1e6 if dtype.startswith("float") else np.iinfo(dtype).max - 100
            return {"images": (images + np.asarray(base, dtype)).astype(dtype), "mask": None, "smooth": 0.0}

        yield Case("standardise", "large_offset", dtype, offset)


def _plane(rng, shape, holes):
    """Noise of mean 0 and deviation 1, some of it NaN: what `standardise` returns."""
    plane = rng.normal(size=shape).astype(np.float32)
    plane[rng.random(shape) < holes] = np.nan
    return plane


def _matrices(rng, problems, n, kind):
    """Pull matrices near the identity: diagonal in a few groups, rotated and sheared, or both in turns."""
    m = np.zeros((problems, n, 2, 3))
    m[..., 0, 0] = m[..., 1, 1] = 1.0
    m[..., :, 2] = rng.uniform(-4, 4, (problems, n, 2))
    m[:, ::2, 1, 2] = 0.25
    m[:, 1::3, 0, 0] = rng.uniform(0.4, 2.1, m[:, 1::3, 0, 0].shape)
    m[:, 2::5, 1, 1] = -0.9
    m[:, 2::5, 1, 2] = 11.5
    if kind != "diagonal":
        some = slice(None, None, 1 if kind == "rotated" else 2)
        m[:, some, :, :2] += rng.normal(0, 0.2, m[:, some, :, :2].shape)
    return m


SIZES = {
    "1x1": ((1, 1), (1, 1)),
    "3x5": ((3, 5), (3, 5)),
    "37x41": ((37, 41), (37, 41)),
    "64x300": ((64, 300), (64, 300)),
    "onto_smaller": ((37, 41), (30, 64)),
    "onto_larger": ((40, 33), (150, 70)),
}
"""Shapes of reference and moving image."""


def _scores():
    for size, (shape, moving_shape) in SIZES.items():
        for kind, holes in (("diagonal", 0.0), ("diagonal", 0.1), ("rotated", 0.1), ("mixed", 0.4)):
            for problems, n in ((1, 1), (1, 7), (3, 7)):

                def score(rng, a=shape, b=moving_shape, kind=kind, holes=holes, problems=problems, n=n):
                    moving = _plane(rng, (problems, *b), holes)
                    reference = _plane(rng, (problems, *a), holes)
                    return {
                        "reference": reference,
                        "moving": moving,
                        "matrices": _matrices(rng, problems, n, kind),
                    }

                yield Case("score_affine", f"{size}-{kind}-holes_{holes}-{problems}x{n}", "float32", score)

    def special(rng):
        reference = _plane(rng, (2, 37, 41), 0.0)
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

    yield Case("score_affine", "special_matrices", "float32", special)

    def constant(rng):
        reference = _plane(rng, (3, 20, 70), 0.1)
        moving = _plane(rng, (3, 20, 70), 0.1)
        reference[0] = 0.0
        moving[1] = 0.7
        reference[2] = np.nan
        return {"reference": reference, "moving": moving, "matrices": _matrices(rng, 3, 6, "mixed")}

    yield Case("score_affine", "constant_and_empty", "float32", constant)

    def large_group(rng):
        m = _matrices(rng, 2, 70, "diagonal")
        m[:, :60, 1] = 0.0, 1.0, 0.125
        return {"reference": _plane(rng, (2, 33, 65), 0.1), "moving": _plane(rng, (2, 33, 65), 0.1), "matrices": m}

    yield Case("score_affine", "large_group", "float32", large_group)

    def far_from_zero(rng):
        m = _matrices(rng, 3, 12, "mixed")
        planes = {name: _plane(rng, (3, 70, 100), 0.1) for name in ("reference", "moving")}
        for plane in planes.values():
            plane += np.float32([1.0, -5.0, 30.0])[:, None, None]
        return {**planes, "matrices": m}

    yield Case("score_affine", "far_from_zero", "float32", far_from_zero)


def _scene(rng, dtype, shape, small, frames, depth, kind):
    """Images with a common part, shifted by a few pixels, and masks: of none, all, one or both of them."""
    references = frames if kind == "each" else 1
    scene = rng.gamma(2.0, 20.0, (references, depth, shape[0] + 20, shape[1] + 20))
    fixed = scene[:, :, 10 : 10 + shape[0], 10 : 10 + shape[1]]
    moved = np.empty((frames, depth, *small))
    for k in range(frames):
        common = scene[k % references, :, 8 + k : 8 + k + small[0], 13 - k : 13 - k + small[1]]
        moved[k] = 0.0
        moved[k, :, : common.shape[1], : common.shape[2]] = common
    moved += rng.gamma(2.0, 5.0, moved.shape)
    masks = [None, None]
    if kind != "none":
        masks[0] = rng.random((references, depth, *shape)) < 0.8
        masks[1] = rng.random((1 if kind == "shared" else frames, depth, *small)) < 0.9
    fixed, moved = fixed.astype(dtype), moved.astype(dtype)
    if np.dtype(dtype).kind == "f" and kind in ("shared", "each"):
        fixed[0, 0, -1, -1], moved[0, 0, min(2, small[0] - 1)] = np.inf, np.nan
    return fixed, masks[0], moved, masks[1]


def _correlations():
    sizes = {
        "1x1": ((1, 1), (1, 1)),
        "32x33": ((32, 33), (32, 33)),
        "20x90": ((20, 90), (20, 90)),
        "onto_smaller": ((30, 41), (37, 20)),
        "onto_larger": ((41, 30), (23, 19)),
    }
    windows = {"all": None, "near": Lags(-5, -4, 6, 3), "beside": Lags(2, -6, 5, -1), "inside": Lags(0, 0, 18, 11)}
    for dtype in KERNEL_DTYPES:
        for size, (shape, small) in sizes.items():
            if dtype not in ("float32", "uint16") and size != "32x33":
                continue
            for kind in ("none", "shared", "own", "each"):
                for name, window in windows.items():
                    if (dtype not in ("float32", "uint16") and name != "near") or (
                        name == "inside" and size != "onto_larger"
                    ):
                        continue
                    for depth, ratio in ((1, 0.3), (2, 0.7), (1, 0.0)):

                        def make(rng, d=dtype, a=shape, b=small, k=kind, w=window, depth=depth, ratio=ratio):
                            r, r_mask, v, v_mask = _scene(rng, d, a, b, 3, depth, k)
                            lags = possible(a, b)
                            return {
                                "reference": r,
                                "reference_mask": r_mask,
                                "moving": v,
                                "moving_mask": v_mask,
                                "lags": lags if w is None else intersection(w, lags),
                                "overlap_ratio": ratio,
                            }

                        if size == "1x1" and name == "beside":  # no such lags
                            continue
                        label = f"{size}-{name}-mask_{kind}-{depth}-{ratio}"
                        yield Case("masked_ncc", label, dtype, make)
                        if ratio > 0:  # overlaps of two pixels all have scores of 1
                            yield Case("masked_peaks", label, dtype, make)

    def nothing(rng):
        r, r_mask, v, v_mask = _scene(rng, "float32", (30, 31), (30, 31), 5, 1, "shared")
        v[1], v[2], v[3] = 7.0, np.nan, -r[0]
        v_mask[...] = True
        v[4, :, :, :16] = 0.1  # constant in part
        lags = Lags(-3, -2, 4, 5)
        return {
            "reference": r,
            "reference_mask": r_mask,
            "moving": v,
            "moving_mask": v_mask,
            "lags": lags,
            "overlap_ratio": 0.5,
        }

    for operation in ("masked_ncc", "masked_peaks"):
        yield Case(operation, "constant_and_empty", "float32", nothing)


def _transforms(rng, n):
    """Diagonal, turned, upside down, exact hits, and far away, in turns."""
    m = _matrices(rng, 1, n, "mixed")[0]
    m[0] = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    if n > 1:
        m[1] = [[0.0, 1.0, 0.0], [1.0, 0.0, -1.0]]  # transposed: exact hits without a diagonal
        m[2] = [[1.0, 0.0, 0.5], [0.0, 0.5, -1.0]]  # halfway between pixels, and every other one exactly
        m[3, :, 2] = 0.0, 1e9
        m[4] = [[0.0, 0.0, 2.0], [0.0, 0.0, 1.0 - 2.0**-30]]  # one pixel for all; the weight is rounded to 1 in float32
    return m


def _resampled():
    for dtype in KERNEL_DTYPES:
        for shape, output in [((1, 1), (1, 1)), ((1, 7), (3, 9)), ((3, 2), (3, 2)), ((37, 41), (37, 41))]:
            for kind in ("none", "shared", "each"):
                for order in (0, 1, 3):

                    def resample(rng, shape=shape, output=output, kind=kind, order=order, dtype=dtype):
                        several = kind == "each"
                        images = _stack(rng, shape, dtype, n=7 if several else 1)
                        if not several:
                            images = _pixels(rng, (1, *shape), dtype)
                        if dtype.startswith("float") and shape[0] > 1:
                            images[0, 1, 1] = np.nan
                            images[-1, -1, 0] = -np.inf
                        return {
                            "images": images,
                            "mask": _mask(rng, len(images), shape, kind),
                            "matrices": _transforms(rng, 7 if several else 9),
                            "shape": output,
                            "order": order,
                        }

                    yield Case("resample_affine", f"{shape[0]}x{shape[1]}-mask_{kind}-order_{order}", dtype, resample)

        for order in (1, 3):

            def holes(rng, order=order, dtype=dtype):
                images = _pixels(rng, (4, 70, 33), dtype)
                mask = np.ones(images.shape, np.bool_)
                mask[0, 20:29] = mask[0, :, 5:9] = False  # rows without any, as well
                mask[1, 3:] = False
                mask[2] = False
                mask[3, ::2, ::3] = False
                m = _matrices(rng, 1, 4, "mixed")[0]
                m[1] = [[0.02, 0.0, 0.1], [0.0, 0.9, 0.3]]
                return {"images": images, "mask": mask, "matrices": m, "shape": (66, 50), "order": order}

            yield Case("resample_affine", f"holes-order_{order}", dtype, holes)

        for shape, factors in [((1, 1), (1, 1)), ((5, 7), (5, 7)), ((37, 41), (4, 3)), ((20, 300), (3, 2))]:
            for kind in ("none", "shared", "each"):

                def bins(rng, shape=shape, factors=factors, kind=kind, dtype=dtype):
                    images = _stack(rng, shape, dtype, low=0.0 if dtype.startswith("u") else -5.0)
                    if dtype.startswith("float"):
                        images[3, 0, : shape[1] // 2 + 1] = np.nan
                        images[4, :, 0] = np.inf
                    return {"images": images, "mask": _mask(rng, len(images), shape, kind), "factors": factors}

                yield Case("bin_mean", f"{shape[0]}x{shape[1]}-by_{factors[0]}x{factors[1]}-mask_{kind}", dtype, bins)


def _lag_sums():
    sizes = {
        "1x1": ((1, 1), (1, 1), (0, 0)),
        "12x13": ((12, 13), (12, 13), (2, 3)),
        "onto_smaller": ((20, 9), (7, 15), (6, 1)),
        "all_lags": ((5, 6), (5, 6), (4, 5)),
    }
    for size, (shape, moving_shape, reach) in sizes.items():
        for holes in (0.0, 0.2):
            for problems in (1, 3):

                def sums(rng, a=shape, b=moving_shape, reach=reach, holes=holes, problems=problems):
                    return {
                        "reference": _plane(rng, (problems, *a), holes),
                        "moving": _plane(rng, (problems, *b), holes),
                        "reach": reach,
                    }

                yield Case("shift_sums", f"{size}-holes_{holes}-{problems}", "float32", sums)


def _linearizations():
    for size, (shape, moving_shape) in SIZES.items():
        for kind, holes in (("diagonal", 0.0), ("diagonal", 0.1), ("rotated", 0.1), ("mixed", 0.4)):
            for tile in (0, 16, 40):

                def linearize(rng, a=shape, b=moving_shape, kind=kind, holes=holes, tile=tile):
                    return {
                        "reference": _plane(rng, (5, *a), holes),
                        "moving": _plane(rng, (5, *b), holes),
                        "slopes": _plane(rng, (5, 2, *a), holes) if kind == "mixed" or tile == 40 else None,
                        "matrices": _matrices(rng, 1, 5, kind)[0],
                        "tile": tile,
                        "diagonal": kind == "diagonal",
                    }

                yield Case("linearize_affine", f"{size}-{kind}-holes_{holes}-tile_{tile}", "float32", linearize)

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
            planes = {"reference": _plane(rng, (10, 37, 41), 0.1), "moving": _plane(rng, (10, 37, 41), 0.3)}
            return {**planes, "slopes": None, "matrices": m, "tile": 0, "diagonal": diagonal}

        kind = "diagonal" if diagonal else "general"
        yield Case("linearize_affine", f"edges-{kind}", "float32", edges)

        def constant(rng, diagonal=diagonal):
            reference, moving = _plane(rng, (3, 20, 70), 0.1), _plane(rng, (3, 20, 70), 0.1)
            reference[0], moving[1], reference[2] = 0.0, 0.7, np.nan
            m = _matrices(rng, 1, 3, "diagonal")[0]
            planes = {"reference": reference, "moving": moving}
            return {**planes, "slopes": None, "matrices": m, "tile": 16, "diagonal": diagonal}

        yield Case("linearize_affine", f"constant_and_empty-{kind}", "float32", constant)


def _tables(rng, pixels, n_bins, entries, weighted):
    labels = rng.integers(0, n_bins + 1, (pixels, entries)).astype(np.int32)
    labels[labels == n_bins // 2] = n_bins  # an empty bin
    weights = rng.integers(0, 2**24 + 1, (pixels, entries)) * WEIGHT_STEP if weighted else None
    return BinTable(labels, None if weights is None else weights.astype(np.float32), n_bins)


def _binned():
    for dtype in KERNEL_DTYPES:
        for shape, n_bins in [((1, 1), 1), ((3, 5), 40), ((37, 41), 7), ((20, 300), 100), ((640, 320), 30)]:
            for kind in ("none", "shared", "each"):
                for entries, weighted in ((1, False), (2, True), (2, False), (1, True), (4, True)):
                    if (shape[0] == 640 or dtype not in ("uint16", "float32")) and (entries, kind) != (1, "none"):
                        continue

                    def sums(rng, shape=shape, n_bins=n_bins, kind=kind, dtype=dtype, e=entries, weighted=weighted):
                        n = 2 if shape[0] == 640 else 6
                        images = _stack(rng, shape, dtype, n=n, low=0.0 if dtype.startswith("u") else -5.0)
                        if n == 6 and dtype.startswith("float"):
                            images[3, 0, : shape[1] // 2 + 1] = np.nan
                            images[4, :, 0] = np.inf
                            images[5, shape[0] // 2] = -np.inf
                        table = _tables(rng, shape[0] * shape[1], n_bins, e, weighted)
                        return {"images": images, "mask": _mask(rng, n, shape, kind), "table": table}

                    name = f"{shape[0]}x{shape[1]}-{n_bins}_bins-mask_{kind}-{entries}{'w' if weighted else ''}"
                    yield Case("bin_sums", name, dtype, sums)

        def far_from_zero(rng, dtype=dtype):
            """Squares cancel: numbers near 30000 that differ by a few."""
            images = (30000 + rng.poisson(4, (2, 37, 41))).astype(dtype)
            return {"images": images, "mask": None, "table": _tables(rng, 37 * 41, 5, 1, False)}

        if dtype != "uint8":
            yield Case("bin_sums", "far_from_zero", dtype, far_from_zero)


def _averaged():
    for dtype in KERNEL_DTYPES:
        for shape in ((1, 1), (2, 3), (37, 41), (40, 300)):
            for kind in ("none", "shared", "each"):
                for for_all in (True, False):
                    if shape[1] == 300 and (dtype not in ("uint16", "float32") or kind != "shared"):
                        continue

                    def mean(rng, shape=shape, kind=kind, dtype=dtype, for_all=for_all):
                        images = _stack(rng, shape, dtype, n=10, low=0.0 if dtype.startswith("u") else -5.0)
                        if dtype.startswith("float"):
                            images[3, 0, : shape[1] // 2 + 1] = np.nan
                            images[4, :, 0] = np.inf
                        m = _matrices(rng, 1 if for_all else 10, 5, "mixed")
                        m[:, 0] = [[1, 0, 0], [0, 1, 0]]
                        m[:, 1] = [[-1, 0, shape[0] - 1], [0, -1, shape[1] - 1.5]]
                        return {"images": images, "mask": _mask(rng, 10, shape, kind), "matrices": m}

                    name = f"{shape[0]}x{shape[1]}-mask_{kind}-{'shared' if for_all else 'own'}"
                    yield Case("affine_average", name, dtype, mean)


CASES = [
    *_summaries(),
    *_others(),
    *_planes(),
    *_scores(),
    *_linearizations(),
    *_correlations(),
    *_resampled(),
    *_lag_sums(),
    *_binned(),
    *_averaged(),
]
OPERATIONS = sorted({case.operation for case in CASES})
