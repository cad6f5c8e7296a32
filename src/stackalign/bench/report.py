"""Results as Markdown and plots."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stackalign.io.atomic import write_text_atomic

__all__ = ["exponent", "markdown", "write_report"]


def _rows(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = result["rows"]
    return rows


def markdown(results: Sequence[Mapping[str, Any]], pictures: Sequence[str] = ()) -> str:
    """Write results as a page in Markdown.

    Parameters
    ----------
    results : sequence of mapping
        What `run_benchmarks` returned, of one machine or of several.
    pictures : sequence of str
        Names of files of plots, which the page shows.

    Returns
    -------
    str
    """
    parts = ["# Benchmarks", ""]
    parts += [f"![{Path(name).stem.replace('-', ' ')}]({name})" for name in pictures]
    for result in results:
        parts += ["", *_machine(result), "", *_table(result), "", *_growth(result)]
    return "\n".join(parts).rstrip() + "\n"


def _machine(result: Mapping[str, Any]) -> list[str]:
    block, ceilings = result["machine"], result["ceilings"]
    where = block["gpus"][0]["name"] if block["device"].startswith("cuda") and block["gpus"] else block["cpu"]
    rates = {name: f"{rate / 1e9:,.3g} {'Gop' if name == 'arithmetic' else 'GB'}/s" for name, rate in ceilings.items()}
    threads = result["settings"]["workers"]
    return [
        f"## {where}, {threads} thread{'' if threads == 1 else 's'}",
        "",
        f"stackalign {block['stackalign']}, Python {block['python']}, {block['time_utc'][:10]}, load "
        f"{block['load'] if block['load'] is None else round(block['load'], 1)}; "
        + ", ".join(f"{name} {version}" for name, version in block["versions"].items()),
        "",
        "Ceilings of the machine: " + ", ".join(f"{name} {rate}" for name, rate in rates.items()) + ".",
    ]


def _table(result: Mapping[str, Any]) -> list[str]:
    head = ["case", "problem", "time", "CPU time", "spread", "per unit", "first call", "of the ceiling"]
    head += ["over other packages", "error"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in _rows(result):
        wall, cpu = row["seconds"]["median"], row["cpu_seconds"]["median"]
        binds = max(row["ceilings"].items(), key=lambda item: item[1], default=None)
        peers = ", ".join(f"{peer['over']:.2g}x {peer['name']}" for peer in row["peers"])
        peers += "".join(f", {name} failed" for name in row["failed_peers"])
        cells = [
            f"`{row['case']}`", row["problem"], _duration(wall), _duration(cpu),
            f"{row['seconds']['spread'] / wall:.0%}", f"{_duration(wall / row['count'])} per {row['unit'][:-1]}",
            _duration(row["first_seconds"]), f"{binds[1]:.0%} {binds[0]}" if binds else "-", peers.strip(", ") or "-",
            row.get("error", "-"),
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _growth(result: Mapping[str, Any]) -> list[str]:
    """Exponents of the time over the sizes that grow."""
    lines = []
    for (case, of), points in _series(result).items():
        power = exponent(points)
        if power is not None:
            lines.append(f"| `{case}` | {of} | {points[0][0]:,.0f} to {points[-1][0]:,.0f} | {power:.2f} |")
    head = ["Time grows as a power of the size:", "", "| case | of | from | exponent |", "|---|---|---|---|"]
    return [*head, *lines] if lines else []


def _series(result: Mapping[str, Any]) -> dict[tuple[str, str], list[tuple[float, float]]]:
    """Points (size, seconds of one problem) of each case whose size grows."""
    points: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for row in _rows(result):
        if row["series"]:
            of, size = row["series"]
            # What a stack has many of is counted in pieces, that the size of a piece does not mix with their number.
            whole = of in ("candidates", "pairs", "patterns")
            points[row["case"], of].append((float(size), row["seconds"]["median"] / (1 if whole else row["count"])))
    return {key: sorted(values) for key, values in points.items()}


def exponent(points: Sequence[tuple[float, float]]) -> float | None:
    """Slope of log(time) over log(size), by least squares; None for fewer than two sizes."""
    if len({size for size, _ in points}) < 2:
        return None
    size, seconds = np.log(np.array(points, np.float64)).T
    return float(np.polyfit(size, seconds, 1)[0])


def _duration(seconds: float) -> str:
    for unit, factor in (("s", 1.0), ("ms", 1e3)):
        if seconds * factor >= 0.1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us"


def write_report(results: Sequence[Mapping[str, Any]], folder: Path) -> list[Path]:
    """Write ``benchmarks.md`` and, where matplotlib is installed, plots into a folder.

    Parameters
    ----------
    results : sequence of mapping
        What `run_benchmarks` returned.
    folder : Path
        Made where it does not exist; earlier files of the same names are replaced.

    Returns
    -------
    list of Path
        What was written, the page last.
    """
    import importlib.util

    folder.mkdir(parents=True, exist_ok=True)
    written = []
    if importlib.util.find_spec("matplotlib") is not None:
        from .plots import write_plots

        written = write_plots(results, folder)
    page = folder / "benchmarks.md"
    write_text_atomic(page, markdown(results, [path.name for path in written]))
    return [*written, page]


def fastest_peers(result: Mapping[str, Any]) -> list[tuple[str, float, str]]:
    """Give each case's problem, its ratio to its fastest peer, and the peer's name."""
    best = []
    for row in _rows(result):
        peers = [peer for peer in row["peers"] if math.isfinite(peer["over"])]
        if peers:
            fastest = min(peers, key=lambda peer: peer["over"])
            best.append((f"{row['case']}, {row['problem']}", fastest["over"], fastest["name"]))
    return best


series_of = _series
