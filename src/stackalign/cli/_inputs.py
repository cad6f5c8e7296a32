"""Inputs and outputs that several commands check before their work: masks, pages, pictures."""

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stackalign.errors import DataError, MissingDependencyError, OutputExistsError, StackalignWarning
from stackalign.io.images import read_image

__all__ = ["can_plot", "check_report", "load_mask", "require_plots"]


def can_plot() -> bool:
    """Tell whether matplotlib is installed."""
    import importlib.util

    return importlib.util.find_spec("matplotlib") is not None


def require_plots() -> None:
    """Fail before the work, not after it, where pictures are wanted and matplotlib is missing."""
    if not can_plot():
        msg = 'pictures and reports need matplotlib: pip install "stackalign[plot]", or use --no-visualization'
        raise MissingDependencyError(msg)


def load_mask(path: Path | None) -> NDArray[np.bool_] | None:
    """Read a mask of valid pixels: one frame, boolean or numbers of which non-zero means valid."""
    if path is None:
        return None
    if not path.exists():
        msg = f"mask {path} does not exist; give one frame as .npy, .tif or .h5, non-zero = valid"
        raise DataError(msg)
    try:
        frame = read_image(path)
    except DataError as error:
        msg = f"mask {path} cannot be read ({error}); give one frame as .npy, .tif or .h5, non-zero = valid"
        raise DataError(msg) from error
    if frame.dtype.kind not in "buif":
        msg = f"mask {path} must be one frame (H, W) of booleans or numbers, got {frame.dtype}"
        raise DataError(msg)
    valid: NDArray[np.bool_] = frame != 0
    if not valid.any():
        msg = f"mask {path} has no valid pixel; True or non-zero means valid"
        raise DataError(msg)
    if valid.mean() < 0.05:
        text = f"mask {path} leaves {valid.mean():.1%} of the pixels; non-zero means valid, is it inverted?"
        warnings.warn(text, StackalignWarning, stacklevel=2)
    return valid


def check_report(path: Path, *, replace: bool) -> None:
    """Refuse a page that cannot be written before the work, not after it."""
    if path.is_dir() or not path.parent.is_dir():
        msg = f"report {path} cannot be written there; give a file name in a folder that exists"
        raise DataError(msg)
    if path.exists() and not replace:
        msg = f"report {path} exists; choose another name or allow it to be replaced"
        raise OutputExistsError(msg).with_hint("overwrite")
