"""The frame of the trust table: how often a pipeline is right, flagged, or wrong without a flag.

A row is a situation. `Row.make(seed)` makes its input, runs the pipeline and returns a `Trial`. Each pipeline has its
rows in a file of its own, ``trust_<pipeline>.py``, with ``rows() -> list[Row]``; ``bench_trust.py`` runs them all.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from _harness import RESULTS, machine

__all__ = ["HELD_OUT", "PIPELINES", "Row", "Trial", "measured", "report", "save", "saved", "summary", "table"]

HELD_OUT = ("register_held_out", "solar_held_out", "solar_third", "diffraction_held_out", "refine_held_out")
"""Tables of situations that no threshold was chosen on; they are run when they are named."""

PIPELINES = ("register", "solar", "diffraction", "refine")
"""Each has its rows in ``trust_<pipeline>.py`` and what they gave in ``results/trust-<pipeline>.json``."""

FAR_OFF = 10.0
"""Tolerances from which on an answer is of no use, however large its standard errors are: a flag is due then."""

WRONG = 3.0
"""Standard errors from which on an error counts as wrong, if it is beyond the tolerance as well."""


@dataclass(frozen=True)
class Trial:
    """One run of a pipeline against the truth.

    Parameters
    ----------
    errors, sigmas : (P,) array_like
        Result minus truth, and the standard errors that came with it; infinite where the result says that it does not
        know. NaN errors (no answer) are wrong.
    tolerances : float or (P,) array_like
        Errors up to this are right whatever the standard errors.
    flags : sequence of str
        What the result says against itself; ``ok`` is that there is none.
    names : sequence of str
        Names of the parameters. Those of one name are counted together.
    remedy : bool, optional
        Whether a flag gives the values of parameters that the model holds and the data want, and gives them right;
        None where there are none.
    """

    errors: ArrayLike
    sigmas: ArrayLike
    tolerances: ArrayLike
    flags: Sequence[str]
    names: Sequence[str]
    remedy: bool | None = None

    @property
    def ok(self) -> bool:
        """Whether the result has no flag."""
        return not self.flags

    @property
    def pull(self) -> NDArray[np.float64]:
        """(P,) errors in standard errors."""
        sigmas = np.asarray(self.sigmas, np.float64)
        return np.asarray(self.errors, np.float64) / np.where(sigmas > 0, sigmas, np.finfo(np.float64).tiny)

    @property
    def far_off(self) -> bool:
        """Whether any parameter is beyond `FAR_OFF` tolerances."""
        return not bool((np.abs(np.asarray(self.errors)) <= FAR_OFF * np.asarray(self.tolerances)).all())

    @property
    def wrong(self) -> bool:
        """Whether any parameter is beyond `WRONG` standard errors and beyond its tolerance."""
        errors = np.asarray(self.errors, np.float64)
        right = (np.abs(errors) <= np.asarray(self.tolerances)) | (np.abs(self.pull) <= WRONG)
        return not bool(right.all())


@dataclass(frozen=True)
class Row:
    """A situation of the table.

    Parameters
    ----------
    name : str
    kind : {"nominal", "misfit"}
        Whether the data are as the model says. A flag on a right answer is a false alarm in nominal rows only.
    make : callable
        Seed to `Trial`.
    seeds : int
        How many seeds are run, from 0 on.
    """

    name: str
    kind: Literal["nominal", "misfit"]
    make: Callable[[int], Trial]
    seeds: int = 20


def summary(row: Row, trials: Sequence[Trial]) -> dict[str, Any]:
    """Shares of a row's trials, and the rms pull of each parameter over those without a flag."""
    flagged = np.array([not t.ok for t in trials])
    wrong = np.array([t.wrong for t in trials])
    far_off = np.array([t.far_off for t in trials])
    nominal = row.kind == "nominal"
    trusted = [t.pull for t in trials if t.ok]
    names = np.array(trials[0].names)
    # Names in the order in which they come first.
    each = names[np.sort(np.unique(names, return_index=True)[1])].tolist()
    squares = np.square(trusted).reshape(-1, len(names))
    pulls = {name: float(np.sqrt(np.mean(squares[:, names == name]))) for name in each} if trusted else None
    flags = sorted({flag for t in trials for flag in t.flags})
    return {
        "case": row.name,
        "kind": row.kind,
        "runs": len(trials),
        "right": float(np.mean(~wrong)),
        "flagged": float(flagged.mean()),
        "trusted_and_wrong": float(np.mean(wrong & ~flagged)),
        "false_alarms": float(np.mean(flagged & ~wrong & ~far_off)) if nominal else None,
        "flagged_far_off": float(np.mean(flagged & ~wrong & far_off)) if nominal else None,
        "pull": pulls,
        "flags": {flag: sum(flag in t.flags for t in trials) for flag in flags},
        "with_values": float(np.mean([bool(t.remedy) for t in trials])) if trials[0].remedy is not None else None,
    }


def measured(rows: Sequence[Row], seeds: int | None = None, report: Callable[[str], None] = print) -> list[dict]:
    """Run rows, each with its own number of seeds or with `seeds`, and report each as a line when it is done."""
    found = []
    for row in rows:
        found.append(summary(row, [row.make(seed) for seed in range(seeds or row.seeds)]))
        report(_line(found[-1]))
    return found


