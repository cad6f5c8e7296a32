"""Profiles and masks of diffraction images beside scikit-ued and pyFAI, all in one process and one run.

    python benchmarks/bench_diffraction.py [--save]

The peers are not dependencies: run it in an environment that has scikit-ued and pyFAI beside what stackalign needs.
Every candidate computes the same profile of a powder behind a beam block, no pixel split, ring by ring of one pixel:
scikit-ued a mean; pyFAI sums of signal, weights and normalisation, with its geometry cached, for each of its engines;
ours mean, variance and weight, with its geometry cached. Masks: scikit-ued flags by a running deviation, ours by the
final one, with extrema.
"""

import sys
import time
import warnings

import numpy as np

from _harness import median, ratio, rounds, save
from stackalign import diffraction

FRAMES = 20
MASK_FRAMES = {512: 100, 2048: 24}
ENGINES = (
    ("no", "histogram", "cython"),
    ("no", "csr", "cython"),
    ("bbox", "csr", "cython"),
    ("bbox", "lut", "cython"),
    ("full", "csr", "cython"),
)


def powder(n: int, count: int) -> tuple[np.ndarray, np.ndarray, tuple[float, float]]:
    """Six rings behind a beam block, Poisson noise, 16 bits."""
    center = (0.49 * n + 0.3, 0.51 * n - 0.2)
    y, x = np.indices((n, n))
    radius = np.hypot(y - center[0], x - center[1]) * 512 / n
    rings = zip((52, 85, 104, 137, 168, 190), (1, 0.45, 0.35, 0.25, 0.15, 0.1), strict=True)
    clean = 0.6 * np.exp(-radius / 60) + 0.05 + sum(a * np.exp(-((radius - r) ** 2) / (2 * 2.2**2)) for r, a in rings)
    mask = np.ones((n, n), bool)
    mask[: int(0.6 * n), int(0.47 * n) : int(0.53 * n)] = False
    rng = np.random.default_rng(0)
    images = np.stack([rng.poisson(200 * clean) for _ in range(count)]).astype(np.uint16)
    images[:, ~mask] = 3
    return images, mask, center


def profiles(n: int) -> dict:
    """Time of all frames; every candidate takes every frame."""
    import skued
    from pyFAI.integrator.azimuthal import AzimuthalIntegrator

    images, mask, center = powder(n, FRAMES)
    pixel = 1e-4
    # At this distance a radius in the plane of the detector and an angle are the same to 1e-9.
    integrator = AzimuthalIntegrator(
        dist=1.0, poni1=(center[0] + 0.5) * pixel, poni2=(center[1] + 0.5) * pixel, pixel1=pixel, pixel2=pixel
    )
    points = int(np.rint(np.hypot(np.maximum(center[0], n - 1 - center[0]), np.maximum(center[1], n - 1 - center[1]))))
    bad = (~mask).astype(np.int8)

    def theirs(method):
        return lambda: [integrator.integrate1d(i, points, unit="r_mm", mask=bad, method=method) for i in images]

    candidates = {
        "ours, 1 thread": lambda: diffraction.azimuthal_average(images, center, mask=mask, workers=1, device="cpu"),
        "ours": lambda: diffraction.azimuthal_average(images, center, mask=mask, device="cpu"),
        "ours, split": lambda: diffraction.azimuthal_average(images, center, mask=mask, split=True, device="cpu"),
        "scikit-ued": lambda: [skued.azimuthal_average(i, (center[1], center[0]), mask=mask) for i in images],
    }
    candidates |= {f"pyFAI {' '.join(method)}": theirs(method) for method in ENGINES}
    times = rounds(candidates, 5)
    # What other work on the machine takes from the clock it does not take from the time of the processor.
    alone = rounds({k: candidates[k] for k in ("ours, 1 thread", "scikit-ued")}, 5, time.process_time)
    mean = diffraction.azimuthal_average(images[0], center, mask=mask, device="cpu").intensity
    _, same = skued.azimuthal_average(images[0], (center[1], center[0]), mask=mask, trim=False)
    agree = min(mean.size, len(same)) - 1
    np.testing.assert_allclose(np.nan_to_num(mean[:agree]), same[:agree], rtol=1e-9, atol=1e-9)
    row = {"case": f"{FRAMES} profiles, {n}^2"}
    row |= {f"{name}, ms per frame": median(t) / FRAMES * 1e3 for name, t in times.items()}
    best = min((name for name in times if name.startswith("pyFAI")), key=lambda name: min(times[name]))
    row["over scikit-ued"] = ratio(times, "scikit-ued", "ours")
    row["over scikit-ued, 1 thread, CPU time"] = ratio(alone, "scikit-ued", "ours, 1 thread")
    row["best of pyFAI"] = best
    row["over the best of pyFAI"] = ratio(times, best, "ours")
    row["over the minimum of the best of pyFAI"] = min(times[best]) / median(times["ours"])
    return row


def masks(n: int) -> dict:
    """Mask by standard deviation of a stream of frames."""
    import skued

    images, _, _ = powder(n, MASK_FRAMES[n])
    candidates = {
        "ours, 1 thread": lambda: diffraction.mask_from_collection(iter(images), max_std=30, workers=1, device="cpu"),
        "ours": lambda: diffraction.mask_from_collection(iter(images), max_std=30, device="cpu"),
        "scikit-ued": lambda: skued.mask_from_collection(iter(images), std_thresh=30),
        "scikit-ued, limits alone": lambda: skued.mask_from_collection(iter(images)),
    }
    times = rounds(candidates, 3)
    alone = rounds({k: candidates[k] for k in ("ours, 1 thread", "scikit-ued")}, 3, time.process_time)
    row = {"case": f"mask of {len(images)} frames, {n}^2"}
    row |= {f"{name}, ms per frame": median(t) / len(images) * 1e3 for name, t in times.items()}
    return row | {
        "over scikit-ued": ratio(times, "scikit-ued", "ours"),
        "over scikit-ued, 1 thread, CPU time": ratio(alone, "scikit-ued", "ours, 1 thread"),
    }


def main() -> None:
    warnings.filterwarnings("ignore")
    rows = [profiles(n) for n in (512, 2048)] + [masks(n) for n in MASK_FRAMES]
    for row in rows:
        print(
            *(f"{name}: {value if isinstance(value, str) else round(value, 2)}" for name, value in row.items()),
            sep="\n  ",
        )
    if "--save" in sys.argv:
        print(save("diffraction", rows))


if __name__ == "__main__":
    main()
