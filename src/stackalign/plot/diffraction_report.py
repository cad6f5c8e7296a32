"""A page about what was found in diffraction images: facts, figures, a table."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from stackalign.io.atomic import write_text_atomic

from ._page import definitions, escape, page, table
from ._pictures import picture

__all__ = ["write_diffraction_report"]


def write_diffraction_report(
    path: str | os.PathLike[str],
    title: str,
    facts: Mapping[str, Any],
    figures: Iterable[tuple[Any, str]],
    *,
    head: Sequence[str] = (),
    rows: Sequence[Sequence[Any]] = (),
) -> None:
    """Write one self-contained HTML page; an existing file is replaced, and appears complete or not at all.

    Parameters
    ----------
    path : path-like
    title : str
        Heading.
    facts : mapping
        Name and value; those that are None or empty are left out.
    figures : iterable of (matplotlib.figure.Figure, str)
        With words for those who cannot see them.
    head, rows : sequence
        Of a table, in plain text.

    Examples
    --------
    >>> import numpy as np
    >>> from stackalign import plot
    >>> figure = plot.plot_pattern(np.eye(8)).figure
    >>> plot.write_diffraction_report("page.html", "One pattern", {"images": 1}, [(figure, "a diagonal")])
    """
    shown = [(name, f"<code>{escape(value)}</code>") for name, value in facts.items() if value not in (None, "")]
    body = [
        f"<header><h1>{escape(title)}</h1></header>",
        *(picture(figure, words) for figure, words in figures),
        "<h2>Facts</h2>",
        definitions(shown),
    ]
    if rows:
        body += ["<h2>Files</h2>", table([escape(h) for h in head], [[escape(c) for c in row] for row in rows])]
    write_text_atomic(path, page(title, "\n".join(body)))
