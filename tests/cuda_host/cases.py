"""A few small inputs that reach every branch of the kernels, and the comparison with the reference backend."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from conformance import tolerances
from stackalign.backends import load
from stackalign.backends._bins import WEIGHT_STEP, BinTable
from stackalign.backends._lags import possible
from stackalign.backends._protocol import Lags

__all__ = ["DTYPES", "MASKS", "OPERATIONS", "SHAPES", "Case", "cases", "differences"]

reference = load("reference")

DTYPES = ("uint16", "float32", "int32", "float64")
SHAPES = ((3, 37, 41), (3, 64, 64), (3, 12, 300))  # less than a block wide, even, and more than a block wide
MASKS = ("none", "shared", "each")
FRACTIONS = (0.9, 0.25, 0.5, 1.0, 1.0 - 2.0**-53)
TOLERANCE = 1e-12
"""For sums whose order the protocol leaves free; everything else must be equal."""


class Case(NamedTuple):
    name: str
    patterns: NDArray[Any]
    mask: NDArray[np.bool_] | None
    centers: NDArray[np.float64]
    corners: NDArray[np.int64]


def cases(dtype: str, shapes: Any = SHAPES, masks: Any = MASKS) -> Iterator[Case]:
    """Patterns with a bright disk on a background, the same for the same arguments."""
    rng = np.random.default_rng(20)
    for shape in shapes:
        n, height, width = shape
        y, x = np.mgrid[:height, :width]
        middle = rng.uniform(0.3, 0.7, (n, 2)) * (height, width)
        disk = np.exp(-(((y - middle[:, :1, None]) / 5) ** 2 + ((x - middle[:, 1:, None]) / 7) ** 2))
        values = 200 * disk + 3 * rng.random(shape)
        if np.dtype(dtype).kind != "u":
            values[2] -= 40  # sums that do not grow with the radius
        values[1, -1, -1] = 60000  # several fractions end at the last radius
        if np.dtype(dtype).kind in "iu":
            values = values.clip(np.iinfo(dtype).min, np.iinfo(dtype).max)
        # One pattern more on each side: a wrong index reads another number, not another allocation.
        padded = np.full((n + 2, height, width), 77, dtype)
        patterns = padded[1:-1]
        patterns[...] = values
        if np.dtype(dtype).kind == "f":
            patterns[0, 5, 7], patterns[1, 3, 3], patterns[2, -1, -1] = np.nan, np.inf, -np.inf
        every = rng.random(shape) < 0.8
        every[:, :2] = False
        # On the frame, on its corner pixel, and outside; distances that are whole numbers are the delicate ones.
        centers = np.array([middle[0], [0.0, 0.0], [-30.5, width + 10.0]])
        corners = np.array([[3, 4], [-5, width - 6], [height + 3, -200]], np.int64)
        for mask in masks:
            chosen = {"none": None, "shared": every[:1].copy(), "each": every}[mask]
            yield Case(f"{dtype} {height}x{width} mask={mask}", patterns, chosen, centers, corners)


def _summary(backend: Any, case: Case) -> list[str]:
    found = []
    # Without fractions nothing separates a block's patterns but what the sums themselves need.
    for centers, fractions in ((None, FRACTIONS), (case.centers, FRACTIONS), (None, ())):
        arguments = (case.patterns, case.mask, centers, fractions, 1)
        label = f"pattern_summary of {len(fractions)} fractions, centers {'found' if centers is None else 'given'}"
        found += _compare(label, backend.pattern_summary(*arguments), reference.pattern_summary(*arguments))
    return found


def _radial(backend: Any, case: Case) -> list[str]:
    # More radii than the kernel takes at a time where the frame is wide.
    n_radii = 300 if case.patterns.shape[2] > 256 else 40
    arguments = (case.patterns, case.mask, case.centers, n_radii, 1)
    given, expected = backend.radial_cumulative(*arguments), reference.radial_cumulative(*arguments)
    return _compare("radial_cumulative", (given,), (expected,), near=("0",), scale=np.abs(_finite(case)).sum())


def _crop(backend: Any, case: Case) -> list[str]:
    arguments = (case.patterns, case.mask, case.corners, (19, 45), None, 1)
    given, expected = backend.crop_windows(*arguments), reference.crop_windows(*arguments)
    return _compare("crop_windows", given, expected, near=("sums",), scale=np.abs(_finite(case)).sum())


def _statistics(backend: Any, case: Case) -> list[str]:
    given = backend.stack_statistics(case.patterns, case.mask, 1)
    expected = reference.stack_statistics(case.patterns, case.mask, 1)
    return _compare("stack_statistics", given, expected, near=("m2",), scale=(_finite(case) ** 2).sum())


def _scores(backend: Any, case: Case) -> list[str]:
    rng = np.random.default_rng(21)
    # Noise, with what is valid in the case: where pixels differ less than they are away from zero, float32 sums of
    # their squares say little, and a tolerance would have to be wide.
    noise = np.where(np.isfinite(case.patterns), rng.normal(size=case.patterns.shape), np.nan)
    planes = reference.standardise(noise, case.mask, 0.0, 1)
    found = []
    # The moving images once like the reference, once with holes, larger and shifted, so that taps lie beyond its size.
    larger = np.pad(planes, ((0, 0), (7, 60), (4, 2)), mode="wrap")
    clean = np.nan_to_num(larger)
    larger[:, ::7, ::5] = np.nan
    for name, moving in (("same", planes), ("larger", larger), ("clean", clean)):
        # As above: planes of 99 on either side, which a wrong problem or index would meet.
        padded = np.full((2, planes.shape[0] + 2, *moving.shape[1:]), 99, np.float32)
        padded[0, 1:-1, : planes.shape[1], : planes.shape[2]] = planes
        padded[1, 1:-1] = moving
        fixed, moved = np.ascontiguousarray(padded[0, 1:-1, : planes.shape[1], : planes.shape[2]]), padded[1, 1:-1]
        found += _score(f"score_affine, {name}", backend, fixed, moved)
    found += _score("score_affine, far from 0", backend, fixed + np.float32(30), moved - np.float32(30), 1e6)
    for contrast in (1.0, 1.001):  # what varies by so little is taken for constant
        constant = np.full_like(fixed, 0.7)
        constant[:, ::3] *= np.float32(contrast)
        found += _score("score_affine, from a constant", backend, constant, fixed)
        found += _score("score_affine, of a constant", backend, fixed, constant)
    return found


def _score(label: str, backend: Any, fixed: Any, moved: Any, scale: float = 1e5) -> list[str]:
    arguments = (fixed, moved, _candidates(len(fixed)), 1)
    given, expected = backend.score_affine(*arguments), reference.score_affine(*arguments)
    return _compare(label, given, expected, near=("scores",), scale=scale)


def _candidates(problems: int) -> NDArray[np.float64]:
    """Matrices that take every path, in an order that no path has to itself."""
    shifts = np.array([[0, 0], [0.5, 0], [0.25, 1.75], [-2.5, 1.75], [3, 1.75], [-9.75, 1.75], [200, 1.75], [1, -1]])
    shifts = np.concatenate([shifts, np.stack([np.linspace(-3.3, 15.7, 19), np.full(19, 0.375)], 1)])  # a large group
    m = np.zeros((len(shifts) + 9, 2, 3))
    m[:, 0, 0] = m[:, 1, 1] = 1.0
    m[: len(shifts), :, 2] = shifts
    rest = m[len(shifts) :]
    rest[0, :, 0], rest[0, :, 1] = (1.03, 0.0), (0.0, 0.97)  # rows that repeat and rows that are left out
    rest[1, :, 0] = 1.6, 0.0  # more rows than a warp keeps
    rest[2, :, 0], rest[2, 0, 2] = (-1.0, 0.0), 31.5  # upside down
    for i, angle in enumerate((0.02, -0.3, 1.6)):
        c, s = np.cos(angle), np.sin(angle)
        rest[3 + i] = [[c, s, 1.3 - 9 * s], [-s, c, 2.1 + 9 * s]]
    rest[6] = [[1.0, 0.0, 0.0], [0.25, 1.0, -2.0]]
    rest[7] = [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]  # exact hits on every pixel, beside NaN as well
    rest[8, 0, ::2] = 0.2, 1.0  # further down in the first tile than the others of its group, further up in the next
    every = np.tile(m, (problems, 1, 1, 1))
    every[1, :, :, 2] += 0.125
    every[2] = every[2, ::-1]
    return every


def _maps(backend: Any, case: Case) -> list[str]:
    rng = np.random.default_rng(22)
    # Noise, as above, here because scores of parts that vary less than the whole are less precise.
    noise = rng.normal(size=case.patterns.shape)
    moving = np.where(np.isfinite(case.patterns), noise, np.nan).astype(np.float32)[:, None]
    mask = None if case.mask is None else case.mask[:, None]
    # The reference is larger, and shifted: transforms are longer than both, and lags are not symmetrical.
    fixed = np.roll(np.pad(noise[:, None], ((0, 0), (0, 0), (3, 5), (2, 9)), mode="wrap"), (2, -1), (2, 3))
    # Pieces of opposite corners, and one without variance; parts of one piece and of the reference are constant.
    whole = rng.normal(size=(1, 1, 24, 25))
    pieces = np.stack([whole[0, :, :6, :7], whole[0, :, -6:, -7:], np.full((1, 6, 7), 2.0)])
    flat, small = (
        whole[:, :, :9, :9].copy(),
        np.stack([whole[0, :, :4, :4], whole[0, :, 5:9, 5:9], pieces[2, :, :4, :4]]),
    )
    small[0, :, :, 2:], flat[:, :, 1:6, 3:9] = 0.5, 0.75
    problems = {
        "one": (fixed[:1], None, moving, mask, Lags(-3, -9, 8, 6), 0.4, 1),
        "each": (fixed, None, moving, mask, Lags(3, -4, 3, 2), 0.4, 1),
        "constant parts": (flat, None, small, None, possible((9, 9), (4, 4)), 0.4, 1),
        "pieces": (whole, None, pieces, None, possible((24, 25), (6, 7)), 1.0, 1),
    }
    found = []
    for name, arguments in problems.items():
        scale = MAP_OF_FEW if name in ("constant parts", "pieces") else MAP
        given, expected = backend.masked_ncc(*arguments), reference.masked_ncc(*arguments)
        found += _compare(f"masked_ncc, {name}", (given,), (expected,), near=("0",), scale=scale)
        peaks, expected = backend.masked_peaks(*arguments), reference.masked_peaks(*arguments)
        found += _compare(f"masked_peaks, {name}", peaks, expected, near=("peaks", "neighbours", "rings"), scale=scale)
    return found


MAP = 1e-6 / TOLERANCE
MAP_OF_FEW = 1e-3 / TOLERANCE
"""Scores of transforms in float32, and those of a few pixels, which may vary much less than the whole."""


def _resampled(backend: Any, case: Case) -> list[str]:
    n, height, width = case.patterns.shape
    matrices = _candidates(n)[:, -12:].reshape(-1, 2, 3)
    matrices[12] = matrices[24] = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]  # meets the infinite ones
    matrices[:3] = [[1.0, 0.0, 0.5], [0.0, 1.0, 0.5]], [[1.0, 0.0, -1.0], [0.0, 1.0, 1.0]], [[0.9, 0.1, 0], [0, 1, 1]]
    found = []
    for order in (0, 1, 3):
        # Each image through a matrix of its own, and one image through all.
        for images, mask, m in (
            (case.patterns, case.mask, np.ascontiguousarray(matrices[::12])),
            (case.patterns[:1], None if case.mask is None else case.mask[:1], matrices),
        ):
            arguments = (images, mask, m, (height + 3, width - 2), order, 1)
            given, expected = backend.resample_affine(*arguments), reference.resample_affine(*arguments)
            # All steps are taken in the same order but for the divisions of what fills holes.
            near = ("0",) if order == 3 else ()
            found += _compare(f"resample_affine, order {order}", (given,), (expected,), near, 1e6)
    return found


def _bins(backend: Any, case: Case) -> list[str]:
    found = []
    for factors in ((3, 4), (12, 37)):
        arguments = (case.patterns, case.mask, factors, 1)
        given, expected = backend.bin_mean(*arguments), reference.bin_mean(*arguments)
        found += _compare(f"bin_mean by {factors}", given, expected, near=("means",), scale=1e8)
    return found


def _linearized(backend: Any, case: Case) -> list[str]:
    """Compare the sums of a linearization, for tiles of which the last are smaller, and for the whole image."""
    rng = np.random.default_rng(23)
    noise = rng.normal(size=(2, *case.patterns.shape)).astype(np.float32)
    noise[0][~np.isfinite(case.patterns)] = np.nan
    # As above: planes of 99 on either side.
    padded = np.full((2, len(noise[0]) + 2, *case.patterns.shape[1:]), 99, np.float32)
    padded[:, 1:-1] = noise
    padded[1, 1:-1, ::7, ::5] = np.nan
    fixed, moved = padded[:, 1:-1]
    found = []
    candidates = _candidates(len(fixed)).swapaxes(0, 1)
    slopes = np.full((len(padded[0]), 2, *case.patterns.shape[1:]), 99, np.float32)
    slopes[1:-1] = rng.normal(size=slopes[1:-1].shape)
    slopes[1:-1, 0, ::9, ::4] = slopes[1:-1, 1, 4::9, ::4] = np.nan
    for k in (0, 1, 8, -9, -7, -6, -5, -3, -2):
        diagonal = bool((candidates[k, :, [0, 1], [1, 0]] == 0).all())
        for tile in (0, 20, 40):
            theirs = slopes[1:-1] if tile == 40 else None
            arguments = (fixed, moved, theirs, np.ascontiguousarray(candidates[k]), tile, diagonal, 1)
            given, expected = backend.linearize_affine(*arguments), reference.linearize_affine(*arguments)
            unit = tolerances.linear_scale(expected, fixed.shape[1:])
            given, expected = (a / np.where(unit > 0, unit, 1.0) for a in (given, expected))
            limit = tolerances.LINEAR / TOLERANCE
            found += _compare(f"linearize_affine, {k}, tile {tile}", (given,), (expected,), ("0",), limit)
    return found


def _planes(backend: Any, case: Case) -> list[str]:
    found = []
    for smooth in (0.0, 0.7, 5.0):  # wider than the image is high as well
        arguments = (case.patterns, case.mask, smooth, 1)
        given, expected = backend.standardise(*arguments), reference.standardise(*arguments)
        found += _compare(f"standardise, smooth {smooth}", (given,), (expected,), near=("0",), scale=PLANE)
    return found


def _averaged(backend: Any, case: Case) -> list[str]:
    height, width = case.patterns.shape[1:]
    found = []
    for for_all in (True, False):
        c = np.array(
            [[0.4 * height, 0.6 * width]] if for_all else [[0.3 * k, 0.5 * width] for k in range(len(case.patterns))]
        )
        angles = np.radians([0.0, 90.0, 77.0, 200.0])
        turns = np.array([[[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]] for a in angles])
        turns[:2] = [[[1, 0], [0, 1]], [[0, -1], [1, 0]]]
        offsets = c[:, None] - np.einsum("tij,nj->nti", turns, c)
        matrices = np.concatenate([np.broadcast_to(turns, (len(c), 4, 2, 2)), offsets[..., None]], axis=-1)
        arguments = (case.patterns, case.mask, np.ascontiguousarray(matrices), 1)
        given, expected = backend.affine_average(*arguments), reference.affine_average(*arguments)
        found += _compare(f"affine_average, {for_all}", (given / 6e4,), (expected / 6e4,), ("0",), 1e-6 / TOLERANCE)
    return found


def _table_sums(backend: Any, case: Case) -> list[str]:
    rng = np.random.default_rng(29)
    pixels = case.patterns[0].size
    found = []
    for entries, n_bins in ((1, 9), (3, 150)):
        labels = rng.integers(0, n_bins + 1, (pixels, entries)).astype(np.int32)
        labels[labels == 4] = n_bins
        weights = (rng.integers(0, 2**24 + 1, labels.shape) * WEIGHT_STEP).astype(np.float32)
        table = BinTable(labels, weights if entries > 1 else None, n_bins)
        arguments = (case.patterns, case.mask, table, 1)
        given, expected = backend.bin_sums(*arguments), reference.bin_sums(*arguments)
        # Relative to the largest pixel and its square.
        given, expected = (s._replace(bin_mean=s.bin_mean / 6e4, bin_m2=s.bin_m2 / 6e4**2) for s in (given, expected))
        found += _compare(f"bin_sums, {entries}", given, expected, near=("bin_mean", "bin_m2"))
    return found


PLANE = 1e-6 / TOLERANCE
"""The last bit of float32 where sums in another order decide the rounding."""

OPERATIONS = {
    "radial": (_summary, _radial),
    "crop": (_crop,),
    "statistics": (_statistics,),
    "affine_ncc": (_scores,),
    "masked_ncc": (_maps,),
    "affine_resample": (_resampled,),
    "binning": (_bins,),
    "bins": (_table_sums,),
    "affine_average": (_averaged,),
    "affine_linearize": (_linearized,),
    "standardise": (_planes,),
}
"""By kernel file."""


OF_PLANES = ("affine_ncc", "affine_linearize")
"""Files without an element type: they take planes of float32, whatever the images were."""


def differences(backend: Any, case: Case, files: Iterable[str] = tuple(OPERATIONS)) -> list[str]:
    """Run the operations of some kernel files on the case and name what differs from the reference."""
    chosen = [file for file in files if file not in OF_PLANES or case.patterns.dtype == np.float32]
    return [text for file in chosen for operation in OPERATIONS[file] for text in operation(backend, case)]


def _finite(case: Case) -> NDArray[np.float64]:
    return np.where(np.isfinite(case.patterns), case.patterns, 0).astype(np.float64)


def _compare(label: str, given: Any, expected: Any, near: Sequence[str] = (), scale: float = 1.0) -> list[str]:
    found = []
    names = getattr(expected, "_fields", [str(i) for i in range(len(expected))])
    for name, a, b in zip(names, given, expected, strict=True):
        if a.dtype != b.dtype or a.shape != b.shape:
            found.append(f"{label}: {name} is {a.dtype}{a.shape}, not {b.dtype}{b.shape}")
            continue
        close = np.abs(a - b) <= TOLERANCE * scale if name in near and a.dtype.kind == "f" else a == b
        wrong = ~(close | ((a != a) & (b != b)))
        if wrong.any():
            first = tuple(np.argwhere(wrong)[0].tolist())
            found.append(f"{label}: {name}{list(first)} is {a[first]!r}, not {b[first]!r}; {wrong.sum()} differ")
    return found
