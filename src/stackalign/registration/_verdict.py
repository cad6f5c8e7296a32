"""What is known of pairs after the search, and what speaks against it: from arrays of B pairs to a result for each."""

import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from stackalign import transforms
from stackalign._types import FloatArray
from stackalign.backends import Array
from stackalign.io.provenance import provenance
from stackalign.objectives import AffineNCC
from stackalign.ops import ImagePair, device_of

from ._agreement import wanted_text
from ._check import Settings
from ._comb import Combs, combs_of
from ._finish import Refined
from ._noise import NOISY
from ._regions import Regions, regions_of
from ._rivals import WORTH_A_LOOK, open_directions, open_parameters, rival_scores, standing_still, widened
from ._scales import Scales, scales_of
from ._search import Coarse, Images
from ._trust import CHANCE, QUICK_SIDE, Evidence, correlated_pixels, flags_of, significance
from .result import RegistrationResult

__all__ = ["judged"]


MAKES_UP = 0.5
"""Share of the largest part of a direction that a parameter has to have to be named."""

BEYOND_DOUBT = 2 * CHANCE
"""Standard deviations above chance from which on a whole-pixel score is enough."""


@dataclass(frozen=True)
class _Known:
    """All that is known of B pairs that were smoothed alike, (B, ...) each."""

    fine: Refined
    coarse: Coarse
    noise: FloatArray
    settings: Settings
    shape: tuple[int, int]
    peak: FloatArray
    above: FloatArray
    regions: Regions
    counts: list[Array]
    directions: FloatArray
    left_open: FloatArray
    still: FloatArray
    scales: Scales
    rivals: FloatArray
    lost: FloatArray
    combs: Combs

    def results(self, record: dict[str, Any]) -> list[RegistrationResult]:
        """A result for each pair, with its flags."""
        fine, settings, agreement = self.fine, self.settings, self.regions.agreement
        matrices = transforms.matrices_from_parameters(fine.parameters, settings.model, settings.center)
        spread = fine.covariance + (agreement.together - agreement.alone)
        covariance = widened(spread, self.directions, self.left_open, max(self.shape))
        results = []
        for b in range(len(self.noise)):
            result = self._result(b, matrices[b], covariance[b], record)
            remarks = flags_of(self._evidence(b, result))
            results.append(dataclasses.replace(result, flags=tuple(remarks), remarks=remarks))
        return results

    def _result(self, b: int, matrix: FloatArray, covariance: FloatArray, record: dict[str, Any]) -> RegistrationResult:
        return RegistrationResult(
            model=self.settings.model,
            parameters=self.fine.parameters[b],
            covariance=covariance,
            matrix=matrix,
            center=self.settings.center,
            score=float(self.fine.score[b]),
            second_score=float(self.coarse.second[b]),
            peak_score=float(self.peak[b]),
            overlap=float(self.fine.overlap[b]),
            smooth=self.fine.smooth,
            noise=float(self.noise[b].max()),
            n_evaluations=int(np.ceil(self.fine.work[b])),
            history=np.concatenate(self.fine.history[b]),
            reason=self.fine.reason[b],
            flags=(),
            provenance=record,
            goodness=float(self.regions.goodness[b]),
            systematic=self.fine.systematic[b] + self.regions.agreement.together[b],
            displacements=self.regions.displacements(b, self.shape),
        )

    def _evidence(self, b: int, result: RegistrationResult) -> Evidence:
        fine, settings, regions, scales = self.fine, self.settings, self.regions, self.scales
        agreement = regions.agreement
        return Evidence(
            n_reference=int(self.counts[0][b]),
            n_moving=int(self.counts[2][b]),
            constant=not (self.counts[1][b] and self.counts[3][b]),
            n_common=result.overlap * self.shape[0] * self.shape[1],
            overlap=result.overlap,
            min_overlap=settings.min_overlap,
            score=result.score,
            significance=float(self.above[b]),
            detail=float(scales.chance[b]),
            peak=result.peak_score,
            second=result.second_score,
            rival=float(self.rivals[b]),
            lost=float(self.lost[b]),
            still=float(self.still[b]),
            largest_sigma=float(result.sigma_at(_corners(self.shape)).max()),
            direction=self.directions[b],
            left_open=_named(result.model, self.left_open[b]),
            on_bound=tuple(np.array(result.names)[fine.on_bound[b]].tolist()),
            reason=result.reason,
            max_iter=settings.max_iter,
            goodness=result.goodness,
            motion=float(regions.motion[b]),
            structure=float(regions.structure[b]),
            clearly=float(regions.clearly[b]),
            as_sharp=fine.smooth[0] == fine.smooth[1],
            left_out=partial(wanted_text, result.matrix, agreement.affine[b], result.center, self.shape),
            left_out_significance=float(agreement.significance[b]),
            corner=float(agreement.corner[b]),
            disagreement=float(agreement.disagreement[b]),
            scatter=float(agreement.scatter[b]),
            without=agreement.without[b] + (0.0, 0.0, *transforms.image_center(self.shape)),
            bent=float(agreement.bent[b]),
            bent_shift=float(agreement.bent_shift[b]),
            scale_significance=float(scales.significance[b]),
            scale_shift=float(scales.shift[b]),
            scale_size=float(scales.size[b]),
            comb=float(self.combs.apart[b]),
            comb_significance=float(self.combs.errors[b]),
        )


