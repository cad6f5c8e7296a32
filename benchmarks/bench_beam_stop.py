"""How often `find_beam_stop` finds a shadow where it is, and one where there is none.

    python benchmarks/bench_beam_stop.py [SCENES]

Patterns are those of the held-out centres, of powders, lattices, disks and amorphous films, on frames and detectors
drawn from the seed, with stops of random place, width, length and direction. A stop counts as found when at least 80 %
of the pixels that it hides are masked, and as many as 10 % of them at most farther than 3 pixels from it; as partly
found when anything else of it is masked. Nothing was tuned on these scenes.
"""

import sys
import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
from scipy import ndimage

from _detected_diffraction import DETECTORS, Array, Frame, detected, frame_of
from _scenes_diffraction import amorphous, cbed, lattice, precession, rings, texture
from stackalign import diffraction

MAKERS: tuple[Callable[[np.random.Generator, Frame], Array], ...] = (
    rings, lattice, texture, amorphous, precession, partial(cbed, radius=6.0),
)  # fmt: skip
WORDS = ("found", "partly", "missed", "wrong", "none")
STOPS = ("bar", "bar that tapers", "needle", "disc on a stem", "none")


def shadow(rng: np.random.Generator, frame: Frame, kind: str) -> Array:
    """True where a stop hides the pattern: from the frame's edge to near the centre."""
    if kind == "none":
        return np.zeros(frame.y.shape, np.bool_)
    angle = rng.uniform(0, 2 * np.pi)
    side = min(frame.y.shape)
    half = side * {"needle": rng.uniform(0.012, 0.018), "disc on a stem": rng.uniform(0.012, 0.025)}.get(
        kind, rng.uniform(0.03, 0.07)
    )
    end = -side * rng.uniform(0.0, 0.06)  # a little beyond the centre
    along = frame.y * np.sin(angle) + frame.x * np.cos(angle)
    across = np.abs(frame.y * np.cos(angle) - frame.x * np.sin(angle))
    width = half * (1 + (along / side) * (1.2 if kind == "bar that tapers" else 0.0))
    hidden = (along > end) & (across <= np.maximum(width, half))
    return hidden | (frame.r < side * rng.uniform(0.04, 0.08)) if kind == "disc on a stem" else hidden


def scene(seed: int, kind: str) -> tuple[Array, Array, Array | None]:
    """Mean pattern of a stream, what is hidden, and the mask of the detector."""
    rng = np.random.default_rng([91, STOPS.index(kind), seed])
    frame = frame_of(rng, 0.1)
    clean = MAKERS[seed % len(MAKERS)](rng, frame)
    hidden = shadow(rng, frame, kind)
    through = 1 - 0.99 * ndimage.gaussian_filter(hidden.astype(float), 0.7)
    image, good = detected(rng, 20 * clean * through, DETECTORS[seed % len(DETECTORS)])
    return image, hidden, good


def verdict(seed: int, kind: str) -> str:
    """One of found, partly, missed, wrong, none."""
    image, hidden, good = scene(seed, kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        masked = ~diffraction.find_beam_stop(image, mask=good, margin=0)
    if not masked.any():
        return "none" if kind == "none" else "missed"
    if kind == "none":
        return "wrong"
    shown = hidden if good is None else hidden & good
    beyond = int((ndimage.distance_transform_edt(~hidden)[masked] > 3).sum())
    if not masked[shown].any():
        return "wrong"
    return "found" if masked[shown].mean() >= 0.8 and beyond <= 0.1 * shown.sum() else "partly"


def main(scenes: int = 100) -> None:
    """Print a row for each kind of stop."""
    print(f"| stop | scenes | {' | '.join(WORDS)} |")
    for kind in STOPS:
        verdicts = [verdict(seed, kind) for seed in range(scenes)]
        counts = [verdicts.count(word) for word in WORDS]
        print(f"| {kind} | {scenes} | {' | '.join(map(str, counts))} |", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
