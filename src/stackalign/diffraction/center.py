"""Centres of diffraction patterns, without parameters: rings, Friedel pairs, or plain symmetry under inversion."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign import __version__
from stackalign._results import Tabular
from stackalign._types import FloatArray
from stackalign.backends import Array
from stackalign.backends._threads import governed
from stackalign.errors import DataError
from stackalign.io.provenance import to_jsonable
from stackalign.ops import to_numpy
from stackalign.ops._check import n_workers

from ._center_beam import find_beams, without_spikes
from ._center_decide import LARGEST_SIGMA, Evidence, Verdict, verdict
from ._center_near import Guide, near_guide, settled_rings
from ._center_search import (
    SMALLEST,
    Level,
    exact,
    inversions_of,
    level_of,
    pairs_of,
    refined,
    rings_of,
)
from ._center_smooth import LEFT, left_unexplained, open_sigma
from ._inputs import checked_images

__all__ = ["CENTER_FLAGS", "Center", "autocenter"]


CENTER_FLAGS: Mapping[str, str] = {
    "constant": "the image does not vary: the middle of the frame is given",
    "uncertain": "its standard error is above 1 px, or nothing tells this centre from others: see `reasons`",
}
"""Why a centre should not be trusted; one without flags can be."""

MIDDLE, COARSE = 512, 128
"""Longest sides of the images in which spots and rings are looked for."""
RUNNERS = 5
PLAIN = 0.3
"""Share of an image's variance that its radial profile about a centre leaves, below which a better one may leave
next to nothing."""
EXACT = 0.02
"""Standard error of the centre of what is nothing but a function of the distance from it."""


@dataclass(frozen=True)
class Center(Tabular):
    """Centres of diffraction patterns; arrays have one row per image, or no such axis for a single image.

    Parameters
    ----------
    center : numpy.ndarray
        (N, 2) float64, (row, col) in pixels, 0 = middle of the first pixel.
    confidence : numpy.ndarray
        (N,) from 0, a guess, to 1: how good the centre is, and how much better than any other.
    kind : tuple of str
        For each image what the centre was found by: "rings", "pairs" of spots, the direct "beam", or "inversion", the
        correlation of the image with itself turned by half a turn.
    runners_up : numpy.ndarray
        (N, 5, 2): next best centres, NaN where there are fewer.
    runner_scores : numpy.ndarray
        (N, 5): their scores as shares of the best one's.
    flags : tuple of tuple of str
        For each image the keys of `CENTER_FLAGS` that apply.
    sigma : numpy.ndarray
        (N,) standard error in pixels along the worse axis. Of a centre that nothing supports it is as wide as what the
        sources of candidates disagree by, and a sixth of the image or more where none agree.
    reasons : tuple of str
        For each image a sentence on what makes the centre uncertain, and what helps; empty where nothing does.
    """

    center: FloatArray
    confidence: FloatArray
    kind: tuple[str, ...]
    runners_up: FloatArray
    runner_scores: FloatArray
    flags: tuple[tuple[str, ...], ...]
    sigma: FloatArray = field(default_factory=lambda: np.array(np.nan))
    reasons: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Tell whether no image is flagged."""
        return not any(self.flags)

    def columns(self) -> dict[str, Any]:
        """Return a table by columns, one row an image."""
        centers = self.center.reshape(-1, 2)
        n = len(centers)
        return {
            "image": np.arange(n),
            "row": centers[:, 0],
            "col": centers[:, 1],
            "sigma": np.broadcast_to(self.sigma, n),
            "confidence": self.confidence.reshape(-1),
            "kind": np.array(self.kind),
            "flags": np.array([" ".join(flags) for flags in self.flags]),
            "reason": np.array(self.reasons or ("",) * n),
        }

    def column_units(self) -> dict[str, str]:
        """Units of the columns that have one."""
        return dict.fromkeys(("row", "col", "sigma"), "pix")

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {
            "center": to_jsonable(self.center),
            "confidence": to_jsonable(self.confidence),
            "kind": list(self.kind),
            "runners_up": to_jsonable(self.runners_up),
            "runner_scores": to_jsonable(self.runner_scores),
            "flags": [list(flags) for flags in self.flags],
            "sigma": to_jsonable(self.sigma),
            "reasons": list(self.reasons),
            "version": __version__,
        }


