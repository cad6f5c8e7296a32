"""The tables of benchmarks/RESULTS.md, one function for each section of the results."""

from typing import Any

Rows = list[dict[str, Any]]
MISSING = "not measured"


def ratio(value: float | None) -> str:
    """Two digits that count: 0.24x, 7.3x, 58x."""
    if value is None:
        return MISSING
    return f"{value:.2f}x" if value < 1 else f"{value:.1f}x" if value < 9.95 else f"{value:,.0f}x"


def yes(value: bool) -> str:
    """NO in capitals is a wrong result, and tests look for it."""
    return "yes" if value else "NO"


def pixels(value: float | None) -> str:
    return MISSING if value is None else f"{value:.4f} px"


def table(header: str, rows: list[list[str]]) -> list[str]:
    """Lines of a table; the header has its bars already."""
    columns = header.count(" | ") + 1
    return [f"| {header} |", "|" + "---|" * columns, *(f"| {' | '.join(row)} |" for row in rows)]


def radial(rows: Rows) -> list[str]:
    if "same_bits_as_cpu" in rows[0]:
        return table(
            "patterns | radius, given centres | centroid and radius | patterns/s | same bits as the CPU",
            [
                [
                    r["case"],
                    f"{r['radius_over_read']:.1f}x read",
                    f"{r['both_over_read']:.1f}x read",
                    f"{r['patterns_per_s']:,.0f}",
                    yes(r["same_bits_as_cpu"]),
                ]
                for r in rows
            ],
        )
    return table(
        "patterns | radius, given centres | over sqrt + bincount | over a mask per radius | same radii | centroid and "
        "radius | patterns/s | 2 workers",
        [
            [
                r["case"],
                f"{r['radius_over_read']:.1f}x read",
                ratio(r["over_sqrt_bincount"]),
                ratio(r["over_mask_per_radius"]),
                yes(r["radii_equal"]),
                f"{r['both_over_read']:.1f}x read",
                f"{r['patterns_per_s']:,.0f}",
                f"{r['two_workers']:.2f}x",
            ]
            for r in rows
        ],
    )


def crop(rows: Rows) -> list[str]:
    return table(
        "patterns | input | seconds | times the floor",
        [[r["case"], f"{r['input_gb']:.1f} GB", f"{r['seconds']:.2f}", f"{r['over_floor']:.2f}x"] for r in rows],
    )


def large(rows: Rows) -> list[str]:
    return table(
        "patterns and output | seconds | times the floor | peak anonymous memory | same bytes after `kill -9` and "
        "`--resume`",
        [
            [
                r["case"],
                f"{r['seconds']:.1f}",
                ratio(r.get("over_floor")),
                f"{r['peak_anonymous_mb']:.0f} MB",
                yes(all(value for key, value in r.items() if key.startswith(("same_after", "killed_at")))),
            ]
            for r in rows
        ],
    )


def affine(rows: Rows) -> list[str]:
    return table(
        "images and candidates | ns per pixel and candidate | error | over SciPy | over a Numba loop | over OpenCV | "
        "over torch | 2 workers",
        [
            [
                r["case"],
                f"{r['ns_per_pixel_and_candidate']:.2f}",
                f"{r['error']:.0e}",
                *(ratio(r.get(f"over_{peer}")) for peer in ("scipy", "numba_loop", "opencv", "torch")),
                f"{r['two_workers']:.2f}x",
            ]
            for r in rows
        ],
    )


def resample(rows: Rows) -> list[str]:
    return table(
        "order and transform | ns per pixel | error in float64 | over SciPy | over OpenCV | over torch",
        [
            [
                r["case"],
                f"{r['ns_per_pixel']:.1f}",
                f"{r['error_float64']:.0e}",
                *(ratio(r.get(f"over_{peer}")) for peer in ("scipy", "opencv", "torch")),
            ]
            for r in rows
        ],
    )


