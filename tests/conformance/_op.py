"""What a row of the table of operations holds."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from stackalign.backends._protocol import SUBJECTS
from stackalign_kernels import cuda_names

__all__ = ["EXACT", "SUM", "Branch", "Case", "Field", "Inputs", "Op", "Sample", "largest_pixel", "sum_of_pixels"]

Inputs = dict[str, Any]
"""Arguments of a method of the protocol by name, without `workers`."""

EXACT = 0.0
"""Integers, decisions, copies, and float64 sums whose order the protocol fixes: the same bits."""

SUM = 1e-12
"""Relative to the sum of magnitudes: float64 sums of up to 1e5 pixels in an order that is the backend's own
(1e5 * 2**-53 = 1.1e-11 in the worst case, its square root in practice)."""


@dataclass(frozen=True)
class Case:
    """Inputs of one call: every backend meets them.

    `slack` multiplies the tolerances, for inputs that are said to be harder.
    """

    name: str
    dtype: str
    make: Callable[[np.random.Generator], Inputs]
    slack: float = 1.0


class Sample(NamedTuple):
    """Patterns with a bright disk, from which operations make the few inputs that reach every branch of a kernel."""

    name: str
    patterns: np.ndarray
    mask: np.ndarray | None
    centers: np.ndarray
    corners: np.ndarray


class Branch(NamedTuple):
    """Inputs of one call that reach some branches of a kernel, and what multiplies the tolerances."""

    name: str
    inputs: Inputs
    slack: float = 1.0


def one(wanted: dict[str, np.ndarray], inputs: Inputs) -> float:
    """The tolerance is absolute."""
    return 1.0


def _of(inputs: Inputs) -> np.ndarray:
    pixels = next(inputs[name] for name in ("patterns", "images", "stack") if name in inputs)
    return np.abs(pixels[np.isfinite(pixels)].astype(np.float64))


def largest_pixel(wanted: dict[str, np.ndarray], inputs: Inputs) -> float:
    """The tolerance is relative to the largest valid pixel."""
    return float(_of(inputs).max(initial=0.0))


def sum_of_pixels(name: str) -> Callable[[dict[str, np.ndarray], Inputs], Any]:
    """The tolerance of this array is relative to the sum of the magnitudes of all pixels."""
    return lambda wanted, inputs: _of(inputs).sum() + np.abs(wanted[name])


@dataclass(frozen=True)
class Field:
    """How far an array of a result may be from the reference's: `limit` times what `scale` makes of the case.

    Arrays of integers are exact whatever the limit is. `on_host` is the limit where the CUDA kernels run on the host,
    if that is smaller; a limit may depend on the type of the array.
    """

    limit: float | dict[str, float] = EXACT
    scale: Callable[[dict[str, np.ndarray], Inputs], Any] = one
    on_host: float | dict[str, float] | None = None

    def limit_of(self, dtype: np.dtype, on_host: bool) -> float:
        limit = self.on_host if on_host and self.on_host is not None else self.limit
        return limit[dtype.name] if isinstance(limit, dict) else limit


@dataclass(frozen=True)
class Op:
    """An operation: what it is called, what it gives, and the inputs that it is tested with.

    Parameters
    ----------
    method : str
        Of `Backend`.
    public : tuple of str
        The functions of `stackalign.ops` that stand on it.
    results : dict of str to Field
        The arrays that it returns: the fields of its named tuple, or a name for its one array.
    cases : callable
        Gives the cases of the conformance suite.
    branches : callable
        Gives, for a `Sample`, a few small inputs that reach every branch of the kernels, for the host shim, the
        sanitizers and the mutants.
    definition : callable, optional
        Checks ``(results, inputs)`` of the reference against the definition, computed in another way.
    of_planes : bool
        Its CUDA kernels have no element type, since images are planes of float32 by then: one sample is enough.
    """

    method: str
    public: tuple[str, ...]
    results: dict[str, Field]
    cases: Callable[[], Iterable[Case]]
    branches: Callable[[Sample], Iterable[Branch]]
    definition: Callable[[dict[str, np.ndarray], Inputs], None] | None = None
    of_planes: bool = False
    kernel: str | None = field(init=False)
    """Basename of its kernel files; None where it is made of transforms alone."""

    def __post_init__(self) -> None:
        subject = SUBJECTS[self.method]
        object.__setattr__(self, "kernel", subject if subject in cuda_names() else None)
