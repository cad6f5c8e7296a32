"""Whether the images want more than the model of the header allows, and whether their regions agree."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from stackalign._types import FloatArray
from stackalign.ops import masked_shift, to_numpy

from .pixels import PixelTransform
from .polish import Agreement
from .skymodel import MODELS, SkyModel

__all__ = ["Wanted", "disagreement", "expected_residual", "suspicious", "wanted_beyond"]


SIGNIFICANT = 4.0
"""Standard errors, rms over the parameters left out, from which on they are wanted."""

REFITTED = 3.0
"""The same where the images were compared anew with those parameters: what is left of them then hides nothing."""

FELL, REFITTED_BETTER = 0.85, 2.25
"""Share of the residual's variance that may be left for the second number to be enough, instead of `REFITTED`: of noise
four numbers take less than a hundredth. Wrong rolls and steps of the slit beside a limb had 2.5 to 2.6, right ones 1 at
most."""

NEAR_BY = 6.0
"""Pixels at a corner up to which linear steps may find what is wanted."""

STEPS = (0.8, 0.4, 0.8)
"""Shares of the linear step that are tried: it is too long where the derivatives of the images agree less."""

CORNER = 0.3
"""Pixels that they must move a corner of the image by, beyond what the model's parameters can do."""

UNEXPLAINED = 1.6
"""Times the residual that noise explains from which on other models are tried; 0.8 where noise is all there is."""

SAMPLED = 1 << 16
"""Pixels, in whole rows, on which the noise of an image is measured."""

LEAST = 0.0003
"""Share of the signal's variance below which a residual is not looked at."""

BETTER = 0.8
"""Share to which the residual must fall for a larger model, or the distance to a score of 1 for another shift."""

ALIKE = 0.4
"""Score below which a region shows too little of the other image to say anything."""

ELSEWHERE = 1.5
"""Pixels from the answer at which a region's own best shift is another one."""

REACH = 0.15
"""Share of a region's side within which its own shift is looked for."""


@dataclass(frozen=True)
class Wanted:
    """What the model leaves out and the images want: names, values, standard errors, and pixels at a corner."""

    names: tuple[str, ...]
    values: FloatArray
    sigma: FloatArray
    corner: float
    significance: float

    def to_dict(self) -> dict[str, Any]:
        """Numbers and strings."""
        return {
            "values": dict(zip(self.names, self.values.tolist(), strict=True)),
            "sigma": dict(zip(self.names, self.sigma.tolist(), strict=True)),
            "corner_pixels": self.corner,
            "significance": self.significance,
        }

    @property
    def due(self) -> bool:
        """Whether it is beyond doubt and large enough to matter."""
        return self.beyond(SIGNIFICANT)

    def beyond(self, significant: float) -> bool:
        """Whether it is so many standard errors from what the model holds, and large enough to matter."""
        return bool(self.significance > significant and self.corner > CORNER)

    def sentence(self, model: str) -> str:
        """Say it with numbers."""
        words = {"sx": "sx", "sy": "sy", "angle": "roll (degrees)", "shear": "shear"}
        parts = [
            f"{words[name]} {value:.4g} +- {sigma:.2g}"
            for name, value, sigma in zip(self.names, self.values, self.sigma, strict=True)
        ]
        return (
            f"the images want what the model {model} holds: {', '.join(parts)}, {self.corner:.1f} pixels at a corner; "
            "fit a model with it"
        )


def wanted_beyond(model: SkyModel, so_far: PixelTransform, agreement: Agreement) -> Wanted | None:
    """Test the parameters of an affine transform that a model leaves out, where the model is at its optimum.

    Parameters
    ----------
    model : SkyModel
    so_far, agreement
        The correction, and what `polish.compare` found with the reference sampled by it.
    """
    held = [name for name in MODELS["affine"] if name not in model.names and name not in ("dx", "dy")]
    if "scale" in model.names:
        held = [name for name in held if name != "sy"]
    if not held or not agreement.usable:
        return None
    fit = model.read(so_far, agreement)
    free = SkyModel("affine", model.jacobian, model.shape)
    all_free = free.read(so_far, agreement)
    covariance = agreement.covariance(np.eye(6), agreement.moves)
    if not np.isfinite(covariance).all():
        return None
    slope = model.slope(fit.parameters)
    beyond = free.moves(all_free.parameters) - model.moves(fit.parameters)
    # Directions that the model's least squares leave alone, and what remains along them.
    basis = np.linalg.svd(slope.T @ agreement.normal)[2][slope.shape[1] :]
    left = basis @ beyond
    # `beyond` is what is left of free moves after the model took its own.
    reader = np.linalg.solve(slope.T @ agreement.normal @ slope, slope.T @ agreement.normal)
    project = basis @ (np.eye(6) - slope @ reader)
    spread = project @ covariance @ project.T
    significance = float(np.sqrt(left @ np.linalg.pinv(spread, hermitian=True) @ left / len(left)))
    corners = all_free.correction(model.corners) - fit.correction(model.corners)
    read = np.linalg.pinv(free.slope(all_free.parameters))
    sigma = np.sqrt(np.clip(np.diagonal(read @ covariance @ read.T), 0.0, None))
    index = [free.names.index(name) for name in held]
    return Wanted(
        tuple(held),
        all_free.parameters[index],
        sigma[index],
        float(np.linalg.norm(corners, axis=1).max()),
        significance,
    )


