"""A page about a coalignment: before and after, blinking, the search, the columns' frames."""

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from stackalign._types import FloatArray
from stackalign.errors import DataError
from stackalign.io.atomic import write_text_atomic

from ._canvas import new_figure
from ._page import definitions, escape, items, page, table
from ._pictures import BLINK_STYLE, blink, picture
from ._text import short_name
from .registration import plot_score_surface
from .solar import (
    correlation_with_iteration,
    pixel_lengths,
    plot_alignment_before_after,
    plot_column_times,
    plot_history_scatter,
    plot_residual,
    plot_shift_map,
    used_part,
)

if TYPE_CHECKING:
    from stackalign.solar import CoalignmentResult, PhaseResult, RasterPlan

__all__ = ["write_coalignment_report"]


LARGEST_BLINK = 520
"""Longer side of the blinking pictures."""


def write_coalignment_report(
    result: "CoalignmentResult", path: str | os.PathLike[str], *, title: str = "Report of the coalignment"
) -> None:
    """Write one self-contained HTML page about a coalignment; an existing file is replaced.

    Parameters
    ----------
    result : CoalignmentResult
    path : path-like
    title : str
        Heading of the page.
    """
    before, after = result.reference_images()
    target = np.where(np.isfinite(result.target.data), result.target.data, np.nan).astype(np.float64)
    lengths = pixel_lengths(result.target)
    body = [
        BLINK_STYLE,
        *_summary(result, title),
        "<h2>Blinking</h2>",
        '<p class="soft">The map and the reference on its pixels take turns; '
        "they pause under the pointer and when selected by Tab.</p>",
        '<div class="columns">',
        _blink(before, target, lengths, "before"),
        _blink(after, target, lengths, "after"),
        "</div>",
        "<h2>Before and after</h2>",
        picture(
            plot_alignment_before_after(result.target, before, after, result.corrected_map),
            "Map with contours of the reference and the limb, before and after",
        ),
        picture(_residuals(target, before, after, lengths), "Differences before and after"),
        "<h2>Phases</h2>",
        _phases(result),
        *(picture(_search(phase), f"Candidates and correlation of the phase {phase.name}") for phase in result.phases),
        "<h2>Scores around the optimum</h2>",
        picture(_surfaces(result, lengths), "Correlation at every shift, and near the optimum"),
    ]
    if result.plan is not None:
        figure = new_figure(11, 3.2)
        plot_column_times(result.plan, ax=figure.add_subplot())
        body += [
            "<h2>Columns of the synthetic raster</h2>",
            picture(figure, "Time from each column to its frame"),
            _columns(result.plan),
        ]
    body += ["<h2>Facts</h2>", _facts(result)]
    write_text_atomic(path, page(title, "\n".join(body)))


def _summary(result: "CoalignmentResult", title: str) -> list[str]:
    """Heading, verdict and shift."""
    name = str(result.source or result.target.meta.get("filename") or "the map")
    (tx, ty), (sx, sy) = result.shift_arcsec.value, result.sigma_arcsec.value
    verdict = (
        '<p class="done">No flag is set.</p>'
        if result.ok
        else '<p class="short">Not to be trusted:</p>' + items(result.to_dict()["flags"].values())
    )
    more = "" if result.plan is None else f" and {len(result.plan.used)} frames of a sequence"
    return [
        f"<header><h1>{escape(title)}</h1>",
        f'<p class="soft">{escape(short_name(name, 100))} against '
        f"{escape(str(result.reference.meta.get('filename') or 'the reference'))}{more}</p></header>",
        verdict,
        f"<p>The middle of the image moves by ({tx:.3f} &plusmn; {sx:.2g}, {ty:.3f} &plusmn; {sy:.2g}) arcsec.</p>",
        *_further(result),
        *_uncorrected(result),
    ]


def _further(result: "CoalignmentResult") -> list[str]:
    """What was done besides: distortions, and offsets of other detectors."""
    lines = []
    if result.distortion_pixels is not None:
        largest = f"{result.distortion_pixels:.2g}"
        lines.append(f"<p>Tables of distortions of the file are applied: they move pixels by up to {largest} px.</p>")
    for name, ((tx, ty), (sx, sy)) in result.detector_offsets().items():
        values = f"({tx.value:.3f} &plusmn; {sx.value:.2g}, {ty.value:.3f} &plusmn; {sy.value:.2g})"
        lines.append(f"<p>Images of the detector {escape(name)} move by {values} arcsec more.</p>")
    return lines


