"""Coarse refinement: cost of one comparison beside scikit-image, and known parameters found again.

The patterns of the second part are simulated with more beams than the fits at their end have: thresholds of the
selection three times lower than the fit's start (two times at its end), those of folding 27 times (8 times). Tilts are
off any grid, images blurred by a pixel, with 2 % of background and Poisson noise. ``python bench_refine.py hv dwf``
runs some of the problems. The machine may be shared: `seconds` are of the clock, `cpu_seconds` of all threads.
"""

import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from _harness import median, ratio, rounds, save
from peers import templates as peers
from stackalign.errors import StackalignWarning
from stackalign.refine import (
    ROI,
    Beam,
    BeamSelection,
    BlochSimulator,
    CoarseRefine,
    Crystal,
    RefinementResult,
)
from stackalign.refine.matching.grid import blurred
from stackalign.refine.matching.template import TemplateMatcher

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from refine.crystals import copper, gallium_arsenide, silicon
from refine.patterns import Truth, larbed

CANDIDATES = 8
SIZES = {
    "Si 111 row, LARBED": (5, (470, 470), (60, 230), 4),
    "Si CBED": (4, (320, 320), (160, 160), 4),
    "HV, disk of 000": (1, (257, 257), (135, 160), 4),
    "13 disks": (13, (363, 363), (180, 180), 4),
}
ROW = ((0, 0, 0), (1, -1, 1), (-1, 1, -1), (2, -2, 2), (-2, 2, -2))
MORE = 3.0
"""Of the patterns' beams."""
HOLZ = BeamSelection(strong=0.01, weak=0.001)


def strontium_titanate() -> Crystal:
    positions = [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)]
    return Crystal((3.905,) * 3 + (90,) * 3, ("Sr", "Ti", "O", "O", "O"), positions, b_iso=[0.6, 0.4, 0.7, 0.7, 0.7])


