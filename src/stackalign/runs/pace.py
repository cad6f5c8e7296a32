"""When the next checkpoint is due."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["CHECKPOINT_SECONDS", "Pace"]

CHECKPOINT_SECONDS = 2.0
"""Time between checkpoints, and so the work that a kill can cost; longer where a checkpoint itself takes long."""


class Pace:
    """Time since the last checkpoint, against what one costs.

    Parameters
    ----------
    seconds : float
        Shortest time between two checkpoints.
    """

    def __init__(self, seconds: float) -> None:
        self._interval = seconds
        self._saved = time.monotonic()
        self._cost = 0.0

    def due(self) -> bool:
        """Tell whether a checkpoint is due; the interval grows with its cost, to keep that below five per cent."""
        return time.monotonic() - self._saved > max(self._interval, 20 * self._cost)

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Context of one checkpoint; one that fails does not count."""
        began = time.monotonic()
        yield
        self._saved = time.monotonic()
        self._cost = self._saved - began
