"""The tables of benchmarks/RESULTS.md on diffraction images."""

from typing import Any

from _tables import MISSING, Rows, ratio, table


def align(rows: Rows) -> list[str]:
    return table(
        "images | ms per image | over float64 | over float32 | shifts alone: ms | over float64 | over float32 "
        "| true shifts | same as the peer",
        [
            [
                r["case"],
                f"{r['ms_per_image']:.1f}",
                ratio(r["over_float64"]),
                ratio(r["over_float32"]),
                f"{r['ms_per_shift']:.1f}",
                ratio(r["shifts_over_float64"]),
                ratio(r["shifts_over_float32"]),
                str(r["true"]),
                str(r["same_as_peer"]),
            ]
            for r in rows
        ],
    )


def _ms(value: float | None) -> str:
    return MISSING if value is None else f"{value:.1f} ms"


def _px(value: float | None, digits: int = 3) -> str:
    return MISSING if value is None else f"{value:.{digits}f} px"


def nfold(rows: Rows) -> list[str]:
    return table(
        "image | one image | over scikit-ued | in a stack | over scikit-ued | all cores, wall time | over scikit-ued",
        [
            [
                r["case"],
                _ms(r["ms"]),
                ratio(r.get("over")),
                _ms(r["ms_in_stack"]),
                ratio(r.get("over_in_stack")),
                _ms(r["ms_all_cores"]),
                ratio(r.get("over_all_cores")),
            ]
            for r in rows
        ],
    )


def profiles_and_masks(rows: Rows) -> list[str]:
    lines = []
    for r in rows:
        best = r.get("best of pyFAI")
        lines.append(
            [
                r["case"],
                _ms(r.get("ours, ms per frame")),
                _ms(r.get("ours, 1 thread, ms per frame")),
                ratio(r.get("over scikit-ued")),
                ratio(r.get("over scikit-ued, 1 thread, CPU time")),
                "-" if best is None else best.removeprefix("pyFAI "),
                "-" if best is None else ratio(r.get("over the best of pyFAI")),
            ]
        )
    return table(
        "frames | per frame | one thread | over scikit-ued | one thread, CPU time | the fastest of pyFAI | over it",
        lines,
    )


def _both(r: dict[str, Any], name: str) -> list[str]:
    return [f"{r[f'{who}_{name}']:.3f}" if r.get(f"{who}_{name}") is not None else MISSING for who in ("ours", "peer")]


def centers(rows: Rows) -> list[str]:
    return table(
        "patterns | median error | largest | mean along an axis | jumps | scikit-ued: median | largest | jumps",
        [
            [
                f"{r['centers']} of a {r['case']}",
                _px(r["ours_median"]),
                _px(r["ours_max"]),
                _px(r["ours_bias"]),
                str(r["ours_jumps"]),
                _px(r.get("peer_median"), 2),
                _px(r.get("peer_max"), 2),
                str(r.get("peer_jumps", MISSING)),
            ]
            for r in rows
        ],
    )


def shifts(rows: Rows) -> list[str]:
    return table(
        "patterns | rms along an axis | largest | scikit-image: rms | largest",
        [
            [f"{r['shifts']} of a {r['case']}", *(_px(r[f"{w}_{v}"]) for w in ("ours", "scikit_image")
             for v in ("rms", "max"))]
            for r in rows
        ],
    )  # fmt: skip


def peaks(rows: Rows) -> list[str]:
    return table(
        "lattices | precision, scikit-ued's | recall, scikit-ued's | rms along an axis, scikit-ued's",
        [
            [f"{r['patterns']}, {r['case']}", *(", ".join(_both(r, name)) for name in ("precision", "recall", "rms"))]
            for r in rows
        ],
    )


def persistence(rows: Rows) -> list[str]:
    return table(
        "lattice | CPU time | scikit-ued | over it",
        [[r["case"], _ms(r["ms"]), _ms(r.get("ms_scikit_ued")), ratio(r.get("over"))] for r in rows],
    )
