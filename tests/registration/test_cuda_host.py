"""`register` through the CUDA kernels and their launch code, run on the host, beside the CPU backend."""

import numpy as np
import pytest

import stackalign as sa
from stackalign import backends
from stackalign.registration import create_test_pair


@pytest.mark.parametrize("model", ["shift", "shift+scale+angle"])
def test_agrees_with_the_cpu(monkeypatch, model) -> None:
    host = pytest.importorskip("cuda_host.backend")
    reason = host.BACKEND.unavailable()
    if reason is not None:
        pytest.skip(reason)
    truth = (3.3, -2.6) if model == "shift" else (3.3, -2.6, 1.004, 0.997, 1.0)
    pairs = [create_test_pair((72, 80), model, truth, noise=0.05, holes=0.1, seed=k) for k in range(2)]
    fixed, moved = (np.array([getattr(p, name) for p in pairs]) for name in ("reference", "moving"))
    on_cpu = sa.register_stack(fixed, moved, model=model)
    monkeypatch.setattr(backends, "load", lambda name: host.BACKEND)
    on_kernels = sa.register_stack(fixed, moved, model=model)
    for a, b in zip(on_cpu, on_kernels, strict=True):
        corners = np.array([[0, 0, 1], [0, 79, 1], [71, 0, 1], [71, 79, 1]], float)
        assert np.abs(corners @ (a.matrix - b.matrix).T).max() < 1e-3
        np.testing.assert_allclose(b.sigma, a.sigma, rtol=0.02)
        assert a.flags == b.flags
