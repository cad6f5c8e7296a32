"""A page about many coalignments: how many are right, how far each pointing was off, what was wrong with the rest."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign.io.atomic import write_text_atomic

from ._canvas import new_figure
from ._page import escape, page, table
from ._pictures import picture

__all__ = ["write_batch_report"]

_SHOWN = {"tx": "x (arcsec)", "ty": "y (arcsec)", "score": "score", "overlap": "overlap"}


def write_batch_report(
    columns: Mapping[str, NDArray[Any]],
    path: str | os.PathLike[str],
    *,
    pages: Sequence[Path | None] = (),
    title: str = "Report of the coalignments",
) -> None:
    """Write one self-contained HTML page about a batch; an existing file is replaced.

    Parameters
    ----------
    columns : mapping of str to numpy.ndarray
        One row a task: target, status, tx, ty, sigma_tx, sigma_ty, score, overlap, flags, message.
    path : path-like
    pages : sequence of Path or None, optional
        Page of each task, to be linked where there is one.
    title : str
    """
    states = columns["status"].astype(str)
    counts = ", ".join(f"{(states == name).sum()} {name}" for name in dict.fromkeys(sorted(states)))
    links = [None if one is None else os.path.relpath(one, Path(path).parent) for one in pages] or [None] * len(states)
    body = [
        f"<header><h1>{escape(title)}</h1>",
        f'<p class="{"done" if (states == "done").all() else "short"}">{len(states)} files: {counts}.</p></header>',
    ]
    if np.isfinite(columns["tx"]).any():
        body += ["<h2>Pointing</h2>", picture(_pointing(columns, states), "By how far each file moves on the sky")]
    body += ["<h2>Files</h2>", _files(columns, links)]
    write_text_atomic(path, page(title, "\n".join(body)))


def _pointing(columns: Mapping[str, NDArray[Any]], states: NDArray[np.str_]) -> Any:
    figure = new_figure(11, 4.6)
    sky, order = figure.subplots(1, 2)
    for name, mark in (("done", "o"), ("flagged", "x")):
        of = states == name
        x, y, sx, sy = (columns[key][of] for key in ("tx", "ty", "sigma_tx", "sigma_ty"))
        sky.errorbar(x, y, xerr=sx, yerr=sy, fmt=mark, markersize=4, linewidth=0.8, label=name)
        order.plot(np.flatnonzero(of), columns["score"][of], mark, markersize=4, label=name)
    sky.set_xlabel("moves along x by (arcsec)")
    sky.set_ylabel("along y (arcsec)")
    sky.set_aspect("equal", adjustable="datalim")
    order.set_xlabel("file, in the order of the table")
    order.set_ylabel("score")
    sky.legend()
    return figure


def _files(columns: Mapping[str, NDArray[Any]], links: Sequence[str | None]) -> str:
    rows = []
    for k, link in enumerate(links):
        name = escape(Path(str(columns["target"][k])).name)
        cells = [name if link is None else f'<a href="{escape(link)}">{name}</a>', escape(columns["status"][k])]
        for key in _SHOWN:
            value, sigma = columns[key][k], columns.get(f"sigma_{key}")
            text = "" if not np.isfinite(value) else f"{value:.4g}" if sigma is None else f"{value:.3f}"
            cells.append(text if sigma is None or not text else f"{text} &plusmn; {sigma[k]:.2g}")
        words = columns["message"][k] if columns["status"][k] == "failed" else columns["flags"][k]
        rows.append([*cells, escape(words)])
    return table(["file", "status", *_SHOWN.values(), "remarks"], rows, (2, 3, 4, 5))
