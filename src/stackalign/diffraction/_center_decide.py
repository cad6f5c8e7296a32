"""Which of the centres that rings, pairs, the direct beam, and inversion give is believed, how far, and why."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, median_filter

from stackalign._types import FloatArray

from ._center_beam import Beam
from ._center_search import RING_SCALES, Answer, Candidate, Level, Pairs
from ._center_sectors import Agreement

__all__ = ["LARGEST_SIGMA", "Evidence", "Rings", "Verdict", "believed_beam", "verdict"]


LARGEST_SIGMA = 1.0
"""Pixels. A centre with a larger error is flagged."""
COHERENT = 0.85
"""Coherence of sectors from which rings are believed: those of powders have 0.89 to 1, spots and disks up to 0.5,
smooth halos about another point up to 0.8."""
PARTLY, LOOSER = 0.6, 1.5
"""Coherence from which narrow rings are believed, with a standard error so many times as large: where a texture makes
sectors differ, or the rings are no circles. Of few grains narrow rings have up to 0.5."""
PAIR_SCORE, PAIR_QUALITY, PAIR_ALONE = 5.0, 0.6, 0.2
"""What pairs need to be believed: lattices with Friedel's pairs have scores of 6 to 10, qualities of 0.77 and more,
and confidences of 0.36; the best of what is none has up to 4.8, 0.7 and 0.1, or 3.8, 0.55 and 0.3."""
DOMINANT = 1.8
"""How many times as strong as any other disk the direct beam is."""
ALONE = 2.5
"""The same from which the rest of the image need not be round about it, if it is a disk and no halo."""
CROWD, CROWDED, AMONG, ALONE_AMONG = 4, 1.35, 1.55, 2.0
"""Where more disks than these are seen, and the second of the others is nearly as strong as the first, none of them is
the direct beam: that would stand out. What the brightest then needs to dominate by, round about or not."""
PRECISE, SOME = 0.25, 0.2
"""Standard error in pixels, and coherence, of rings about another point that speak against the brightest disk: one of
their grains may be that."""
LIKELY = 1.3
"""The same from which the brightest disk is the likeliest centre where nothing is certain."""
TILTED = 0.1
"""Contrast of the background on opposite sides of a disk from which the diffuse halo has another middle."""
TWO_BEAMS = 2.5
"""A second disk by so much stronger than the third, and not far weaker than the first, may be the direct beam."""
WEAK = 6.0
SIGNIFICANT = 12.0
HALO = 0.5
"""Share of the background's range that the direct beam stands on at least, where there is a halo."""
FAINT = 0.02
"""Range of the background, as a share of the image's, from which there is a halo."""
FEW_ELECTRONS = 1.5
"""Deviations of single electrons up to which medians differ by chance."""
MEDIANS = 64
"""Pixels along the longer side at which the background is taken."""
AGREE = 1.5
"""Pixels up to which two centres are the same."""
NOISE_SPOTS = 6
FEWEST_PIXELS = 2500
"""Valid pixels of the image, binned to 512 pixels, from which rings are believed: a window on a spot or two may look
like a window on rings."""
FLANK = 1.5
"""Pixels by which a disk is seen beyond a hole of its own radius: a narrow gap does not hide a beam."""
MARGIN = 0.12
"""Share of the shorter side that the direct beam is away from the edge if nothing else tells that it is the beam."""
UNKNOWN = 1.0 / 6.0
"""Standard error, as a share of the longer side, of a centre that nothing supports."""
SUPPORTED = 1.0 / 16.0
"""The same where two sources agree."""
RINGS, PAIRS = 0.3, 0.25
"""Quality from which rings or pairs are preferred where nothing is certain."""
UNCERTAIN = 0.1


class Rings(NamedTuple):
    """The best centre of rings, moved until its sectors agree, in pixels of the image, and what they say."""

    answer: Answer
    center: FloatArray
    sigma: float
    agreement: Agreement