@governed
def autocenter(
    images: Array,
    *,
    mask: Array | None = None,
    guide: Center | None = None,
    device: str = "auto",
    workers: int | None = None,
) -> Center:
    """Find the centres of diffraction patterns of powders and crystals.

    Parameters
    ----------
    images : array
        (H, W) or (N, H, W). NaN and infinite pixels are invalid.
    mask : array, optional
        Boolean, True = valid, (H, W) or (N, H, W): without the beam block and the glare around it.
    guide : Center, optional
        Centres of some other images of the same scan. An image is looked at near their middle first, in a fraction of
        the time, and searched in full where what it shows there is not certain by itself or has moved away.
    device : str
        "auto", "cpu", "cuda" or "cuda:n": where images are correlated with themselves.
    workers : int, optional
        Number of CPU threads.

    Returns
    -------
    Center
        Centres, how certain they are, and the runners-up.

    Raises
    ------
    DataError
        Shapes do not fit, nothing is valid, or images are smaller than 8 pixels.
    TypeError
        Complex images, or a mask that is not boolean.

    Notes
    -----
    Candidates come from four sources: centres about which the distance explains most of an image without its smooth
    background (rings), middles between spots (Friedel pairs), the brightest disk (the direct beam), and maxima of the
    masked correlation of the image with itself turned by half a turn, at two scales.

    Rings are believed where the radial profile of each sector is predicted by the other sectors, which spots, arcs and
    disks do not do; the standard error comes from leaving out groups of sectors, with the shift of a sector's profile
    compared with that of the others, so that a narrow window on rings has a large error along them. Pairs are believed
    where their asymmetry is a smooth trend (the walk-off of a tilted or curved Ewald sphere); at other centres of
    inversion of a lattice it is not, since strengths differ from spot to spot. The brightest disk is believed where it
    is far brighter than any other, nothing hides a beam, and the other spots surround it. Centres that are believed by
    themselves and contradict each other are flagged, and so is what none of this supports. Rings that are no circles
    have no single centre, and a large error.

    Examples
    --------
    >>> import numpy as np
    >>> from stackalign import diffraction
    >>> made = diffraction.create_test_pattern("lattice", center=(262.3, 249.8))
    >>> found = diffraction.autocenter(made.image, mask=made.mask)
    >>> found.center.round(1), found.kind, found.flags
    (array([262.3, 249.8]), ('pairs',), ((),))
    """
    checked = checked_images(images, mask, device)
    workers = n_workers(workers)  # refused for images without a centre too
    if min(checked.values.shape[1:]) < SMALLEST:
        msg = f"images must have sides of at least {SMALLEST} pixels for a centre, got {tuple(np.shape(images))}"
        raise DataError(msg)
    rows = []
    scan = _guide_of(guide)
    for k in range(len(checked.values)):
        valid = None if checked.mask is None else checked.mask[k if len(checked.mask) > 1 else 0]
        rows.append(
            _center_of(to_numpy(checked.values[k]), None if valid is None else to_numpy(valid), scan, device, workers)
        )
    places, confidence, kinds, runners, scores, flags, sigmas, reasons = zip(*rows, strict=True)
    first: Any = 0 if checked.single else slice(None)
    arrays = (np.array(a, np.float64)[first] for a in (places, confidence, runners, scores, sigmas))
    center, sure, others, shares, sigma = arrays
    return Center(center, sure, tuple(kinds), others, shares, tuple(flags), sigma, tuple(reasons))


