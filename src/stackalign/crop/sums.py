"""What the second pass adds up, and how a resumed run has it again."""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from stackalign.runs import Journal

__all__ = ["Sums"]


@dataclasses.dataclass
class Sums:
    """What the second pass adds up; saved with every checkpoint. ``mean_done`` windows are in ``mean_sum``."""

    kept: NDArray[np.float64]
    mean_sum: NDArray[np.float64]
    totals: NDArray[np.float64] | None
    virtual: NDArray[np.float64]
    mean_done: int = 0

    @classmethod
    def zeros(cls, n: int, window: tuple[int, int], *, with_totals: bool) -> "Sums":
        """Those of a pass that begins."""
        return cls(np.zeros(n), np.zeros(window), np.zeros(n) if with_totals else None, np.full((n, 2), np.nan))

    def restore(self, journal: Journal) -> None:
        """Take over those of an interrupted run."""
        saved = journal.load_arrays("crop")
        self.kept, self.mean_sum = saved["kept"], saved["mean_sum"]
        if self.totals is not None:
            self.totals = saved["totals"]
        self.virtual = saved.get("virtual", self.virtual)  # earlier versions did not keep them
        self.mean_done = int(saved["mean_done"])

    def save(self, journal: Journal, done: int) -> None:
        """Store them, after `done` patterns."""
        more = {"virtual": self.virtual} | ({} if self.totals is None else {"totals": self.totals})
        journal.save_arrays("crop", kept=self.kept, mean_sum=self.mean_sum, mean_done=np.array(done), **more)
