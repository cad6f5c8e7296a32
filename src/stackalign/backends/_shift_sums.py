"""Sums of a pair at all whole-pixel lags by float64 transforms, written once against the array's own namespace."""

from itertools import combinations_with_replacement
from typing import Any

from ._lags import fast_length
from ._protocol import SHIFT_TAPS, Array

__all__ = ["count_sums", "shift_sums"]


def count_sums(taps: tuple[tuple[int, int], ...]) -> int:
    """Number of sums that `Backend.shift_sums` gives for so many taps."""
    t = len(taps)
    return 3 + 2 * t + t * (t + 1) // 2


def _offset(plane: Array, y: int, x: int) -> Array:
    """Bring the pixel (y, x) to the origin; zeros come in from beyond the end."""
    moved = plane * 0.0
    moved[: plane.shape[0] - y, : plane.shape[1] - x] = plane[y:, x:]
    return moved


def _sums(xp: Any, fft: Any, reference: Array, moving: Array, reach: tuple[int, int], settings: dict[str, int]) -> Any:
    """Sums of one pair, (2 * reach + 1, 2 * reach + 1, all sums)."""
    lengths = tuple(fast_length(max(a, b) + r) for a, b, r in zip(reference.shape, moving.shape, reach, strict=True))
    rows = xp.arange(-reach[0], reach[0] + 1)
    columns = xp.arange(-reach[1], reach[1] + 1)
    sums = xp.empty((rows.size, columns.size, sum(map(count_sums, SHIFT_TAPS))), xp.float64)
    column = 0

    def forward(plane: Array) -> Array:
        return fft.rfft2(plane, lengths, **settings)

    def keep(left: Array, right: Array) -> None:
        nonlocal column
        # Along y first, where only a few rows of the result are wanted.
        strip = fft.ifft(left * right, axis=0, overwrite_x=True, **settings)[rows]
        sums[:, :, column] = fft.irfft(strip, lengths[1], axis=1, overwrite_x=True, **settings)[:, columns]
        column += 1

    valid = xp.isfinite(reference)
    r = xp.where(valid, reference, 0.0).astype(xp.float64)
    n_r, s_r, q_r = (forward(p).conj() for p in (valid.astype(xp.float64), r, r * r))
    there = xp.isfinite(moving)
    v = xp.where(there, moving, 0.0).astype(xp.float64)
    there = there.astype(xp.float64)
    for taps in SHIFT_TAPS:
        cells = there
        for y, x in taps[1:]:
            cells = cells * _offset(there, y, x)
        values = [cells * _offset(v, y, x) for y, x in taps]
        transformed = forward(cells)
        for left in (n_r, s_r, q_r):
            keep(left, transformed)
        spectra = [forward(p) for p in values]
        for left in (n_r, s_r):
            for right in spectra:
                keep(left, right)
        for a, b in combinations_with_replacement(values, 2):
            keep(n_r, forward(a * b))
    return sums


def shift_sums(
    xp: Any, fft: Any, reference: Array, moving: Array, reach: tuple[int, int], settings: dict[str, int]
) -> list[Array]:
    """Sums of each pair at home; `fft` is `scipy.fft` or its CuPy twin, and `settings` go to every transform."""
    pairs = zip(reference, moving, strict=True)
    return [_sums(xp, fft, r, v, reach, settings) for r, v in pairs]
