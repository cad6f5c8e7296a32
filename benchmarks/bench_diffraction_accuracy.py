"""Errors of centres, shifts, peaks and profiles of diffraction patterns of which everything is known.

Beside scikit-image's masked registration, and scikit-ued where ``SKUED_PYTHON`` names an interpreter that imports
skued; it runs in a process of its own.
"""

import os
import pickle
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.spatial import cKDTree
from skimage.registration import phase_cross_correlation

from _harness import median, save
from stackalign import diffraction as d
from stackalign.diffraction import synthetic as make

SIZE, NEAR = 512, 3.0
CENTERS, SHIFTS, SEEDS = 24, 16, 5
PEER = """
import pickle, sys, time, warnings
warnings.simplefilter("ignore")
import numpy as np
import skued
while True:
    try:
        name, image, mask = pickle.load(sys.stdin.buffer)
    except EOFError:
        break
    began = time.process_time()
    answer = getattr(skued, name)(image.astype(float), mask=mask)
    seconds = time.process_time() - began
    answer = np.asarray(answer[0] if isinstance(answer, tuple) else answer, float)
    pickle.dump((answer, seconds), sys.stdout.buffer)
    sys.stdout.buffer.flush()
"""


class Peer:
    """scikit-ued in another process."""

    def __init__(self, interpreter: str) -> None:
        self._process = subprocess.Popen([interpreter, "-c", PEER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __call__(self, name: str, image: np.ndarray, mask: np.ndarray) -> np.ndarray:
        pickle.dump((name, image, mask), self._process.stdin)
        self._process.stdin.flush()
        answer, self.seconds = pickle.load(self._process.stdout)
        return answer


def middles(seed: int, count: int = CENTERS) -> np.ndarray:
    return 255.5 + np.random.default_rng(seed).uniform(-0.06 * SIZE, 0.06 * SIZE, (count, 2))


def errors_of(found: np.ndarray, true: np.ndarray, prefix: str) -> dict[str, float]:
    off = np.hypot(*(found - true).T)
    return {
        f"{prefix}_median": float(np.median(off)),
        f"{prefix}_max": float(off.max()),
        f"{prefix}_bias": float(np.abs((found - true).mean(0)).max()),
        f"{prefix}_jumps": int((off > 1.5).sum()),
    }


def centers(peer: Peer | None) -> list[dict[str, Any]]:
    rows = []
    for kind, walkoffs in (("powder", (0.0, 0.6, 0.9)), ("lattice", (0.0, 0.3, 0.6, 0.9))):
        for walkoff in walkoffs:
            true = middles(17)
            patterns = [
                d.create_test_pattern(kind, SIZE, center=tuple(c), seed=k, walkoff=walkoff) for k, c in enumerate(true)
            ]
            found = np.array([d.autocenter(p.image, mask=p.mask).center for p in patterns])
            row = {"case": f"{kind}, walk-off {walkoff}", "centers": CENTERS, **errors_of(found, true, "ours")}
            if peer is not None:
                row |= errors_of(np.array([peer("autocenter", p.image, p.mask) for p in patterns]), true, "peer")
            rows.append(row)
            print(row, flush=True)
    return rows


def shifts(_: Peer | None) -> list[dict[str, Any]]:
    rows = []
    moves = np.random.default_rng(5).uniform(-12, 12, (SHIFTS, 2))
    for kind in ("powder", "lattice"):
        first = d.create_test_pattern(kind, SIZE, center=(255.5, 255.5), seed=0)
        options = {"noise": False} if kind == "powder" else {"noise": False, "seed": 0}
        images = []
        for k, move in enumerate(moves):
            clean = d.create_test_pattern(kind, SIZE, center=tuple(255.5 + move), **options).clean
            images.append(np.random.default_rng(k + 1).poisson(clean).astype(np.float32))
        ours = d.align(np.stack(images), first.image, mask=first.mask).shift
        theirs = np.array(
            [phase_cross_correlation(first.image, i, reference_mask=first.mask, moving_mask=first.mask)[0]
             for i in images]
        )  # fmt: skip
        row = {"case": kind, "shifts": SHIFTS}
        for name, found in (("ours", ours), ("scikit_image", theirs)):
            off = found + moves
            row |= {f"{name}_rms": float(np.sqrt((off**2).mean())), f"{name}_max": float(np.abs(off).max())}
        rows.append(row)
        print(row, flush=True)
    return rows


def judged(pattern: make.SyntheticPattern, found: np.ndarray) -> tuple[float, float, float]:
    """Precision against all spots, recall of those that stand out five deviations, rms distance per axis."""
    if not len(found):
        return 0.0, 0.0, float("nan")
    distance = cKDTree(pattern.spots).query(found)[0]
    rows, columns = np.rint(pattern.spots).astype(int).T
    strong = (pattern.amplitudes > 5 * np.sqrt(pattern.background)) & pattern.mask[rows, columns]
    missed = cKDTree(found).query(pattern.spots[strong])[0]
    hit = distance < NEAR
    rms = float(np.sqrt((distance[hit] ** 2).mean() / 2)) if hit.any() else float("nan")
    return float(hit.mean()), float((missed < NEAR).mean()), rms


def peaks(peer: Peer | None) -> list[dict[str, Any]]:
    rows = []
    cases = {"flat": {}, "walk-off 0.6": {"walkoff": 0.6}, "an eighth of the counts": {"counts": 50.0}}
    for name, options in cases.items():
        patterns = [make.lattice(SIZE, tuple(c), k, **options) for k, c in enumerate(middles(3, SEEDS))]
        row: dict[str, Any] = {"case": name, "patterns": SEEDS}
        found = [d.bragg_peaks(p.image, mask=p.mask).position for p in patterns]
        answers = {"ours": found}
        if peer is not None:
            answers["peer"] = [peer("bragg_peaks", p.image, p.mask).reshape(-1, 2) for p in patterns]
        for who, places in answers.items():
            precision, recall, rms = np.array([judged(p, f) for p, f in zip(patterns, places, strict=True)]).T
            row |= {
                f"{who}_precision": float(precision.min()),
                f"{who}_recall": float(recall.min()),
                f"{who}_rms": float(np.nanmax(rms)) if np.isfinite(rms).any() else None,
            }
        rows.append(row)
        print(row, flush=True)
    return rows


def persistence(peer: Peer | None) -> list[dict[str, Any]]:
    """CPU time of both, in turns."""
    rows = []
    for side in (256, 512):
        pattern = make.lattice(side, seed=1)
        d.bragg_peaks_persistence(pattern.image, mask=pattern.mask)
        ours, theirs = [], []
        for _ in range(3):
            began = time.process_time()
            d.bragg_peaks_persistence(pattern.image, mask=pattern.mask, subpixel=False)
            ours.append(time.process_time() - began)
            if peer is not None:
                peer("bragg_peaks_persistence", pattern.image, pattern.mask)
                theirs.append(peer.seconds)
        row: dict[str, Any] = {"case": f"{side}^2", "ms": 1e3 * median(ours)}
        if theirs:
            row |= {
                "ms_scikit_ued": 1e3 * median(theirs),
                "over": median([b / a for a, b in zip(ours, theirs, strict=True)]),
            }
        rows.append(row)
        print(row, flush=True)
    return rows


PROBLEMS: dict[str, Callable[[Peer | None], list[dict[str, Any]]]] = {
    "centers": centers,
    "shifts": shifts,
    "peaks": peaks,
    "persistence": persistence,
}


def main() -> None:
    warnings.simplefilter("ignore")
    interpreter = os.environ.get("SKUED_PYTHON")
    peer = None if interpreter is None else Peer(interpreter)
    for name in sys.argv[1:] or PROBLEMS:
        print(f"saved {save(f'diffraction_{name}', PROBLEMS[name](peer))}", flush=True)


if __name__ == "__main__":
    main()
