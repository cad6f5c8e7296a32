"""
Thickness and tilt of a crystal from CBED disks
===============================================

The intensities within the disks of a convergent-beam pattern depend on the thickness and the tilt of the crystal. This
tutorial simulates the disks of silicon by Bloch waves, adds noise, and finds thickness and tilt again.
"""

# %%
# A crystal, a beam, and the reflections whose disks were recorded.

import numpy as np

from stackalign import plot
from stackalign.refine import (
    ROI,
    Beam,
    BeamSelection,
    BlochSimulator,
    CoarseRefine,
    Crystal,
    DiffractionData,
    DisplayFrame,
)

fcc = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
silicon = Crystal((5.431, 5.431, 5.431, 90, 90, 90), ["Si"] * 8, np.concatenate([fcc, fcc + 0.25]), b_iso=0.4668)
beam = Beam(200, zone=(1, 1, 0), x_axis=(0, 0, 2))
hkl = [(0, 0, 0), (1, -1, 1), (1, -1, -1), (0, 0, 2)]
simulator = BlochSimulator(silicon, beam, hkl, BeamSelection(strong=0.05, weak=0.005))

# %%
# The "measurement": 812 angstrom of silicon, tilted by a few pixels from where the search will begin, 200 counts per
# pixel. It is simulated with more beams than the search uses.

start = DisplayFrame.for_beam(silicon, beam, gl=44.0, center=(31.5, 31.5))
hidden = start.with_(tilt=(3.4 * start.step, -2.2 * start.step))
pixels = np.stack(np.meshgrid(np.arange(64), np.arange(64), indexing="ij"), -1)
tilts = hidden.to_tilt(hidden.to_display(pixels)).reshape(-1, 2)
images = simulator.tighter(2).prepare({}, tilts).intensities([812.0])[0].reshape(4, 64, 64)
images = np.random.default_rng(0).poisson(200 / images.mean() * images)

# %%
# Tilt and thickness are found globally: over all tilts of the simulated area and all thicknesses within the bounds.

coarse = CoarseRefine(simulator, DiffractionData.from_larbed(images, hkl, start), ROI.rectangle(40, 40))
result = coarse.optimize_orientation_thickness(bounds=(200, 2000))
print(result)
print("reduced chi-square:", round(result.goodness, 2), "- flags:", result.flags or "none")

# %%
# What is left between measured and simulated disks should be noise.

measured, simulated = coarse.disks(result)
figure = plot.disks_figure(measured, simulated, [str(h) for h in hkl])

# %%
# The score over all tilts, at the thickness that was found.

axes = plot.plot_position_map(result)
