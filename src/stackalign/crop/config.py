"""What a crop is asked to do."""

import math
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np

__all__ = ["CroppingConfig"]


@dataclass(frozen=True)
class CroppingConfig:
    """Options of a crop; the first nine have the names and defaults of the scripts that users have.

    Parameters
    ----------
    target_retention : float
        Fraction of each pattern's intensity that the radius must hold, in (0, 1].
    min_retention : float
        Smallest retention of a pattern that still counts as good, at most the target.
    margin_pixels : int
        Pixels added to the radius.
    chunk_size : int
        Largest number of patterns in memory at a time; the memory limit may lower it.
    use_gpu : bool
        Prefer a CUDA device. `DiffractionCropper` warns and goes on with the CPU where there is none; see `device`.
    center_method : {"centroid", "center", "manual"}
        Intensity-weighted centroid of each pattern, the middle of the frame, or `manual_center`.
    manual_center : tuple of float, optional
        (y, x) in pixel indices, for all patterns.
    visualization : bool
        Draw the summary picture.
    verbose : bool
        Report progress.
    device : str
        "cpu", "auto", "cuda" or "cuda:n"; not lowered silently.
    workers : int, optional
        CPU threads, one per core by default.
    memory_limit : int, optional
        Bytes for buffers; by default a quarter of the free memory, 4 GB at most.
    center_fit : {"none", "plane"}
        "plane" replaces the measured centres by a robust plane through them over the scan (descan).
    radius_policy : "max" or float
        The global radius is the largest of the patterns' radii, or this percentile (0-100) of them.
    negative : {"keep", "clip", "error"}
        Negative pixels are used as they are, set to 0 (in the output too), or refused.
    nan : {"mask", "error"}
        NaN and infinite pixels are left out, or refused.
    legacy_window : bool
        Use the window of the original script: even, truncated, clamped to half the frame.
    background : float or str, optional
        Taken off each pattern for the measurement of centre, radius and retention; the data that are written keep it. A
        level, "corner" (the median of each pattern's four corners), or a percentile of each pattern as "5%".
    one_window : bool
        One window for all patterns, wide enough for the radius about every centre, so that beam shifts stay in the data
        (differential phase contrast, centre of mass).
    output_dtype : str, optional
        Type of the output, as "float32" or "int16". Integers, and floats that stand for integers, must be held exactly
        or the crop is refused; floats are rounded. Default the input's type, except in .pt files: torch has no
        arithmetic for unsigned integers of more than 8 bits, so that these become the next larger signed type.
    layout : {"input", "NHW", "NCHW"}
        Axes of the output: as the input has them, or patterns in a row, with a channel axis of length 1.
    bin : int
        Sum blocks of ``bin x bin`` pixels before anything is measured. Integers become a type that holds the sums; rows
        and columns that fill no block are left out, and a block with an invalid pixel is invalid (see `gap`). Centres,
        radii and `margin_pixels` are then in binned pixels; `manual_center` is in those of the input.
    gap : {"keep", "mask", "mean"}
        Invalid pixels (gaps between chips, dead pixels) of the mask: left as recorded, set to 0 (NaN in floats), or
        replaced by the mean of the nearest valid ones. They count for nothing in the measurement either way; with
        "mean" a binned block counts when at least half of its pixels are valid.
    strict : bool
        Also call the result short of its target when a pattern is flagged or misses `target_retention`.

    Examples
    --------
    >>> from stackalign.crop import CroppingConfig
    >>> CroppingConfig(target_retention=0.95).margin_pixels
    3
    """

    target_retention: float = 0.98
    min_retention: float = 0.95
    margin_pixels: int = 3
    chunk_size: int = 1000
    use_gpu: bool = False
    center_method: Literal["centroid", "center", "manual"] = "centroid"
    manual_center: tuple[float, float] | None = None
    visualization: bool = True
    verbose: bool = True
    device: str = "cpu"
    workers: int | None = None
    memory_limit: int | None = None
    center_fit: Literal["none", "plane"] = "none"
    radius_policy: float | Literal["max"] = "max"
    negative: Literal["keep", "clip", "error"] = "keep"
    nan: Literal["mask", "error"] = "mask"
    legacy_window: bool = False
    strict: bool = False
    background: float | str | None = None
    one_window: bool = False
    output_dtype: str | None = None
    layout: Literal["input", "NHW", "NCHW"] = "input"
    bin: int = 1
    gap: Literal["keep", "mask", "mean"] = "keep"

    def __post_init__(self) -> None:
        """Refuse values that make no sense, each with the rule that it breaks."""
        _require(_fraction(self.target_retention), "target_retention must be above 0 and at most 1", self)
        _require(_fraction(self.min_retention), "min_retention must be above 0 and at most 1", self)
        _require(
            self.min_retention <= self.target_retention,
            f"min_retention must not exceed target_retention ({self.target_retention})",
            self,
        )
        _require(_whole(self.margin_pixels, 0), "margin_pixels must be a whole number, 0 or more", self)
        _require(_whole(self.bin, 1) and self.bin <= 64, "bin must be a whole number from 1 to 64", self)
        _require(_whole(self.chunk_size, 1), "chunk_size must be a whole number, 1 or more", self)
        _require(self.workers is None or _whole(self.workers, 1), "workers must be a whole number, 1 or more", self)
        _require(
            self.memory_limit is None or _whole(self.memory_limit, 1), "memory_limit must be a number of bytes", self
        )
        for name, choices in _CHOICES.items():
            _require(getattr(self, name) in choices, f"{name} must be one of {', '.join(choices)}", self)
        self._check_later_options()
        policy = self.radius_policy
        _require(
            policy == "max" or (isinstance(policy, (int, float, np.number)) and 0 < policy <= 100),
            'radius_policy must be "max" or a percentile above 0 and up to 100',
            self,
        )
        if self.center_method == "manual":
            center = self.manual_center
            _require(
                center is not None and len(center) == 2 and all(math.isfinite(c) for c in center),
                'manual_center must be (y, x) when center_method is "manual"',
                self,
            )

    def _check_later_options(self) -> None:
        if self.background is not None:
            object.__setattr__(self, "background", _background(self.background))
        for name, unused in (("background", None), ("one_window", False), ("center_fit", "none")):
            _require(
                not (self.legacy_window and getattr(self, name) != unused),
                f"{name} cannot be combined with legacy_window, the window of the original script",
                self,
            )
        if self.output_dtype is not None:
            try:
                known = np.dtype(self.output_dtype)
            except TypeError:
                known = np.dtype("O")
            _require(
                known.kind in "iuf" and known.itemsize <= 8,
                "output_dtype must be an integer or float type of up to 64 bits, as float32",
                self,
            )
            object.__setattr__(self, "output_dtype", known.name)

    def to_dict(self) -> dict[str, Any]:
        """All options as plain values."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


_CHOICES = {
    "center_method": ("centroid", "center", "manual"),
    "center_fit": ("none", "plane"),
    "negative": ("keep", "clip", "error"),
    "nan": ("mask", "error"),
    "layout": ("input", "NHW", "NCHW"),
    "gap": ("keep", "mask", "mean"),
}


def _fraction(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and bool(0 < value <= 1)


def _whole(value: Any, least: int) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and bool(value >= least)


def _require(condition: bool, rule: str, config: CroppingConfig) -> None:
    if not condition:
        name = rule.split()[0]
        msg = f"{rule}, got {getattr(config, name)!r}"
        raise ValueError(msg)


def _background(text: str | float) -> str | float:
    """Check what a background is asked to be: a level, "corner", or a percentile of each pattern as "5%"."""
    if not isinstance(text, str):
        value = float(text)
    elif text == "corner":
        return text
    elif text.endswith("%"):
        try:
            percentile = float(text[:-1])
        except ValueError:
            percentile = -1.0
        if not 0 <= percentile <= 100:
            msg = f"background {text!r} is no percentile between 0% and 100%"
            raise ValueError(msg)
        return f"{percentile:g}%"
    else:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
    if not math.isfinite(value):
        msg = f'background must be a number, "corner" or a percentile as "5%", got {text!r}'
        raise ValueError(msg)
    return value