def _center_of(
    image: NDArray[Any], mask: NDArray[np.bool_] | None, guide: Guide | None, device: str, workers: int | None
) -> tuple[Any, ...]:
    """One row of a `Center`."""
    valid = np.isfinite(image) if mask is None else mask & np.isfinite(image)
    inside = image[valid]
    nothing = np.full((RUNNERS, 2), np.nan), np.zeros(RUNNERS)
    if inside.size == 0 or inside.min() == inside.max():
        middle = 0.5 * (np.array(image.shape) - 1)
        why = "The image does not vary: check exposure and mask."
        return middle, 0.0, "inversion", *nothing, ("constant",), float(max(image.shape)), why
    middle_level, coarse = (level_of(image, valid, side, workers) for side in (MIDDLE, COARSE))
    near = None if guide is None else near_guide(guide, middle_level, coarse, image.shape)
    if near is not None:
        # Next to no image is a function of the distance alone, and a few pixels tell.
        plain = left_unexplained(middle_level.image, middle_level.valid, middle_level.down(near.center)) < PLAIN
        return _row(_finest(near, image, valid, middle_level, coarse, device, workers, plain))
    # Half the resolution is enough for places at which something is looked for.
    half = level_of(image, valid, max(COARSE, -(-max(middle_level.image.shape) // 2)), workers)
    inversions = inversions_of(half, device, workers)
    answer = rings_of(coarse, inversions)
    beam = find_beams(*without_spikes(middle_level.image, middle_level.valid))
    rings = settled_rings(answer, middle_level, beam)
    evidence = Evidence(image.shape, middle_level, rings, pairs_of(middle_level, inversions), inversions, beam)
    return _row(_finest(verdict(evidence), image, valid, middle_level, coarse, device, workers))


def _guide_of(known: Center | None) -> Guide | None:
    """What most of the centres that are certain come from, and their middle."""
    if known is None:
        return None
    centers = np.atleast_2d(known.center)
    sure = [k for k, flags in enumerate(known.flags) if not flags]
    if not sure:
        return None
    kinds = [known.kind[k] for k in sure]
    kind = max(sorted(set(kinds)), key=kinds.count)
    return Guide(kind, np.median(centers[[k for k in sure if known.kind[k] == kind]], axis=0))


def _row(judged: Verdict) -> tuple[Any, ...]:
    runners, scores = np.full((RUNNERS, 2), np.nan), np.zeros(RUNNERS)
    for k, (score, there) in enumerate(judged.answer.candidates[1 : RUNNERS + 1]):
        runners[k], scores[k] = there, score / max(judged.answer.candidates[0].score, 1e-300)
    uncertain = bool(judged.doubt) or not judged.sigma <= LARGEST_SIGMA
    return (
        judged.center,
        judged.answer.confidence(),
        judged.answer.kind,
        runners,
        scores,
        ("uncertain",) if uncertain else (),
        judged.sigma,
        _sentence(judged) if uncertain else "",
    )


def _finest(
    judged: Verdict,
    image: NDArray[Any],
    valid: NDArray[np.bool_],
    level: Level,
    coarse: Level,
    device: str,
    workers: int | None,
    plain: bool = True,
) -> Verdict:
    """Correlate the image with itself at full resolution; what that changes beyond the error is not believed."""
    if judged.answer.kind == "pairs" or not judged.answer.candidates:
        return judged
    kind, part = judged.answer.kind, judged.answer.part
    center = judged.center
    if kind != "beam":
        center = refined(image, valid, judged.center, level.factor, part, device, workers)
    alone, unexplained = exact(image, valid, center, coarse, part) if plain else (center, 1.0)
    if unexplained <= LEFT:
        return judged._replace(center=alone, sigma=float(np.hypot(EXACT, open_sigma(image, valid, alone))), doubt="")
    if judged.doubt or kind == "beam":
        return judged._replace(center=center)
    moved = float(np.hypot(*(center - judged.center)))
    if moved > 3.0 * judged.sigma + 0.3 * level.factor:
        return judged
    return judged._replace(center=center, sigma=float(np.hypot(judged.sigma, 0.5 * moved)))


def _sentence(judged: Verdict) -> str:
    why = judged.doubt or "the rings seen leave a direction open"
    return (
        f"The centre is known to {judged.sigma:.1f} px only: {why}. State the centre, mask what is no pattern, or show "
        "more of it."
    )
