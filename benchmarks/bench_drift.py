"""Drift of simulated series: errors beside those of usual practice, pulls, and what is trusted and wrong.

    python benchmarks/bench_drift.py [SEEDS]

Peers, all by FFT correlation of frames smoothed by 1.5 px, on the same frames: "first" (each frame with the first, 1/50
px, scikit-image), "previous" (sum of steps, as StackReg does), "all pairs" (matrix of all pairs, outliers rejected,
mean, as rigidRegistration does).
"""

import itertools
import json
import sys
import time
from pathlib import Path

import numpy as np
from scipy import fft, ndimage
from skimage.registration import phase_cross_correlation

from stackalign.drift import create_test_series, estimate_drift
from stackalign.io.provenance import provenance

RESULTS = Path(__file__).parent / "results" / "drift.json"
COUNTS = (0.05, 0.2, 1.0, 10.0)
N, SHAPE = 24, (128, 128)


def step(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Shift of `second` onto `first`, by scikit-image."""
    return phase_cross_correlation(first, second, upsample_factor=50, normalization=None)[0]


def first(images: np.ndarray) -> np.ndarray:
    return np.array([step(images[0], image) for image in images])


def previous(images: np.ndarray) -> np.ndarray:
    steps = [step(a, b) for a, b in itertools.pairwise(images)]
    return np.vstack([[0, 0], np.cumsum(steps, axis=0)])


def all_pairs(images: np.ndarray) -> np.ndarray:
    weights = np.outer(np.hanning(images.shape[1]), np.hanning(images.shape[2]))
    spectra = fft.rfft2((images - images.mean(axis=(1, 2), keepdims=True)) * weights)
    matrix = np.zeros((len(images), len(images), 2))
    for i, spectrum in enumerate(spectra):
        for j, plane in enumerate(fft.irfft2(spectrum.conj() * spectra, s=images.shape[1:])):
            matrix[i, j] = -vertex(plane)
    relative = matrix - matrix[:, :1]
    middle = np.median(relative, axis=0)
    good = np.abs(relative - middle).max(axis=2) < 2
    return np.array(
        [relative[good[:, j], j].mean(axis=0) if good[:, j].any() else middle[j] for j in range(len(images))]
    )


def vertex(plane: np.ndarray) -> np.ndarray:
    """Peak of a cyclic correlation, by parabolas."""
    h, w = plane.shape
    y, x = divmod(int(plane.argmax()), w)
    peak = []
    for at, line in ((y, plane[[(y - 1) % h, y, (y + 1) % h], x]), (x, plane[y, [(x - 1) % w, x, (x + 1) % w]])):
        bend = line[0] - 2 * line[1] + line[2]
        peak.append(at + (0.5 * (line[0] - line[2]) / bend if bend < 0 else 0.0))
    return np.array(peak) - np.rint(np.array(peak) / [h, w]) * [h, w]


def away(shifts: np.ndarray, truth: np.ndarray) -> np.ndarray:
    error = shifts - truth
    return error - error.mean(axis=0)


def row(lattice: float | None, counts: float, seeds: int) -> dict:
    """Medians over seeds of the rms errors, and what is trusted."""
    peers: dict[str, list[float]] = {"first": [], "previous": [], "all_pairs": [], "stackalign": []}
    pulls, wrong, trusted, seconds = [], 0, 0, []
    for seed in range(seeds):
        made = create_test_series(N, SHAPE, counts=counts, lattice=lattice, seed=1000 + seed)
        smooth = np.stack([ndimage.gaussian_filter(image, 1.5) for image in made.images])
        for name, peer in (("first", first), ("previous", previous), ("all_pairs", all_pairs)):
            peers[name].append(float(np.sqrt((away(peer(smooth), made.shifts) ** 2).mean())))
        began = time.process_time()
        result = estimate_drift(made.images, workers=1)
        seconds.append(time.process_time() - began)
        error = away(result.shifts, made.shifts)
        peers["stackalign"].append(float(np.sqrt((error**2).mean())))
        pull = error / np.sqrt(np.diagonal(result.own, axis1=1, axis2=2))
        good = result.ok
        trusted += int(good.sum())
        pulls.append(pull[good])
        wrong += int(((np.abs(pull) > 3) & (np.abs(error) > 0.5))[good].any(axis=1).sum())
    every = np.concatenate(pulls)
    medians = {name: float(np.median(values)) for name, values in peers.items()}
    best = min(value for name, value in medians.items() if name != "stackalign")
    return {
        "scene": "lattice" if lattice else "structures",
        "counts": counts,
        **medians,
        "ratio_to_best": medians["stackalign"] / best,
        "trusted": trusted / (seeds * N),
        "trusted_and_wrong": wrong / (seeds * N),
        "pull": float(np.sqrt((every**2).mean())) if len(every) else None,
        "coverage": float((np.abs(every) < 1).mean()) if len(every) else None,
        "cpu_seconds": float(np.median(seconds)),
    }


def main() -> None:
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    rows = []
    for lattice in (None, 9.0):
        for counts in COUNTS:
            rows.append(row(lattice, counts, seeds))
            print(json.dumps(rows[-1]), flush=True)
    record = {"seeds": seeds, "frames": N, "shape": SHAPE, "rows": rows, "provenance": provenance({}, [], device="cpu")}
    RESULTS.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
