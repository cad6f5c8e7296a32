"""Import lines of scripts: those of the original implementations, and the one place where they all are."""

import pytest

import stackalign
from stackalign import compat, crop


def test_the_cropper_is_one() -> None:
    from stackalign.compat.cropper import DiffractionCropper
    from stackalign.crop import DiffractionCropper as Same

    assert Same is DiffractionCropper is compat.cropper.DiffractionCropper
    assert "DiffractionCropper" in crop.__all__
    with pytest.raises(AttributeError, match="has no attribute 'Cropper'"):
        crop.Cropper  # noqa: B018


def test_the_coaligner_is_one() -> None:
    pytest.importorskip("sunpy", reason="Coaligner needs the extra solar")
    from stackalign.solar import Coaligner, correlation_for_params

    assert compat.coaligner.Coaligner is Coaligner
    assert compat.coaligner.correlation_for_params is correlation_for_params


def test_coarse_optimize_has_its_methods() -> None:
    original = compat.coarse.CoarseOptimize
    assert original is stackalign.refine.CoarseRefine
    for name in ("optimizeOrientationThickness", "optimizeOrientationGL", "optimizeHV", "optimizeDWF"):
        assert callable(getattr(original, name))
