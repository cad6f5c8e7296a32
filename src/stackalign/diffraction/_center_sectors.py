"""How well sectors of an image agree about a centre of rings: its error, and whether there are rings at all."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stackalign._types import FloatArray

__all__ = ["Agreement", "agreement", "settled"]


SECTORS = 36
"""Sectors into which the angles seen from a centre are divided, where all of them are seen."""
FEWEST = 5
"""Groups of sectors with structure below which their scatter is not an error."""
GROUP = 3
"""Sectors next to each other that are left out together: they may show the same grain."""
ROUNDS, LAST_ROUNDS = 8, 2
ENOUGH = 30000
"""Pixels of which a quarter leads near to where all of them agree."""


class Agreement(NamedTuple):
    """What the sectors of an image say about a centre.

    Parameters
    ----------
    step : numpy.ndarray
        (2,): by how much the centre should move for the sectors to agree best.
    covariance : numpy.ndarray
        (2, 2) of the centre, from the scatter of the sectors about their agreement; infinite where too few say
        anything.
    coherence : float
        Share of what rings explain of the image within sectors that other sectors predict: 1 for rings, 0 for spots.
    strength : float
        That which sectors predict of each other in units of its error.
    n_sectors : int
        Sectors with a say.
    """

    step: FloatArray
    covariance: FloatArray
    coherence: float
    strength: float
    n_sectors: int


def agreement(image: NDArray[np.floating], valid: NDArray[np.bool_], center: FloatArray) -> Agreement:
    """Compare the radial profiles of sectors about a centre with each other.

    A sector whose profile is that of the others moved outwards sees the centre too near. Each profile is compared with
    that of all other sectors: arcs and spots of its own would agree with themselves about any centre.
    """
    y, x = np.nonzero(valid)
    values = image[valid].astype(np.float64)
    dy, dx = y - center[0], x - center[1]
    radius = np.hypot(dy, dx)
    angle = np.arctan2(dy, dx)
    sector, count = _sectors(angle)
    ring = (radius + 0.5).astype(np.intp)
    low = int(ring.min())
    ring -= low
    rings = int(ring.max()) + 1
    cell = sector * rings + ring
    number = np.bincount(cell, minlength=count * rings).reshape(count, rings).astype(np.float64)
    sums = np.bincount(cell, values, count * rings).reshape(count, rings)
    all_n, all_s = number.sum(axis=0), sums.sum(axis=0)
    other_n = all_n - number
    seen = (number > 0) & (other_n > 2)
    other = np.where(seen, (all_s - sums) / np.maximum(other_n, 1), 0.0)
    mean = np.where(seen, sums / np.maximum(number, 1), 0.0)
    weight = np.where(seen, number * other_n / np.maximum(all_n, 1), 0.0)
    # What sectors predict of each other, beside what each shows.
    products = (weight * mean * other).sum(axis=1)
    noise = max(float(values @ values) - float((sums**2 / np.maximum(number, 1)).sum()), 0.0)
    noise /= max(1.0, len(values) - float((number > 0).sum()))
    own = float((weight * mean**2).sum()) - noise * float((weight > 0).sum())
    total = float(products.sum())
    error = float(np.sqrt((products**2).sum())) or 1.0
    size = np.maximum(number.sum(axis=1), 1)
    inner = np.maximum(radius, 1e-9)
    directions = np.stack([np.bincount(sector, v / inner, count) / size for v in (dy, dx)])
    normal, pull = _equations(mean, other, weight, number, other_n, directions)
    step, covariance, n = _solved(normal, pull)
    return Agreement(step, covariance, total / own if own > 0 else 0.0, total / error, n)


def _sectors(angle: FloatArray) -> tuple[NDArray[np.intp], int]:
    """Number of the sector of each pixel, sectors over the angles that are seen only, and how many there are."""
    edges = 360
    place = ((angle + np.pi) * (edges / (2 * np.pi))).astype(np.intp).clip(0, edges - 1)
    used = np.bincount(place, minlength=edges) > 0
    rank = np.cumsum(used) - 1
    n_used = int(used.sum())
    count = max(1, min(SECTORS, n_used // 2))
    return (rank * count // n_used)[place], count


def _equations(
    mean: FloatArray,
    other: FloatArray,
    weight: FloatArray,
    number: FloatArray,
    other_n: FloatArray,
    directions: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Normal matrices (S, 2, 2) and right-hand sides (S, 2) of the displacement of the centre, one for each sector.

    Where the centre is off by d, a sector in the direction u sees the profile moved by ``d @ u``, and the others, with
    which it is compared, see it moved by what their own directions make of d on the same ring: on a narrow arc nearly
    the same.
    """
    count = len(mean)
    slope = np.zeros_like(other)
    slope[:, 1:-1] = 0.5 * (other[:, 2:] - other[:, :-2])
    usable = weight.copy()
    usable[:, 1:-1] *= (weight[:, 2:] > 0) & (weight[:, :-2] > 0)
    usable[:, [0, -1]] = 0.0
    normal, pull = np.zeros((count, 2, 2)), np.zeros((count, 2))
    total_u = directions @ number
    others_u = (total_u[:, None] - directions[:, :, None] * number) / np.maximum(other_n, 1)
    root = np.sqrt(usable)
    # A sector may be brighter or darker as a whole: gain and offset are fitted beside the shift.
    fixed = np.stack([root, other * root], axis=1)
    moving = np.moveaxis((slope * root) * (others_u - directions[:, :, None]), 0, 1)
    moving = np.concatenate([(mean * root)[:, None], moving], axis=1)
    inner = fixed @ fixed.swapaxes(1, 2)
    told = np.linalg.det(inner) > 1e-9 * inner[:, 0, 0] * inner[:, 1, 1]
    told &= usable.sum(axis=1) > 0
    fixed, moving = fixed[told], moving[told]
    known = np.linalg.solve(inner[told], fixed @ moving.swapaxes(1, 2))
    gain = known[:, 1, 0].clip(0.0)  # A sector that shows the opposite of the others has no say.
    left = moving - known.swapaxes(1, 2) @ fixed
    regressors = gain[:, None, None] * left[:, 1:]
    # By their own scatter: a sector with a spot must not outweigh the others.
    normal[told] = regressors @ regressors.swapaxes(1, 2)
    pull[told] = (regressors @ left[:, 0, :, None])[..., 0]
    return normal, pull


