"""Write what benchmarks/results/*.json hold: all tables to benchmarks/RESULTS.md, a short one into the README.

``python benchmarks/report.py trust`` prints the trust table, of those pipelines that have a file, and writes nothing.
"""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _sections import SECTIONS, Section
from _tables import Rows, pixels, plain, ratio, table, yes
from _trust import report as trust_report
from _trust import saved, short_report

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "benchmarks" / "RESULTS.md"
MEASURED = "<!-- measured: written by benchmarks/report.py -->", "<!-- /measured -->"
COUNTED = "<!-- trust: written by benchmarks/report.py -->", "<!-- /trust -->"
"""Between these stand the README's parts."""
ABOUT = """\
# Measured

Written by `benchmarks/report.py` from `benchmarks/results/*.json`, which hold more digits and the commits. "Over X" is
the time of X divided by ours, so that below 1x the other is faster; all candidates take turns in one run, and ratios
are medians over the rounds, unless a section says otherwise. "2 workers" is the gain of a second worker.
"""
TRUST = """\
How often a pipeline is right, flagged, or wrong without a flag, see [the page on trust](../docs/explanation/trust.md).
A run is wrong beyond three standard errors and beyond the row's tolerance. "Pull rms" is the median over all parameters
of all rows, of runs without a flag."""


def hardest(rows: Rows, peers: dict[str, str]) -> tuple[float, str, dict[str, Any]] | None:
    """Smallest ratio of any problem and any peer, the peer's name, and the problem's row."""
    found = [(row[key], name, row) for row in rows for key, name in peers.items() if row.get(key) is not None]
    return min(found, key=lambda each: each[0], default=None)


def duration(seconds: float) -> str:
    for unit, factor in (("s", 1.0), ("ms", 1e3)):
        if seconds * factor >= 0.1:
            return f"{seconds * factor:.2g} {unit}" if seconds * factor < 100 else f"{seconds * factor:.0f} {unit}"
    return f"{seconds * 1e6:.2g} us"


RowsOf = Callable[[str], Rows]
"""The rows of a section of the results; none where it is absent."""


def headlines(contents: dict[str, Any]) -> list[list[str]]:
    """At most one row per operation, for the problem with the smallest ratio: of fifteen operations at most."""

    def rows(section: str) -> Rows:
        measured: Rows = contents[section]["rows"] if section in contents else []
        return measured

    return [*_of_operations(rows), *_of_registration(rows), *_of_pipelines(rows)]


def _of_operations(rows: RowsOf) -> list[list[str]]:
    """Radii, cropping, scores and resampling."""
    lines = []
    if best := hardest(rows("radial"), {"over_sqrt_bincount": "NumPy", "over_mask_per_radius": "NumPy"}):
        over, peer, r = best
        seconds = r["radius_over_read"] / r["both_over_read"] / r["patterns_per_s"]
        time = f"{duration(seconds)} per pattern, {r['radius_over_read']:.1f}x read"
        error = "same radii" if r["radii_equal"] else yes(False)
        lines.append(["`retention_radius`", r["case"], time, f"{ratio(over)} {peer}", error])
    if rows("crop"):
        r = max(rows("crop"), key=lambda row: row["over_floor"])
        problem = f"{r['case']}, {r['input_gb']:.1f} GB, all cores"
        over = f"{ratio(1 / r['over_floor'])} plain reads and writes, a floor"
        lines.append(["`crop_file`", problem, duration(r["seconds"]), over, "-"])
    peers = {"over_scipy": "SciPy", "over_numba_loop": "a Numba loop", "over_opencv": "OpenCV", "over_torch": "torch"}
    for rotated in (False, True):
        if best := hardest([r for r in rows("affine") if ("rotated" in r["case"]) == rotated], peers):
            over, peer, r = best
            time = f"{duration(1 / r['candidates_per_s'])} per candidate"
            problem = f"{r['case']}, 81 candidates, 10 % NaN"
            lines.append(["`score_affine`", problem, time, f"{ratio(over)} {peer}", f"{r['error']:.0e}"])
    if best := hardest(rows("resample"), peers):
        over, peer, r = best
        time = f"{r['ns_per_pixel']:.2g} ns per pixel"
        problem = f"1024^2, {r['case']}, 5 % NaN"
        lines.append(["`resample_affine`", problem, time, f"{ratio(over)} {peer}", f"{r['error_float64']:.0e}"])
    return lines


