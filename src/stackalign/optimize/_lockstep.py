"""Run B searches side by side so that each step of all of them is one call of the score.

A search is written for one problem, as a generator: it yields the candidates it wants scored next and is sent their
scores. `drive` collects what all searches ask for, makes one call, and hands the answers out. A search therefore does
the same whether it runs alone or among others, and none of them knows about batches.
"""

from collections.abc import Callable, Generator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from stackalign._carriers import plain_array
from stackalign._types import FloatArray

from .result import OptimizeResult

__all__ = [
    "Finish",
    "Request",
    "ScoreFunction",
    "Search",
    "bounds_array",
    "drive",
    "per_parameter",
    "side_by_side",
    "starts_array",
]

ScoreFunction = Callable[[FloatArray], FloatArray]
"""``score(params (B, K, P)) -> (B, K)``, higher is better; every candidate's score depends on that candidate alone."""


class Request(NamedTuple):
    """Candidates (K, P) that one search wants scored, and the iteration that they are recorded under."""

    iteration: int
    candidates: FloatArray


class Finish(NamedTuple):
    """Why and after how many iterations a search stopped."""

    reason: str
    n_iterations: int


Search = Generator[Request, FloatArray, Finish]


def evaluate(score: ScoreFunction, candidates: FloatArray) -> FloatArray:
    """Score candidates (B, K, P) and refuse anything but (B, K) finite numbers."""
    scores = np.asarray(score(candidates), np.float64)
    if scores.shape != candidates.shape[:2]:
        msg = (
            f"score must return the shape {candidates.shape[:2]} for candidates {candidates.shape}, got {scores.shape}"
        )
        raise ValueError(msg)
    bad = np.argwhere(~np.isfinite(scores))
    if len(bad):
        problem, k = bad[0]
        msg = (
            f"score returned {scores[problem, k]} for problem {problem} at the parameters "
            f"{candidates[problem, k].tolist()} ({len(bad)} such values in this call); scores must be finite"
        )
        raise ValueError(msg)
    return scores


class _Record:
    """What one problem has seen: the best ever, and every scored candidate."""

    def __init__(self) -> None:
        self.rows: list[FloatArray] = []
        self.best: FloatArray | None = None
        self.best_score = -np.inf

    def add(self, request: Request, scores: FloatArray) -> None:
        iteration = np.full((len(scores), 1), float(request.iteration))
        self.rows.append(np.hstack([iteration, request.candidates, scores[:, None]]))
        k = int(np.argmax(scores))
        if scores[k] > self.best_score:
            self.best, self.best_score = request.candidates[k].copy(), float(scores[k])


def drive(
    score: ScoreFunction, searches: Sequence[Search], n_parameters: int, lower: FloatArray, upper: FloatArray
) -> OptimizeResult:
    """Run searches in lock-step until the last has stopped.

    A call always holds all B problems, because the score has no way to leave one out. A problem that has stopped or
    that asks for fewer candidates than another fills its rows with the best point that it knows; those rows are
    neither counted, nor recorded, nor looked at.

    Parameters
    ----------
    score : callable
    searches : sequence of Search
        One per problem.
    n_parameters : int
    lower, upper : numpy.ndarray
        (B, P), to tell which results lie on a bound.

    Returns
    -------
    OptimizeResult
    """
    records = [_Record() for _ in searches]
    pending: dict[int, Request] = {}
    finished: dict[int, Finish] = {}

    def advance(problem: int, answer: FloatArray | None) -> None:
        try:
            search = searches[problem]
            pending[problem] = next(search) if answer is None else search.send(answer)
        except StopIteration as stop:
            pending.pop(problem, None)
            finished[problem] = stop.value

    for problem in range(len(searches)):
        advance(problem, None)
    while pending:
        width = max(len(request.candidates) for request in pending.values())
        batch = np.empty((len(searches), width, n_parameters))
        for problem, record in enumerate(records):
            request = pending.get(problem)
            count = 0 if request is None else len(request.candidates)
            if request is not None:
                batch[problem, :count] = request.candidates
            batch[problem, count:] = batch[problem, 0] if record.best is None else record.best
        scores = evaluate(score, batch)
        for problem, request in list(pending.items()):
            answer = scores[problem, : len(request.candidates)]
            records[problem].add(request, answer)
            advance(problem, answer)
    best = np.array([record.best for record in records], np.float64).reshape(len(searches), n_parameters)
    return OptimizeResult(
        parameters=best,
        score=np.array([record.best_score for record in records]),
        n_evaluations=np.array([sum(len(rows) for rows in record.rows) for record in records], np.int64),
        n_iterations=np.array([finished[problem].n_iterations for problem in range(len(searches))], np.int64),
        reason=tuple(finished[problem].reason for problem in range(len(searches))),
        history=tuple(np.concatenate(record.rows) for record in records),
        on_bound=np.any(((best <= lower) | (best >= upper)) & (lower < upper), axis=-1),
    )