def judged(
    images: Images,
    seen: Images,
    fine: Refined,
    coarse: Coarse,
    noise: FloatArray,
    rough: FloatArray,
    settings: Settings,
) -> list[RegistrationResult]:
    """Results of pairs with what speaks against them.

    `seen` are the images in which whole-pixel shifts were looked for; `noise` and `rough` (B, 2) the `levels`.
    """
    shape = (int(images.reference.shape[1]), int(images.reference.shape[2]))
    peak, above = _peaks(seen, fine.parameters, coarse, fine.overlap * shape[0] * shape[1], settings)
    regions, counts = regions_of(fine, rough, settings.model, settings.center, _counts(images))
    # Less noisy images with such a pattern are put at no shift at all, and what moves is a misfit.
    noisy = max(fine.smooth) >= NOISY
    rivals, lost = rival_scores(images, seen, fine, coarse, settings)
    known = _Known(
        fine=fine,
        coarse=coarse,
        noise=noise,
        settings=settings,
        shape=shape,
        peak=peak,
        above=above,
        regions=regions,
        counts=counts,
        directions=open_directions(fine, settings.workers),
        left_open=open_parameters(fine, settings.model, settings.center, settings.workers),
        still=standing_still(images, fine, settings.workers) if noisy else np.zeros(len(noise)),
        scales=scales_of(fine, settings.workers),
        rivals=rivals,
        lost=lost,
        combs=combs_of(images.reference, images.moving),
    )
    return known.results(provenance(settings.to_dict(), [], device=device_of(images.reference)))


def _corners(shape: tuple[int, int]) -> FloatArray:
    """(4, 2) places of the corners of a frame."""
    bottom, right = (side - 1.0 for side in shape)
    return np.array([[0.0, 0.0], [0.0, right], [bottom, 0.0], [bottom, right]])


def _peaks(
    seen: Images, parameters: FloatArray, coarse: Coarse, n_common: FloatArray, settings: Settings
) -> tuple[FloatArray, FloatArray]:
    """Score (B,) of each pair as its second peak was scored, and how far it is above chance.

    That of the best whole-pixel shift where it is beyond doubt and far above the second, else the larger of it and that
    of the result.
    """
    peak = np.nan_to_num(coarse.score)
    independent = n_common / correlated_pixels(seen, settings.workers, QUICK_SIDE)
    # Binned images leave fewer pixels to chance than there are: what is beyond doubt on them is so on all.
    doubtful = np.flatnonzero(~(significance(peak, independent) > BEYOND_DOUBT))
    if len(doubtful) and seen.longest > QUICK_SIDE:
        independent[doubtful] = n_common[doubtful] / correlated_pixels(seen.of(doubtful), settings.workers)
    above = significance(peak, independent)
    unsure = ~(above > BEYOND_DOUBT) | (coarse.second > WORTH_A_LOOK * coarse.score)
    if unsure.any():
        pair = ImagePair(seen.reference, seen.moving, single=False)
        objective = AffineNCC(pair, settings.model, settings.center, settings.workers)
        score = np.maximum(objective.score(parameters[:, None])[:, 0], peak)
        peak = np.where(unsure, score, peak)
        above = np.where(unsure, significance(score, independent), above)
    return peak, above


def _named(model: str, direction: FloatArray) -> str:
    """Names of the parameters that make up a direction that is left open; empty where none is."""
    if not np.isfinite(direction).all():
        return ""
    names = np.array(transforms.MODELS[model])
    return ", ".join(names[np.abs(direction) > MAKES_UP * np.abs(direction).max()])


def _counts(images: Images) -> list[Array]:
    """Valid pixels (B,) of the reference, those that are not 0, and the same of the moving image.

    `standardise` makes a plane without variance exactly 0.
    """
    xp = array_namespace(images.reference)
    numbers = []
    for planes in (images.reference, images.moving):
        valid = xp.isfinite(planes)
        numbers += [valid.sum(axis=(1, 2)), (valid & (planes != 0)).sum(axis=(1, 2))]
    return numbers