class Evidence(NamedTuple):
    """All that is known of one image."""

    shape: tuple[int, int]
    level: Level
    rings: Rings | None
    pairs: Pairs
    inversions: list[Candidate]
    beam: Beam | None


class Verdict(NamedTuple):
    """A centre in pixels, its standard error along an axis, what it comes from, and why it is doubted ("" if not)."""

    center: FloatArray
    sigma: float
    answer: Answer
    doubt: str


def verdict(e: Evidence) -> Verdict:
    """Weigh what there is: sources that are certain by themselves and do not contradict each other are believed."""
    certain = _certain(e)
    if certain:
        # Of those that agree, the one that is known best: wide rings leave much open.
        best, *others = sorted(certain, key=lambda v: v.sigma)
        for other in others:
            apart = float(np.hypot(*(best.center - other.center)))
            if apart > max(AGREE, 3.0 * float(np.hypot(best.sigma, other.sigma))):
                doubt = f"{best.answer.kind} and {other.answer.kind} give centres {apart:.1f} px apart"
                return best._replace(sigma=max(best.sigma, apart), doubt=doubt)
        return best
    return _guess(e)


def _certain(e: Evidence) -> list[Verdict]:
    verdicts = []
    rings = _believed_rings(e)
    pairs = e.pairs
    if (
        pairs.evidence.score >= PAIR_SCORE
        and pairs.evidence.quality >= PAIR_QUALITY
        and pairs.answer.confidence() >= PAIR_ALONE
    ):
        verdicts.append(Verdict(pairs.answer.candidates[0].center, pairs.sigma, pairs.answer, ""))
    if rings is not None:
        verdicts.insert(0, Verdict(rings.center, rings.sigma, rings.answer, ""))
    if e.beam is not None and believed_beam(e) == "":
        verdicts.append(_beam_verdict(e, e.beam))
    return verdicts


def _believed_rings(e: Evidence) -> Rings | None:
    rings = e.rings
    if rings is None or not rings.agreement.coherence >= PARTLY or not rings.sigma <= 0.01 * max(e.shape):
        return None
    if rings.agreement.coherence < COHERENT:
        if rings.answer.part != RING_SCALES[0]:
            return None
        rings = rings._replace(sigma=LOOSER * rings.sigma)
    if np.count_nonzero(e.level.valid) < FEWEST_PIXELS:
        return None
    # A halo is round too, and need not be about the centre: it is believed where there is nothing else.
    if rings.answer.part != RING_SCALES[0] and e.pairs.n_spots >= NOISE_SPOTS:
        return None
    return rings


def _beam_verdict(e: Evidence, beam: Beam) -> Verdict:
    center = e.level.up(beam.disk.center)
    shares = beam.flux / max(beam.disk.flux, 1e-300)
    others = [Candidate(float(f), e.level.up(p)) for f, p in zip(shares, beam.places, strict=True)]
    quality = float(np.clip(1.0 - 1.0 / max(_dominance(beam), 1.0), 0.0, 1.0))
    answer = Answer("beam", [Candidate(1.0, center), *others], quality)
    return Verdict(center, beam.disk.sigma * e.level.factor, answer, "")


def _dominance(beam: Beam) -> float:
    return float(beam.disk.flux / beam.flux[0]) if len(beam.flux) and beam.flux[0] > 0 else np.inf


