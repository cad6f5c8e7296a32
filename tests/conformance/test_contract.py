"""What must be there for an operation and for a backend; fails when one of the pieces is missing."""

import importlib
import importlib.util
import inspect
import pkgutil
import re
from pathlib import Path

import numpy as np
import pytest

import stackalign
from conformance._op import Op, Sample
from conformance.inputs import samples
from conformance.operations import OPERATIONS, cases_of
from cuda_host.backend import BACKEND
from stackalign import backends, ops
from stackalign.backends._protocol import HOUSEKEEPING, SUBJECTS, Backend
from stackalign_kernels import cuda_names


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


def test_every_operation_has_a_row_and_a_file() -> None:
    operations = set(protocol_methods()) - set(HOUSEKEEPING)
    assert operations == set(SUBJECTS)
    assert operations == set(OPERATIONS)


@pytest.mark.parametrize("op", OPERATIONS.values(), ids=OPERATIONS)
def test_a_row_is_complete(op: Op) -> None:
    assert (Path(__file__).parent / "subjects" / f"{SUBJECTS[op.method]}.py").exists(), "a row stands by its subject"
    assert cases_of(op), "no cases"
    names = [case.name for cases in cases_of(op).values() for case in cases]
    assert len(names) == len({(case.name, case.dtype) for cases in cases_of(op).values() for case in cases})
    for name in op.public:
        assert name in ops.__all__, f"{name} is missing from stackalign.ops"
        assert hasattr(stackalign, name), f"{name} is missing from the package and its stub"
    returned = protocol_methods()[op.method].return_annotation
    fields = getattr(returned, "_fields", None)
    assert fields is None or set(fields) == set(op.results), "each array has a tolerance"
    assert fields is not None or len(op.results) == 1


def test_every_name_of_the_array_api_is_at_the_top() -> None:
    assert set(ops.__all__) <= set(stackalign.__all__)
    stub = Path(stackalign.__file__).with_suffix(".pyi").read_text(encoding="utf-8")
    assert re.search(r"^from \.ops import \*", stub, re.M)
    assert re.search(r"^__all__ \+= ops\.__all__$", stub, re.M)


def test_every_operation_is_in_the_reference() -> None:
    file = Path(__file__).parents[2] / "docs" / "extensions" / "generated_pages.py"
    spec = importlib.util.spec_from_file_location("generated_pages", file)
    pages = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pages)
    assert "stackalign" in pages.PACKAGES
    assert {name for op in OPERATIONS.values() for name in op.public} <= set(pages.exported("stackalign"))


@pytest.mark.parametrize("op", [op for op in OPERATIONS.values() if op.kernel], ids=lambda op: op.method)
def test_the_warm_up_has_every_operation(op: Op) -> None:
    """That these calls compile all that other calls need is tested with the cases of the operation."""
    launches = importlib.import_module(f"stackalign.backends.cpu.{SUBJECTS[op.method]}")
    assert op.method in [method for method, _ in launches.first_calls(np.dtype("float32"))]


@pytest.mark.parametrize("op", [op for op in OPERATIONS.values() if op.kernel], ids=lambda op: op.method)
def test_a_row_reaches_its_kernel(op: Op) -> None:
    """The sanitizers and mutants run what `branches` gives."""
    sample: Sample = next(samples("float32"))
    assert list(op.branches(sample))


def test_every_kernel_is_of_a_row() -> None:
    assert {op.kernel for op in OPERATIONS.values() if op.kernel} == set(cuda_names())


def test_kernels_come_in_pairs() -> None:
    import stackalign_kernels.cpu

    cpu = {m.name for m in pkgutil.iter_modules(stackalign_kernels.cpu.__path__) if not m.name.startswith("_")}
    assert cpu == set(cuda_names())


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