def matching() -> list[dict]:
    """One thread. "at full resolution": the same arrays on both sides. "on the grid": nodes four pixels apart."""
    rows = []
    for name, (depth, shape, small, step) in SIZES.items():
        rng = np.random.default_rng(0)
        nodes = gaussian_filter(
            rng.normal(size=(CANDIDATES, depth, *(n // step + 1 for n in shape))), (0, 0, 1.5, 1.5)
        ).astype(np.float32)
        images = gaussian_filter(rng.normal(size=(CANDIDATES, depth, *shape)), (0, 0, 3, 3)).astype(np.float32)
        template = images[0, :, 9 : 9 + small[0], 5 : 5 + small[1]]
        few = nodes[0, :, 2 : 2 + small[0] // step, 1 : 1 + small[1] // step]
        full, grid = TemplateMatcher(template, shape), TemplateMatcher(few, nodes.shape[2:])
        factor = tuple(float(n) / m for n, m in zip(shape, nodes.shape[2:], strict=True))
        times = rounds(
            {
                "full": lambda m=full, i=images: m.peaks(i),
                "grid": lambda m=grid, n=nodes: m.peaks(blurred(np, n, 0.6)),
                "skimage": lambda i=images, t=template: peers.matched(i[0], t),
                "zoom": lambda n=nodes, t=template, f=factor: peers.zoomed_and_matched(n[0], f, t),
            },
            5,
            time.process_time,
        )
        from skimage.feature import match_template

        error = np.abs(
            full.maps(images[:1].astype(np.float64))[0] - match_template(images[0].astype(float), template)[0]
        )
        rows.append(
            {
                "case": f"{name}: {depth} x {shape[0]} x {shape[1]}, region {small[0]} x {small[1]}",
                "ms_full": median(times["full"]) / CANDIDATES * 1e3,
                "ms_grid": median(times["grid"]) / CANDIDATES * 1e3,
                "full_over_match_template": ratio(times, "skimage", "full") * CANDIDATES,
                "grid_over_zoom_and_match_template": ratio(times, "zoom", "grid") * CANDIDATES,
                "error": float(error.max()),
            }
        )
        print({k: round(v, 8) if isinstance(v, float) else v for k, v in rows[-1].items()}, flush=True)
    return rows


def fitted(truth: Truth, crystal: Crystal, beam: Beam, roi: ROI, **options: Any) -> CoarseRefine:
    selection = options.pop("selection", BeamSelection())
    simulator = BlochSimulator(crystal, beam, reflections=truth.data.reflections, selection=selection)
    return CoarseRefine(simulator, truth.data, roi, **options)


def row(case: str, truth: Truth, run: Callable[[], RefinementResult], within_s: float, **checks: Any) -> dict:
    """Run once, timed; `checks` are name=(error of the result, tolerance)."""
    began, cpu = time.perf_counter(), time.process_time()
    result = run()
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    off = float(np.hypot(*np.subtract(result.tilt, truth.frame.tilt)) / truth.frame.step)
    errors = {name: (float(error(result)), tolerance) for name, (error, tolerance) in checks.items()}
    reached = all(abs(e) <= t for e, t in errors.values()) and off <= 0.5
    found: dict[str, Any] = {
        "case": case,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "within_s": within_s,
        "tilt_off_px": off,
    }
    for name, (error, tolerance) in errors.items():
        found |= {name: error, f"{name}_tolerance": tolerance}
    found |= {"score": result.score, "n_decompositions": result.n_decompositions, "n_tilts": result.n_tilts}
    found |= {
        "sigma": result.sigma,
        "systematic": result.systematic,
        "warnings": list(result.warnings),
        "reached": reached,
        "in_time": seconds <= within_s,
    }
    print({k: (round(v, 6) if isinstance(v, float) else v) for k, v in found.items()}, flush=True)
    return found


def percent(name: str, value: float) -> Callable[[RefinementResult], float]:
    return lambda result: 100 * (result[name] / value - 1)


def thickness_problems() -> list[tuple]:
    """Name, crystal, beam, reflections, length of the zone's spots, and thicknesses."""
    gaas, cubic = gallium_arsenide(), strontium_titanate()
    return [
        ("Si [110] 300 kV", silicon(), Beam(300, (1, 1, 0), (1, -1, 1)), ROW, 38.85, (300.0, 812.3, 1377.0, 1990.0)),
        (
            "GaAs [110] 200 kV",
            gaas,
            Beam(200, (1, 1, 0), (2, -2, 0)),
            ((0, 0, 0), (0, 0, 2), (0, 0, -2), (1, -1, 1)),
            60.0,
            (986.0,),
        ),
        (
            "SrTiO3 [001] 200 kV",
            cubic,
            Beam(200, (0, 0, 1), (1, 0, 0)),
            ((0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 0)),
            45.0,
            (640.0,),
        ),
        (
            "Cu [001] 300 kV",
            copper(),
            Beam(300, (0, 0, 1), (2, 0, 0)),
            ((0, 0, 0), (2, 0, 0), (0, 2, 0)),
            80.0,
            (455.0,),
        ),
    ]


def thickness() -> list[dict]:
    rows = []
    for name, crystal, beam, hkl, gl, values in thickness_problems():
        for t in values:
            for counts in (300.0, 20.0):
                truth = larbed(
                    crystal, beam, hkl, more_beams=MORE, thickness=t, gl=gl, side=(60, 90), counts=counts, seed=int(t)
                )
                refiner = fitted(truth, crystal, beam, ROI.rectangle(44, 74))
                limit = 0.5 if counts > 20 else 1.0
                checks = {"thickness_percent": (percent("thickness", t), limit)}
                label = f"thickness: {name}, {t:g} angstrom, {counts:g} counts"
                rows.append(row(label, truth, refiner.optimize_orientation_thickness, 60, **checks))
    return rows


def geometry() -> list[dict]:
    rows = []
    crystal, beam, t, gl = silicon(), Beam(300, (1, 1, 0), (1, -1, 1)), 812.3, 38.85
    for share in (0.91, 1.09):
        truth = larbed(crystal, beam, ROW, more_beams=MORE, thickness=t, gl=gl, side=(60, 100), start_gl=gl * share)
        roi, checks = ROI.rectangle(44, 84), {"gl_percent": (percent("gl", gl), 0.1)}
        label = f"Si [110] 300 kV, gl off by {100 * (share - 1):.0f} %"
        held = fitted(truth, crystal, beam, roi, thickness=t)
        if not rows:
            held.optimize_orientation_gl((0.95 * gl, 1.05 * gl))  # compiles
        rows.append(row(f"gl: {label}", truth, held.optimize_orientation_gl, 5, **checks))
        refiner = fitted(truth, crystal, beam, roi)
        checks = {"gl_percent": (percent("gl", gl), 0.15), "thickness_percent": (percent("thickness", t), 0.7)}
        together = lambda r=refiner: r.optimize({"gl": None, "thickness": None})  # noqa: E731
        rows.append(row(f"gl and thickness: {label}", truth, together, 90, **checks))
        converged = replace(refiner.with_(simulator=truth.simulator))
        checks["gl_percent"] = (percent("gl", gl), 0.1)
        together = lambda r=converged: r.optimize({"gl": None, "thickness": None})  # noqa: E731
        rows.append(row(f"gl and thickness, converged beams: {label}", truth, together, 90, **checks))
    return rows


def lines(crystal: Crystal) -> tuple[Truth, Beam]:
    """HOLZ lines in the disk of 000 at 100 kV."""
    beam = Beam(100.0, (1, 1, 1), (2, -2, 0))
    hkl = [(0, 0, 0)]
    options: dict[str, Any] = {"side": (90, 100), "counts": 1000, "selection": HOLZ, "more_beams": MORE}
    return larbed(crystal, beam, hkl, thickness=1500, gl=340, **options), beam


def hv() -> list[dict]:
    rows = []
    truth, beam = lines(silicon())
    for off in (0.35, -0.35):
        start = replace(beam, kv=beam.kv + off)
        refiner = fitted(truth, silicon(), start, ROI.rectangle(70, 80), thickness=1500, selection=HOLZ)
        run = lambda r=refiner, kv=start.kv: r.optimize_hv((kv - 0.5, kv + 0.5))  # noqa: E731
        checks = {"kv": (lambda result: result["kv"] - 100, 0.03)}
        rows.append(row(f"HV: Si [111] 100 kV, off by {off} kV", truth, run, 90, **checks))
    return rows


def dwf() -> list[dict]:
    rows = []
    beam, hkl = Beam(200, (1, 1, 0), (2, -2, 0)), ((0, 0, 0), (2, -2, 0), (0, 0, 4), (1, -1, 1), (3, -3, 1))
    truth = larbed(silicon(0.4668), beam, hkl, more_beams=MORE, thickness=900, gl=60, side=(56, 56), counts=300)
    for start in (0.1, 1.0):
        refiner = fitted(truth, silicon(start), beam, ROI.rectangle(44, 44), thickness=890)
        checks = {"b_iso": (lambda result: result["dwf"] - 0.4668, 0.03)}
        rows.append(row(f"Debye-Waller: Si [110] 200 kV from B = {start}", truth, refiner.optimize_dwf, 60, **checks))
    return rows


def cell() -> list[dict]:
    rows = []
    a, share = 5.431, 1.0015
    crystal = Crystal((a, a, a * share, 90, 90, 90), ("Si",) * 8, silicon().positions, b_iso=0.4668)
    truth, beam = lines(crystal)
    refiner = fitted(truth, silicon(), beam, ROI.rectangle(70, 80), thickness=1500, selection=HOLZ)
    bounds = {"a": (5.41, 5.45), "c": (5.41, 5.45)}
    checks = {"c_over_a": (lambda result: result["c"] / result["a"] / share - 1, 2e-4)}
    for method in ("gauss-newton", "nelder-mead"):
        run = lambda m=method: refiner.optimize_unit_cell(("a", "c"), bounds=bounds, method=m)  # noqa: E731
        rows.append(row(f"c/a with HV fixed: Si [111] 100 kV, {method}", truth, run, 180, **checks))
    both = lambda: refiner.optimize({"a": (5.41, 5.45), "kv": (99.5, 100.5)}, n_scan={"a": 3, "kv": 3})  # noqa: E731
    checks = {"one_minus_correlation": (lambda result: 1 - abs(result.correlation_of("a", "kv")), 0.05)}
    rows.append(row("a and HV together: correlation reported", truth, both, 180, **checks))
    return rows


PROBLEMS = {"matching": matching, "thickness": thickness, "geometry": geometry, "hv": hv, "dwf": dwf, "cell": cell}


def main() -> None:
    warnings.simplefilter("ignore", StackalignWarning)
    for name in sys.argv[1:] or PROBLEMS:
        print(f"saved {save(f'refine_{name}', PROBLEMS[name]())}", flush=True)


if __name__ == "__main__":
    main()
