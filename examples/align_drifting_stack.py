"""
Align a drifting stack
======================

Frames of one scene drift and lose contrast. This tutorial registers them with the first frame, checks error bars and
flags, and averages the aligned frames.
"""

# %%
# Eight frames that drift by up to eight pixels, each with its own noise and some invalid pixels.

import matplotlib.pyplot as plt
import numpy as np

import stackalign as sa
from stackalign.registration import create_test_pair, random_scene

drift = np.array([[0.9 * k, -0.6 * k + 0.05 * k**2] for k in range(1, 9)])
scene = random_scene((320, 320))
pairs = [
    create_test_pair((192, 192), "shift", -d, scene=scene, noise=0.4, holes=0.02, seed=k) for k, d in enumerate(drift)
]
reference = pairs[0].reference
frames = np.stack([pair.moving for pair in pairs])

# %%
# All pairs in one call, in lock-step. ``dy`` and ``dx`` say by how much the content of a frame has to move to lie on
# the reference: with the opposite sign of the drift.

stack = sa.register_stack(reference, frames, model="shift")
for found, true in zip(stack, -drift, strict=True):
    print(f"found {found.parameters.round(3)} +- {found.sigma.round(3)}, true {true.round(3)}, ok: {found.ok}")

# %%
# The errors in units of the error bars. Where error bars are right, their mean square is about 1.

pull = (stack.parameters + drift) / stack.sigma
print("root mean square of error / sigma:", np.sqrt((pull**2).mean()).round(2))

# %%
# A result that should not be trusted says so: two images that show different things are flagged, and a sentence says
# why.

other = create_test_pair((192, 192), "shift", (0, 0), seed=1)
unrelated = sa.register(reference, other.moving)
print(unrelated.flags)
print(unrelated.remarks["insignificant"])

# %%
# Resample onto the reference's pixels and average. Pixels beyond a frame's edge, and invalid ones, are NaN, which
# ``stack_statistics`` leaves out.

aligned = stack.apply(frames)
before, after = sa.stack_statistics(frames), sa.stack_statistics(aligned)

fig, axes = plt.subplots(1, 3, figsize=(9, 3.2), layout="constrained")
pictures = {"one frame": frames[0], "mean of all": before.mean, "mean of the aligned": after.mean}
for ax, (title, image) in zip(axes, pictures.items(), strict=True):
    ax.imshow(image, cmap="gray", vmin=-1, vmax=8)
    ax.set_title(title)
    ax.set_axis_off()