def side_by_side(searches: Sequence[Search]) -> Search:
    """Run several searches of one problem as one; it ends with the last, "converged" if all of them are."""
    requests: dict[int, Request] = {}
    finished: list[Finish] = []

    def advance(i: int, answer: FloatArray | None) -> None:
        try:
            requests[i] = next(searches[i]) if answer is None else searches[i].send(answer)
        except StopIteration as stop:
            requests.pop(i, None)
            finished.append(stop.value)

    for i in range(len(searches)):
        advance(i, None)
    while requests:
        counts = [len(request.candidates) for request in requests.values()]
        answer = yield Request(
            max(request.iteration for request in requests.values()),
            np.concatenate([request.candidates for request in requests.values()]),
        )
        for i, part in zip(list(requests), np.split(answer, np.cumsum(counts)[:-1]), strict=True):
            advance(i, part)
    reasons = sorted({finish.reason for finish in finished} - {"converged"})
    return Finish(reasons[0] if reasons else "converged", max(finish.n_iterations for finish in finished))


def starts_array(start: ArrayLike) -> FloatArray:
    """Starts as (B, P) float64; (P,) is one problem."""
    values = plain_array(start, np.float64, "start")
    if values.ndim == 1:
        values = values[None]
    if values.ndim != 2 or not values.size:
        msg = f"start must have the shape (P,) or (B, P), got {np.shape(start)}"
        raise ValueError(msg)
    if not np.isfinite(values).all():
        msg = "start must be finite"
        raise ValueError(msg)
    return values.copy()


def per_parameter(value: ArrayLike, n_parameters: int, name: str) -> FloatArray:
    """One number for all parameters, or one each, as (P,) float64: finite and not negative."""
    values = plain_array(value, np.float64, name)
    if values.ndim > 1 or (values.ndim == 1 and len(values) != n_parameters):
        msg = f"{name} must be one number or {n_parameters} numbers, got the shape {values.shape}"
        raise ValueError(msg)
    if not (np.isfinite(values).all() and (values >= 0).all()):
        msg = f"{name} must be finite and not negative, got {values.tolist()}"
        raise ValueError(msg)
    return np.broadcast_to(values, (n_parameters,)).copy()


def bounds_array(bounds: ArrayLike | None, shape: tuple[int, int]) -> tuple[FloatArray, FloatArray]:
    """Lower and upper bounds, both (B, P), from (P, 2) or (B, P, 2); infinite where there is none."""
    if bounds is None:
        return np.full(shape, -np.inf), np.full(shape, np.inf)
    values = plain_array(bounds, np.float64, "bounds")
    if values.shape not in ((shape[1], 2), (*shape, 2)):
        msg = f"bounds must have the shape {(shape[1], 2)} or {(*shape, 2)}, got {values.shape}"
        raise ValueError(msg)
    values = np.broadcast_to(values, (*shape, 2))
    if not (values[..., 0] <= values[..., 1]).all():
        msg = "bounds must be (lower, upper) with lower not above upper; use -inf and inf where there is none"
        raise ValueError(msg)
    return values[..., 0], values[..., 1]
