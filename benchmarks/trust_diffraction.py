"""Situations of diffraction patterns with known truth, for the table of trust: centres and alignments."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from _trust_centers import CENTERS, Scene
from _trust_pairs import PAIRS, Pair

__all__ = ["rows"]

NOMINAL = ("cbed, the beam far brighter", "precession", "powder", "powder, few electrons", "crystal, walk-off")


def rows() -> list[Any]:
    """Rows of the table of trust, nominal ones first."""
    from _trust import Row, Trial
    from stackalign.diffraction import align, autocenter

    def centred(make: Callable[[int], Scene], seed: int) -> Any:
        scene = make(seed)
        found = autocenter(scene.image, mask=scene.mask, workers=1)
        error = np.full(2, np.nan) if scene.center is None else found.center - scene.center
        return Trial(error, np.full(2, float(found.sigma)), 1.5, found.flags[0], ("row", "column"))

    def aligned(make: Callable[[int], Pair], seed: int) -> Any:
        pair = make(seed)
        found = align(pair.two, pair.one, mask=pair.mask, workers=1)
        error = np.full(2, np.nan) if pair.shift is None else found.shift - pair.shift
        return Trial(error, np.full(2, 0.05), 0.5, found.flags[0], ("row", "column"))

    table = [
        Row(f"centre: {name}", "nominal" if name.startswith(NOMINAL) else "misfit", partial(centred, make))
        for name, make in CENTERS.items()
    ]
    kinds = ["nominal"] * 8 + ["misfit"] * (len(PAIRS) - 8)
    table += [
        Row(f"align: {name}", kind, partial(aligned, m)) for kind, (name, m) in zip(kinds, PAIRS.items(), strict=True)
    ]
    return sorted(table, key=lambda row: row.kind != "nominal")
