"""Docstrings: examples run and show what they claim, and public functions document their parameters."""

import ast
import doctest
import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import stackalign

SOURCE = Path(__file__).parent.parent / "src"
DOCUMENTED = (
    "ops",
    "registration",
    "crop",
    "drift",
    "solar",
    "diffraction",
    "refine",
    "optimize",
    "io",
    "runs",
    "plot",
)
"""Packages whose public functions document every parameter."""

EXTRAS = {
    "stackalign.solar": "sunpy",
    "stackalign.plot": "matplotlib",
    "stackalign.torch": "torch",
    "stackalign.diffraction.baseline": "pywt",
}
"""What examples of a module need beyond the core install."""

EXTRAS_OF_PACKAGES = {"solar": "sunpy"}


class Docstring(NamedTuple):
    module: str
    name: str
    text: str
    line: int

    @property
    def id(self) -> str:
        return f"{self.module}:{self.name}" if self.name else self.module


def docstrings() -> Iterator[Docstring]:
    """All docstrings of the package, without importing it."""
    for path in sorted((SOURCE / "stackalign").rglob("*.py")):
        module = ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
        yield from _below(ast.parse(path.read_text(encoding="utf-8")), module, "")


def _below(node: ast.Module | ast.ClassDef | ast.FunctionDef, module: str, name: str) -> Iterator[Docstring]:
    text = ast.get_docstring(node)
    if text is not None:
        yield Docstring(module, name, text, node.body[0].lineno)
    if isinstance(node, ast.Module | ast.ClassDef):
        for child in node.body:
            if isinstance(child, ast.ClassDef | ast.FunctionDef):
                yield from _below(child, module, f"{name}.{child.name}".lstrip("."))


WITH_EXAMPLES = [d for d in docstrings() if ">>> " in d.text]


@pytest.mark.parametrize("docstring", WITH_EXAMPLES, ids=lambda d: d.id)
def test_examples_run_as_they_are_written(
    docstring: Docstring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each docstring by itself, in an empty namespace, as a reader would paste it."""
    for prefix, extra in EXTRAS.items():
        if docstring.module.startswith(prefix):
            pytest.importorskip(extra)
    monkeypatch.chdir(tmp_path)
    example = doctest.DocTestParser().get_doctest(docstring.text, {}, docstring.id, docstring.module, docstring.line)
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    runner.run(example, out=report.append)
    assert runner.failures == 0, "".join(report)


def test_every_function_of_the_top_level_has_an_example() -> None:
    functions = [name for name in stackalign.__all__ if inspect.isfunction(getattr(stackalign, name))]
    assert len(functions) > 20
    examples = {d.name for d in WITH_EXAMPLES if "Examples\n--------" in d.text}
    assert [name for name in functions if name not in examples] == []


@pytest.mark.parametrize("package", ["crop", "io"])
def test_every_function_of_a_package_has_an_example(package: str) -> None:
    room = importlib.import_module(f"stackalign.{package}")
    functions = [getattr(room, name) for name in room.__all__ if inspect.isfunction(getattr(room, name))]
    assert [f.__name__ for f in functions if "Examples\n--------" not in (inspect.getdoc(f) or "")] == []


def public_functions(package: str) -> Iterator[tuple[str, str, Callable[..., object]]]:
    """(exported name, qualified name, function) of the functions that a package exports, and of methods of classes."""
    room = importlib.import_module(f"stackalign.{package}")
    for name in room.__all__:
        value = getattr(room, name)
        if inspect.isfunction(value):
            yield name, name, value
        elif inspect.isclass(value) and value.__module__.startswith("stackalign"):
            for key, member in vars(value).items():
                member = member.__func__ if isinstance(member, classmethod | staticmethod) else member
                if inspect.isfunction(member) and not key.startswith("_"):
                    yield name, f"{name}.{key}", member


def complaints(name: str, function: Callable[..., object]) -> list[str]:
    """What numpydoc calls PR01, PR02 and RT01: missing and unknown parameters, and no section on what is returned."""
    signature = inspect.signature(function)
    names = [key for key in signature.parameters if key not in ("self", "cls")]
    text = inspect.getdoc(function) or ""
    if text.startswith("See `"):  # documented where the protocol or the first class has it
        return []
    sections = dict(re.findall(r"^([A-Z][\w ]+)\n-{3,}\n(.*?)(?=^[A-Z][\w ]+\n-{3,}\n|\Z)", text, re.M | re.S))
    listed = [
        key.strip("* ")
        for part in (sections.get("Parameters", ""), sections.get("Other Parameters", ""))
        for head in re.findall(r"^(\S[^:\n]*?)(?: :.*)?$", part, re.M)
        for key in head.split(",")
    ]
    found = []
    if missing := [key for key in names if key not in listed]:
        found.append(f"{name} does not document {', '.join(missing)}")
    if unknown := [key for key in listed if key not in names]:
        found.append(f"{name} documents {', '.join(unknown)}, which it does not take")
    empty = signature.return_annotation in (None, "None", inspect.Signature.empty)
    if names and not empty and not {"Returns", "Yields"} & set(sections):
        found.append(f"{name} has no section on what it returns")
    return found


@pytest.mark.parametrize("package", DOCUMENTED)
def test_public_functions_document_their_parameters(package: str) -> None:
    if package in EXTRAS_OF_PACKAGES:
        pytest.importorskip(EXTRAS_OF_PACKAGES[package])
    found: dict[str, list[str]] = {}
    for exported, name, function in public_functions(package):
        found.setdefault(exported, []).extend(complaints(name, function))
    assert {name: lines for name, lines in found.items() if lines} == {}
