"""A page about the drift of one series or several, with averages that blink between before and after."""

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from stackalign.io.atomic import write_text_atomic

from ._page import definitions, escape, page, table
from ._pictures import BLINK_STYLE, blink, picture
from ._text import short_name
from .drift import drift_figure

if TYPE_CHECKING:
    from stackalign.drift import DriftFile

__all__ = ["write_drift_report"]

TABLE_ROWS = 200


def write_drift_report(
    files: "Iterable[DriftFile]", path: str | os.PathLike[str], *, title: str = "Report of the drift"
) -> None:
    """Write one self-contained HTML page about series of frames.

    Parameters
    ----------
    files : iterable of DriftFile
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
    sections = [_section(done, k) for k, done in enumerate(files, start=1)]
    if not sections:
        msg = "a report needs at least one file"
        raise ValueError(msg)
    body = [
        BLINK_STYLE,
        f"<header><h1>{escape(title)}</h1>",
        '<p class="soft">Shifts move the content of a frame; +- is one standard deviation. '
        "The pictures blink between the averages before and after; "
        "they pause under the pointer and when selected by Tab.</p>",
        "</header>",
        *sections,
    ]
    write_text_atomic(path, page(title, "\n".join(body)))


def _section(done: "DriftFile", k: int) -> str:
    parts = [f'<section id="file-{k}">', f"<h2>{escape(short_name(str(done.source), 80))}</h2>"]
    parts.append(f"<p>{escape(done.result)}</p>")
    if done.average is not None and done.unaligned is not None:
        parts += [
            picture(drift_figure(done.result, done.unaligned, done.average), "Shifts, and averages before and after"),
            blink(done.unaligned, done.average, "average before and after"),
        ]
    facts = (
        ("input", done.source),
        ("output", done.output),
        ("average", done.average_path),
        ("command", done.provenance.get("command")),
        ("time (UTC)", done.provenance.get("time_utc")),
    )
    parts += [
        "<h3>Facts</h3>",
        definitions((name, f"<code>{escape(value)}</code>") for name, value in facts if value),
        "<h3>Frames</h3>",
        _rows(done),
        _remarks(done),
        "</section>",
    ]
    return "\n".join(parts)


def _rows(done: "DriftFile") -> str:
    result = done.result
    flags = result.flags
    order = sorted(range(len(result)), key=lambda k: (not flags[k], k))  # the flagged ones first
    rows = [
        [
            str(k),
            *(f"{value:.4g} +- {sigma:.2g}" for value, sigma in zip(result.shifts[k], result.sigma[k], strict=True)),
            f"{result.score[k]:.3f}",
            f"{result.evidence[k]:.4g}",
            f"{result.rival[k]:.1e}",
            escape(", ".join(flags[k]) or "none"),
        ]
        for k in order[:TABLE_ROWS]
    ]
    more = len(result) - TABLE_ROWS
    note = f"<p>... and {more:,} more; all stand in the record beside the output.</p>" if more > 0 else ""
    return table(["frame", "dy", "dx", "score", "evidence", "rival", "flags"], rows, range(6)) + note


def _remarks(done: "DriftFile") -> str:
    """A sentence for each flag, that of the first frame that has it."""
    first: dict[str, tuple[int, str]] = {}
    for k, remarks in enumerate(done.result.remarks):
        for flag, text in remarks.items():
            first.setdefault(flag, (k, text))
    lines = [
        f"<li><code>{escape(flag)}</code>, frame {k} first: {escape(text)}</li>" for flag, (k, text) in first.items()
    ]
    return "<h3>Remarks</h3>\n<ul>" + "\n".join(lines) + "</ul>" if lines else ""
