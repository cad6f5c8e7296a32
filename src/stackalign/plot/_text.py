"""Numbers and names as pictures and pages show them."""

from pathlib import PurePath

import numpy as np

__all__ = ["number", "short_name"]


def number(value: float, form: str = ".4f") -> str:
    """Format a number; a dash where there is none."""
    return format(value, form) if np.isfinite(value) else "–"


def short_name(name: str, limit: int = 60) -> str:
    """Last part of a path, shortened in the middle, without characters that break a line."""
    last = PurePath(name).name or name
    last = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in last)
    if len(last) <= limit:
        return last
    tail = limit // 2
    return f"{last[: limit - tail - 1]}…{last[-tail:]}"
