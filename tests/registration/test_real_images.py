"""Known transforms between two samplings of real observations."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, median_filter

import stackalign as sa
from stackalign.registration import create_test_pair, point_error

CASES = {
    "shift+scale": ((7.3, -4.6, 1.012, 0.991), {"noise": 0.02, "holes": 0.1}, (0.02, 0.04)),
    "shift+scale+angle": ((7.3, -4.6, 1.012, 0.991, 2.0), {"noise": 0.02, "holes": 0.1}, (0.03, 0.06)),
    "noisy": ((7.3, -4.6, 1.012, 0.991), {"noise": 0.2, "holes": 0.1, "salt": 0.05}, (0.06, 0.12)),
    "blurred": ((7.3, -4.6, 1.012, 0.991), {"noise": 0.02, "holes": 0.1, "moving_blur": 2.5}, (0.06, 0.12)),
}


@pytest.fixture(scope="module")
def trace(shared_data) -> np.ndarray:
    """Loops of TRACE at 171, without structure below three pixels."""
    fits = pytest.importorskip("astropy.io.fits")
    image = fits.getdata(shared_data / "solar" / "trace_19980519_171.fits").astype(np.float64)
    return gaussian_filter(median_filter(np.sqrt(np.clip(image - 60, 0, None)), 3), 1.6)


@pytest.mark.parametrize("case", CASES)
def test_trace(trace, case) -> None:
    truth, options, (rms, largest) = CASES[case]
    model = "shift+scale+angle" if len(truth) == 5 else "shift+scale"
    pair = create_test_pair((384, 384), model, truth, scene=trace, seed=1, **options)
    found = sa.register(pair.reference, pair.moving, model=model)
    assert np.all(np.array(point_error(found.matrix, pair)) < (rms, largest))
    assert found.ok, found.flags
