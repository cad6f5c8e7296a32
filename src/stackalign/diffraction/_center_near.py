"""Centres of the images of a scan, looked for near those of a few that were searched in full."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ._center_beam import Beam, find_beams, without_spikes
from ._center_decide import LARGEST_SIGMA, Evidence, Rings, Verdict, verdict
from ._center_pairs import NO_PAIRS
from ._center_rings import RingScore
from ._center_search import RING_SCALES, Answer, Candidate, Level, Pairs, pairs_of, passed
from ._center_sectors import agreement, settled

__all__ = ["Guide", "near_guide", "settled_rings"]

FloatArray = NDArray[np.float64]

FARTHEST = 0.35
"""Share of the longer side by which a centre of rings may move until its sectors agree."""
FAR = 0.03
"""Share of the longer side by which a centre may be off the guide: one that has moved farther is searched in full."""
PAIRED = 3.0
"""Pixels by which a centre of pairs may be off it: a lattice has other centres of inversion, half its vectors away."""


class Guide(NamedTuple):
    """What the centres of some images of a scan come from, and where they are in the middle of all: (row, col)."""

    kind: str
    center: FloatArray


def settled_rings(answer: Answer, level: Level, beam: Beam | None) -> Rings | None:
    """The best centre of rings, moved until its sectors agree."""
    if not answer.candidates:
        return None
    image, valid = passed(level, max(level.image.shape) / answer.part)
    reach = FARTHEST * max(level.image.shape)
    center, agreed = settled(image, valid, level.down(answer.candidates[0].center), reach)
    spread = agreed.covariance + np.outer(agreed.step, agreed.step)
    sigma = level.factor * float(np.sqrt(np.linalg.eigvalsh(spread)[-1])) if np.isfinite(spread).all() else np.inf
    if beam is not None and np.hypot(*(beam.disk.center - center)) < beam.disk.radius + 2.0:
        # A disk is round about its middle: it alone makes no rings.
        away = np.hypot(*(np.indices(valid.shape) - center[:, None, None]))
        outside = valid & (away > 1.5 * beam.disk.radius + 3.0)
        agreed = agreement(image, outside, center) if outside.any() else agreed._replace(coherence=0.0)
    return Rings(answer, level.up(center), sigma, agreed)


def near_guide(guide: Guide, level: Level, coarse: Level, shape: tuple[int, ...]) -> Verdict | None:
    """Find the centre of an image by what those of the scan were found by; None where that is not certain by itself.

    `level` and `coarse` are the image at the resolutions for spots and for rings.
    """
    beam = find_beams(*without_spikes(level.image, level.valid))
    rings, pairs = None, Pairs(Answer("pairs", [], 0.0), NO_PAIRS, np.inf, 0)
    far = max(FAR * max(shape), PAIRED)
    if guide.kind == "rings":
        fine, seen = passed(coarse, max(coarse.image.shape) / RING_SCALES[0])
        score = RingScore([fine], seen).smooth(coarse.down(guide.center), 0)
        answer = Answer("rings", [Candidate(max(score, 1e-6), guide.center)], score, RING_SCALES[0])
        rings = settled_rings(answer, level, beam)
    if guide.kind == "pairs":
        pairs, far = pairs_of(level, [], guide.center), PAIRED * level.factor
    near = verdict(Evidence((shape[0], shape[1]), level, rings, pairs, [], beam))
    if near.doubt or not near.sigma <= LARGEST_SIGMA or near.answer.kind != guide.kind:
        return None
    return near if np.hypot(*(near.center - guide.center)) <= far else None
