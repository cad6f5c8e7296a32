"""Bloch waves: time per tilt against the number of beams, many thicknesses, and abTEM where it is installed."""

import importlib.util
import sys
import time
import warnings

import numpy as np

from _harness import median, ratio, rounds, save
from peers.bloch_table import BEAM, FCC, SILICON
from stackalign.refine import (
    AbtemSimulator,
    Beam,
    BeamList,
    BeamSelection,
    BlochSimulator,
    Crystal,
    PreparedBloch,
)

ARSENIDE = Crystal((5.65325,) * 3 + (90,) * 3, ("Ga",) * 4 + ("As",) * 4, np.concatenate([FCC, FCC + 0.25]), b_iso=0.6)
NONE = np.zeros((0, 3), dtype=np.int64)
KEPT = tuple((h, -h, m) for h in range(-2, 3) for m in range(-3, 4) if (h + m) % 2 == 0)[:15]


def beams(n: int) -> BeamList:
    """The n shortest reflections of the zone [110], KEPT among them."""
    h, m = (a.ravel() for a in np.meshgrid(np.arange(-30, 31), np.arange(-30, 31)))
    hkl = np.stack([h, -h, m], 1)[(h + m) % 2 == 0]
    order = np.argsort(np.square(hkl).sum(1), kind="stable")
    return BeamList(hkl[order][:n], NONE, NONE)


def decompositions() -> list[dict]:
    rows = []
    for n in (31, 45, 67, 101, 151, 251):
        n_tilts = max(8, 40_000 // n**2 * 4)
        tilts = BEAM.tilts_from_mrad(np.random.default_rng(0).uniform(-10, 10, (n_tilts, 2)))
        kept = tuple(map(tuple, beams(n).strong[:15].tolist()))
        runs = {}
        for name, crystal, absorption in (
            ("real", SILICON, None),
            ("complex", ARSENIDE, None),
            ("perturbative", ARSENIDE, "perturbative"),
            ("exact", ARSENIDE, "exact"),
        ):
            if name == "exact" and n > 110:
                continue
            simulator = BlochSimulator(crystal, BEAM, kept, beams=beams(n), absorption=absorption, workers=1)
            runs[name] = lambda s=simulator: s.prepare({}, tilts)
        times = rounds(runs, 5, time.process_time)  # one thread: other work on the machine does not count
        rows.append({"beams": n, **{f"{name}_ms_per_tilt": median(t) / n_tilts * 1e3 for name, t in times.items()}})
        print(rows[-1], flush=True)
    return rows


def thicknesses() -> list[dict]:
    """100 thicknesses of 15 reflections at 10^4 tilts; the waves are drawn at random."""
    rows, rng = [], np.random.default_rng(0)
    values = np.linspace(200, 3000, 100)
    for n in (67, 151):
        gamma = rng.normal(0, 0.01, (10_000, n))
        for name, dtype in (("real", np.float64), ("complex", np.complex128)):
            weight = rng.normal(size=(10_000, 15, n)).astype(dtype) / n
            for workers in (1, 2):
                prepared = PreparedBloch(gamma, weight, KEPT, beams(n), 0.0, workers)
                times = rounds({"ours": lambda p=prepared: p.intensities(values)}, 3)
                rows.append({"beams": n, "weights": name, "workers": workers, "seconds": median(times["ours"])})
                print(rows[-1], flush=True)
    return rows


def against_abtem(n_tilts: int = 100) -> list[dict]:
    """Time per tilt for 15 thicknesses, one thread; abTEM chooses beams for each tilt, ours are those of its first."""
    from threadpoolctl import threadpool_limits

    rows = []
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for zone, kv in (((1, 1, 0), 300), ((1, 1, 0), 200)):
            rows.append(one_zone(zone, kv, n_tilts))
            print(rows[-1], flush=True)
    return rows


def one_zone(zone: tuple[int, int, int], kv: float, n_tilts: int) -> dict:
    values = np.linspace(200, 1600, 15)
    beam = Beam(kv, zone, (0, 0, 2))
    tilts = beam.tilts_from_mrad(np.random.default_rng(0).uniform(-5, 5, (n_tilts, 2)))
    theirs = AbtemSimulator(SILICON, beam, KEPT).prepare({}, tilts)
    hkl, _ = theirs.one(tilts[0], values)
    import abtem

    abtem.config.set({"precision": "float64"})
    waves = [theirs.waves(tilt) for tilt in tilts]
    hkl = hkl[np.argsort(np.square(hkl).sum(1), kind="stable")].astype(np.int64)
    ours = BlochSimulator(SILICON, beam, beams=BeamList(hkl, NONE, NONE), workers=1)
    union = BlochSimulator(SILICON, beam, None, BeamSelection(sg_max=0.02, g_max=3), workers=1).with_beams(tilts)
    times = rounds(
        {
            "abtem": lambda p=theirs: p.intensities(values),
            "solve": lambda w=waves: [each.calculate_diffraction_patterns(values, lazy=False) for each in w],
            "ours": lambda s=ours: s.prepare({}, tilts).intensities(values),
            "union": lambda s=union: s.prepare({}, tilts).intensities(values),
        },
        7,
    )
    return {
        "kv": kv,
        "beams": len(hkl),
        "beams_of_union": len(union.beams),
        "abtem_ms_per_tilt": median(times["abtem"]) / n_tilts * 1e3,
        "ours_ms_per_tilt": median(times["ours"]) / n_tilts * 1e3,
        "abtem_solve_ms_per_tilt": median(times["solve"]) / n_tilts * 1e3,
        "over_abtem_solve": ratio(times, "solve", "ours"),
        "over_abtem_solve_with_union": ratio(times, "solve", "union"),
        "over_abtem": ratio(times, "abtem", "ours"),
        "over_abtem_with_union": ratio(times, "abtem", "union"),
    }


def main() -> None:
    if importlib.util.find_spec("abtem") is not None:
        print(f"saved {save('bloch_abtem', against_abtem())}")
    if "--abtem" not in sys.argv:
        print(f"saved {save('bloch', decompositions())}")
        print(f"saved {save('bloch_thicknesses', thicknesses())}")


if __name__ == "__main__":
    main()
