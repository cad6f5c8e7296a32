"""Figures of tutorials that pyplot does not know: those that functions of `stackalign.plot` return."""

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sphinx_gallery.scrapers import figure_rst

__all__ = ["scraper"]

_seen: set[int] = set()
_kept: list[Figure] = []  # so that no identity is used twice


def scraper(block: Any, block_vars: Mapping[str, Any], gallery_conf: Mapping[str, Any]) -> str:
    """Save the figures, or figures of axes, that a block has assigned to a variable."""
    paths = []
    for value in list(block_vars["example_globals"].values()):
        figure = value.figure if isinstance(value, Axes) else value
        if not isinstance(figure, Figure) or hasattr(figure, "number") or id(figure) in _seen:
            continue
        _seen.add(id(figure))
        _kept.append(figure)
        path = next(block_vars["image_path_iterator"])
        figure.savefig(path, dpi=100, bbox_inches="tight")
        paths.append(path)
    return str(figure_rst(paths, gallery_conf["src_dir"]))


def _get_sg_image_scraper() -> Any:
    return scraper
