"""Inputs and outputs that several commands check before their work: masks, pages, pictures."""

from pathlib import Path

from stackalign._types import BoolArray
from stackalign.errors import DataError, MissingDependencyError, OutputExistsError
from stackalign.io import read_mask

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


def load_mask(path: Path | None) -> BoolArray | None:
    """Mask of --mask: see `stackalign.io.read_mask`."""
    return None if path is None else read_mask(path)


def check_report(path: Path, *, replace: bool) -> None:
    """Refuse a page that cannot be written before the work, not after it."""
    if path.is_dir() or not path.parent.is_dir():
        msg = f"report {path} cannot be written there; give a file name in a folder that exists"
        raise DataError(msg)
    if path.exists() and not replace:
        msg = f"report {path} exists; choose another name or allow it to be replaced"
        raise OutputExistsError(msg).with_hint("overwrite")
