"""
Write your own objective on the array API
=========================================

Optimisers see numbers, never images: they call ``score(parameters)`` with many candidates at once, and everything that
happens to images happens in operations of the array API, on the device where the images are. This tutorial writes an
objective that the package does not have: a camera whose magnification and roll are known, while the shift may differ
between the two halves of the image.
"""

# %%
# Two halves of a scene that moved apart: the upper by (2.0, -1.0), the lower by (2.0, 3.0) pixels.

import matplotlib.pyplot as plt
import numpy as np

import stackalign as sa
from stackalign import optimize, transforms
from stackalign.registration import create_test_pair

upper = create_test_pair((96, 160), "shift", (2.0, -1.0), noise=0.1, seed=1)
lower = create_test_pair((96, 160), "shift", (2.0, 3.0), noise=0.1, seed=2)

# %%
# ``prepare_pair`` standardises images once, and takes a batch of problems as readily as one pair. Linear interpolation
# smooths noise most half-way between pixels, which draws scores of noisy images there; a Gaussian over both images
# prevents that.

pair = sa.prepare_pair(np.stack([upper.reference, lower.reference]), np.stack([upper.moving, lower.moving]), smooth=1.5)

# %%
# The objective has three parameters: a common ``dy``, and a ``dx`` for each half. An optimiser calls it with ``(B, K,
# P)`` candidates for B independent problems, here B = 1, and takes ``(B, K)`` scores back. All candidates are scored in
# one call of ``score_affine``.


def score(parameters):
    (candidates,) = np.asarray(parameters)  # (K, 3)
    shifts = np.stack([candidates[:, [0, 1]], candidates[:, [0, 2]]])  # (halves, K, 2)
    center = transforms.image_center(upper.reference.shape)
    matrices = np.stack([transforms.matrices_from_parameters(s, "shift", center) for s in shifts])
    scores = sa.to_numpy(sa.score_affine(pair, matrices))  # (halves, K)
    return scores.mean(axis=0)[None]


# %%
# A coarse grid, then a neighbour search from its best point.

grid = optimize.grid_search(score, [np.arange(-4, 5, 1.0)] * 3)
print("best of the grid:", grid.parameters)
found = optimize.neighbor_search(score, grid.parameters, steps=[0.5, 0.5, 0.5], min_steps=[0.01, 0.01, 0.01])
print("refined:", found.parameters.round(2), "with score", found.score.round(4))

# %%
# The score about the optimum, along the two shifts along x: one call for 41 x 41 candidates.

x = np.linspace(-3, 3, 41)
(best,) = np.atleast_2d(found.parameters)
first, second = np.meshgrid(best[1] + x, best[2] + x, indexing="ij")
plane = np.stack([np.full(first.size, best[0]), first.ravel(), second.ravel()], axis=-1)
fig, ax = plt.subplots(figsize=(5, 4), layout="constrained")
image = ax.contourf(best[2] + x, best[1] + x, score(plane[None]).reshape(first.shape), 20)
ax.plot(best[2], best[1], "w+", markersize=12)
ax.set_xlabel("dx of the lower half / pixels")
ax.set_ylabel("dx of the upper half / pixels")
bar = fig.colorbar(image, label="mean score")
