"""A page about the refinement of one experiment, step by step."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stackalign.io.atomic import write_text_atomic

from ._page import definitions, escape, items, page, table
from ._pictures import picture
from .refine import UNITS, disks_figure, refinement_figure

if TYPE_CHECKING:
    from stackalign.refine import RefinementResult

__all__ = ["RefinedStep", "write_refinement_report"]


@dataclass(frozen=True, eq=False)
class RefinedStep:
    """One step as the page shows it.

    Parameters
    ----------
    title : str
        What was refined.
    result : RefinementResult
        What was found.
    disks : (numpy.ndarray, numpy.ndarray), optional
        Measured and simulated disks, see `stackalign.refine.CoarseRefine.disks`.
    trials : sequence of (str, float, float)
        Orientations that were tried: words, score, and thickness.
    """

    title: str
    result: "RefinementResult"
    disks: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
    trials: Sequence[tuple[str, float, float]] = ()


def write_refinement_report(
    steps: Sequence[RefinedStep],
    path: str | os.PathLike[str],
    *,
    title: str = "Report of the refinement",
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write one self-contained HTML page about the steps of a refinement.

    Parameters
    ----------
    steps : sequence of RefinedStep
        At least one, in their order.
    path : path-like
        An existing file is replaced; the page appears complete or not at all.
    title : str
        Heading of the page.
    provenance : mapping, optional
        See `stackalign.io.provenance`.

    Raises
    ------
    ValueError
        There are no steps.
    MissingDependencyError
        matplotlib is not installed.
    """
    if not steps:
        msg = "a report needs at least one step"
        raise ValueError(msg)
    body = [
        f"<header><h1>{escape(title)}</h1>",
        '<p class="soft">Scores are zero-normalised correlations of measured with simulated disks; the residual over '
        "noise is reduced chi-square, 1 for a perfect model. ± is one standard deviation, from noise and from "
        "what is not noise ('systematic'): beams left out, disks that disagree, parameters that were held.</p>",
        "</header>",
        _overview(steps),
        *(_section(step, k) for k, step in enumerate(steps, start=1)),
    ]
    if provenance:
        body += ["<section><h2>Provenance</h2>", definitions(_code(_known(provenance))), "</section>"]
    write_text_atomic(path, page(title, "\n".join(body)))


def _overview(steps: Sequence[RefinedStep]) -> str:
    """Table with a row for each step."""
    columns = ("score", "residual / noise", "thickness (Å)", "warnings", "decompositions", "evaluations", "seconds")
    rows = [
        [
            f'<a href="#step-{k}">{escape(step.title)}</a>',
            f"{step.result.score:.4f}",
            _noise(step.result.goodness),
            f"{step.result.values['thickness']:.1f}",
            f'<span class="{"done" if step.result.ok else "short"}">{len(step.result.warnings)}</span>',
            f"{step.result.n_tilts:,}",
            f"{step.result.n_evaluations:,}",
            f"{step.result.seconds:.1f}",
        ]
        for k, step in enumerate(steps, start=1)
    ]
    return table(["step", *columns], rows, range(1, 8))


def _known(provenance: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """What a provenance says, by the words of the page."""
    known = [(name, provenance.get(key)) for name, key in (("command", "command"), ("time (UTC)", "time_utc"))]
    known += [("device", provenance.get("device")), ("platform", provenance.get("platform"))]
    versions = provenance.get("versions") or {}
    known.append(("versions", ", ".join(f"{name} {value}" for name, value in versions.items())))
    for source in provenance.get("inputs") or ():
        known += [("input", source.get("path")), ("fingerprint", source.get("fingerprint"))]
    return known


def _section(step: RefinedStep, k: int) -> str:
    result = step.result
    parts = [f'<section id="step-{k}">', f"<h2>{k}. {escape(step.title)}</h2>"]
    if step.trials:
        rows = [[escape(words), f"{score:.3f}", f"{thickness:.1f}"] for words, score, thickness in step.trials]
        parts += ["<h3>Orientations tried</h3>", table(["orientation", "score", "thickness (Å)"], rows, (1, 2))]
    if step.disks is not None:
        names = [_disk_name(hkl, result) for hkl in result.disk_scores]
        figure = disks_figure(*step.disks, names, list(result.disk_scores.values()))
        parts += ["<h3>Disks</h3>", picture(figure, "Disks: measured, simulated and their difference")]
    parts += [
        picture(refinement_figure(result), "Score over tilts, correlation matrix, score against each parameter"),
        '<div class="columns"><div>',
        "<h3>Parameters</h3>",
        _parameters(result),
        "</div><div>",
        "<h3>Warnings</h3>",
        items(result.warnings or ["None."]),
        _held(result),
        "</div></div>",
        "</section>",
    ]
    return "\n".join(parts)


def _parameters(result: "RefinementResult") -> str:
    sigma, rows = result.sigma, []
    for name in [*result.names, *(n for n in result.values if n not in result.names)]:
        unit = UNITS.get(name, "Å²" if name.startswith("b_iso") else "")
        width = f"± {sigma[name]:.2g}" if name in sigma else "held"
        beams = f"{result.systematic[name]:.2g}" if result.systematic and name in result.systematic else ""
        rows.append([escape(name), f"{result.values[name]:.7g}", width, beams, unit])
    return table(["parameter", "value", "standard error", "systematic", "unit"], rows, (1, 3))


def _held(result: "RefinementResult") -> str:
    """What was held, where the images want it, and what the first fitted length would do."""
    if not result.held:
        return ""
    name = next((n for n in ("thickness", "gl") if n in result.names), result.names[0])
    unit, rows = UNITS.get(name, ""), []
    for held, facts in result.held.items():
        estimate = facts["value"] + facts["wanted"]
        rows.append(
            [
                escape(held),
                f"{facts['value']:.6g}" + (f" ± {facts['uncertainty']:.2g}" if facts.get("uncertainty") else ""),
                f"{estimate:.5g} ± {facts['sigma']:.2g}",
                f"{100 * facts['explains']:.1f}",
                f"{facts['moves'].get(name, float('nan')):.4g}",
                f"{abs(facts['moves'].get(name, 0.0) * facts.get('change', 0.0)):.2g}",
            ]
        )
    head = ["held", "value", "the images want", "explains %", f"d {name} / d held ({unit} per unit)", f"in ± of {name}"]
    return "<h3>Parameters that were held</h3>" + table(head, rows, (1, 2, 3, 4, 5))


def _disk_name(hkl: tuple[int, int, int], result: "RefinementResult") -> str:
    name = " ".join(map(str, hkl))
    return f"{name} (χ² {_noise(result.disk_goodness[hkl])})" if hkl in result.disk_goodness else name


def _noise(value: float | None) -> str:
    return "?" if value is None or value != value else f"{value:.2f}" if value < 100 else f"{value:.0f}"


def _code(pairs: Sequence[tuple[str, Any]]) -> list[tuple[str, str]]:
    return [(name, f"<code>{escape(value)}</code>") for name, value in pairs if value]
