"""Times of functions that take turns: the first call apart, medians with their spread."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Times", "take_turns"]

LEAST_SECONDS = 2e-3
"""A sample of a shorter call is the mean over several: the clock and the call itself take a microsecond."""
LEAST_SAMPLES = 3


@dataclass
class Times:
    """Seconds of one function.

    Parameters
    ----------
    first : float
        Of the first call, in which kernels are compiled or loaded and caches filled.
    wall, cpu : list of float
        Of the calls after it: by the clock, and of all threads of the process.
    """

    first: float
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def summary(self, share: float = 1.0) -> dict[str, Any]:
        """Medians and spreads, of the whole problem where each call did a share of it.

        Parameters
        ----------
        share : float
            Of the problem that a call does.

        Returns
        -------
        dict
            Of ``wall`` and ``cpu``: median, lowest, highest, and the robust standard deviation of one call; the number
            of samples, and the seconds of the first call.
        """
        both = {name: _summary([t / share for t in getattr(self, name)]) for name in ("wall", "cpu")}
        return {**both, "first": self.first / share, "samples": len(self.wall)}


def _summary(values: list[float]) -> dict[str, float]:
    middle = statistics.median(values)
    spread = 1.4826 * statistics.median([abs(value - middle) for value in values])
    return {"median": middle, "lowest": min(values), "highest": max(values), "spread": spread}


def take_turns(
    candidates: Mapping[str, Callable[[], Any]],
    *,
    rounds: int = 9,
    seconds: float = 2.0,
    synchronize: Callable[[], None] = lambda: None,
) -> dict[str, Times]:
    """Time functions in turns, so that a busy moment of the machine slows all of them alike.

    Parameters
    ----------
    candidates : mapping
        Functions by name.
    rounds : int
        Samples of each, at most.
    seconds : float
        After which a candidate stops, once it has three samples.
    synchronize : callable
        Waits for a device; called before each reading of the clock.

    Returns
    -------
    dict
        `Times` by name.

    Examples
    --------
    >>> from stackalign.bench import take_turns
    >>> times = take_turns({"sum": lambda: sum(range(1000))}, rounds=3)
    >>> len(times["sum"].wall)
    3
    """
    times = {name: Times(_sample(run, 1, synchronize)[0]) for name, run in candidates.items()}
    # Once more, warm: this decides how many calls make a sample.
    repeats = {}
    for name, run in candidates.items():
        warm = _sample(run, 1, synchronize)[0] if times[name].first < seconds else times[name].first
        repeats[name] = max(1, int(LEAST_SECONDS / max(warm, 1e-7)))
    spent = dict.fromkeys(candidates, 0.0)
    for _ in range(rounds):
        for name, run in candidates.items():
            if spent[name] > seconds and len(times[name].wall) >= LEAST_SAMPLES:
                continue
            wall, cpu = _sample(run, repeats[name], synchronize)
            times[name].wall.append(wall)
            times[name].cpu.append(cpu)
            spent[name] += wall * repeats[name]
    return times


def _sample(run: Callable[[], Any], repeats: int, synchronize: Callable[[], None]) -> tuple[float, float]:
    """Mean seconds of some calls, by the clock and of the processor."""
    synchronize()
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(repeats):
        run()
    synchronize()
    return (time.perf_counter() - wall) / repeats, (time.process_time() - cpu) / repeats
