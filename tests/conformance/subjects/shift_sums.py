"""Sums at whole-pixel lags."""

from collections.abc import Iterator

import numpy as np

from conformance._op import SUM, Branch, Case, Field, Inputs, Op, Sample
from conformance.inputs import random_plane


def _lag_sums() -> Iterator[Case]:
    sizes = {
        "1x1": ((1, 1), (1, 1), (0, 0)),
        "12x13": ((12, 13), (12, 13), (2, 3)),
        "onto_smaller": ((20, 9), (7, 15), (6, 1)),
        "all_lags": ((5, 6), (5, 6), (4, 5)),
    }
    for size, (shape, moving_shape, reach) in sizes.items():
        for holes in (0.0, 0.2):
            for problems in (1, 3):

                def sums(rng, a=shape, b=moving_shape, reach=reach, holes=holes, problems=problems):
                    return {
                        "reference": random_plane(rng, (problems, *a), holes),
                        "moving": random_plane(rng, (problems, *b), holes),
                        "reach": reach,
                    }

                yield Case(f"{size}-holes_{holes}-{problems}", "float32", sums)


def _scale(wanted: dict[str, np.ndarray], inputs: Inputs) -> float:
    """Transforms have an error relative to the whole, squares of squares included."""
    squares = [float(np.nansum(np.square(inputs[side], dtype=np.float64))) for side in ("reference", "moving")]
    return (1.0 + squares[0]) * (1.0 + squares[1])


def _branches(sample: Sample) -> Iterator[Branch]:
    """Nothing: it is made of transforms, and has no kernel."""
    return iter(())


OPERATIONS = (
    Op("shift_sums", ("shift_table",), {"lag_sums": Field(SUM, _scale)}, _lag_sums, _branches, of_planes=True),
)
