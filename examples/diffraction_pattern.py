"""
Centre, average and index a diffraction pattern
===============================================

A single-crystal pattern lies behind a beam block, is off-centre, and brighter on one side. This tutorial finds its
centre, its peaks and its radial profile, averages it about the centre, and divides it into Brillouin zones.
"""

# %%
# Masks are True where a pixel is valid: here everywhere but under the beam block.

import matplotlib.pyplot as plt

from stackalign import diffraction, plot

made = diffraction.create_test_pattern("lattice", center=(262.3, 249.8), walkoff=0.6)
image, mask = made.image, made.mask

# %%
# The centre. It is inferred from pairs of spots here; powders are centred by their rings, visible beams by the beam
# itself. ``sigma`` is the standard error, and ``reasons`` says in a sentence where nothing supports a centre.

center = diffraction.autocenter(image, mask=mask)
print("centre:", center.center.round(2), "+-", center.sigma.round(3), "by", center.kind[0])
print("true:  ", made.center, "- flags:", center.flags[0] or "none")

# %%
# Peaks are found at any place by a matched filter, and judged by the noise of counts.

peaks = diffraction.bragg_peaks(image, mask=mask)
print(f"{len(peaks)} peaks, the weakest at {peaks.snr.min():.1f} sigma")

fig, axes = plt.subplots(1, 2, figsize=(9, 4.4), layout="constrained")
plot.plot_pattern(image, mask=mask, ax=axes[0])
plot.plot_peaks(image, peaks, ax=axes[1])

# %%
# Brillouin zones of the lattice of peaks: each pixel belongs to the nearest reflection.

zones = diffraction.brillouin_zones(peaks, image.shape, center=center.center)
whole = zones.visible_zones(symmetry=6)  # beside the beam block and the border, zones lack neighbours
print(len(whole), "hexagons:", zones.consistency(whole))

ax = plot.plot_zones(zones, chosen=whole)

# %%
# The average over twofold rotation fills what the beam block hides, and the azimuthal average gives the radial profile.

average = diffraction.nfold(image, 2, center=center.center, mask=mask)
profile = diffraction.azimuthal_average(image, center.center, mask=mask)

fig, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
plot.plot_pattern(average, ax=axes[0])
plot.plot_profile(profile, ax=axes[1])
