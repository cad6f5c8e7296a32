"""
Benchmark your machine
======================

How fast are the operations that matter to you, on this machine? This tutorial measures four of them beside plain NumPy
and SciPy, and checks that both give the same answer. The command ``stackalign bench`` measures all operations and
pipelines, see :doc:`the page on it </howto/benchmarks>`.
"""

# %%
# CPU kernels are compiled at first use and then kept, so each candidate runs once before the clock starts. All take
# turns, and the median counts: a machine that is busy with something else slows all of them alike.

import time

import numpy as np
from scipy import ndimage

import stackalign as sa


def race(candidates, rounds=5):
    """Median seconds of each candidate."""
    for function in candidates.values():
        function()
    times = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, function in candidates.items():
            start = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - start)
    return {name: float(np.median(t)) for name, t in times.items()}


rng = np.random.default_rng(0)

# %%
# The radius that holds 98 % of the intensity of each of 200 patterns, beside a histogram over distances in NumPy.

patterns = rng.poisson(3.0, (200, 128, 128)).astype(np.uint16)
y, x = np.indices((128, 128)) - 63.5
rings = np.ceil(np.hypot(y, x)).astype(int).ravel()


def radii_numpy():
    sums = np.stack([np.bincount(rings, p.ravel()).cumsum() for p in patterns])
    return (sums < 0.98 * sums[:, -1:]).sum(axis=1)


def radii():
    return sa.retention_radius(patterns, (63.5, 63.5), 0.98)


print("same radii:", bool((radii() == radii_numpy()).all()))
radius_times = race({"stackalign": radii, "NumPy": radii_numpy})

# %%
# Forty candidate transforms of an image of 256 x 256 pixels with holes, scored by masked correlation, beside resampling
# with SciPy.

scene = ndimage.gaussian_filter(rng.normal(size=(280, 280)), 2)
reference, moving = scene[8:264, 8:264].copy(), scene[10:266, 5:261].copy()
reference[50:80, 40:90] = np.nan
shifts = rng.uniform(-4, 4, (40, 2))
matrices = sa.transforms.matrices_from_parameters(shifts, "shift", center=(127.5, 127.5))


def scores():
    return sa.score_affine(sa.prepare_pair(reference, moving), matrices)


def scores_scipy():
    found = []
    for matrix in matrices:
        moved = ndimage.affine_transform(moving, matrix[:, :2], matrix[:, 2], order=1, cval=np.nan)
        both = np.isfinite(moved) & np.isfinite(reference)
        found.append(np.corrcoef(moved[both], reference[both])[0, 1])
    return np.array(found)


print("largest difference of scores:", f"{np.abs(scores() - scores_scipy()).max():.1e}")
score_times = race({"stackalign": scores, "SciPy": scores_scipy})

# %%
# Rotational averages and binning.

average_times = race(
    {
        "stackalign": lambda: sa.rotational_average(reference, (127.5, 127.5), 6),
        "SciPy": lambda: [ndimage.rotate(moving, 60 * k, reshape=False, order=1) for k in range(6)],
    }
)
bin_times = race(
    {
        "stackalign": lambda: sa.bin_mean(patterns, 4),
        "NumPy": lambda: patterns.reshape(200, 32, 4, 32, 4).mean(axis=(2, 4)),
    }
)

# %%
# The table. Threads follow the environment, see ``stackalign info``; ``workers=1`` in each call would hold them to one.

print(f"{'operation':22} {'stackalign':>12} {'other':>12} {'ratio':>7}")
for name, found in (
    ("retention_radius", radius_times),
    ("score_affine", score_times),
    ("rotational_average", average_times),
    ("bin_mean", bin_times),
):
    ours, other = found.values()
    print(f"{name:22} {1e3 * ours:9.2f} ms {1e3 * other:9.2f} ms {other / ours:6.1f}x")
