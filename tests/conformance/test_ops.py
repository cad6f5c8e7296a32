"""Every case on every backend against the reference, and on the reference against the definitions."""

import importlib
import pkgutil

import numpy as np
import pytest

from conformance._op import Case, Inputs, Op
from conformance.operations import OPERATIONS, call, cases_of, differences, inputs_of
from stackalign.backends import load
from stackalign.backends._protocol import SUBJECTS
from stackalign_kernels import cpu

WORKERS = 2
ITEMS = [(op, dtype) for op in OPERATIONS.values() for dtype in cases_of(op)]

_answers: dict[tuple[str, str], dict[str, dict[str, np.ndarray]]] = {}
"""The reference's, of the last item alone: the backends of an item come one after the other."""


def expected(op: Op, case: Case, inputs: Inputs) -> dict[str, np.ndarray]:
    key = op.method, case.dtype
    if key not in _answers:
        _answers.clear()
    of_item = _answers.setdefault(key, {})
    if case.name not in of_item:
        of_item[case.name] = call(load("reference"), op, inputs, WORKERS)
    return of_item[case.name]


def variants() -> dict[str, int]:
    """How many variants of each CPU kernel this process has compiled or loaded."""
    return {
        f"{module.__name__}.{name}": len(kernel.signatures)
        for module in (importlib.import_module(m.name) for m in pkgutil.iter_modules(cpu.__path__, f"{cpu.__name__}."))
        for name, kernel in vars(module).items()
        if hasattr(kernel, "signatures")
    }


def failures(backend, op: Op, case: Case) -> list[str]:
    inputs = inputs_of(op, case)
    before = {name: value.copy() for name, value in inputs.items() if isinstance(value, np.ndarray)}
    wanted = expected(op, case, inputs)
    found = wanted if backend.NAME == "reference" else call(backend, op, inputs, WORKERS)
    texts = differences(op, found, wanted, inputs, case.slack)
    if backend.NAME == "reference" and op.definition is not None:
        op.definition(found, inputs)
    for name, value in before.items():
        if not np.array_equal(inputs[name], value, equal_nan=value.dtype.kind == "f"):
            texts.append(f"input {name} was changed")
    return texts


@pytest.mark.parametrize(("op", "dtype"), ITEMS, ids=[f"{op.method}-{dtype}" for op, dtype in ITEMS])
def test_agrees_with_the_reference(backend, op: Op, dtype: str) -> None:
    """All cases of an operation and a type, so that one that fails does not hide the others."""
    wrong: dict[str, object] = {}
    if backend.NAME == "cpu":
        backend.warm(dtype, [SUBJECTS[op.method]])
    compiled = variants()
    for case in cases_of(op)[dtype]:
        try:
            texts = failures(backend, op, case)
        except Exception as error:  # of whatever kind: the other cases are run all the same
            texts = [f"{type(error).__name__}: {error}"]
        if texts:
            wrong[case.name] = texts
    late = sorted(set(variants().items()) - set(compiled.items())) if backend.NAME == "cpu" else []
    assert not late, f"the calls in `first_calls` of backends/cpu/{SUBJECTS[op.method]}.py leave these to be compiled"
    assert not wrong, "\n".join(f"{name}: {'; '.join(map(str, texts))}" for name, texts in wrong.items())
