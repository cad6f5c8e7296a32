"""The one table of operations: contract, conformance, host shim, sanitizers and mutants read it.

A row is an `Op` in the file of its subject in `subjects`; whatever is there is in the table.
"""

import importlib
import inspect
import pkgutil
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from conformance import subjects
from conformance._op import Branch, Case, Inputs, Op, Sample
from conformance.kept import answers
from stackalign.backends import load
from stackalign.backends._protocol import KERNEL_DTYPES, Backend

__all__ = ["OPERATIONS", "Question", "call", "cases_of", "differences", "inputs_of", "kernel_differences", "questions"]


def _collected() -> dict[str, Op]:
    names = sorted(m.name for m in pkgutil.iter_modules(subjects.__path__))
    modules = [importlib.import_module(f"conformance.subjects.{name}") for name in names]
    return {op.method: op for module in modules for op in module.OPERATIONS}


OPERATIONS = _collected()


def cases_of(op: Op) -> dict[str, list[Case]]:
    """Cases of an operation by type of pixels."""
    found: dict[str, list[Case]] = {}
    for case in op.cases():
        found.setdefault(case.dtype, []).append(case)
    return {dtype: found[dtype] for dtype in KERNEL_DTYPES if dtype in found}


def inputs_of(op: Op, case: Case) -> Inputs:
    """The same inputs in every run; arrays of every other case are read-only."""
    seed = zlib.crc32(f"{op.method}-{case.name}-{case.dtype}".encode())
    inputs = case.make(np.random.default_rng(seed))
    for value in inputs.values():
        if isinstance(value, np.ndarray):
            value.flags.writeable = bool(seed % 2)
    return inputs


def call(backend: Any, op: Op, inputs: Inputs, workers: int) -> dict[str, np.ndarray]:
    """Run an operation with inputs at the backend's home, and bring the results to the host."""
    arguments = []
    for name, parameter in inspect.signature(getattr(Backend, op.method)).parameters.items():
        if name in inputs:
            value = inputs[name]
            # Images and masks are annotated as arrays of the home; everything else stays on the host.
            at_home = parameter.annotation in (Any, Any | None) and isinstance(value, np.ndarray)
            arguments.append(backend.asarray(value, None, 0) if at_home else value)
    result = getattr(backend, op.method)(*arguments, workers)
    arrays = result._asdict() if hasattr(result, "_asdict") else dict.fromkeys(op.results, result)
    return {name: backend.to_numpy(array) for name, array in arrays.items()}


def differences(
    op: Op,
    found: dict[str, np.ndarray],
    wanted: dict[str, np.ndarray],
    inputs: Inputs,
    slack: float = 1.0,
    on_host: bool = False,
) -> list[str]:
    """Name what of a result is not as it should be."""
    if set(found) != set(op.results):
        return [f"results are {sorted(found)}, not {sorted(op.results)}"]
    texts = []
    for name, field in op.results.items():
        a, b = found[name], wanted[name]
        if a.dtype != b.dtype or a.shape != b.shape:
            texts.append(f"{name} is {a.dtype}{a.shape}, not {b.dtype}{b.shape}")
            continue
        limit = field.limit_of(a.dtype, on_host) * slack if a.dtype.kind == "f" else 0.0
        with np.errstate(invalid="ignore"):  # of infinite numbers
            close = np.abs(a - b) <= limit * field.scale(wanted, inputs) if limit else a == b
        wrong = ~(close | (a == b) | ((a != a) & (b != b)))
        if wrong.any():
            at = tuple(np.argwhere(wrong)[0].tolist())
            one, other = a[at].item(), b[at].item()
            texts.append(f"{name}{list(at)} is {one!r}, not {other!r}; {wrong.sum()} of {wrong.size} differ")
    return texts


class Question(NamedTuple):
    """A call that reaches some branches of a kernel, and the reference's answer to it."""

    op: Op
    branch: str
    inputs: Inputs
    slack: float
    answer: dict[str, np.ndarray]


def questions(sample: Sample, kernels: Iterable[str]) -> list[Question]:
    """Calls that reach every branch of some kernel files.

    The answers take the reference longer than the kernels, and many runs have the same sample: they are kept.
    """
    names, asked = tuple(kernels), []
    for op in OPERATIONS.values():
        if op.kernel in names and (not op.of_planes or sample.patterns.dtype == np.float32):
            branches = list(op.branches(sample))
            pairs = zip(branches, _answers(op, branches), strict=True)
            asked += [Question(op, *branch, known) for branch, known in pairs]
    return asked


def _answers(op: Op, branches: list[Branch]) -> list[dict[str, np.ndarray]]:
    inputs = [branch.inputs for branch in branches]
    return answers(op.method, inputs, lambda: [call(load("reference"), op, each, 1) for each in inputs])


def kernel_differences(backend: Any, asked: Iterable[Question], on_host: bool = True) -> Iterator[str]:
    """Name what differs from the reference, as it appears: who only asks whether anything does stops at the first."""
    for op, branch, inputs, slack, answer in asked:
        result = call(backend, op, inputs, 1)
        label = f"{op.method}, {branch}" if branch else op.method
        yield from (f"{label}: {text}" for text in differences(op, result, answer, inputs, slack, on_host))
