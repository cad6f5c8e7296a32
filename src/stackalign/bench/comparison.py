"""What has become slower or faster since earlier results, beyond the noise of both."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stackalign.errors import DataError

__all__ = ["Change", "compare"]

DEVIATIONS = 5.0
"""Of the medians: of two hundred rows none exceeds it by chance, even where the noise has heavy tails."""


@dataclass(frozen=True)
class Change:
    """How long a problem takes now, over how long it took.

    Parameters
    ----------
    case, problem : str
    ratio : float
        New over old.
    limit : float
        Ratio that noise explains, or that is not worth a word.
    """

    case: str
    problem: str
    ratio: float
    limit: float

    @property
    def slower(self) -> bool:
        """Slower than noise explains."""
        return self.ratio > self.limit

    @property
    def faster(self) -> bool:
        """Faster than noise explains."""
        return self.ratio < 1 / self.limit

    def __str__(self) -> str:
        """In a line."""
        word = "slower" if self.slower else "faster" if self.faster else "the same"
        return f"{self.case}, {self.problem}: {self.ratio:.2f}x the time, {word} (noise: {self.limit:.2f}x)"


def compare(old: Mapping[str, Any], new: Mapping[str, Any], *, tolerance: float = 0.1) -> list[Change]:
    """Compare two results of `run_benchmarks`, row by row.

    Parameters
    ----------
    old, new : mapping
    tolerance : float
        Share of the time by which a row may change whatever the noise.

    Returns
    -------
    list of Change
        Of all rows that both have.

    Raises
    ------
    DataError
        They have no row in common, or `old` is no result of this kind.

    Notes
    -----
    On the CPU times of the processor are compared, which other work on the machine disturbs less, on a device those of
    the clock. A change counts beyond the tolerance and beyond `DEVIATIONS` standard deviations of the two medians.
    Results of another machine, another number of threads or other sizes have other times; see ``machine`` in both.
    """
    try:
        before = {(row["case"], row["problem"]): row for row in old["rows"]}
        after = {(row["case"], row["problem"]): row for row in new["rows"]}
        key = "cpu_seconds" if str(new["settings"]["device"]) == "cpu" else "seconds"
        changes = [_change(name, before[name], row, key, tolerance) for name, row in after.items() if name in before]
    except (KeyError, TypeError) as error:
        msg = f"these are no results of stackalign bench ({error})"
        raise DataError(msg) from error
    if not changes:
        msg = "the two results have no problem in common; measure the same groups and sizes"
        raise DataError(msg)
    return changes


def _change(name: tuple[str, str], old: Any, new: Any, key: str, tolerance: float) -> Change:
    noise = math.hypot(*(_relative_error(row, key) for row in (old, new)))
    ratio = new[key]["median"] / max(old[key]["median"], 1e-12)
    return Change(*name, ratio=ratio, limit=1 + max(tolerance, DEVIATIONS * noise))


def _relative_error(row: Any, key: str) -> float:
    """Standard error of a median of few samples, relative to it."""
    values = row[key]
    return 1.253 * float(values["spread"]) / math.sqrt(max(1, row["samples"])) / max(float(values["median"]), 1e-12)