def expected_residual(
    fixed: FloatArray, moving: FloatArray, agreement: Agreement, smooth: tuple[float, float]
) -> float:
    """Variance that the noise of both images, measured on each, leaves between them in the units of `agreement`."""
    total = 0.0
    for image, width, scale in ((fixed, smooth[0], 1.0), (moving, smooth[1], agreement.signal)):
        spread = float(np.nanstd(image))
        noise = _noise(image) / spread if spread > 0 else 0.0
        # A Gaussian of this width leaves so much of white noise; a narrower one than a pixel a little more.
        total += scale * noise**2 / max(1.0, 4 * np.pi * max(width, 0.7) ** 2)
    return total


def _noise(image: FloatArray) -> float:
    """Deviation of white noise by the median response of [1, -2, 1] x [1, -2, 1] (Immerkaer 1996)."""
    tops = np.arange(image.shape[0] - 2)
    if image.size > SAMPLED:
        tops = np.unique(np.linspace(0, tops[-1], max(16, SAMPLED // image.shape[1])).astype(int))
    second = image[tops] - 2 * image[tops + 1] + image[tops + 2]
    response = np.abs(second[:, :-2] - 2 * second[:, 1:-1] + second[:, 2:])
    known = response[np.isfinite(response)]
    return float(np.median(known)) / 0.6745 / 6.0 if known.size else 0.0


def suspicious(agreement: Agreement, expected: float) -> bool:
    """Whether what is left between the images is more than noise."""
    return bool(agreement.residual > UNEXPLAINED * expected + LEAST * agreement.signal)


def disagreement(fixed: FloatArray, moving: FloatArray) -> str:
    """Say which quarter of the image wants another shift than none, or nothing.

    The two images lie on one grid, aligned. A quarter whose own best shift, within a part of its side, is elsewhere and
    far better than none was not aligned by the answer: what moved or changed there carries the answer, or is left out.
    """
    valid = np.isfinite(fixed)
    rows, columns = np.flatnonzero(valid.any(axis=1)), np.flatnonzero(valid.any(axis=0))
    if len(rows) < 48 or len(columns) < 48:
        return ""
    cuts = [np.linspace(line[0], line[-1] + 1, 3).astype(int) for line in (rows, columns)]
    said = []
    for i in range(2):
        for j in range(2):
            part = (slice(cuts[0][i], cuts[0][i + 1]), slice(cuts[1][j], cuts[1][j + 1]))
            own = _own_shift(fixed[part], moving[part])
            if own is not None:
                place = f"rows {part[0].start}-{part[0].stop - 1}, columns {part[1].start}-{part[1].stop - 1}"
                said.append(
                    f"{place} want ({own[1]:+.0f}, {own[0]:+.0f}) pixels more (score {own[3]:.2f}, not {own[2]:.2f})"
                )
    return "; ".join(said)


def _own_shift(fixed: FloatArray, moving: FloatArray) -> tuple[float, float, float, float] | None:
    """Shift (dy, dx) that a region wants, the score without and with it; None where it wants none."""
    both = np.isfinite(fixed) & np.isfinite(moving)
    if both.sum() < 400 or fixed[both].std() == 0 or moving[both].std() == 0:
        return None
    here = float(np.corrcoef(fixed[both], moving[both])[0, 1])
    reach = max(3, int(REACH * min(fixed.shape)))
    match = masked_shift(fixed, moving, max_shift=reach, overlap_ratio=0.5)
    shift, best = to_numpy(match.shift).ravel(), float(to_numpy(match.score).ravel()[0])
    if best < ALIKE or np.hypot(*shift) < ELSEWHERE or (1 - best) > BETTER * (1 - here):
        return None
    return float(shift[0]), float(shift[1]), here, best
