"""Potentials of reflections, each calculated once for a crystal in a beam."""

from collections.abc import Callable
from typing import Any

import numpy as np

from stackalign._types import ComplexArray, IntArray

__all__ = ["PotentialTable"]

LARGEST = 2**22
"""Most reflections in the box around all that were asked for; beyond it nothing is remembered."""

Calculate = Callable[[IntArray], ComplexArray]


class PotentialTable:
    """Values at reflections, from a box of indices that grows with what is asked for.

    The choice of beams and the structure matrices of one geometry ask for the same differences of reflections again
    and again; making them was 40 % of a refinement of small disks.

    Parameters
    ----------
    calculate : callable
        (N, 3) indices to (N,) values. Its results must not depend on what else is in the list.
    """

    def __init__(self, calculate: Calculate) -> None:
        self.calculate = calculate
        self._box = _Box(np.zeros(3, dtype=np.int64))

    def __getstate__(self) -> dict[str, Any]:
        return {"calculate": self.calculate, "_box": _Box(np.zeros(3, dtype=np.int64))}  # cheaper to make than to send

    def values(self, hkl: IntArray) -> ComplexArray:
        """Return values (...) at reflections (..., 3)."""
        flat = hkl.reshape(-1, 3)
        box = self._covering(np.abs(flat).max(0, initial=0))
        return box.look_up(box.keys(flat) + box.origin, self.calculate).reshape(hkl.shape[:-1])

    def differences(self, first: IntArray, second: IntArray) -> ComplexArray:
        """Return values (N, M) at the differences of reflections (N, 3) and (M, 3)."""
        box = self._covering(np.abs(first).max(0, initial=0) + np.abs(second).max(0, initial=0))
        # The key of a difference is the difference of the keys: no list of N x M x 3 indices is made.
        keys = (box.keys(first) + box.origin)[:, None] - box.keys(second)
        return box.look_up(keys, self.calculate)

    def _covering(self, reach: IntArray) -> "_Box":
        """Return a box with all reflections up to these indices."""
        box = self._box
        if (reach > box.reach).any():
            larger = np.maximum(reach, box.reach)
            if int((2 * larger + 1).prod()) > LARGEST:
                return _Box(reach)
            # Several threads may come here at once: each then fills a box of its own, and one of them stays.
            self._box = box = box.grown(larger)
        return box


class _Box:
    """Values within `reach` of 000 along each index, as far as they are known."""

    def __init__(self, reach: IntArray) -> None:
        self.reach = reach
        self.shape = tuple((2 * reach + 1).tolist())
        size = int((2 * reach + 1).prod())
        self.origin = size // 2
        self.content = np.zeros(size, dtype=np.complex128)
        self.known = np.zeros(size, dtype=np.bool_)

    def keys(self, flat: IntArray) -> IntArray:
        """(N,) places of reflections (N, 3) in the lists, counted from that of 000."""
        return np.asarray((flat[:, 0] * self.shape[1] + flat[:, 1]) * self.shape[2] + flat[:, 2])

    def look_up(self, keys: IntArray, calculate: Calculate) -> ComplexArray:
        known = self.known[keys]
        if not known.all():
            asked = np.zeros_like(self.known)
            asked[keys] = True
            missing = np.flatnonzero(asked & ~self.known)
            self.content[missing] = calculate(np.stack(np.unravel_index(missing, self.shape), -1) - self.reach)
            self.known[missing] = True  # last: another thread may be reading
        return np.asarray(self.content[keys])

    def grown(self, reach: IntArray) -> "_Box":
        larger = _Box(reach)
        inner = tuple(slice(int(a - b), int(a + b + 1)) for a, b in zip(reach, self.reach, strict=True))
        for name in ("content", "known"):
            getattr(larger, name).reshape(larger.shape)[inner] = getattr(self, name).reshape(self.shape)
        return larger
