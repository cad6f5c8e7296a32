"""A page about a coalignment: before and after, blinking, the search, the columns' frames."""

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from stackalign.io.atomic import write_text_atomic

from ._canvas import new_figure
from ._facts import short_name
from ._page import definitions, escape, items, page, table
from .registration_report import BLINK_STYLE, blink, picture
from .solar import (
    correlation_with_iteration,
    plot_alignment_before_after,
    plot_column_times,
    plot_history_scatter,
    plot_residual,
)

if TYPE_CHECKING:
    from stackalign.solar import CoalignmentResult

__all__ = ["write_coalignment_report"]

MOST_LINES = 400


def write_coalignment_report(
    result: "CoalignmentResult", path: str | os.PathLike[str], *, title: str = "Report of the coalignment"
) -> None:
    """Write one self-contained HTML page about a coalignment; an existing file is replaced."""
    before, after = result.reference_images()
    target = np.where(np.isfinite(result.target.data), result.target.data, np.nan).astype(np.float64)
    name = str(result.source or result.target.meta.get("filename") or "the map")
    (tx, ty), (sx, sy) = result.shift_arcsec.value, result.sigma_arcsec.value
    verdict = (
        '<p class="done">No flag is set.</p>'
        if result.ok
        else '<p class="short">Not to be trusted:</p>' + items(result.to_dict()["flags"].values())
    )
    body = [
        BLINK_STYLE,
        f"<header><h1>{escape(title)}</h1>",
        f'<p class="soft">{escape(short_name(name, 100))} against '
        f"{escape(str(result.reference.meta.get('filename') or 'the reference'))}</p></header>",
        verdict,
        f"<p>The middle of the image moves by ({tx:.3f} &plusmn; {sx:.2g}, {ty:.3f} &plusmn; {sy:.2g}) arcsec.</p>",
        '<div class="columns"><div><p>before</p>',
        blink(before[::-1], target[::-1], "reference and map before"),
        "</div><div><p>after</p>",
        blink(after[::-1], target[::-1], "reference and map after"),
        "</div></div>",
        "<h2>Before and after</h2>",
        picture(
            plot_alignment_before_after(result.target, before, after, result.corrected_map),
            "Map with contours of the reference, before and after",
        ),
        picture(_residuals(result, target, before, after), "Differences before and after"),
        "<h2>Phases</h2>",
        _phases(result),
        picture(_search(result), "Candidates and correlation"),
    ]
    if result.plan is not None:
        figure = new_figure(11, 3.2)
        plot_column_times(result.plan, ax=figure.add_subplot())
        lines = str(result.plan).splitlines()
        body += [
            "<h2>Columns of the synthetic raster</h2>",
            picture(figure, "Time from each column to its frame"),
            items(lines[:MOST_LINES]),
        ]
    body += ["<h2>Facts</h2>", _facts(result)]
    write_text_atomic(path, page(title, "\n".join(body)))


def _residuals(result: "CoalignmentResult", target: Any, before: Any, after: Any) -> Any:
    figure = new_figure(11, 5.0)
    lengths = np.linalg.norm(result.target.wcs.pixel_scale_matrix, axis=0)
    for k, (image, words) in enumerate(((before, "before"), (after, "after"))):
        axes = plot_residual(target, image, figure.add_subplot(1, 2, k + 1), aspect=float(lengths[1] / lengths[0]))
        axes.set_title(f"Difference {words}", fontsize=9.5)
    return figure


def _search(result: "CoalignmentResult") -> Any:
    figure = new_figure(11, 4.0)
    history = result.last.history
    plot_history_scatter(history, ax=figure.add_subplot(1, 2, 1))
    correlation_with_iteration(history, ax=figure.add_subplot(1, 2, 2))
    return figure


def _phases(result: "CoalignmentResult") -> str:
    rows = []
    for phase in result.phases:
        values = ", ".join(
            f"{name} {value:.5g} &plusmn; {sigma:.2g}"
            for name, value, sigma in zip(phase.names, phase.parameters, phase.sigma, strict=True)
        )
        moves = ", ".join(f"{move:.3g}" for move in phase.moves)
        rows.append(
            [
                escape(phase.name),
                escape(phase.model),
                f"{phase.binning[0]} x {phase.binning[1]}",
                values,
                moves,
                f"{phase.score:.4f}",
                f"{phase.overlap:.0%}",
                escape(", ".join(phase.flags) or "none"),
                f"{phase.seconds:.2f}",
            ]
        )
    head = ["phase", "model", "blocks", "parameters", "rounds moved (px)", "score", "overlap", "flags", "seconds"]
    return table(head, rows, (5, 6, 8))


def _facts(result: "CoalignmentResult") -> str:
    record = result.provenance
    facts = {
        "target": result.source or result.target.meta.get("filename"),
        "reference": result.reference.meta.get("filename"),
        "matrix A": np.array2string(result.correction.matrix, precision=7).replace("\n", " "),
        "offset b": np.array2string(result.correction.offset, precision=4),
        "device": record.get("device"),
        "time (UTC)": record.get("time_utc"),
        **{key: value for key, value in record["parameters"].items() if value is not None},
    }
    return definitions((name, f"<code>{escape(value)}</code>") for name, value in facts.items() if value)
