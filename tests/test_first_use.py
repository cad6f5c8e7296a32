"""Seconds of compiling are announced, once."""

import logging

import numpy as np
import pytest

import stackalign as sa
import stackalign_kernels
from stackalign.backends import _first_use


def test_is_announced_once_per_machine(monkeypatch, tmp_path, caplog) -> None:
    monkeypatch.setattr(stackalign_kernels, "cache_folder", lambda: str(tmp_path))
    monkeypatch.setattr(_first_use, "_USED", set())
    image = np.random.default_rng(0).normal(size=(20, 20)).astype(np.float32)
    with caplog.at_level(logging.WARNING, "stackalign"):
        sa.bin_mean(image, 2)
        sa.bin_mean(image, 2)
        monkeypatch.setattr(_first_use, "_USED", set())  # another process
        sa.bin_mean(image, 2)
    said = [record.getMessage() for record in caplog.records if "first use" in record.getMessage()]
    assert len(said) == 1
    assert "binning kernels for float32" in said[0]


def test_a_failed_call_leaves_no_marker(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(stackalign_kernels, "cache_folder", lambda: str(tmp_path))
    monkeypatch.setattr(_first_use, "_USED", set())
    with pytest.raises(RuntimeError, match="no"), _first_use.first_use("binning", np.dtype("uint8")):
        raise RuntimeError("no")
    assert not list(tmp_path.iterdir())
