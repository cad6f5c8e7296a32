"""Calls of all operations of the array API with arguments that are made from their names.

Tests that ask the same of every public function take operations from here, so that a new one is tested without a row.
"""

import inspect
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from stackalign import ops

__all__ = ["IMAGE", "IMAGES", "MIDDLE", "STACK", "operations"]

IMAGE = np.random.default_rng(8).poisson(30.0, (32, 40)).astype(np.float64)
STACK = np.stack([IMAGE, IMAGE[::-1]])
MIDDLE = (15.5, 19.5)
IMAGES = ("image", "images", "patterns", "stack", "reference", "moving", "templates")
"""Names of arguments that are images."""

ARGUMENTS: dict[str, Any] = {
    **dict.fromkeys(IMAGES, IMAGE),
    "templates": IMAGE[:8, :8],
    "angle": 0.0,
    "center": MIDDLE,
    "centers": MIDDLE,
    "corners": (0, 0),
    "factor": 2,
    "fold": 2,
    "fractions": 0.9,
    "matrices": np.array([[1.0, 0, 0.3], [0, 1, 0.2]]),
    "shape": (4, 4),
}
"""A value for each argument without a default: add a name here where an operation is the first to have it."""


def operations(choose: Callable[[str], bool]) -> Iterator[tuple[str, str, Callable[[Any], Any]]]:
    """Yield name of the operation, name of an argument that is chosen, and the call as a function of that argument.

    Functions without images, such as those of prepared pairs, are left out.
    """
    for name in ops.__all__:
        function = getattr(ops, name)
        if not inspect.isfunction(function):
            continue
        parameters = inspect.signature(function).parameters
        needed = [p.name for p in parameters.values() if p.default is p.empty]
        if not needed or needed[0] not in IMAGES:
            continue
        for chosen in filter(choose, parameters):
            missing = [p for p in needed if p not in ARGUMENTS]
            assert not missing, f"{name} takes {missing}: add values to ARGUMENTS of tests/doors.py"
            yield name, chosen, partial(_called, function, {p: ARGUMENTS[p] for p in needed}, chosen)


def _called(function: Callable[..., Any], arguments: dict[str, Any], chosen: str, value: Any) -> Any:
    return function(**arguments | {chosen: value})
