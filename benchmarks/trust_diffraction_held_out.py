"""Held-out situations of centres and alignments: scenes of `_scenes_diffraction`, on which nothing was tuned."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from _detected_diffraction import SHAPES, Frame, Pattern, detected
from _scenes_diffraction import HELD_OUT, cbed, grains, lattice, rings
from _scenes_diffraction import precession as precession_of
from _scenes_diffraction import texture as texture_of

__all__ = ["PAIRS", "Pair", "rows"]

Array = np.ndarray
PLAIN = ("counts", "gain and read noise", "8 bits", "logarithm", "dark subtracted", "gain per pixel")
VISIBLE = ("precession", "zone axis with HOLZ", "spots and ice", "powder", "powder behind a stop", "textured powder")
"""Rows in which all is as the model says, so that a flag on a right answer is a false alarm."""

SAMPLES: dict[str, Callable[..., Array]] = {
    "crystal": lattice,
    "dense crystal": partial(lattice, atoms=3, spread=0.3),
    "powder": rings,
    "textured powder": texture_of,
    "grains": partial(grains, count=3),
    "precession": precession_of,
    "disks": partial(cbed, radius=4.0),
}


class Pair(NamedTuple):
    """Two patterns, and the shift of the second onto the first (None: they do not belong together)."""

    one: Array
    two: Array
    shift: Array | None


def _around(center: Array, shape: tuple[int, int]) -> Frame:
    y, x = np.indices(shape).astype(float)
    return Frame(y - center[0], x - center[1], center, min(shape) / 256)


def _pair(seed: int, sample: str, still: str = "", strength: float = 1.0, other: str = "") -> Pair:
    """A sample that has moved, or two samples, and what stands still in both frames."""
    rng = np.random.default_rng([81, seed])
    shape = SHAPES[rng.integers(len(SHAPES))]
    center, moved = 0.5 * (np.array(shape) - 1) + rng.uniform(-0.06, 0.06, 2) * shape, rng.uniform(-9, 9, 2)
    one = SAMPLES[sample](np.random.default_rng([82, seed]), _around(center, shape))
    salt = 83 if other else 82
    two = SAMPLES[other or sample](np.random.default_rng([salt, seed]), _around(center + moved, shape))
    if other == "noise":
        two = np.full(shape, one.mean())
    if still == "halo":
        away = _around(0.5 * (np.array(shape) - 1), shape)
        halo = strength * one.max() * np.exp(-((away.r / (50 * away.scale)) ** 2))
        one, two = one + halo, two + halo
    if still == "lattice":
        fixed = lattice(np.random.default_rng([84, seed]), _around(center + rng.uniform(-20, 20, 2), shape))
        fixed *= strength * one.max() / fixed.max()
        one, two = one + fixed, two + fixed
    detector = PLAIN[seed % len(PLAIN)] if not still and not other else "counts"
    first, second = (
        detected(np.random.default_rng([85, seed, k]), clean, detector)[0] for k, clean in enumerate((one, two))
    )
    if still == "hot pixels":
        places = tuple(rng.integers(0, n, 25) for n in shape)
        first, second = first.astype(np.float32), second.astype(np.float32)
        first[places] = second[places] = rng.uniform(5, 60) * one.max()
    return Pair(first, second, None if other else -moved)


SAMPLES["noise"] = rings

PAIRS: dict[str, Callable[[int], Pair]] = {
    **{f"{name}, moved": partial(_pair, sample=name) for name in SAMPLES if name != "noise"},
    **{
        f"{name}, hot pixels stand still": partial(_pair, sample=name, still="hot pixels")
        for name in ("crystal", "powder", "disks")
    },
    **{
        f"{name}, a lattice {strength:g} times as strong stands still": partial(
            _pair, sample=name, still="lattice", strength=strength
        )
        for name in ("crystal", "powder")
        for strength in (0.5, 1.0, 2.0)
    },
    "crystal, a halo stands still": partial(_pair, sample="crystal", still="halo", strength=3.0),
    "crystal and another under one halo": partial(_pair, sample="crystal", still="halo", strength=3.0, other="crystal"),
    "dense crystal and another under one halo": partial(
        _pair, sample="dense crystal", still="halo", strength=3.0, other="dense crystal"
    ),
    "crystal and another": partial(_pair, sample="crystal", other="crystal"),
    "crystal and a powder": partial(_pair, sample="crystal", other="powder"),
    "disks and a powder": partial(_pair, sample="disks", other="powder"),
    "powder and noise": partial(_pair, sample="powder", other="noise"),
    "grains and other grains": partial(_pair, sample="grains", other="grains"),
}
"""Pairs by their seed; those that are only moved are as the model says."""


def rows() -> list[Any]:
    """Rows of the table of trust, nominal ones first."""
    from _trust import Row, Trial
    from stackalign.diffraction import align, autocenter

    names = ("row", "column")

    def centred(make: Callable[[int], Pattern], seed: int) -> Any:
        scene = make(seed)
        found = autocenter(scene.image, mask=scene.mask, workers=1)
        error = np.full(2, np.nan) if scene.center is None else found.center - scene.center
        return Trial(error, np.full(2, float(found.sigma)), 1.5, found.flags[0], names)

    def aligned(make: Callable[[int], Pair], seed: int) -> Any:
        pair = make(seed)
        found = align(pair.two, pair.one, workers=1)
        error = np.full(2, np.nan) if pair.shift is None else found.shift - pair.shift
        return Trial(error, np.full(2, 0.05), 0.75, found.flags[0], names)

    kinds = {True: "nominal", False: "misfit"}
    table = [Row(f"centre: {name}", kinds[name in VISIBLE], partial(centred, make)) for name, make in HELD_OUT.items()]
    table += [Row(f"align: {n}", kinds[n.endswith(", moved")], partial(aligned, m)) for n, m in PAIRS.items()]
    return sorted(table, key=lambda row: row.kind != "nominal")
