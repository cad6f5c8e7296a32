"""A page about one crop or several, for the folder of the data and for the notebook."""

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from stackalign.device import format_bytes
from stackalign.io.atomic import write_text_atomic

from ._crop_facts import flag_words, middle, retention_range, saved_share, scan_position
from ._page import definitions, escape, items, page, table
from ._pictures import picture
from ._text import number, short_name
from .crop import crop_choice_figure, crop_examples_figure, crop_figure

if TYPE_CHECKING:
    from stackalign.crop.result import CropResult

__all__ = ["write_crop_report"]

FLAGGED_ROWS = 200
LARGEST_ROWS = 10
FIGURE_DPI = 110
CHOICE_WORDS = "Virtual images of the scan with the patterns that stand out, and what smaller radii save"
EXAMPLE_WORDS = "Patterns with the largest radius and with the lowest retention, before and after the crop"
PICTURE_WORDS = "Mean pattern before and after the crop, encircled intensity, radii, drift of the centre, and retention"


def write_crop_report(
    results: "Iterable[CropResult]", path: str | os.PathLike[str], *, title: str = "Report of the crop"
) -> None:
    """Write one self-contained HTML page about crops.

    Parameters
    ----------
    results : iterable of CropResult
        At least one; they are drawn one after the other, so that a generator keeps only one in memory.
    path : path-like
        An existing file is replaced; the page appears complete or not at all.
    title : str
        Heading of the page.

    Raises
    ------
    ValueError
        There are no results.
    MissingDependencyError
        matplotlib is not installed.

    Examples
    --------
    >>> from stackalign import crop, plot
    >>> patterns = crop.create_test_data(n_patterns=4, image_size=32, noise_level=0.0)
    >>> result = crop.crop_array(patterns, crop.CroppingConfig(visualization=False))[1]
    >>> plot.write_crop_report([result], "crop.html")
    """
    rows: list[list[str]] = []
    sections: list[str] = []
    for k, result in enumerate(results, start=1):
        rows.append(_summary_row(result, k))
        sections.append(_section(result, k))
    if not sections:
        msg = "a report needs at least one result"
        raise ValueError(msg)
    head = ["file", "patterns", "shape (px)", "radius (px)", "window (px)", "saved", "mean retention"]
    head += ["lowest retention", "flagged", "status"]
    n = len(sections)
    body = [
        f"<header><h1>{escape(title)}</h1>",
        f'<p class="soft">{n} file{"s" * (n != 1)}; shapes are rows × columns, positions are (y, x) from 0.</p>',
        "</header>",
        table(head, rows, range(1, 9)),
        *sections,
    ]
    write_text_atomic(path, page(title, "\n".join(body)))


def _name(result: "CropResult") -> str:
    return short_name(result.input_name, 80) or "array"


def _status(result: "CropResult") -> str:
    kind = "done" if result.status == "done" else "short"
    return f'<span class="{kind}">{escape(result.status)}</span>'


def _size(shape: Iterable[int]) -> str:
    return " × ".join(str(length) for length in shape)


def _summary_row(result: "CropResult", k: int) -> list[str]:
    analysis = result.analysis
    mean, lowest = retention_range(result)
    return [
        f'<a href="#file-{k}">{escape(_name(result))}</a>',
        f"{analysis.n_patterns:,}",
        _size(analysis.original_shape),
        str(analysis.global_radius),
        _size(analysis.window),
        number(saved_share(result), ".1%"),
        number(mean),
        number(lowest),
        f"{np.count_nonzero(analysis.flags):,}",
        _status(result),
    ]


def _section(result: "CropResult", k: int) -> str:
    examples = crop_examples_figure(result)
    parts = [
        f'<section id="file-{k}">',
        f"<h2>{escape(_name(result))}</h2>",
        picture(crop_figure(result), PICTURE_WORDS, dpi=FIGURE_DPI),
        picture(crop_choice_figure(result), CHOICE_WORDS, dpi=FIGURE_DPI),
        "" if examples is None else picture(examples, EXAMPLE_WORDS, dpi=FIGURE_DPI),
        '<div class="columns"><div>',
        "<h3>Facts</h3>",
        definitions(_facts(result)),
        "</div><div>",
        "<h3>Messages and notes</h3>",
        items([*result.messages, *result.analysis.notes] or ["Nothing to report."]),
        "<h3>Patterns with the largest radii</h3>",
        _largest(result),
        "</div></div>",
        "<h3>Flagged patterns</h3>",
        _flagged(result),
        '<div class="columns"><div>',
        "<h3>Configuration</h3>",
        definitions((name, f"<code>{escape(value)}</code>") for name, value in result.config.to_dict().items()),
        "</div><div>",
        "<h3>Provenance</h3>",
        definitions(_provenance(result)),
        "</div></div>",
        "</section>",
    ]
    return "\n".join(parts)


