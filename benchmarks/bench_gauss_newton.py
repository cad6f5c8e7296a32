"""Gauss-Newton in candidate evaluations, beside OpenCV's ECC, and stacks of pairs; one thread.

The images are those of section 2.1 of the plan: a start 3 px off, 2 % noise and 10 % NaN, four parameters.
"""

import importlib.util

import numpy as np
from scipy.ndimage import gaussian_filter

import stackalign
from _harness import median, ratio, rounds, save
from stackalign import transforms
from stackalign.objectives import AffineNCC
from stackalign.optimize import gauss_newton
from stackalign.registration import create_test_pair

MODEL = "shift+scale"
TRUTH = (2.3, -1.9, 1.004, 0.997)
START = np.array([0.0, 0.0, 1.0, 1.0])


def corner_error(matrix: np.ndarray, pair) -> float:
    h, w = pair.reference.shape
    corners = np.array([[0, 0], [0, w - 1], [h - 1, 0], [h - 1, w - 1]], float)
    apart = transforms.apply(matrix, corners) - transforms.apply(pair.matrix, corners)
    return float(np.linalg.norm(apart, axis=1).max())


def ecc(pair) -> np.ndarray:
    """OpenCV's enhanced correlation with both masks, affine, 50 iterations to 1e-6; the matrix of pulls (y, x)."""
    import cv2

    cv2.setNumThreads(1)
    masks = [np.isfinite(i).astype(np.uint8) * 255 for i in (pair.reference, pair.moving)]
    masks = [cv2.erode(m, np.ones((3, 3), np.uint8)) for m in masks]
    fixed, moved = (
        np.nan_to_num(i, nan=float(np.nanmean(i))).astype(np.float32) for i in (pair.reference, pair.moving)
    )
    warp = np.eye(2, 3, dtype=np.float32)
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 50, 1e-6)
    _, warp = cv2.findTransformECCWithMask(fixed, moved, masks[0], masks[1], warp, cv2.MOTION_AFFINE, stop, 1)
    m = np.asarray(warp, np.float64)
    return np.array([[m[1, 1], m[1, 0], m[1, 2]], [m[0, 1], m[0, 0], m[0, 2]]])


def images() -> dict[str, np.ndarray]:
    import skimage.data

    return {n: gaussian_filter(np.asarray(getattr(skimage.data, n)(), float), 1.0) for n in ("camera", "moon")}


def one_pair() -> list[dict]:
    rows = []
    for name, scene in images().items():
        rows.append(case(name, scene))
        print({k: round(v, 4) if isinstance(v, float) else v for k, v in rows[-1].items()}, flush=True)
    return rows


def case(name: str, scene: np.ndarray) -> dict:
    pair = create_test_pair((480, 480), MODEL, TRUTH, scene=scene, noise=0.02, holes=0.1, seed=1)
    prepared = stackalign.prepare_pair(pair.reference.astype(np.float32), pair.moving.astype(np.float32))
    objective = AffineNCC(prepared, MODEL, workers=1)
    reach = np.array([1, 1, 240, 240.0])

    def climb(objective=objective, reach=reach):
        return gauss_newton(objective.linearize, START, tolerance=5e-3 / reach, max_step=2.0 / reach)

    def whole(pair=pair):
        return stackalign.register(pair.reference, pair.moving, model=MODEL, workers=1)

    times = timed(pair, objective, climb, whole)
    best = gauss_newton(objective.linearize, climb().parameters, tolerance=1e-6 / reach).parameters[0]
    # Passes until every point is within 0.01 px of where the optimum has it.
    away = [np.abs(row[1:5] - best) * reach for row in climb().history[0]]
    passes = next(k for k, a in enumerate(away, start=1) if a.max() < 0.01)
    in_candidates = ratio(times, "pass", "81 candidates") * 81
    row = {
        "case": f"{name} 480^2",
        "candidates_per_pass": in_candidates,
        "passes": passes,
        "equivalents": passes * in_candidates,
        "gauss_newton_ms": 1e3 * median(times["gauss-newton"]),
        "register_ms": 1e3 * median(times["register"]),
        "corner_error": corner_error(
            transforms.matrices_from_parameters(climb().parameters[0], MODEL, objective.center), pair
        ),
        "register_corner_error": corner_error(whole().matrix, pair),
    }
    if "ecc" in times:
        row |= {
            "ecc_ms": 1e3 * median(times["ecc"]),
            "ecc_corner_error": corner_error(ecc(pair), pair),
            "over_ecc": ratio(times, "ecc", "gauss-newton"),
            "register_over_ecc": ratio(times, "ecc", "register"),
        }
    return row


def timed(pair, objective: AffineNCC, climb, whole) -> dict[str, list[float]]:
    candidates = np.tile(START, (1, 81, 1))
    candidates[0] += np.random.default_rng(0).integers(-2, 3, (81, 4)) * [0.25, 0.25, 5e-4, 5e-4]
    runs = {
        "81 candidates": lambda o=objective, c=candidates: o.score(c),
        "pass": lambda o=objective: o.linearize(START[None]),
        "gauss-newton": climb,
        "register": whole,
    }
    if importlib.util.find_spec("cv2") is not None:
        runs["ecc"] = lambda pair=pair: ecc(pair)
    return rounds(runs, 7)


def stack(n: int = 200) -> list[dict]:
    made = [
        create_test_pair(
            (256, 256), "shift+scale", (2.3 + 0.01 * k, -1.9, 1.004, 0.997), noise=0.02, holes=0.1, seed=k % 8
        )
        for k in range(n)
    ]
    fixed, moved = (np.array([getattr(p, name) for p in made], np.float32) for name in ("reference", "moving"))
    times = rounds(
        {
            "together": lambda: stackalign.register_stack(fixed, moved, model=MODEL, workers=1),
            "loop": lambda: [
                stackalign.register(a, b, model=MODEL, workers=1) for a, b in zip(fixed, moved, strict=True)
            ],
            "two workers": lambda: stackalign.register_stack(fixed, moved, model=MODEL, workers=2),
        },
        3,
    )
    row = {
        "case": f"{n} pairs of 256^2",
        "ms_per_pair": 1e3 * median(times["together"]) / n,
        "loop_over_stack": ratio(times, "loop", "together"),
        "two_workers": ratio(times, "together", "two workers"),
    }
    print(row, flush=True)
    return [row]


if __name__ == "__main__":
    print(f"saved {save('gauss_newton', one_pair() + stack())}")