def _solved(normal: FloatArray, pull: FloatArray) -> tuple[FloatArray, FloatArray, int]:
    """Displacement of the centre by all sectors, its covariance by leaving groups of them out, and their number."""
    used = np.flatnonzero(normal[:, 0, 0] + normal[:, 1, 1] > 0)
    open_ = np.full((2, 2), np.inf)
    groups = [used[k : k + GROUP] for k in range(0, len(used), GROUP)]
    if len(groups) < FEWEST:
        return np.zeros(2), open_, len(used)
    whole, right = normal.sum(axis=0), pull.sum(axis=0)
    left_out = [(whole - normal[g].sum(axis=0), right - pull[g].sum(axis=0)) for g in groups]
    if not all(np.linalg.cond(a) < 1e8 for a, _ in [(whole, right), *left_out]):
        return np.zeros(2), open_, len(used)
    step = np.linalg.solve(whole, right)
    apart = np.array([np.linalg.solve(a, b) for a, b in left_out]) - step
    n = len(groups)
    return step, (n - 1) / n * apart.T @ apart * n / max(n - 2, 1), len(used)


def settled(
    image: NDArray[np.floating], valid: NDArray[np.bool_], center: FloatArray, reach: float
) -> tuple[FloatArray, Agreement]:
    """Move a centre until its sectors agree, not farther than `reach`."""
    if np.count_nonzero(valid) > ENOUGH:
        # A part of the pixels leads near.
        some = valid & (np.add.outer(*(np.arange(n) for n in valid.shape)) % 4 == 0)
        near, _ = _settled(image, some, center, reach, ROUNDS)
        here, agreed = _settled(image, valid, near, reach, LAST_ROUNDS)
        if np.hypot(*(here - center)) <= reach:
            return here, agreed
    return _settled(image, valid, center, reach, ROUNDS)


def _settled(
    image: NDArray[np.floating], valid: NDArray[np.bool_], center: FloatArray, reach: float, rounds: int
) -> tuple[FloatArray, Agreement]:
    here, agreed = center, agreement(image, valid, center)
    for _ in range(rounds):
        step = agreed.step * min(1.0, 3.0 / max(float(np.hypot(*agreed.step)), 1e-9))
        if np.hypot(*(here + step - center)) > reach or np.hypot(*step) < 0.01:
            break
        here = here + step
        agreed = agreement(image, valid, here)
    return here, agreed
