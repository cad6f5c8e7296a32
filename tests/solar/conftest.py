"""Observations that several solar tests share."""

import astropy.units as u
import numpy as np
import pytest
import sunpy.map
from scipy.ndimage import spline_filter

from solar import sequence
from stackalign import solar


@pytest.fixture(scope="session")
def scene(shared_data):
    """The full disc as EUI saw it."""
    return solar.read_map(shared_data / "solar" / "eui_fsi174_20220401_crop.fits")


@pytest.fixture(scope="session")
def observed(scene):
    """FSI scene turning under a moving spacecraft: frames every ten minutes, and the raster as it would be."""
    spline = spline_filter(scene.data.astype(float), order=3)
    raster = sunpy.map.Map(np.zeros((140, 96)), sequence.raster_header(scene))
    times = solar.column_times(raster.meta, raster.data.shape)
    frames = [
        sequence.frame_map(scene, spline, sequence.START + 600 * k * u.s, k) for k in range(int(96 * 120.3 / 600) + 2)
    ]
    return scene, raster, frames, sequence.truth(scene, spline, raster, times)
