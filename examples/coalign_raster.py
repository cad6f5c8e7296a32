"""
Coalign a raster with an imager
===============================

The header of a slit-spectrometer's raster points to the wrong place by half an arc minute. This tutorial finds the
correction from the frames that an imager took meanwhile, and writes a corrected header. It needs the extra ``solar``.
"""

# %%
# A synthetic Sun that turns, a raster whose columns were recorded one after the other, and seven frames of an imager.
# The header of the raster is wrong by (35, -20) arcsec.

import tempfile
from pathlib import Path

from stackalign import solar

observation = solar.create_test_observation(error=(35.0, -20.0))
raster, frames = observation.raster, observation.frames
print(raster.data.shape, "pixels;", len(frames), "frames")

# %%
# Three phases: every shift of binned images, then the pixels as they are, then a synthetic raster in which each column
# comes from the frame of its own time.

result = solar.coalign(raster, frames=frames, model="shift+scale")
print(result)
print("flags:", result.flags or "none")

# %%
# Which frame served which column of the raster:

print(result.plan.to_table()[::16])

# %%
# The raster before and after, with contours of the imager.

figure = solar.plot_alignment_before_after(raster, *result.reference_images(), result.corrected_map)

# %%
# The corrected file holds the same data; only the coordinates in the header are new, and cards ``XC_*`` say what was
# done. Flagged results are not written unless that is asked for.

folder = Path(tempfile.mkdtemp())
written = result.write(folder / "raster_coaligned.fits")
corrected = solar.read_map(folder / "raster_coaligned.fits")
print(
    "the corrected header is off by",
    (solar.observation_time(corrected) - solar.observation_time(observation.truth)).to_value("s"),
    "s and",
    corrected.center.separation(observation.truth.center.transform_to(corrected.coordinate_frame))
    .to("arcsec")
    .round(2),
)
