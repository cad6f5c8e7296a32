"""Baselines by discrete wavelets, after Galloway, Le Ru & Etchegoin, Applied Spectroscopy 63, 1370 (2009)."""

import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign._carriers import plain_array
from stackalign._masks import check_mask
from stackalign._types import FloatArray
from stackalign.backends._threads import governed
from stackalign.errors import DataError, MissingDependencyError
from stackalign.io.provenance import provenance, to_jsonable
from stackalign.ops import asarray

from ._fill import fill_nearest

__all__ = ["Baseline", "baseline_dwt"]


@dataclass(frozen=True)
class Baseline:
    """What lies under the peaks of curves or images.

    Parameters
    ----------
    baseline : numpy.ndarray
        Of the shape of the data, float64.
    n_iterations : int
    converged : bool
        The last step changed less than the tolerance.
    last_change : float
        Largest change in the last step, in units of the range of the data.
    provenance : dict
        Versions and settings.
    """

    baseline: FloatArray
    n_iterations: int
    converged: bool
    last_change: float
    provenance: dict[str, Any] = field(default_factory=dict, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON knows them."""
        plain = to_jsonable(
            {
                "baseline": self.baseline,
                "n_iterations": self.n_iterations,
                "converged": self.converged,
                "last_change": self.last_change,
                "provenance": self.provenance,
            }
        )
        assert isinstance(plain, dict)
        return plain


@governed
def baseline_dwt(
    array: Any,
    *,
    axis: int | Sequence[int] = -1,
    wavelet: str = "sym6",
    level: int | None = None,
    mode: str = "constant",
    max_iter: int = 1000,
    tolerance: float = 1e-3,
    lower: float | None = None,
    background_regions: Sequence[Any] = (),
    mask: Any = None,
) -> Baseline:
    """Find the baseline of curves along an axis, or of images over two, by repeated wavelet approximation.

    The data are replaced by the smaller one of themselves and of their approximation on a coarse scale, again and
    again: peaks that are narrower than the scale sink down to what is under them.

    Parameters
    ----------
    array : array_like
        Real numbers; NaN and infinite ones are invalid.
    axis : int or tuple of int
        One axis: curves. Two: images; all others are a stack of them.
    wavelet : str
        Any discrete wavelet of PyWavelets, ``pywt.wavelist(kind="discrete")``.
    level : int, optional
        Scale: details of 2**level elements and less are no part of an approximation. By default the coarsest that the
        length of the shortest axis allows; 1 for spikes of a pixel or two.
    mode : str
        How the data go on beyond their borders, one of ``pywt.Modes.modes``.
    max_iter : int
        Most steps.
    tolerance : float
        The search ends when the largest change of a step is below this share of the range of the data; 0 takes all
        steps.
    lower : float, optional
        The baseline does not fall below; the smallest valid value by default.
    background_regions : sequence
        Indices or slices of parts that are known to be background: there the baseline is the data.
    mask : array_like, optional
        Boolean, True = valid, of the shape of the data or of their last axes. Invalid elements do not draw the baseline
        down; it is interpolated there.

    Returns
    -------
    Baseline

    Raises
    ------
    DataError
        Nothing is valid, the data are complex, or an axis is too short for the wavelet and level.
    ValueError
        Wavelet, mode or axis is not known, or a number makes no sense.

    Notes
    -----
    Fine for display and for peaks over a smooth background. Sharp *and* wide features lose intensity: for the
    photometry of spots among hot pixels, take `remove_hot_spots`.

    Examples
    --------
    >>> import numpy as np
    >>> from stackalign import diffraction
    >>> x = np.linspace(0, 10, 501)
    >>> background = 5 + np.exp(-x / 4)
    >>> peaks = np.exp(-((x - 3) ** 2) / 0.02) + np.exp(-((x - 7) ** 2) / 0.02)
    >>> found = diffraction.baseline_dwt(background + peaks)
    >>> bool(np.abs(found.baseline - background)[50:450].max() < 0.1)
    True
    """
    data = asarray(array, "cpu")
    if data.dtype.kind not in "buif":
        msg = f"array must hold real numbers, got {data.dtype}; take abs() or the real part of complex data first"
        raise TypeError(msg)
    data = data.astype(np.float64)
    axes = _axes(axis, data.ndim)
    level = _checked_level(data, axes, wavelet, level, mode)
    if operator.index(max_iter) < 1 or not tolerance >= 0:
        msg = f"max_iter must be at least 1 and tolerance 0 or more, got {max_iter} and {tolerance}"
        raise ValueError(msg)
    valid = _valid(data, mask)
    values = data[valid]
    bottom = float(values.min()) if lower is None else float(lower)
    span = float(values.max() - values.min())
    known = _regions(background_regions, data.shape) & valid if background_regions else None
    sunk = _Sinking(data, fill_nearest(data, valid, axes), valid, known, bottom)
    change, steps = np.inf, 0
    while steps < max_iter and (steps == 0 or change > tolerance * span):
        steps += 1
        change = sunk.step(_approximation(sunk.signal, axes, wavelet, level, mode))
    signal = sunk.signal
    settings = {
        "axis": axes, "wavelet": wavelet, "level": level, "mode": mode, "max_iter": max_iter, "tolerance": tolerance,
        "lower": bottom,
    }  # fmt: skip
    return Baseline(
        baseline=signal,
        n_iterations=steps,
        converged=change <= tolerance * span,
        last_change=change / span if span > 0 else 0.0,
        provenance=provenance(settings, [], device="cpu"),
    )


@dataclass
class _Sinking:
    """Data that sink to their own approximation, where they are above it."""

    data: NDArray[np.float64]
    signal: NDArray[np.float64]
    valid: NDArray[np.bool_]
    known: NDArray[np.bool_] | None
    bottom: float

    def __post_init__(self) -> None:
        self.holes = None if self.valid.all() else ~self.valid

    def step(self, approximation: NDArray[np.float64]) -> float:
        """Take one step; the largest change."""
        signal, holes = self.signal, self.holes
        # Where nothing is known the approximation takes its place; where the background is known, the data.
        lowered = np.minimum(signal, approximation)
        if holes is not None:
            lowered[holes] = approximation[holes]
        np.maximum(lowered, np.minimum(self.bottom, signal), out=lowered)
        if self.known is not None:
            lowered[self.known] = self.data[self.known]
        moved = np.subtract(lowered, signal, out=signal)
        if holes is not None:
            moved[holes] = 0.0
        self.signal = lowered
        return max(float(moved.max()), -float(moved.min()))


def _checked_level(data: FloatArray, axes: tuple[int, ...], wavelet: str, level: int | None, mode: str) -> int:
    """The level of a decomposition, by default the coarsest; refuse what wavelet, mode and axes do not allow."""
    pywt = _wavelets()
    if wavelet not in pywt.wavelist(kind="discrete"):
        msg = f"wavelet {wavelet!r} is not known; choose one of pywt.wavelist(kind='discrete'), for example sym6 or db4"
        raise ValueError(msg)
    if mode not in pywt.Modes.modes:
        msg = f"mode {mode!r} is not known; choose one of {', '.join(pywt.Modes.modes)}"
        raise ValueError(msg)
    shortest = min(data.shape[a] for a in axes)
    length = pywt.Wavelet(wavelet).dec_len
    coarsest = pywt.dwt_max_level(shortest, length)
    if level is None:
        level = max(1, coarsest)
    if level < 1 or shortest < 2:
        msg = f"level must be at least 1 and axes have at least 2 elements, got level {level} and {data.shape}"
        raise DataError(msg)
    if shortest < 2 ** (level - 1) * length and level > max(1, coarsest):
        msg = f"level {level} is too coarse for {shortest} elements with {wavelet}; the coarsest is {max(1, coarsest)}"
        raise DataError(msg)
    return level


def _axes(axis: int | Sequence[int], ndim: int) -> tuple[int, ...]:
    chosen = (axis,) if isinstance(axis, int | np.integer) else tuple(axis)
    if len(chosen) not in (1, 2) or any(not -ndim <= a < ndim for a in chosen):
        msg = f"axis must be one axis or two of the {ndim} of the array, got {axis}"
        raise ValueError(msg)
    axes = tuple(int(a) % ndim for a in chosen)
    if len(set(axes)) != len(axes):
        msg = f"axis must be two different axes, got {axis}"
        raise ValueError(msg)
    return axes


def _valid(data: FloatArray, mask: Any) -> NDArray[np.bool_]:
    valid: NDArray[np.bool_] = np.isfinite(data)
    if mask is not None:
        trailing = (data.shape[first:] for first in range(data.ndim + 1))
        valid = valid & check_mask(plain_array(mask, None, "mask"), *trailing, of="the array")
    if not valid.any():
        msg = "no element is valid; True means valid here: pass ~mask if it marks bad elements"
        raise DataError(msg)
    return valid


def _regions(regions: Sequence[Any], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    known = np.zeros(shape, bool)
    for region in regions:
        try:
            known[region] = True
        except IndexError as error:
            msg = f"background region {region} does not lie within the array of the shape {shape}"
            raise DataError(msg) from error
    return known


def _wavelets() -> Any:
    """Return the module of PyWavelets."""
    try:
        import pywt
    except ImportError as error:
        msg = 'baselines by wavelets need PyWavelets: pip install "stackalign[image]"'
        raise MissingDependencyError(msg) from error
    return pywt


def _approximation(data: FloatArray, axes: tuple[int, ...], wavelet: str, level: int, mode: str) -> FloatArray:
    """The data without details up to a level. Over two axes it is that along one of that along the other."""
    pywt = _wavelets()
    for axis in axes:
        lengths = []
        coarse = data
        for _ in range(level):
            lengths.append(coarse.shape[axis])
            coarse = pywt.dwt(coarse, wavelet, mode, axis=axis)[0]
        for length in reversed(lengths):
            coarse = pywt.idwt(coarse, None, wavelet, mode, axis=axis)
            coarse = coarse[(slice(None),) * axis + (slice(0, length),)]
        data = coarse
    return data
