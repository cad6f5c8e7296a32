"""The measured GaAs patterns beside the checkout, at full size: orientation, thickness and step size, masks, times.

python benchmarks/bench_gaas.py [page.html]
"""

import sys
import time
from pathlib import Path

import numpy as np

from _harness import save
from stackalign.plot.refine_report import RefinedStep, write_refinement_report
from stackalign.refine import (
    ROI,
    Beam,
    BeamSelection,
    BlochSimulator,
    CoarseRefine,
    Crystal,
    DiffractionData,
    DisplayFrame,
    RefinementResult,
    find_orientation,
)

FILE = Path(__file__).resolve().parents[2] / "shared" / "data" / "cbed" / "felix_gaas_dlacbed"
HKL = ((0, 0, 0), (0, 0, 2), (0, 0, -2), (1, 1, 1), (1, 1, -1), (2, 2, 0))
FCC = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
CRYSTAL = Crystal((5.65325,) * 3 + (90,) * 3, ("Ga",) * 4 + ("As",) * 4, np.concatenate([FCC, FCC + 0.25]), b_iso=0.65)
BEAM = Beam(200, (-1, 1, 0), (-1, -1, 0))


def simulator(**rules: float) -> BlochSimulator:
    chosen = BeamSelection(laue_zones=0, **rules)
    return BlochSimulator(CRYSTAL, BEAM, HKL, chosen, absorption="perturbative", absorptive_ratio=0.078)


def row(step: str, seconds: float, cpu: float, result: RefinementResult, **more: float) -> dict:
    values = {name: result.values[name] for name in ("thickness", "gl", "blur")}
    found = {"step": step, "seconds": seconds, "cpu_seconds": cpu, "mean_correlation": result.score, **values, **more}
    print(found, flush=True)
    return found | {"disks": {" ".join(map(str, hkl)): score for hkl, score in result.disk_scores.items()}}


def timed(run):
    began, used = time.perf_counter(), time.process_time()
    result = run()
    return result, time.perf_counter() - began, time.process_time() - used


def main() -> None:
    file = np.load(FILE / "gaas_m110_200kV_dlacbed.npz")
    images, rows = file["images_x4"].astype(np.float32), []
    frame = DisplayFrame.for_beam(CRYSTAL, BEAM, 42.5, (167.5, 167.5))
    data = DiffractionData.from_larbed(images, file["hkl"].tolist(), frame).select(HKL)
    coarse = CoarseRefine(
        simulator(strong=0.15, weak=0.02),
        data,
        ROI.rectangle(150, 150),
        metric="per_disk",
        grid=6,
        fine_grid=6,
        search_radius=2.2,
    )
    coarse.optimize_orientation_thickness((970, 980))  # compiles
    trials, seconds, cpu = timed(lambda: find_orientation(coarse, (600, 1400)))
    best = trials[0].result
    rows.append(row("eight orientations", seconds, cpu, best, second_best=trials[1].score))
    fine = coarse.with_(simulator=simulator(strong=0.08, weak=0.01), fine_grid=5.0).with_result(best)
    joint, seconds, cpu = timed(lambda: fine.optimize({"thickness": (900, 1100), "gl": (41, 45)}))
    sigma = joint.sigma
    rows.append(row("thickness and gl", seconds, cpu, joint, sigma=sigma["thickness"], sigma_gl=sigma["gl"]))
    held, seconds, cpu = timed(lambda: coarse.with_result(joint).optimize_orientation_thickness((900, 1100)))
    rows.append(row("thickness at that gl", seconds, cpu, held))
    for seed in range(3):
        mask = np.random.default_rng(seed).random(images.shape[1:]) > 0.1
        masked = DiffractionData.from_larbed(images, file["hkl"].tolist(), joint.frame, mask=mask).select(HKL)
        found, seconds, cpu = timed(lambda d=masked: coarse.with_(data=d).optimize_orientation_thickness((900, 1100)))
        moved = found["thickness"] / held["thickness"] - 1
        rows.append(row(f"a tenth of the pixels masked, seed {seed}", seconds, cpu, found, thickness_moved=moved))
    print(f"saved {save('gaas', rows)}")
    if len(sys.argv) > 1:
        turned = [
            (f"{'mirrored' if t.flip else 'as it is'}, turned by {t.rotation:g}°", t.score, t.result["thickness"])
            for t in trials
        ]
        steps = [
            RefinedStep("orientation, thickness, tilt", best, None, turned),
            RefinedStep("thickness, gl, tilt", joint, fine.disks(joint, 2.0)),
        ]
        write_refinement_report(steps, sys.argv[1], title="GaAs [-1 1 0], 200 kV")


if __name__ == "__main__":
    main()
