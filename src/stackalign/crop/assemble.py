"""From the numbers of the two passes to a result: retention, status, messages, calibration."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign.io import Calibration, StackReader

from .config import CroppingConfig
from .result import CropAnalysis, CropResult, CropValidation, VirtualImages
from .window import Windows

__all__ = ["assemble", "cropped_calibration", "retention"]

ABOVE = 1e-3
FAR_ABOVE = 0.05
"""Retention above 1 by more than rounding makes, and by more than noise about zero makes."""


def retention(kept: NDArray[np.float64], totals: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of the total that was kept, NaN where the total is not positive."""
    share = np.full(len(kept), np.nan)
    np.divide(kept, totals, out=share, where=totals > 0)
    return share


def cropped_calibration(
    calibration: Calibration | None, analysis: CropAnalysis, windows: Windows
) -> Calibration | None:
    """Calibration of the windows: the same scale, with the origin at the mean position of the centre."""
    if calibration is None:
        return None
    inside = (analysis.centers - windows.corners).mean(axis=0)
    return dataclasses.replace(calibration, origin=(float(inside[0]), float(inside[1])))


def assemble(
    reader: StackReader,
    config: CroppingConfig,
    analysis: CropAnalysis,
    kept: NDArray[np.float64],
    *,
    windows: Windows,
    mean_window: NDArray[np.float64] | None,
    seconds: float,
    device: str,
    provenance: Mapping[str, Any],
    input_name: str,
    output_name: str = "",
    output_dtype: np.dtype[Any] | None = None,
    virtual: VirtualImages | None = None,
) -> CropResult:
    """Put a result together and judge it."""
    share = retention(kept, analysis.total)
    validation = CropValidation(
        share, analysis.excluded, config.target_retention, config.min_retention, mean_window=mean_window
    )
    short, messages = _judge(config, analysis, validation)
    info = reader.info
    return CropResult(
        analysis=analysis,
        validation=validation,
        config=config,
        processing_time=seconds,
        input_bytes=info.metadata.get("input_bytes", info.nbytes),
        output_bytes=info.shape[0] * analysis.window[0] * analysis.window[1] * (output_dtype or info.dtype).itemsize,
        device=device,
        status="short" if short else "done",
        messages=tuple(messages),
        provenance=provenance,
        calibration=cropped_calibration(info.calibration, analysis, windows),
        input_name=input_name,
        output_name=output_name,
        virtual=virtual,
        examples=_examples(reader, analysis, validation),
    )


def _examples(reader: StackReader, analysis: CropAnalysis, validation: CropValidation) -> dict[int, NDArray[Any]]:
    """Patterns to be looked at: the one with the largest radius, and the one that keeps the least."""
    numbers = analysis.largest(1)
    kept = np.where(validation.excluded, np.nan, validation.retentions)
    if np.isfinite(kept).any():
        numbers.append(int(np.nanargmin(kept)))
    patterns: dict[int, NDArray[Any]] = {}
    for k in numbers:
        block = np.empty((1, *reader.info.shape[1:]), reader.info.dtype)
        reader.read(k, k + 1, block)
        patterns[k] = block[0]
    return patterns


def _judge(config: CroppingConfig, analysis: CropAnalysis, validation: CropValidation) -> tuple[bool, list[str]]:
    messages = []
    short = False
    n = int(validation.used.size)
    if not n:
        short = True
        messages.append("no pattern that counts has a positive total intensity, so that nothing says what was kept")
    if validation.n_below_min:
        short = True
        worst = int(np.nanargmin(np.where(validation.excluded, np.nan, validation.retentions)))
        messages.append(
            f"{validation.n_below_min} of {n} patterns keep less than min_retention {config.min_retention:g} "
            f"(lowest {validation.retentions[worst]:.4f}, pattern {worst}); {_remedy(config)}"
        )
    if validation.n_below_target:
        short |= config.strict
        messages.append(
            f"{validation.n_below_target} of {n} patterns keep less than target_retention {config.target_retention:g}"
            + ("" if validation.n_below_min else f"; {_remedy(config)}")
        )
    above = int((validation.used > 1 + ABOVE).sum())
    # Noise about zero takes single patterns a little above 1; a background takes most, or some by far. Where one was
    # taken off, its noise is left.
    if (
        above
        and config.background is None
        and (np.median(validation.used) > 1 + ABOVE or validation.used.max() > 1 + FAR_ABOVE)
    ):
        messages.append(
            f"{above} of {n} patterns keep more than all of their intensity (up to {validation.used.max():.3f}): the "
            "pixels outside the window are negative on average, as after too large a dark image, and the radius is too "
            "small; --background corner measures without this, --negative clip sets them to 0"
        )
    flagged = int(analysis.excluded.sum())
    if flagged:
        short |= config.strict
        counts = ", ".join(f"{words} {count}" for words, count in analysis.flag_counts.items())
        messages.append(f"{flagged} of {analysis.n_patterns} patterns are left out as flagged ({counts})")
    return short, messages


def _remedy(config: CroppingConfig) -> str:
    if config.legacy_window:
        return "the legacy window is clamped to half the frame: drop --legacy-window"
    if config.radius_policy != "max":
        return "raise --radius-policy or --margin-pixels"
    return "raise --margin-pixels"
