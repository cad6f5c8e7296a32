"""What `register` accepts, checked once, with sentences that name what to do."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stackalign import transforms
from stackalign._masks import stack_mask, warn_if_few
from stackalign._types import FloatArray
from stackalign.backends import Array

__all__ = ["Settings", "checked_images", "checked_settings"]


SCALES = (0.5, 2.0)
"""Bounds of scales that the caller leaves open."""


@dataclass(frozen=True)
class Settings:
    """Checked settings of B pairs: ``start`` is (B, P) or None, ``bounds`` (B, P, 2), ``smooth`` None for "auto"."""

    model: str
    max_shift: float | None
    smooth: float | None
    start: FloatArray | None
    bounds: FloatArray
    center: FloatArray
    min_overlap: float
    max_iter: int
    workers: int | None

    def of(self, pairs: slice | NDArray[np.int64]) -> "Settings":
        """Settings of some of the pairs."""
        return replace(self, start=None if self.start is None else self.start[pairs], bounds=self.bounds[pairs])

    def to_dict(self) -> dict[str, Any]:
        """What a result's provenance says; threads do not change a result and are left out."""
        return {
            "model": self.model,
            "max_shift": self.max_shift,
            "smooth": "auto" if self.smooth is None else self.smooth,
            "start": self.start,
            "bounds": self.bounds[0],
            "center": self.center,
            "min_overlap": self.min_overlap,
            "max_iter": self.max_iter,
        }


def checked_images(images: Array, name: str, mask: Array | None) -> Array:
    """Images (B, H, W) with NaN under the mask; warns when a mask leaves next to nothing."""
    if images.dtype.kind not in "buif":
        msg = f"{name} must hold real numbers, got {images.dtype}"
        raise TypeError(msg)
    if images.ndim not in (2, 3) or 0 in images.shape:
        msg = f"{name} must have the shape (H, W) or (B, H, W), got {tuple(images.shape)}"
        raise ValueError(msg)
    if images.ndim == 2:
        images = images[None]
    if mask is None:
        return images
    valid = stack_mask(mask, tuple(images.shape), name=f"{name}_mask", of="the images")
    warn_if_few(float(valid.mean()), f"{name}_mask")
    masked = images.astype(np.float64 if images.dtype.itemsize > 4 or images.dtype.name == "uint32" else np.float32)
    masked[~(valid if len(valid) > 1 else valid.repeat(len(images), axis=0))] = np.nan
    return masked


def checked_settings(
    model: str,
    n_problems: int,
    shape: tuple[int, int],
    *,
    max_shift: float | None,
    smooth: float | str,
    start: ArrayLike | Mapping[str, float] | None,
    bounds: Mapping[str, tuple[float, float]] | None,
    center: ArrayLike | None,
    min_overlap: float,
    max_iter: int,
    workers: int | None,
) -> Settings:
    """Check everything but the images."""
    identity = transforms.identity(model)
    names = transforms.MODELS[model]
    if max_shift is not None and not (np.isfinite(max_shift) and max_shift >= 0):
        msg = f"max_shift must be a number of pixels, 0 or more, got {max_shift}"
        raise ValueError(msg)
    if smooth != "auto" and (isinstance(smooth, str) or not (np.isfinite(smooth) and smooth >= 0)):
        msg = f'smooth must be "auto" or a sigma in pixels, 0 or more, got {smooth!r}'
        raise ValueError(msg)
    if not 0 <= min_overlap <= 1:
        msg = f"min_overlap must be a share from 0 to 1, got {min_overlap}"
        raise ValueError(msg)
    if max_iter < 1:
        msg = f"max_iter must be 1 or more, got {max_iter}"
        raise ValueError(msg)
    middle = transforms.image_center(shape) if center is None else np.asarray(center, np.float64)
    if middle.shape != (2,) or not np.isfinite(middle).all():
        msg = f"center must be two finite numbers (y, x), got {center!r}"
        raise ValueError(msg)
    limits = _limits(names, bounds, max_shift)
    begin = None if start is None else _start(start, names, identity, n_problems)
    if begin is not None and not ((begin >= limits[:, 0]) & (begin <= limits[:, 1])).all():
        msg = f"start must lie within the bounds {dict(zip(names, limits.tolist(), strict=True))}, got {start!r}"
        raise ValueError(msg)
    return Settings(
        model=model,
        max_shift=None if max_shift is None else float(max_shift),
        smooth=None if isinstance(smooth, str) else float(smooth),
        start=begin,
        bounds=np.tile(limits, (n_problems, 1, 1)),
        center=middle,
        min_overlap=float(min_overlap),
        max_iter=int(max_iter),
        workers=workers,
    )


def _known(values: Mapping[str, Any], names: tuple[str, ...], what: str) -> None:
    unknown = [name for name in values if name not in names]
    if unknown:
        msg = f"{what} names {', '.join(unknown)}; the model has {', '.join(names)}"
        raise ValueError(msg)


def _limits(
    names: tuple[str, ...], bounds: Mapping[str, tuple[float, float]] | None, max_shift: float | None
) -> FloatArray:
    """(P, 2)."""
    limits = np.array([[-np.inf, np.inf]] * len(names))
    for k, name in enumerate(names):
        if name in ("sy", "sx", "scale"):
            limits[k] = SCALES
        if name in ("dy", "dx") and max_shift is not None:
            limits[k] = (-max_shift, max_shift)
    if bounds is not None:
        _known(bounds, names, "bounds")
        for name, pair in bounds.items():
            values = np.asarray(pair, np.float64)
            if values.shape != (2,) or not values[0] <= values[1]:
                msg = f"bounds of {name} must be (lower, upper), got {pair!r}"
                raise ValueError(msg)
            limits[names.index(name)] = values
    return limits


def _start(
    start: ArrayLike | Mapping[str, float], names: tuple[str, ...], identity: FloatArray, n_problems: int
) -> FloatArray:
    """(B, P)."""
    if isinstance(start, Mapping):
        _known(start, names, "start")
        values = identity.copy()
        for name, value in start.items():
            values[names.index(name)] = value
    else:
        values = np.asarray(start, np.float64)
    if values.shape not in (identity.shape, (n_problems, len(identity))) or not np.isfinite(values).all():
        msg = (
            f"start must be {len(names)} finite numbers ({', '.join(names)}), for all pairs or for each of the "
            f"{n_problems}, got {start!r}"
        )
        raise ValueError(msg)
    return np.array(np.broadcast_to(values, (n_problems, len(identity))))