def _share(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{value:.{digits}%}"


def _cells(found: dict[str, Any]) -> list[str]:
    pull = "-"
    if found["pull"]:
        pull = " ".join(f"{name} {value:.2g}" for name, value in found["pull"].items())
    flags = ", ".join(f"{name} {count}" for name, count in found["flags"].items()) or "-"
    if found["with_values"] is not None:
        flags += f"; right values given in {found['with_values']:.0%}"
    keys = ("right", "flagged", "trusted_and_wrong", "false_alarms", "flagged_far_off")
    return [found["case"], found["kind"], str(found["runs"]), *(_share(found.get(key)) for key in keys), pull, flags]


def _line(found: dict[str, Any]) -> str:
    return " | ".join(_cells(found))


def table(found: Sequence[dict[str, Any]]) -> str:
    """Markdown table of the rows, and a line with what they come to."""
    head = ["situation", "kind", "runs", "right", "flagged", "trusted and wrong", "false alarms", "flagged and far off"]
    head += ["pull rms", "flags"]
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, *(_cells(f) for f in found))]
    lines.insert(1, "|" + "---|" * len(head))
    totals = []
    for kind, key, word in (
        ("misfit", "trusted_and_wrong", "trusted and wrong"),
        ("nominal", "trusted_and_wrong", "trusted and wrong"),
        ("nominal", "false_alarms", "false alarms"),
    ):
        some = [f for f in found if f["kind"] == kind]
        if some:
            runs = sum(f["runs"] for f in some)
            share = sum(f["runs"] * f[key] for f in some) / runs
            totals.append(
                f"{kind}: {share:.1%} {word} ({len(some)} rows, {runs} runs, worst row {max(f[key] for f in some):.0%})"
            )
    return "\n".join(lines) + "\n\n" + "; ".join(totals) + "\n"


def save(pipeline: str, found: Sequence[dict[str, Any]], folder: Path = RESULTS) -> Path:
    """Write what the rows of a pipeline gave, and on what machine and commit, to the pipeline's own file."""
    folder.mkdir(exist_ok=True)
    path = folder / f"trust-{pipeline}.json"
    path.write_text(json.dumps({"machine": machine(), "rows": list(found)}, indent=1, sort_keys=True) + "\n")
    return path


def saved(folder: Path = RESULTS) -> dict[str, dict[str, Any]]:
    """Contents of the files of those pipelines that have one."""
    paths = {pipeline: folder / f"trust-{pipeline}.json" for pipeline in (*PIPELINES, *HELD_OUT)}
    return {pipeline: json.loads(path.read_text()) for pipeline, path in paths.items() if path.exists()}


def report(contents: dict[str, dict[str, Any]]) -> str:
    """Markdown: a line for each pipeline, and then the rows of each."""
    return "\n".join([*_totals(contents), "", *_pages(contents)])


def _totals(contents: dict[str, dict[str, Any]]) -> list[str]:
    head = [
        "pipeline",
        "misfit rows (runs)",
        "trusted and wrong",
        "worst row",
        "nominal rows (runs)",
        "trusted and wrong",
        "false alarms",
        "pull rms",
        "commit",
    ]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for pipeline, content in contents.items():
        rows = {k: [r for r in content["rows"] if r["kind"] == k] for k in ("misfit", "nominal")}
        pulls = [p for r in content["rows"] if r["pull"] for p in r["pull"].values()]
        finite = [p for p in pulls if np.isfinite(p)]
        low, middle, high = np.quantile(finite, (0.1, 0.5, 0.9)) if finite else (np.nan,) * 3
        cells = [
            f"`{pipeline}`",
            _counts(rows["misfit"]),
            _share(_mean(rows["misfit"], "trusted_and_wrong"), 1),
            _share(max((r["trusted_and_wrong"] for r in rows["misfit"]), default=None)),
            _counts(rows["nominal"]),
            _share(_mean(rows["nominal"], "trusted_and_wrong"), 1),
            _share(_mean(rows["nominal"], "false_alarms"), 1),
            f"{middle:.2f} ({low:.2f} to {high:.2f} in eight of ten)",
            content["machine"]["commit"],
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def short_report(contents: dict[str, dict[str, Any]]) -> str:
    """The README's table: a line for each pipeline."""
    head = "pipeline | misfit runs | trusted and wrong | worst row | nominal runs | flagged though right"
    lines = [f"| {head} |", "|" + "---|" * (head.count(" | ") + 1)]
    for pipeline, content in contents.items():
        misfit, nominal = ([r for r in content["rows"] if r["kind"] == kind] for kind in ("misfit", "nominal"))
        name = pipeline.removesuffix("_held_out").removesuffix("_third")
        cells = [
            f"`{name}`" if name == pipeline else f"`{name}`, {'third' if 'third' in pipeline else 'other'} scenes",
            str(sum(r["runs"] for r in misfit)),
            _share(_mean(misfit, "trusted_and_wrong"), 1),
            _share(max((r["trusted_and_wrong"] for r in misfit), default=None)),
            str(sum(r["runs"] for r in nominal)),
            _share(_mean(nominal, "false_alarms"), 1),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _pages(contents: dict[str, dict[str, Any]]) -> list[str]:
    return [f"### {pipeline}\n\n{table(content['rows'])}" for pipeline, content in contents.items()]


def _counts(rows: Sequence[dict[str, Any]]) -> str:
    return f"{len(rows)} ({sum(r['runs'] for r in rows)})"


def _mean(rows: Sequence[dict[str, Any]], key: str) -> float | None:
    runs = sum(r["runs"] for r in rows)
    return sum(r["runs"] * r[key] for r in rows) / runs if runs else None
