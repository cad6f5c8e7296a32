"""Which candidate transforms can share work, decided on the host: a few numbers per candidate."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Candidates", "Groups", "batch", "flatten", "group"]


class Candidates(NamedTuple):
    """All candidates of a call, one after the other.

    ``matrices`` (C, 2, 3), the ``problem`` (C,) of each, and the indices of those with a diagonal matrix and of the
    others.
    """

    matrices: NDArray[np.float64]
    problem: NDArray[np.int64]
    diagonal: NDArray[np.int64]
    others: NDArray[np.int64]


class Groups(NamedTuple):
    """Candidates of one problem with one scale and offset along x, so that they share the interpolation along x.

    ``problem`` (G,) and ``columns`` (G, 2), scale and offset along x, belong to a group; ``rows`` (C, 2), scale and
    offset along y, to a candidate of the call; group g has the candidates ``members[bounds[g]:bounds[g + 1]]``, in the
    order of their offset along y.
    """

    problem: NDArray[np.int64]
    columns: NDArray[np.float64]
    rows: NDArray[np.float64]
    members: NDArray[np.int64]
    bounds: NDArray[np.int64]


def flatten(matrices: NDArray[np.float64]) -> Candidates:
    """Put the candidates (B, K, 2, 3) of all problems in one row."""
    problems, per_problem = matrices.shape[:2]
    flat = np.ascontiguousarray(matrices.reshape(-1, 2, 3))
    diagonal = (flat[:, 0, 1] == 0.0) & (flat[:, 1, 0] == 0.0)
    problem = np.repeat(np.arange(problems, dtype=np.int64), per_problem)
    return Candidates(flat, problem, np.flatnonzero(diagonal), np.flatnonzero(~diagonal))


def group(candidates: Candidates) -> Groups:
    """Group the candidates with a diagonal matrix."""
    chosen = candidates.diagonal
    problem, m = candidates.problem[chosen], candidates.matrices[chosen]
    order = np.lexsort((m[:, 0, 2], m[:, 1, 2], m[:, 1, 1], problem))
    key = np.column_stack([problem, m[:, 1, 1:]])[order]
    starts = np.flatnonzero(np.append(True, (key[1:] != key[:-1]).any(axis=1)))
    keys = key[starts]
    return Groups(
        problem=keys[:, 0].astype(np.int64),
        columns=np.ascontiguousarray(keys[:, 1:]),
        rows=np.ascontiguousarray(candidates.matrices[:, 0, ::2]),
        members=chosen[order],
        bounds=np.append(starts, len(order)).astype(np.int64),
    )


def batch(problem: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Cut groups into batches of one problem and at most so many groups; where each begins, and the end."""
    first = np.searchsorted(problem, problem)  # they are in the order of their problems
    begins = (np.arange(len(problem)) - first) % most == 0
    return np.append(np.flatnonzero(begins), len(problem))