def believed_beam(e: Evidence) -> str:
    """Why the brightest disk is not known to be the direct beam; "" where it is."""
    beam = e.beam
    assert beam is not None
    disk = beam.disk
    if not disk.significance > SIGNIFICANT:
        return "no disk stands out of the noise"
    if not disk.whole:
        return "the brightest disk is cut off by the edge or the mask"
    ratio = _dominance(beam)
    near = e.rings is not None and np.hypot(*(e.rings.center - e.level.up(disk.center))) <= AGREE * e.level.factor + 0.5
    crowded = len(beam.flux) > CROWD and beam.flux[0] <= CROWDED * beam.flux[1]
    needed, alone = (AMONG, ALONE_AMONG) if crowded else (DOMINANT, ALONE)
    if not (near or (disk.sharp and ratio >= alone)):
        return "the image is not round about the brightest disk"
    # Rings that are believed themselves are a contradiction, which is another matter.
    if not near and e.rings is not None and e.rings.sigma < PRECISE and SOME < e.rings.agreement.coherence < PARTLY:
        apart = float(np.hypot(*(e.rings.center - e.level.up(disk.center))))
        return f"rings, or parts of them, are about a point {apart:.0f} px from the brightest disk"
    if not ratio >= needed:
        return f"the brightest disk is {ratio:.1f} times as strong as the next, {needed} are needed"
    share = _share_of_halo(e.level, disk.center)
    if share < HALO:
        return f"the diffuse halo has {share:.0%} of its height at the brightest disk"
    if disk.tilt > TILTED:
        return f"the background beside the brightest disk rises by {disk.tilt:.0%} to one side"
    if len(beam.flux) > 1 and ratio < WEAK and beam.flux[0] > TWO_BEAMS * beam.flux[1]:
        return "two disks are far brighter than all others, either may be the direct beam"
    hidden = _largest_hole(e.level.valid)
    if hidden > disk.radius + FLANK:
        return f"the mask hides a region of radius {hidden:.0f} px in which the direct beam may be"
    sides = np.array(e.level.image.shape) - 1
    if min(disk.center.min(), (sides - disk.center).min()) < MARGIN * min(sides):
        return "the brightest disk is near the edge of the image, the direct beam may lie beyond"
    if ratio < WEAK and _in_a_row(beam):
        return "all strong spots lie on one line, another one of them may be the direct beam"
    if not _surrounded(beam):
        return "all other spots lie to one side of the brightest"
    return ""


def _largest_hole(valid: NDArray[np.bool_]) -> float:
    """Radius of the largest disk of invalid pixels."""
    return 0.0 if valid.all() else float(distance_transform_edt(~valid).max())


