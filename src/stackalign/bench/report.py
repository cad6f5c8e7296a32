"""Results as Markdown and plots."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stackalign.io.atomic import write_text_atomic

from .series import exponent, rows_of, series_of

__all__ = ["markdown", "write_report"]


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
    for row in rows_of(result):
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
    for (case, of), points in series_of(result).items():
        power = exponent(points)
        if power is not None:
            lines.append(f"| `{case}` | {of} | {points[0][0]:,.0f} to {points[-1][0]:,.0f} | {power:.2f} |")
    head = ["Time grows as a power of the size:", "", "| case | of | from | exponent |", "|---|---|---|---|"]
    return [*head, *lines] if lines else []


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