def _of_registration(rows: RowsOf) -> list[list[str]]:
    """Optimisers, registration, correlation and matching."""
    lines = []
    for name, key, time_of, error_of, how in (
        ("`optimize.gauss_newton`", "over_ecc", "gauss_newton_ms", "corner_error", "from 3 px off"),
        ("`register`", "register_over_ecc", "register_ms", "register_corner_error", "from anywhere, with error bars"),
    ):
        if best := hardest(rows("gauss_newton"), {key: "OpenCV's ECC from 3 px off"}):
            over, peer, r = best
            error = f"{pixels(r[error_of])} (its {pixels(r['ecc_corner_error'])})"
            problem = f"{r['case']}, 10 % NaN, {how}"
            lines.append([name, problem, duration(r[time_of] / 1e3), f"{ratio(over)} {peer}", error])
    if best := hardest([r for r in rows("solar_peers") if "time_over_ours" in r], {"time_over_ours": ""}):
        over, _, r = best
        model, _, peer = r["case"].partition(": ")
        ours = next(o for o in rows("solar_peers") if o["case"] == f"{model}: stackalign")
        error = f"{pixels(ours['rms'])} (its {pixels(r['rms'])})"
        problem = f"512^2, {model}, 10 % NaN, all cores"
        lines.append(["`register`", problem, duration(ours["seconds"]), f"{ratio(over)} {peer}", error])
    if best := hardest(rows("masked_ncc"), {"over_float32": "scikit-image", "over_float64": "scikit-image"}):
        over, peer, r = best
        error = "same shifts" if r["same_shifts"] else yes(False)
        time = f"{duration(r['ms_per_image'] / 1e3)} per image"
        lines.append(["`masked_shift`", r["case"], time, f"{ratio(over)} {peer}", error])
    if best := hardest(rows("match_template"), {"over_scikit_image": "scikit-image"}):
        over, peer, r = best
        time = f"{duration(r['ms_per_template'] / 1e3)} per template"
        lines.append(["`match_template`", r["case"], time, f"{ratio(over)} {peer}", f"{r['error']:.0e}"])
    return lines


def _of_pipelines(rows: RowsOf) -> list[list[str]]:
    """Diffraction, refinement and coalignment."""
    lines = []
    frames = [r for r in rows("diffraction") if r.get("best of pyFAI") is not None]
    if best := hardest(frames, {"over scikit-ued": "scikit-ued", "over the best of pyFAI": "pyFAI"}):
        over, peer, r = best
        time = f"{duration(r['ours, ms per frame'] / 1e3)} per frame"
        lines.append(["`azimuthal_average`", f"{r['case']}, all cores", time, f"{ratio(over)} {peer}", "-"])
    if best := hardest(rows("diffraction_nfold"), {"over": "scikit-ued", "over_in_stack": "scikit-ued"}):
        over, peer, r = best
        lines.append(["`diffraction.nfold`", r["case"], duration(r["ms"] / 1e3), f"{ratio(over)} {peer}", "-"])
    if rows("diffraction_centers"):
        r = max(rows("diffraction_centers"), key=lambda row: row["ours_median"])
        peer = f" (scikit-ued's {r['peer_median']:.2f} px)" if "peer_median" in r else ""
        error = f"median {r['ours_median']:.3f} px{peer}"
        problem = f"{r['centers']} of a {r['case']}, beam block"
        lines.append(["`diffraction.autocenter`", problem, "-", "-", error])
    if best := hardest(rows("bloch_abtem"), {"over_abtem_with_union": "abTEM"}):
        over, peer, r = best
        time = f"{duration(r['abtem_ms_per_tilt'] / over / 1e3)} per tilt"
        problem = f"Si [110], {r['kv']} kV, {r['beams_of_union']} beams, 15 thicknesses"
        lines.append(["`BlochSimulator`", problem, time, f"{ratio(over)} {peer}", "-"])
    if rows("refine_thickness"):
        r = max(
            rows("refine_thickness"), key=lambda row: abs(row["thickness_percent"]) / row["thickness_percent_tolerance"]
        )
        error = f"{abs(r['thickness_percent']):.2f} % (asked for {r['thickness_percent_tolerance']:g})"
        problem = r["case"].removeprefix("thickness: ") + ", from 200 to 3000"
        lines.append(["`CoarseRefine`", problem, duration(r["seconds"]), "no peer", error])
    if rows("solar_accuracy"):
        r = max(rows("solar_accuracy"), key=lambda row: max(row["x"] / row["limit"][0], row["y"] / row["limit"][1]))
        error = f"{r['x']:.2f}, {r['y']:.2f} arcsec (asked for {r['limit'][0]:.2f}, {r['limit'][1]:.2f})"
        lines.append(["`solar.coalign`", f"{r['case']}, all cores", duration(r["seconds"]), "no peer", error])
    return lines