def _share_of_halo(level: Level, place: FloatArray) -> float:
    """Height of the background at a place as a share of its range; 1 where there is no background to speak of."""
    step = max(1, max(level.image.shape) // MEDIANS)
    image = np.where(level.valid, level.image, np.median(level.image[level.valid]))[::step, ::step]
    smooth = median_filter(image, size=max(3, min(image.shape) // 5))
    away = np.abs(image - smooth)
    # Of few electrons most pixels have the median itself, which goes by whole ones.
    scatter = 1.4826 * float(np.median(away)) or FEW_ELECTRONS * float(np.sqrt(np.mean(away**2)))
    low, high = float(smooth.min()), float(smooth.max())
    if not high - low > max(scatter, FAINT * (float(image.max()) - low)):
        return 1.0
    at = np.minimum(np.rint(place / step).astype(int), np.array(image.shape) - 1)
    return float((smooth[tuple(at)] - low) / (high - low))


def _in_a_row(beam: Beam) -> bool:
    """Tell whether the strongest other spots lie on one line with the brightest."""
    strong = beam.flux > 0.05 * beam.disk.flux
    if strong.sum() < 2:
        return False
    away = (beam.places[strong] - beam.disk.center) * np.sqrt(beam.flux[strong])[:, None]
    axes = np.linalg.svd(away, compute_uv=False)
    return bool(axes[1] < 0.25 * axes[0])


def _surrounded(beam: Beam) -> bool:
    """Tell whether the strongest other spots do not all lie in one half of the image about the beam."""
    strong = beam.flux > 0.02 * beam.disk.flux
    if strong.sum() < 4:
        return True
    away = beam.places[strong] - beam.disk.center
    angles = np.sort(np.arctan2(away[:, 0], away[:, 1]))
    gaps = np.diff(np.append(angles, angles[0] + 2 * np.pi))
    return bool(gaps.max() < np.pi * 1.02)


def _guess(e: Evidence) -> Verdict:
    """The likeliest centre where none is certain; its error is what the sources disagree by."""
    chosen, doubt = _likeliest(e)
    sources = [e.rings.center] if e.rings is not None else []
    sources += [a.candidates[0].center for a in (e.pairs.answer,) if a.candidates]
    sources += [c.center for c in e.inversions[:1]]
    if e.beam is not None:
        sources.append(e.level.up(e.beam.disk.center))
    apart = np.array([np.hypot(*(s - chosen.center)) for s in sources] or [np.inf])
    # Within a narrow window all sources agree.
    agreeing = int(e.level.valid.mean() > 0.5) * int((apart <= AGREE * e.level.factor).sum())
    side = max(e.shape)
    least = side * (SUPPORTED if agreeing >= 2 else UNKNOWN)
    spread = 0.0
    if agreeing < 3:
        spread = float(np.sqrt((np.minimum(apart, side) ** 2).mean())) if len(apart) else side
    own = chosen.sigma if np.isfinite(chosen.sigma) else side
    return chosen._replace(sigma=float(max(own, least, min(spread, 0.5 * side))), doubt=doubt)


def _likeliest(e: Evidence) -> tuple[Verdict, str]:
    rings, pairs = e.rings, e.pairs.answer
    if e.beam is not None:
        why = believed_beam(e)
        beam = _beam_verdict(e, e.beam)
        near = rings is not None and np.hypot(*(rings.center - beam.center)) <= AGREE * e.level.factor + 0.5
        if e.beam.disk.whole and e.beam.disk.significance > SIGNIFICANT and (near or _dominance(e.beam) > LIKELY):
            return beam, why
    nothing = Answer("inversion", [], 0.0)
    pairs_verdict = Verdict(pairs.candidates[0].center, e.pairs.sigma, pairs, "") if pairs.candidates else None
    rings_verdict = Verdict(rings.center, rings.sigma, rings.answer, "") if rings is not None else None
    pairs_doubt = f"pairs of spots have the score {e.pairs.evidence.score:.1f}, {PAIR_SCORE:.0f} are needed"
    rings_doubt = ""
    if rings is not None:
        needed = PARTLY if rings.answer.part == RING_SCALES[0] else COHERENT
        rings_doubt = (
            f"rings explain {rings.agreement.coherence:.0%} of what sectors show, {needed:.0%} are needed"
            if rings.agreement.coherence < needed
            else f"the rings leave {rings.sigma:.1f} px open, or are a halo beside spots"
        )
    narrow = rings_verdict is not None and rings_verdict.answer.part != RING_SCALES[-1]
    if rings_verdict is not None and narrow and rings_verdict.answer.quality >= RINGS:
        return rings_verdict, rings_doubt
    plain = rings is None or rings.answer.quality < RINGS or pairs.confidence() >= UNCERTAIN
    if pairs_verdict is not None and pairs.quality >= PAIRS and plain:
        return pairs_verdict, pairs_doubt
    if rings_verdict is not None and rings is not None:
        rival = max([c.score for c in rings.answer.candidates[1:2]], default=0.0)
        if rings.answer.quality >= RINGS or rings.answer.candidates[0].score > 1.5 * rival:
            return rings_verdict, rings_doubt
    if pairs_verdict is not None and pairs.quality >= 0.5 * PAIRS:
        return pairs_verdict, pairs_doubt
    if e.inversions:
        answer = Answer("inversion", e.inversions, e.inversions[0].score)
        return Verdict(
            e.inversions[0].center, np.inf, answer, ""
        ), "neither rings, pairs of spots nor a direct beam are plain"
    if rings_verdict is not None:
        return rings_verdict, rings_doubt
    middle = 0.5 * (np.array(e.shape) - 1)
    return Verdict(middle, np.inf, nothing, ""), "nothing in the image has a centre"
