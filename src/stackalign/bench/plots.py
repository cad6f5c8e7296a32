"""Plots of benchmarks: speed-up over other packages, roofline, growth with size."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stackalign.plot._canvas import BLUE, GREY, VERMILLION, new_figure, save_figure, title

from .machine import slug
from .series import exponent, fastest_peers, series_of

__all__ = ["write_plots"]


def write_plots(results: Sequence[Mapping[str, Any]], folder: Path) -> list[Path]:
    """Draw what there is to draw of each result; give the files."""
    written = []
    for k, result in enumerate(results, 1):
        stem = f"{slug(dict(result['machine']))}-{k}"
        for name, draw in (("speedup", _speedup), ("roofline", _roofline), ("growth", _growth)):
            figure = draw(result)
            if figure is not None:
                path = folder / f"{stem}-{name}.png"
                save_figure(figure, path, 110)
                written.append(path)
    return written


def _speedup(result: Mapping[str, Any]) -> Any:
    """Bars of the time of the fastest other package over ours."""
    rows = fastest_peers(result)
    if not rows:
        return None
    figure = new_figure(8, 1.2 + 0.28 * len(rows))
    ax = figure.add_subplot()
    names, over, who = zip(*rows, strict=True)
    places = np.arange(len(rows))[::-1]
    ax.barh(places, over, color=[BLUE if value >= 1 else VERMILLION for value in over])
    for place, value, peer in zip(places, over, who, strict=True):
        ax.annotate(f" {value:.2g}x {peer}", (value, place), va="center", fontsize=7)
    ax.set_yticks(places, names, fontsize=7)
    ax.set_xscale("log")
    ax.set_xlim(min(0.5, min(over) / 1.5), max(over) * 8)
    ax.axvline(1, color=GREY, linewidth=1)
    ax.set_xlabel("time of the fastest other package over ours")
    title(ax, "Speed-up", "below 1 the other is faster")
    return figure


def _roofline(result: Mapping[str, Any]) -> Any:
    """Operations per second over operations per byte, under the machine's ceilings."""
    ceilings = result["ceilings"]
    points = [
        (row["operations"] / row["bytes"], row["operations"] / row["seconds"]["median"], row["case"])
        for row in result["rows"]
        if row["operations"] and row["bytes"]
    ]
    if not points or not {"read", "arithmetic"} <= set(ceilings):
        return None
    figure = new_figure(7, 5)
    ax = figure.add_subplot()
    low, high = (
        min(p[0] for p in points) / 3,
        max(*(p[0] for p in points), ceilings["arithmetic"] / ceilings["read"]) * 3,
    )
    grid = np.geomspace(low, high, 100)
    ax.plot(grid, np.minimum(grid * ceilings["read"], ceilings["arithmetic"]) / 1e9, color=GREY)
    for k, case in enumerate(dict.fromkeys(p[2] for p in points)):
        own = np.array([p[:2] for p in points if p[2] == case])
        ax.plot(own[:, 0], own[:, 1] / 1e9, "osD^vP*X<>hp"[k % 12], label=case, markersize=5)
    ax.set(xscale="log", yscale="log", xlabel="operations per byte", ylabel="10$^9$ operations per second")
    ax.legend(fontsize=6, loc="lower right")
    title(ax, "Roofline", "the line: what memory and arithmetic of this machine allow")
    return figure


def _growth(result: Mapping[str, Any]) -> Any:
    """Time over size for each case of several sizes."""
    grown = {key: points for key, points in series_of(result).items() if exponent(points) is not None}
    if not grown:
        return None
    kinds = list(dict.fromkeys(of for _, of in grown))
    figure = new_figure(5 * len(kinds), 4.2)
    for ax, kind in zip(np.atleast_1d(figure.subplots(1, len(kinds))), kinds, strict=True):
        for (case, of), points in grown.items():
            if of == kind:
                size, seconds = np.array(points).T
                ax.plot(size, seconds, "o-", markersize=3, label=f"{case}: {exponent(points):.2f}")
        ax.set(xscale="log", yscale="log", xlabel=kind, ylabel="seconds")
        ax.legend(fontsize=6, title="exponent", title_fontsize=6)
        title(ax, f"Growth with {kind}")
    return figure