def machine_of(path: Path, contents: dict[str, Any]) -> str:
    machine = next(iter(contents.values()))["machine"]
    cpu = f"{machine['cpu']}, {machine['cores']} cores, Python {machine['python']}"
    on_cpu = path.stem == re.sub(r"[^a-z0-9]+", "-", machine["cpu"].lower()).strip("-")
    return cpu if on_cpu else f"{path.stem} ({cpu})"


def short(path: Path, contents: dict[str, Any]) -> str:
    """The README's part."""
    lines = table("operation | problem | time | over the fastest peer | error", headlines(contents))
    return "\n".join(
        [
            f"On {machine_of(path, contents)}, one thread unless said otherwise. Of the problems measured each row",
            "has the one with the smallest ratio to any peer; below 1x the peer is faster. All problems and peers:",
            "[benchmarks/RESULTS.md](benchmarks/RESULTS.md).",
            "",
            *lines,
        ]
    )


def page(files: dict[Path, dict[str, Any]]) -> str:
    """All tables, under a heading for each machine and each operation."""
    parts = [ABOUT]
    for path, contents in files.items():
        parts.append(f"## {machine_of(path, contents)}\n")
        # Sections without an entry come last, as they are in the file: nothing measured is left out.
        for name in [*(n for n in SECTIONS if n in contents), *(n for n in contents if n not in SECTIONS)]:
            section = SECTIONS.get(name, Section(f"`{name}`", "The columns have the names of the results file.", plain))
            machine = contents[name]["machine"]
            versions = ", ".join(f"{package} {version}" for package, version in machine["versions"].items())
            parts.append(f"### {section.title}\n\n{section.compared}\n")
            parts.append("\n".join(section.lines(contents[name]["rows"])) + "\n")
            parts.append(f"Measured on {machine['time_utc'][:10]} with {versions}.\n")
    if trust := saved():
        parts.append(f"## Trust\n\n{TRUST}\n\n{trust_report(trust)}")
    return "\n".join(parts)


def main() -> None:
    if sys.argv[1:] == ["trust"]:
        print(trust_report(saved()))
        return
    found = sorted(
        path
        for path in (ROOT / "benchmarks" / "results").glob("*.json")
        if not path.stem.startswith(("trust-", "drift"))
    )
    files = {path: json.loads(path.read_text()) for path in found}
    PAGE.write_text(page(files))
    widest = max(files, key=lambda path: len(headlines(files[path])))
    readme = ROOT / "README.md"
    text = replaced(readme.read_text(), MEASURED, short(widest, files[widest]))
    readme.write_text(replaced(text, COUNTED, short_report(saved())))


def replaced(text: str, marks: tuple[str, str], part: str) -> str:
    """A text with another part between two marks."""
    before, _, rest = text.partition(marks[0])
    _, _, after = rest.partition(marks[1])
    return f"{before}{marks[0]}\n{part}\n{marks[1]}{after}"


if __name__ == "__main__":
    main()
