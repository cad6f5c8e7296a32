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
    from stackalign.solar.coaligner import Coaligner as Same
    from stackalign.solar.search import optimize_alignment_local_grad_disc_persworkers

    coaligner = compat.coaligner
    assert coaligner.Coaligner is Coaligner is Same
    assert Coaligner.__module__ == "stackalign.compat.coaligner"
    assert coaligner.correlation_for_params is correlation_for_params
    assert coaligner.get_EUI_paths is stackalign.solar.get_EUI_paths
    same = coaligner.optimize_alignment_local_grad_disc_persworkers
    assert same is optimize_alignment_local_grad_disc_persworkers
    assert same is stackalign.solar.optimize_alignment_local_grad_disc_persworkers


NAMES = {
    "optimizeOrientationThickness": "optimize_orientation_thickness",
    "optimizeOrientationGL": "optimize_orientation_gl",
    "optimizeHV": "optimize_hv",
    "optimizeDWF": "optimize_dwf",
    "optimizeUnitCell": "optimize_unit_cell",
}


def test_coarse_optimize_is_one() -> None:
    from stackalign.refine import CoarseOptimize, CoarseRefine

    assert CoarseOptimize is compat.coarse.CoarseOptimize
    assert CoarseOptimize.__module__ == "stackalign.compat.coarse"
    assert issubclass(CoarseOptimize, CoarseRefine)
    with pytest.raises(AttributeError, match="has no attribute 'Coarse'"):
        stackalign.refine.Coarse  # noqa: B018


@pytest.mark.parametrize("name", ["CoarseOptimize", "CoarseRefine"])
@pytest.mark.parametrize("original", NAMES)
def test_methods_of_the_original(name: str, original: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = getattr(stackalign.refine, name)
    refiner = object.__new__(kind)
    calls = []
    monkeypatch.setattr(stackalign.refine.CoarseRefine, NAMES[original], lambda *a, **k: calls.append((a, k)))
    getattr(refiner, original)((600, 1000), spacing=2)
    (((given, bounds), options),) = calls
    assert given is refiner
    assert (bounds, options) == ((600, 1000), {"spacing": 2})
    with pytest.raises(AttributeError, match="has no attribute 'optimizeAll'"):
        refiner.optimizeAll  # noqa: B018


def test_a_hook_of_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    refiner = object.__new__(stackalign.refine.CoarseOptimize)
    changed = object.__new__(stackalign.refine.CoarseOptimize)
    monkeypatch.setattr(stackalign.refine.CoarseRefine, "with_", lambda self, **changes: changed)
    monkeypatch.setattr(stackalign.refine.CoarseRefine, "optimize_hv", lambda self: self)
    assert refiner.optimizeHV(filter=len) is changed
    assert refiner.optimizeHV() is refiner
