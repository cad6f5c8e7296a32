"""A page about the registration of one file or several, with pictures that blink between before and after."""

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from stackalign.io.atomic import write_text_atomic

from ._canvas import new_figure
from ._page import definitions, escape, page, table
from ._pictures import BLINK_STYLE, blink, picture
from ._text import short_name
from .registration import plot_displacements, plot_parameters, registration_figure

if TYPE_CHECKING:
    from stackalign.registration.files import AlignedFile
    from stackalign.registration.preview import Preview

__all__ = ["write_registration_report"]

TABLE_ROWS = 200


def write_registration_report(
    files: "Iterable[AlignedFile]", path: str | os.PathLike[str], *, title: str = "Report of the alignment"
) -> None:
    """Write one self-contained HTML page about registrations.

    Parameters
    ----------
    files : iterable of AlignedFile
        At least one.
    path : path-like
        An existing file is replaced; the page appears complete or not at all.
    title : str
        Heading of the page.

    Raises
    ------
    ValueError
        There are no files.
    MissingDependencyError
        matplotlib is not installed.
    """
    rows, sections = [], []
    for k, done in enumerate(files, start=1):
        flagged = int((~done.results.ok).sum())
        rows.append(
            [
                f'<a href="#file-{k}">{escape(short_name(str(done.source), 80))}</a>',
                f"{len(done.results):,}",
                escape(done.results.model),
                f"{done.results.scores.min():.4f}",
                f'<span class="{"short" if flagged else "done"}">{flagged:,}</span>',
                f"{done.seconds:.2f}",
            ]
        )
        sections.append(_section(done, k))
    if not sections:
        msg = "a report needs at least one file"
        raise ValueError(msg)
    body = [
        BLINK_STYLE,
        f"<header><h1>{escape(title)}</h1>",
        '<p class="soft">Shifts move the content of an image; +- is one standard deviation. '
        "The pictures blink between the reference and the other image; "
        "they pause under the pointer and when selected by Tab.</p>",
        "</header>",
        table(["file", "images", "model", "lowest score", "flagged", "seconds"], rows, (1, 3, 4, 5)),
        *sections,
    ]
    write_text_atomic(path, page(title, "\n".join(body)))


def _section(done: "AlignedFile", k: int) -> str:
    shown = done.preview
    parts = [f'<section id="file-{k}">', f"<h2>{escape(short_name(str(done.source), 80))}</h2>"]
    if len(done.results) > 1:
        figure = new_figure(11, 3.4)
        plot_parameters(done.results, ax=figure.add_subplot())
        parts += [picture(figure, "Shifts over the frames")]
    if shown is not None and np.isfinite(shown.aligned).any():
        parts += _frame(done, shown)
    parts += [
        '<div class="columns"><div>',
        "<h3>Facts</h3>",
        definitions(
            (name, f"<code>{escape(value)}</code>")
            for name, value in (
                ("input", done.source),
                ("reference", done.reference),
                ("output", done.output),
                ("device", done.provenance.get("device")),
                ("command", done.provenance.get("command")),
                ("time (UTC)", done.provenance.get("time_utc")),
            )
            if value
        ),
        "</div></div>",
        "<h3>Parameters</h3>",
        _rows(done),
        _remarks(done),
        "</section>",
    ]
    return "\n".join(parts)


def _frame(done: "AlignedFile", shown: "Preview") -> list[str]:
    """Pictures of one frame, before and after."""
    figure = registration_figure(
        done.results[shown.frame], shown.reference, shown.moving, shown.aligned, compared=shown.compared
    )
    parts = [
        f"<h3>Frame {shown.frame}, the one with the largest shift</h3>",
        '<div class="columns"><div><p>before</p>',
        blink(shown.reference, shown.moving, "reference and moving image"),
        "</div><div><p>aligned</p>",
        blink(shown.reference, shown.aligned, "reference and aligned image"),
        "</div></div>",
        picture(figure, "Images, differences and score surface"),
        f'<p class="soft">{escape(_compared(shown))}</p>',
    ]
    if shown.displacements is not None:
        figure = new_figure(6.5, 5.5)
        plot_displacements(shown.displacements, shown.reference, ax=figure.add_subplot())
        parts += [
            picture(figure, "Displacements of regions"),
            '<p class="soft">Arrows say where the content of each region would have to move on, enlarged; grey '
            "ones are within 3 standard errors, and those within one are left out.</p>",
        ]
    return parts


def _compared(shown: "Preview") -> str:
    """What the differences and the scores are of."""
    how = (
        "the images as they are"
        if shown.background is None
        else f"the images without their Gaussian mean of {shown.background:g} px, as they were compared"
    )
    return f"Differences and scores are of {how}, the two differences of the same pixels; masked pixels are greenish."


def _remarks(done: "AlignedFile") -> str:
    """The sentences of the flagged images that the table has."""
    flagged = [b for b, result in enumerate(done.results) if not result.ok][:TABLE_ROWS]
    items = [
        f"<li>image {b}, <code>{escape(flag)}</code>: {escape(text)}</li>"
        for b in flagged
        for flag, text in done.results[b].remarks.items()
    ]
    return "<h3>Remarks</h3>\n<ul>" + "\n".join(items) + "</ul>" if items else ""


def _rows(done: "AlignedFile") -> str:
    names = done.results.names
    order = sorted(range(len(done.results)), key=lambda b: (done.results[b].ok, b))  # the flagged ones first
    rows = []
    for b in order[:TABLE_ROWS]:
        r = done.results[b]
        cells = [f"{value:.5g} +- {sigma:.2g}" for value, sigma in zip(r.parameters, r.sigma, strict=True)]
        rows.append([str(b), *cells, f"{r.score:.4f}", f"{r.overlap:.1%}", escape(", ".join(r.flags) or "none")])
    more = len(done.results) - TABLE_ROWS
    note = f"<p>... and {more:,} more without flags or beyond the list; all stand in the table file.</p>"
    head = ["image", *names, "score", "overlap", "flags"]
    return table(head, rows, range(len(names) + 3)) + (note if more > 0 else "")
