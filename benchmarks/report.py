"""Write the measured table of the README from benchmarks/results/*.json."""

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
START, END = "<!-- measured: written by benchmarks/report.py -->", "<!-- /measured -->"


def radial(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| patterns | radius, given centres | centroid and radius | patterns/s "
        "| over sqrt + bincount | over a mask per radius | 2 workers |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['case']} | {r['radius_over_read']:.1f}x read | {r['both_over_read']:.1f}x read "
        f"| {r['patterns_per_s']:,.0f} "
        f"| {r['over_sqrt_bincount']:.0f}x | {r['over_mask_per_radius']:.0f}x | {r['two_workers']:.2f}x |"
        for r in rows
    ]
    return [
        "One thread; times as multiples of reading the same data once from memory; speed-ups over plain NumPy.",
        "",
        *lines,
    ]


def crop(rows: list[dict[str, Any]]) -> list[str]:
    lines = ["| `crop_file` | input | seconds | over reading twice and writing once |", "|---|---|---|---|"]
    lines += [f"| {r['case']} | {r['input_gb']:.1f} GB | {r['seconds']:.2f} | {r['over_floor']:.2f}x |" for r in rows]
    return lines


def resample(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| `resample_affine`, 1024^2, 5 % NaN | ns per pixel | over SciPy | over OpenCV | over torch |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['case']} | {r['ns_per_pixel']:.1f} | {r['over_scipy']:.1f}x "
        f"| {_ratio(r.get('over_opencv'))} | {_ratio(r.get('over_torch'))} |"
        for r in rows
    ]
    return lines


def affine(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| `score_affine`, 81 candidates, 10 % NaN | ns per pixel and candidate | error | over SciPy "
        "| over a Numba loop | over OpenCV | over torch | 2 workers |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['case']} | {r['ns_per_pixel_and_candidate']:.2f} | {r['error']:.0e} | {r['over_scipy']:.0f}x "
        f"| {r['over_numba_loop']:.0f}x | {_ratio(r.get('over_opencv'))} | {_ratio(r.get('over_torch'))} "
        f"| {r['two_workers']:.2f}x |"
        for r in rows
    ]
    return lines


def masked_ncc(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| `masked_shift`, one reference and mask | ms per image | over scikit-image float64 | over float32 "
        "| with `max_shift=64` | over float64 | same shifts |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['case']} | {r['ms_per_image']:.1f} | {r['over_float64']:.0f}x | {r['over_float32']:.1f}x "
        f"| {r['ms_per_image_near']:.1f} | {r['near_over_float64']:.0f}x | {'yes' if r['same_shifts'] else 'NO'} |"
        for r in rows
    ]
    return lines


def match_template(rows: list[dict[str, Any]]) -> list[str]:
    lines = ["| `match_template` | ms per template | over scikit-image | error |", "|---|---|---|---|"]
    lines += [
        f"| {r['case']} | {r['ms_per_template']:.2f} | {r['over_scikit_image']:.0f}x | {r['error']:.0e} |" for r in rows
    ]
    return lines


def _ratio(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.0f}x"


def large(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| `stackalign crop --memory-limit 512MB` | seconds | peak anonymous memory "
        "| same bytes after `kill -9` and `--resume` |",
        "|---|---|---|---|",
    ]
    for r in rows:
        same = all(value for key, value in r.items() if key.startswith(("same_after", "killed_at")))
        lines.append(
            f"| {r['case']} | {r['seconds']:.1f} | {r['peak_anonymous_mb']:.0f} MB | {'yes' if same else 'NO'} |"
        )
    return lines


def register(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| `register`: distance from the truth in pixels, worst of three seeds | rms | largest | Cramer-Rao bound: rms "
        "| largest |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['case']} | {r['rms']:.4f} | {r['largest']:.4f} | {r['bound_rms']:.4f} | {r['bound_largest']:.4f} |"
        for r in rows
        if "rms" in r
    ]
    lines += ["", "| `register`: errors within one reported sigma, 50 seeds | all parameters |", "|---|---|"]
    return lines + [f"| {r['case']} | {r['all']:.0%} |" for r in rows if "all" in r]


def gauss_newton(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| Gauss-Newton from 3 px off, 4 parameters | in candidate evaluations | ms | over OpenCV's ECC "
        "| corner error | of ECC | `register` as a whole |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['case']} | {r['equivalents']:.0f} | {r['gauss_newton_ms']:.1f} | {_ratio(r.get('over_ecc'))} "
        f"| {r['corner_error']:.4f} px | {r.get('ecc_corner_error', float('nan')):.4f} px | {r['register_ms']:.0f} ms, "
        f"{r['register_corner_error']:.4f} px |"
        for r in rows
        if "equivalents" in r
    ]
    stacks = [r for r in rows if "ms_per_pair" in r]
    lines += ["", "| `register_stack` | ms per pair | over a loop | 2 workers |", "|---|---|---|---|"]
    return lines + [
        f"| {r['case']} | {r['ms_per_pair']:.1f} | {r['loop_over_stack']:.2f}x | {r['two_workers']:.2f}x |"
        for r in stacks
    ]


SECTIONS = {
    "radial": radial,
    "crop": crop,
    "large": large,
    "affine": affine,
    "resample": resample,
    "gauss_newton": gauss_newton,
    "register": register,
    "masked_ncc": masked_ncc,
    "match_template": match_template,
}


def main() -> None:
    text: list[str] = []
    for path in sorted((ROOT / "benchmarks" / "results").glob("*.json")):
        contents = json.loads(path.read_text())
        machine = next(iter(contents.values()))["machine"]
        text += [f"{machine['cpu']}, {machine['cores']} cores, Python {machine['python']}:", ""]
        for name, section in SECTIONS.items():
            if name in contents:
                text += [*section(contents[name]["rows"]), ""]
    readme = ROOT / "README.md"
    before, _, rest = readme.read_text().partition(START)
    _, _, after = rest.partition(END)
    body = "\n".join(text).strip()
    readme.write_text(f"{before}{START}\n{body}\n{END}{after}")


if __name__ == "__main__":
    main()
