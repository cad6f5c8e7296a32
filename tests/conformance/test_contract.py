"""What must be there for an operation and for a backend; fails when one of the pieces is missing."""

import importlib
import inspect
import pkgutil
import re

import pytest

import stackalign.backends as backends
from conformance.cases import OPERATIONS
from conformance.tolerances import FIELDS
from cuda_host.backend import BACKEND
from stackalign import ops
from stackalign.backends._protocol import (
    HOUSEKEEPING,
    SUBJECTS,
    Backend,
    BinArrays,
    BinSums,
    PeakArrays,
    ScoreArrays,
    StackSums,
    SummaryArrays,
    WindowArrays,
)

PUBLIC = {
    "pattern_summary": ("pattern_summary", "centroid", "retention_radius"),
    "radial_cumulative": ("radial_cumulative",),
    "crop_windows": ("crop_windows",),
    "stack_statistics": ("stack_statistics",),
    "standardise": ("prepare_pair",),
    "score_affine": ("score_affine",),
    "masked_ncc": ("masked_ncc", "match_template"),
    "masked_peaks": ("masked_shift",),
    "resample_affine": ("resample_affine",),
    "bin_mean": ("bin_mean",),
    "affine_average": ("rotational_average", "mirror_average"),
    "bin_sums": ("azimuthal_average",),
    "shift_sums": ("shift_table",),
    "linearize_affine": ("linearize_affine",),
}
"""Protocol method to the public functions that stand on it."""


def protocol_methods() -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(member)
        for name, member in vars(Backend).items()
        if inspect.isfunction(member) and not name.startswith("_")
    }


def test_every_folder_is_listed() -> None:
    found = {}
    for module in pkgutil.iter_modules(backends.__path__):
        if not module.name.startswith("_"):
            loaded = importlib.import_module(f"stackalign.backends.{module.name}")
            found[loaded.BACKEND.NAME] = loaded.__name__
    assert found == backends.BACKENDS


def all_backends() -> dict[str, object]:
    loaded = {name: importlib.import_module(module).BACKEND for name, module in backends.BACKENDS.items()}
    return loaded | {BACKEND.NAME: BACKEND}


@pytest.mark.parametrize("name", sorted(all_backends()))
def test_backend_has_every_method(name: str) -> None:
    backend = all_backends()[name]
    for method, signature in protocol_methods().items():
        wanted = list(signature.parameters)[1:]  # without self
        ours = list(inspect.signature(getattr(backend, method)).parameters)
        if ours[:1] == ["rt"]:  # a launch, which the backend gives its runtime
            ours = ours[1:]
        assert ours == wanted, f"{name}.{method}"


@pytest.mark.parametrize("name", sorted(all_backends()))
def test_a_backend_has_nothing_else(name: str) -> None:
    with pytest.raises(AttributeError, match="has no attribute 'flatten'"):
        all_backends()[name].flatten  # noqa: B018


def test_every_operation_has_cases_and_a_public_function() -> None:
    operations = set(protocol_methods()) - set(HOUSEKEEPING)
    assert operations == set(SUBJECTS)
    assert operations == set(PUBLIC)
    assert operations == set(OPERATIONS)
    for names in PUBLIC.values():
        for name in names:
            assert name in ops.__all__


def test_every_result_field_has_a_tolerance() -> None:
    tuples = (SummaryArrays, WindowArrays, StackSums, ScoreArrays, PeakArrays, BinArrays, BinSums)
    fields = {name for t in tuples for name in t._fields} | {"cumulative", "planes", "maps", "samples", "lag_sums"}
    fields |= {"linear_sums"}
    assert fields == set(FIELDS)


def test_kernels_come_in_pairs() -> None:
    import stackalign_kernels.cpu

    cpu = {m.name for m in pkgutil.iter_modules(stackalign_kernels.cpu.__path__) if not m.name.startswith("_")}
    assert cpu == set(stackalign_kernels.cuda_names())


@pytest.mark.parametrize("name", [n for n in ops.__all__ if inspect.isfunction(getattr(ops, n))])
def test_public_docstrings_are_complete(name: str) -> None:
    function = getattr(ops, name)
    text = inspect.getdoc(function)
    assert text
    assert "\nParameters\n----------\n" in text
    if name != "synchronize":  # it returns nothing
        assert "\nReturns\n-------\n" in text
    described = {name for names in re.findall(r"^(\w[\w, ]*) : ", text, re.M) for name in names.split(", ")}
    assert set(inspect.signature(function).parameters) <= described


@pytest.mark.parametrize("name", sorted(all_backends()))
def test_there_is_one_docstring_per_operation(name: str) -> None:
    for method in SUBJECTS:
        assert len((getattr(all_backends()[name], method).__doc__ or "").splitlines()) == 1, method


def test_load_refuses_unknown_names() -> None:
    with pytest.raises(ValueError, match="backend must be one of cpu, cuda, reference"):
        backends.load("opencl")
