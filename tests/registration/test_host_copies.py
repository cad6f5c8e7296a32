"""How often `register` waits for numbers on the host, which on a GPU is a copy and a stop each."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import stackalign as sa
from stackalign.backends import cpu
from stackalign.ops import transfer


@pytest.mark.parametrize("model", ["shift", "shift+scale", "affine"])
def test_a_pair_needs_few_copies(model, rng, monkeypatch) -> None:
    copies = []

    def counted(x):
        copies.append(x.shape)
        return np.asarray(x)

    monkeypatch.setattr(cpu, "to_numpy", counted)
    monkeypatch.setattr(transfer, "_on_host", lambda arrays: False)
    scene = gaussian_filter(rng.normal(size=(300, 320)), 3)
    result = sa.register(scene[10:266, 10:298], scene[13:269, 8:296], model=model)
    assert result.ok
    np.testing.assert_allclose(
        result.parameters[:2], (3.0, -2.0), atol=0.01
    )  # what the moving image has to be moved by
    assert 5 < len(copies) <= 25