def gauss_newton(rows: Rows) -> list[str]:
    stacks = [r for r in rows if "ms_per_pair" in r]
    return [
        *table(
            "image | in candidate evaluations | ms | over ECC | corner error | of ECC | all of `register`: ms | over "
            "ECC | corner error",
            [
                [
                    r["case"],
                    f"{r['equivalents']:.0f}",
                    f"{r['gauss_newton_ms']:.1f}",
                    ratio(r.get("over_ecc")),
                    pixels(r["corner_error"]),
                    pixels(r.get("ecc_corner_error")),
                    f"{r['register_ms']:.0f}",
                    ratio(r.get("register_over_ecc")),
                    pixels(r["register_corner_error"]),
                ]
                for r in rows
                if "equivalents" in r
            ],
        ),
        "",
        "`register_stack` on one thread, beside calling `register` for one pair after the other:",
        "",
        *table(
            "stack | ms per pair | over a loop | 2 workers",
            [
                [r["case"], f"{r['ms_per_pair']:.1f}", f"{r['loop_over_stack']:.2f}x", f"{r['two_workers']:.2f}x"]
                for r in stacks
            ],
        ),
    ]


def register(rows: Rows) -> list[str]:
    return [
        *table(
            "problem and scene | rms | largest | bound: rms | bound: largest",
            [
                [r["case"], *(f"{r[key]:.4f}" for key in ("rms", "largest", "bound_rms", "bound_largest"))]
                for r in rows
                if "rms" in r
            ],
        ),
        "",
        "How often the error of a parameter is within its reported sigma, over 50 seeds of noise on one scene; 68 % "
        "where sigma is right and nothing is biased:",
        "",
        *table(
            "noise | all parameters | dy | dx | sy | sx",
            [
                [r["case"].removeprefix("coverage, "), *(f"{share:.0%}" for share in (r["all"], *r["within_sigma"]))]
                for r in rows
                if "all" in r
            ],
        ),
    ]


def masked_ncc(rows: Rows) -> list[str]:
    return table(
        "images | ms per image | over float64 | over float32 | with `max_shift=64` | over float64 | over float32 | "
        "same shifts",
        [
            [
                r["case"],
                f"{r['ms_per_image']:.1f}",
                ratio(r["over_float64"]),
                ratio(r["over_float32"]),
                f"{r['ms_per_image_near']:.1f} ms",
                ratio(r["near_over_float64"]),
                ratio(r["near_over_float32"]),
                yes(r["same_shifts"]),
            ]
            for r in rows
        ],
    )


def match_template(rows: Rows) -> list[str]:
    return table(
        "images and templates | ms per template | over scikit-image | error",
        [[r["case"], f"{r['ms_per_template']:.2f}", ratio(r["over_scikit_image"]), f"{r['error']:.0e}"] for r in rows],
    )


def bloch_abtem(rows: Rows) -> list[str]:
    return table(
        "energy | beams | ms per tilt | over abTEM | over its solving alone | beams of all tilts | over abTEM | over "
        "its solving alone",
        [
            [
                f"{r['kv']} kV",
                str(r["beams"]),
                f"{r['ours_ms_per_tilt']:.2f}",
                ratio(r["over_abtem"]),
                ratio(r["over_abtem_solve"]),
                str(r["beams_of_union"]),
                ratio(r["over_abtem_with_union"]),
                ratio(r["over_abtem_solve_with_union"]),
            ]
            for r in rows
        ],
    )


def solar_peers(rows: Rows) -> list[str]:
    return table(
        "model and package | seconds | times ours | rms error | largest error | candidates scored per second",
        [
            [
                r["case"],
                f"{r['seconds']:.3g}",
                ratio(r.get("time_over_ours", 1.0)),
                pixels(r["rms"]),
                pixels(r["largest"]),
                MISSING if r["evaluations_per_second"] is None else f"{r['evaluations_per_second']:,.0f}",
            ]
            for r in rows
        ],
    )


