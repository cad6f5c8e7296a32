"""Radii and centroids against the time of reading the same data once, and against plain NumPy.

One thread unless said otherwise, side by side in one run. Patterns: Poisson counts of a Gaussian of sigma H/8 with its
centre off by up to 3 pixels.
"""

import time

import numpy as np

import stackalign
from _harness import median, ratio, rounds, save
from peers.numpy_radial import mask_per_radius, sqrt_bincount
from peers.read_memory import read

FRACTION = 0.98


def patterns(side: int, n: int, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(side)
    centers = side / 2 + rng.uniform(-3, 3, (n, 2))
    y, x = np.mgrid[:side, :side]
    out = np.empty((n, side, side), dtype)
    for k, (cy, cx) in enumerate(centers):
        out[k] = rng.poisson(200 * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * (side / 8) ** 2)))
    return out, centers


def fast_times(data: np.ndarray, centers: np.ndarray) -> dict[str, list[float]]:
    side = data.shape[1]
    candidates = {
        "read": lambda d=data: read(d),
        "radius": lambda d=data, c=centers: stackalign.retention_radius(d, c, FRACTION, workers=1),
        "centroid": lambda d=data: stackalign.centroid(d, workers=1),
        "both": lambda d=data: stackalign.pattern_summary(d, FRACTION, workers=1),
        "both, 3 fractions": lambda d=data: stackalign.pattern_summary(d, (0.95, 0.98, 0.99), workers=1),
        "both, 2 workers": lambda d=data: stackalign.pattern_summary(d, FRACTION, workers=2),
        "read, 2 threads": lambda d=data: _two_threads(read, d),
        "crop": lambda d=data: stackalign.crop_windows(d, (side // 4, side // 4), (side // 2,) * 2, workers=1),
    }
    return rounds(candidates, 11)


def case(side: int, n: int, dtype: str) -> dict:
    data = np.concatenate([patterns(side, 128, dtype)[0]] * (n // 128))
    centers = stackalign.centroid(data)
    times = fast_times(data, centers)
    part = data[:16]
    slow = rounds(
        {
            "ours": lambda d=data, c=centers: stackalign.retention_radius(d, c, FRACTION, workers=1),
            "bincount": lambda p=part, c=centers: sqrt_bincount(p, c, FRACTION),
        },
        7,
    )
    few = data[:2]
    slowest = rounds(  # per pattern: the peer is too slow for all of them
        {
            "ours": lambda d=data, c=centers: stackalign.retention_radius(d, c, FRACTION, workers=1),
            "masks": lambda p=few, c=centers: mask_per_radius(p, c, FRACTION),
        },
        7,
    )
    same = np.array_equal(
        sqrt_bincount(part, centers, FRACTION),
        stackalign.retention_radius(part, centers[: len(part)], FRACTION),
    )
    return {
        "case": f"{side}^2 {dtype}",
        "read_gb_per_s": data.nbytes / median(times["read"]) / 1e9,
        "radius_over_read": ratio(times, "radius", "read"),
        "centroid_over_read": ratio(times, "centroid", "read"),
        "both_over_read": ratio(times, "both", "read"),
        "three_fractions_over_read": ratio(times, "both, 3 fractions", "read"),
        "crop_over_read": ratio(times, "crop", "read"),
        "two_workers": ratio(times, "both", "both, 2 workers"),
        "two_readers": ratio(times, "read", "read, 2 threads"),
        "over_sqrt_bincount": ratio(slow, "bincount", "ours") * n / len(part),
        "over_mask_per_radius": ratio(slowest, "masks", "ours") * n / len(few),
        "patterns_per_s": n / median(times["both"]),
        "radii_equal": bool(same),
    }


def main() -> None:
    rows = []
    for side, n in ((256, 2048), (512, 512)):
        for dtype in ("float32", "uint16"):
            rows.append(case(side, n, dtype))
            print({k: round(v, 2) if isinstance(v, float) else v for k, v in rows[-1].items()}, flush=True)
    began = time.perf_counter()
    print(f"saved {save('radial', rows)} in {time.perf_counter() - began:.1f} s")


def _two_threads(task, data):
    """The probe: what two threads gain on a plain read, at this moment on this machine."""
    from concurrent.futures import ThreadPoolExecutor

    half = len(data) // 2
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(task, (data[:half], data[half:])))


if __name__ == "__main__":
    main()