def _uncorrected(result: "CoalignmentResult") -> list[str]:
    """What a corrected file leaves as it is."""
    try:
        left = result.uncorrected_hdus()
    except DataError as error:  # the file has gone since, or is changed
        return [f'<p class="short">Images of the file that stay uncorrected are not known: {escape(error)}</p>']
    return ['<p class="short">Images of the file that stay uncorrected:</p>', items(left)] if left else []


def _blink(reference: FloatArray, target: FloatArray, lengths: tuple[float, float], words: str) -> str:
    """Two images of square pixels that take turns, without empty margins and not wider than they are."""
    rows, columns = used_part(target)
    ny, nx = rows.stop - rows.start, columns.stop - columns.start
    long = max(ny * lengths[1], nx * lengths[0])
    height, width = (max(1, round(LARGEST_BLINK * n * s / long)) for n, s in zip((ny, nx), lengths[::-1], strict=True))
    y, x = (((np.arange(n) + 0.5) * m / n).astype(int) for n, m in ((height, ny), (width, nx)))
    first, second = (image[rows, columns][np.ix_(y[::-1], x)] for image in (reference, target))
    return f'<div style="max-width: {width}px"><p>{words}</p>{blink(first, second, f"reference and map {words}")}</div>'


def _residuals(target: FloatArray, before: FloatArray, after: FloatArray, lengths: tuple[float, float]) -> Any:
    figure = new_figure(11, 5.0)
    for k, (image, words) in enumerate(((before, "before"), (after, "after"))):
        axes = figure.add_subplot(1, 2, k + 1)
        plot_residual(target, image, axes, aspect=lengths[1] / lengths[0], label=f"map minus reference, {words}")
    return figure


def _search(phase: "PhaseResult") -> Any:
    figure = new_figure(11, 3.8)
    scatter, line = figure.subplots(1, 2)
    plot_history_scatter(phase.history, ax=scatter, final=True)
    correlation_with_iteration(phase.history, ax=line, final=True)
    rounds = len(phase.registrations)
    words = f"{rounds} rounds, each on the reference sampled anew" if rounds > 1 else "1 round"
    figure.suptitle(f"{phase.name}: {words}; levels of the pyramid have scores of their own", fontsize=10)
    return figure


def _surfaces(result: "CoalignmentResult", lengths: tuple[float, float]) -> Any:
    """Every shift of the first phase's images, and what the last phase's optimum looks like from near by."""
    figure = new_figure(11, 4.4)
    wide, near = figure.subplots(1, 2)
    first, last = result.phases[0], result.last
    plot_shift_map(first.target, first.reference, wide, pixels=first.binning, sky=lengths)
    plot_score_surface(last.registrations[-1], last.target, last.reference, ax=near)
    near.set_xlabel("dx of the reference (pixel)")
    near.set_ylabel("dy (pixel)")
    wide.set_title(f"{first.name}: {wide.get_title()}", fontsize=9.5)
    near.set_title(f"{last.name}: {near.get_title()}", fontsize=9.5)
    return figure


def _columns(plan: "RasterPlan") -> str:
    """One row for each run of columns that the same frames serve."""
    starts = np.flatnonzero(np.r_[True, (np.diff(plan.frames, axis=0) != 0).any(axis=1)])
    rows = []
    for start, stop in zip(starts, [*starts[1:], len(plan.frames)], strict=True):
        chosen = dict.fromkeys(plan.frames[start][plan.weights[start:stop].max(axis=0) > 0].tolist())
        seconds = np.where(plan.weights[start:stop] > 0, plan.seconds[start:stop], np.nan)
        rows.append([
            f"{start}-{stop - 1}", plan.times[start].isot[:19], plan.times[stop - 1].isot[:19],
            escape(" and ".join(plan.names[i] for i in chosen)),
            f"{np.nanmin(seconds):+.0f} to {np.nanmax(seconds):+.0f}",
        ])  # fmt: skip
    return table(["columns", "first at", "last at", "frame", "frame after column (s)"], rows, (4,))


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
        "matrix A": np.array2string(result.correction.matrix, precision=7, suppress_small=True).replace("\n", " "),
        "offset b": np.array2string(result.correction.offset, precision=4),
        "device": record.get("device"),
        "time (UTC)": record.get("time_utc"),
        **{key: value for key, value in record["parameters"].items() if value is not None},
    }
    return definitions((name, f"<code>{escape(value)}</code>") for name, value in facts.items() if value)