def solar_accuracy(rows: Rows) -> list[str]:
    return table(
        "raster | seconds | worst error along x | along y | target x | target y | target reached "
        "| worst in the middle: x | y | one image only: "
        "median x | median y",
        [
            [
                r["case"],
                f"{r['seconds']:.1f}",
                *(f"{value:.3f} arcsec" for value in (r["x"], r["y"], *r["limit"])),
                "yes" if r["reached"] else "no",
                *(f"{value:.3f} arcsec" for value in r["pointing"]),
                *(f"{value:.1f} arcsec" for value in r["one_image"]),
            ]
            for r in rows
        ],
    )


def solar_batch(rows: Rows) -> list[str]:
    return table(
        "batch | done | flagged | failed | rasters per minute | memory after a tenth | at the end | worst error along "
        "x, y",
        [
            [
                r["case"],
                *(str(r[key]) for key in ("done", "flagged", "failed")),
                # A rate of failures says nothing about the time of a result.
                f"{r['rasters_per_minute']:.1f}" if r["done"] else "no valid measurement: none was done",
                f"{r['memory_mb_after_a_tenth']:.0f} MB",
                f"{r['memory_mb_at_the_end']:.0f} MB",
                ", ".join(f"{e:.3f} arcsec" for e in r["worst_error"]) if r["worst_error"] else MISSING,
            ]
            for r in rows
        ],
    )


def refine_matching(rows: Rows) -> list[str]:
    return table(
        "search area and region | ms, full pixels | over scikit-image | ms, on the grid of tilts "
        "| over zoom and scikit-image | error",
        [
            [
                r["case"],
                f"{r['ms_full']:.2f}",
                ratio(r["full_over_match_template"]),
                f"{r['ms_grid']:.2f}",
                ratio(r["grid_over_zoom_and_match_template"]),
                f"{r['error']:.0e}",
            ]
            for r in rows
        ],
    )


def refine(rows: Rows) -> list[str]:
    lines = []
    for r in rows:
        errors = [
            f"{name.replace('_', ' ')} {r[name]:.2g} (asked for {r[f'{name}_tolerance']:g})"
            for name in r
            if f"{name}_tolerance" in r
        ]
        time = f"{r['seconds']:.1f} (asked for {r['within_s']:g})"
        reached = "yes" if r["reached"] and r["in_time"] else "no"
        cpu = f"{r['cpu_seconds']:.1f}" if "cpu_seconds" in r else MISSING
        beams = r.get("systematic") or {}
        bars = [
            f"{name} {value:.2g} ({beams[name]:.2g})" if name in beams else f"{name} {value:.2g}"
            for name, value in r["sigma"].items()
            if name not in ("tilt_x", "tilt_y", "blur")
        ]
        off = f"{r['tilt_off_px']:.3f} px"
        lines.append([r["case"], time, cpu, off, ", ".join(errors), ", ".join(bars), reached])
    head = "problem | seconds | CPU seconds | error of the tilt | other errors | error bars (of it beams left out)"
    return table(f"{head} | reached, in time", lines)


def gaas(rows: Rows) -> list[str]:
    def with_sigma(value: float, sigma: float | None) -> str:
        return f"{value:.2f}" if sigma is None else f"{value:.2f} +- {sigma:.2f}"

    return table(
        "step | seconds | CPU seconds | thickness in angstrom | step size `gl` in pixels | mean correlation of the "
        "disks",
        [
            [
                r["step"],
                f"{r['seconds']:.1f}",
                f"{r['cpu_seconds']:.1f}",
                with_sigma(r["thickness"], r.get("sigma")),
                with_sigma(r["gl"], r.get("sigma_gl")),
                f"{r['mean_correlation']:.4f}",
            ]
            for r in rows
        ],
    )


def plain(rows: Rows) -> list[str]:
    """All columns under the names that they have in the file: for sections without a table of their own."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return table(" | ".join(names), [[_plain(row.get(name)) for name in names] for row in rows])


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(each)}" for name, each in value.items())
    if isinstance(value, list):
        return ", ".join(_plain(each) for each in value)
    return f"{value:.3g}" if isinstance(value, float) else "" if value is None else str(value)