def _facts(result: "CropResult") -> list[tuple[str, str]]:
    analysis, validation = result.analysis, result.validation
    mean, lowest = retention_range(result)
    y, x = middle(analysis)
    n, used = analysis.n_patterns, int(validation.used.size)
    facts = [
        ("input", f"<code>{escape(result.input_name or '–')}</code>"),
        ("output", f"<code>{escape(result.output_name or '–')}</code>"),
        ("status", _status(result)),
        ("patterns", f"{n:,}" + (f", scan {_size(analysis.scan_shape)}" if len(analysis.scan_shape) > 1 else "")),
        ("shape", f"{_size(analysis.original_shape)} → {_size(analysis.window)} px"),
        ("radius of the window", f"{analysis.global_radius} px, margin {result.config.margin_pixels} px included"),
        ("median centre (y, x)", f"({y:.2f}, {x:.2f}) px"),
        (
            "size",
            f"{format_bytes(result.input_bytes)} → {format_bytes(result.output_bytes)} "
            f"({number(saved_share(result), '.1%')} saved)",
        ),
        ("retention, mean", number(mean)),
        ("retention, lowest", number(lowest)),
        (f"below the target {validation.target_retention:g}", f"{validation.n_below_target:,} of {used:,}"),
        (f"below the minimum {validation.min_retention:g}", f"{validation.n_below_min:,} of {used:,}"),
        ("left out as flagged", f"{int(analysis.excluded.sum()):,} of {n:,}"),
    ]
    if analysis.fit is not None:
        rms_y, rms_x = analysis.fit.rms
        facts.append(
            ("plane through the centres", f"residual rms y {number(rms_y, '.3g')}, x {number(rms_x, '.3g')} px")
        )
    calibration = result.calibration
    if calibration is not None:
        scale = " × ".join(f"{size:g}" for size in calibration.pixel_size)
        facts.append(("pixel size (y × x)", f"{scale} {escape(calibration.units)}"))
    facts.append(("time", f"{result.processing_time:.3g} s"))
    return facts


def _flagged(result: "CropResult") -> str:
    analysis = result.analysis
    indices = np.flatnonzero(analysis.flags)
    if indices.size == 0:
        return "<p>None.</p>"
    counts = ", ".join(f"{words} {count:,}" for words, count in analysis.flag_counts.items())
    rows = (
        [
            str(k),
            scan_position(analysis, int(k)) or "–",
            escape(flag_words(int(analysis.flags[k]))),
            "yes" if analysis.excluded[k] else "no",
            number(float(analysis.total[k]), ".6g"),
            str(int(analysis.radii[k])),
        ]
        for k in indices[:FLAGGED_ROWS]
    )
    head = ["index", "scan position", "flags", "left out", "total", "radius (px)"]
    more = indices.size - FLAGGED_ROWS
    return (
        f"<p>{indices.size:,} of {analysis.n_patterns:,} patterns: {escape(counts)}.</p>"
        + table(head, rows, (0, 4, 5))
        + (f"<p>… and {more:,} more.</p>" if more > 0 else "")
    )


def _largest(result: "CropResult") -> str:
    analysis = result.analysis
    indices = analysis.largest(LARGEST_ROWS)
    if not indices:
        return "<p>None.</p>"
    rows = (
        [
            str(k),
            scan_position(analysis, k) or "–",
            str(int(analysis.radii[k])),
            number(float(result.validation.retentions[k])),
            number(float(analysis.total[k]), ".6g"),
        ]
        for k in indices
    )
    return table(["index", "scan position", "radius (px)", "retention", "total"], rows, (0, 2, 3, 4))


def _provenance(result: "CropResult") -> list[tuple[str, str]]:
    record = result.provenance
    versions = record.get("versions") or {}
    pairs: list[tuple[str, Any]] = [
        ("device", record.get("device") or result.device),
        ("command", record.get("command")),
        ("time (UTC)", record.get("time_utc")),
        ("platform", record.get("platform")),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
    ]
    for source in record.get("inputs") or ():
        known = source if isinstance(source, Mapping) else {"path": source}
        pairs += [("input", known.get("path")), ("fingerprint", known.get("fingerprint"))]
    return [(name, f"<code>{escape(value)}</code>") for name, value in pairs if value]
