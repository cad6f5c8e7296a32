"""Scoring 81 candidates at once against scoring them one by one, one thread, 10 % NaN, side by side in one run."""

import importlib.util

import numpy as np
from scipy.ndimage import gaussian_filter

import stackalign
from _harness import median, ratio, rounds, save
from peers import affine as peers
from stackalign import transforms

STEP = np.array([0.25, 0.25, 5e-4, 5e-4])
AROUND = np.array([1.3, -0.7, 1.01, 0.99])


def images(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Two noisy views of smoothed noise, with blobs and single pixels missing."""
    rng = np.random.default_rng(0)
    base = sum(gaussian_filter(rng.normal(size=(side, side)), s) * s for s in (1.5, 5, 15))
    reference = 500 + 100 * base + rng.normal(0, 5, base.shape)
    moving = 300 + 60 * np.roll(base, (1, -1), (0, 1)) + rng.normal(0, 4, base.shape)
    for image in (reference, moving):
        blobs = gaussian_filter(rng.normal(size=base.shape), 8)
        image[blobs > np.quantile(blobs, 0.905)] = np.nan
        image[rng.random(base.shape) < 0.005] = np.nan
    return reference.astype(np.float32), moving.astype(np.float32)


def candidates(kind: str) -> np.ndarray:
    rng = np.random.default_rng(1)
    if kind == "random":
        lattice = rng.integers(-2, 3, (81, 4))
    else:
        lattice = np.stack(np.meshgrid(*[np.arange(-1, 2)] * 4, indexing="ij"), -1).reshape(-1, 4)
    return AROUND + lattice * STEP


def case(pair: stackalign.ImagePair, kind: str) -> dict:
    r, m = pair.reference[0], pair.moving[0]
    side = len(r)
    center = transforms.image_center((side, side))
    parameters = candidates("random" if kind == "rotated" else kind)
    if kind == "rotated":
        parameters = np.column_stack([parameters, np.full(81, 0.5), np.zeros(81)])
        matrices = transforms.matrices_from_parameters(parameters, "affine", center)
    else:
        matrices = transforms.matrices_from_parameters(parameters, "shift+scale", center)
    few = matrices[:6]
    slow = {
        "scipy": lambda r=r, m=m, f=few, k=kind: (peers.scipy_full if k == "rotated" else peers.scipy_separable)(
            r, m, f
        )
    }
    slow["numba loop"] = lambda r=r, m=m, f=few: peers.plain_loop(r, m, f)
    if importlib.util.find_spec("cv2") is not None:
        slow["opencv"] = lambda r=r, m=m, f=few: peers.opencv(r, m, f)
    if importlib.util.find_spec("torch") is not None:
        slow["torch"] = lambda r=r, m=m, f=few: peers.torch_grid_sample(r, m, f)
    times = rounds(
        {
            "ours": lambda p=pair, m=matrices: stackalign.score_affine(p, m, workers=1),
            "2 workers": lambda p=pair, m=matrices: stackalign.score_affine(p, m, workers=2),
            **slow,
        },
        7,
    )
    scores = stackalign.score_affine(pair, few, workers=1)
    oracle = peers.scipy_full(r.astype(np.float64), m.astype(np.float64), few)
    return {
        "case": f"{side}^2 {kind}",
        "ns_per_pixel_and_candidate": median(times["ours"]) / 81 / side**2 * 1e9,
        "candidates_per_s": 81 / median(times["ours"]),
        "two_workers": ratio(times, "ours", "2 workers"),
        "error": float(np.abs(scores - oracle).max()),
        **{f"over_{name.replace(' ', '_')}": ratio(times, name, "ours") * 81 / len(few) for name in slow},
    }


def main() -> None:
    rows = []
    for side in (512, 1024):
        pair = stackalign.prepare_pair(*images(side))
        for kind in ("random", "factorial", "rotated"):
            rows.append(case(pair, kind))
            print({k: round(v, 10) if isinstance(v, float) else v for k, v in rows[-1].items()}, flush=True)
    print(f"saved {save('affine', rows)}")


if __name__ == "__main__":
    main()
