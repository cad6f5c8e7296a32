"""`estimate_drift`: the drift of every frame of a series, and what speaks against it."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign._carriers import plain_array
from stackalign._masks import check_mask, warn_if_few
from stackalign._types import BoolArray
from stackalign.backends._threads import governed
from stackalign.errors import MaskError, StackalignError
from stackalign.ops import asarray
from stackalign.ops.transfer import to_numpy, unwrapped

from ._joint import Joint, joint_solution
from ._pairs import COARSE_BYTES, agreed_positions, chosen_strides, measured_pairs, share_agreeing, share_still
from ._segments import chosen_segments, joined
from ._spectra import Frames, Held
from ._static import Residual, without_static
from .result import DriftResult

__all__ = ["estimate_drift", "filled_frames", "require_frames", "solved"]

LEAST_EVIDENCE = 100.0
"""Log-likelihood ratio against noise below which error bars were 1.1 to 4 times too small on simulated series."""

LARGEST_RIVAL = 0.01
"""Probability of another place above which a frame is ambiguous."""

OFTEN_STILL, SOME_MOVING, MOST_MOVING = 0.15, 0.3, 0.5
"""Share of the pairs at no shift from which on it is looked whether only a part stands still, and shares of the pairs
that then agree on a drift without the mean frame: frames are flagged, or that is the answer. Of series that stand still
by themselves at most a quarter agrees by chance."""

HARDLY = 2.0
"""Pixels between the 5th and the 95th percentile of positions below which a series seems to stand still."""

UNLIKE = 8.0
"""Median absolute deviations of the score below the median, and at least a tenth of it."""

LEAST_FRAMES = 3
"""With fewer there is no loop."""


@governed
def estimate_drift(
    images: Any,
    *,
    mask: Any = None,
    max_step: float | None = None,
    pairs_per_frame: int = 8,
    reference: int = 0,
    workers: int | None = None,
) -> DriftResult:
    """Find the drift of all frames of a series together.

    Frames are paired at distances 1, 2, 3, 5, 8...; each pair has several candidates for its shift, and the positions
    that most pairs agree on are found by graduated non-convexity, so that a wrong pair, or one that is a cell of a
    lattice off, closes no loop and loses its weight. From there each frame is registered with the mean of all others,
    weighted by signal and noise at each spatial frequency: first over all shifts, and jumps that all later frames share
    are looked for as well; then by Gauss-Newton steps. Series whose frames show no common region of at least half their
    size are solved in overlapping parts that are joined by the frames that they share.

    What stands still is the detector's: pixels and lines that stand out in the mean of all frames are filled, and where
    many pairs show no shift, but what is left without the mean frame agrees on a drift, frames are flagged, and where
    most of it does, that drift is the answer.

    Error bars come from the scatter of the gradient over tiles of each frame. They hold for frames whose drift is a
    shift, and whose `evidence` is above 100; others are flagged.

    Parameters
    ----------
    images : array_like
        (N, H, W) real numbers, at least 3 frames; NaN and infinite pixels are filled with the frame's mean.
    mask : array_like, optional
        Boolean (H, W), True = valid, the same for all frames. Pixels beside it are filled likewise: the mask must be
        small beside the frame.
    max_step : float, optional
        Largest drift along each axis from a frame to the next, in pixels. It keeps a lattice from jumping by a cell.
    pairs_per_frame : int
        Largest number of distances between paired frames.
    reference : int
        Number of the frame that the shifts refer to.
    workers : int, optional
        Number of CPU threads; one per core by default.

    Returns
    -------
    DriftResult

    Raises
    ------
    ValueError
        Shapes or a setting do not fit.
    TypeError
        Complex or object types, or a mask that is not boolean.

    See Also
    --------
    stackalign.register_stack : every image with one reference, with more than a shift.

    Notes
    -----
    The transforms run on the CPU.

    Examples
    --------
    >>> import numpy as np
    >>> from stackalign.drift import create_test_series, estimate_drift
    >>> made = create_test_series(12, (64, 64), counts=100, seed=1)
    >>> result = estimate_drift(made.images)
    >>> bool((np.abs(result.shifts - made.shifts) < 0.2).all()), bool(result.ok.all())
    (True, True)
    """
    stack = to_numpy(asarray(unwrapped(images, "images"), "cpu"))
    _check(stack, max_step, pairs_per_frame, reference)
    valid = None if mask is None else _checked_mask(mask, stack.shape[1:])
    return solved(
        Held(filled_frames(stack, valid)),
        max_step=max_step,
        pairs_per_frame=pairs_per_frame,
        reference=reference,
        workers=workers,
    )


def _check(stack: NDArray[Any], max_step: float | None, pairs_per_frame: int, reference: int) -> None:
    if stack.dtype.kind not in "buif":
        msg = f"images must be real numbers, got {stack.dtype}"
        raise TypeError(msg)
    if stack.ndim != 3 or len(stack) < LEAST_FRAMES or min(stack.shape[1:]) < 16:
        msg = f"images must be (N, H, W) with at least {LEAST_FRAMES} frames of 16 x 16 pixels, got {stack.shape}"
        raise ValueError(msg)
    if max_step is not None and not (np.isfinite(max_step) and max_step > 0):
        msg = f"max_step must be a positive number of pixels, got {max_step}"
        raise ValueError(msg)
    if pairs_per_frame < 1:
        msg = f"pairs_per_frame must be 1 or more, got {pairs_per_frame}"
        raise ValueError(msg)
    if not 0 <= reference < len(stack):
        msg = f"reference must be a frame from 0 to {len(stack) - 1}, got {reference}"
        raise ValueError(msg)


def _checked_mask(mask: Any, shape: tuple[int, ...]) -> BoolArray:
    valid: BoolArray = check_mask(plain_array(mask, None, "mask"), shape, of="the images")
    if not valid.any():
        msg = "mask leaves no valid pixel; True means valid here: pass ~mask if it marks bad pixels"
        raise MaskError(msg)
    warn_if_few(float(valid.mean()))
    return valid


def filled_frames(planes: NDArray[Any], valid: BoolArray | None) -> NDArray[np.float32]:
    """Return float32 frames (n, H, W) with invalid pixels at the mean of their frame.

    Parameters
    ----------
    planes : numpy.ndarray
        (n, H, W).
    valid : numpy.ndarray, optional
        (H, W), True = valid.
    """
    frames = np.array(planes, np.float32)
    bad = ~np.isfinite(frames)
    if valid is not None:
        bad |= ~valid
    for frame, holes in zip(frames, bad, strict=True):
        if holes.any():
            seen = frame[~holes]
            frame[holes] = seen.mean(dtype=np.float64) if len(seen) else 0.0
    return frames


def solved(
    frames: Frames,
    *,
    max_step: float | None,
    pairs_per_frame: int,
    reference: int,
    workers: int | None,
    budget: int = COARSE_BYTES,
    report: Callable[[int], None] | None = None,
) -> DriftResult:
    """Solve for the drift of frames that were checked; see `estimate_drift`.

    Parameters
    ----------
    frames : Frames
    max_step, pairs_per_frame, reference, workers
        As for `estimate_drift`.
    budget : int
        Bytes for spectra of all frames at once.
    report : callable, optional
        Told how many frames are done, in effect: half of them once the pairs are, all at the end.

    Returns
    -------
    DriftResult
    """
    tell = report or (lambda done: None)
    n, shape = frames.shape[0], (frames.shape[1], frames.shape[2])
    frames, mean = without_static(frames)
    strides = chosen_strides(n, pairs_per_frame)
    measured = partial(measured_pairs, max_step=max_step, budget=min(budget, COARSE_BYTES), workers=workers)
    graph = measured(frames, strides)
    positions = agreed_positions(graph, n)
    moving = 0.0
    extent = np.ptp(np.percentile(positions, (5, 95), axis=0), axis=0).max()
    if extent < HARDLY and share_still(graph) > OFTEN_STILL:
        rest = Residual(frames, mean)
        without = measured(rest, strides)
        drifting = agreed_positions(without, n)
        moving = share_agreeing(without, drifting)
        if moving > MOST_MOVING:
            frames, positions = rest, drifting
    tell(n // 2)
    parts: list[tuple[int, Joint]] = []
    for first, last in chosen_segments(positions, shape):
        start = positions[first:last]
        part = joint_solution(frames, start, first, max_move=max_step, workers=workers)
        parts.append((first, part))
    tell(n)
    whole = joined(parts, positions)
    return _judged(whole, reference, moving)


def _judged(whole: Joint, reference: int, moving: float) -> DriftResult:
    shifts = whole.positions[reference] - whole.positions
    covariance = whole.covariance + whole.covariance[reference]
    covariance[reference] = 0.0
    return DriftResult(
        shifts=shifts,
        covariance=covariance,
        reference=reference,
        score=whole.score,
        evidence=whole.evidence,
        rival=whole.rival,
        remarks=_remarks(whole, moving),
        own=whole.covariance,
    )


def _remarks(whole: Joint, moving: float) -> tuple[Mapping[str, str], ...]:
    """Per frame: flag to sentence."""
    sigma = np.sqrt(np.diagonal(whole.covariance, axis1=1, axis2=2)).max(axis=1)
    usual = float(np.nanmedian(whole.score))
    spread = max(UNLIKE * 1.4826 * float(np.nanmedian(np.abs(whole.score - usual))), 0.1 * usual)
    remarks: list[Mapping[str, str]] = []
    for k in range(len(sigma)):
        said: dict[str, str] = {}
        if not np.isfinite(whole.score[k]):
            said["constant"] = "the frame has one value throughout; leave it out"
        elif not whole.evidence[k] >= LEAST_EVIDENCE:
            said["insignificant"] = (
                f"the log-likelihood ratio of its content against noise is {whole.evidence[k]:.0f}; error bars hold "
                f"from {LEAST_EVIDENCE:.0f} on: bin the frames, or add neighbouring ones"
            )
        if not whole.rival[k] <= LARGEST_RIVAL:
            said["ambiguous"] = (
                f"the probability of another place is {whole.rival[k]:.2g}; a limit on the step from frame to frame "
                "(max_step) excludes those that are far"
            )
        if moving > SOME_MOVING:
            said["two_motions"] = (
                f"without what stands still in all frames {moving:.0%} of the pairs agree on a drift: mask the "
                "detector's pattern, or correct its gain; error bars do not hold beside it"
            )
        if not sigma[k] <= 1.0:
            said["undetermined"] = f"its error bar is {sigma[k]:.2g} pixels"
        if whole.score[k] < usual - spread:
            said["unlike"] = f"its score is {whole.score[k]:.3f}, that of most frames {usual:.3f}: is it damaged?"
        remarks.append(said)
    return tuple(remarks)


def require_frames(n: int) -> None:
    """Refuse a series without loops.

    Parameters
    ----------
    n : int
        Number of frames.

    Raises
    ------
    StackalignError
        There are fewer than three.
    """
    if n < LEAST_FRAMES:
        msg = f"a series needs at least {LEAST_FRAMES} frames, this has {n}; align takes single images"
        raise StackalignError(msg)
