"""What an import brings along: modules are counted, not timed."""

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import stackalign

HEAVY = (
    "numba",
    "cupy",
    "scipy",
    "h5py",
    "zarr",
    "torch",
    "matplotlib",
    "dask",
    "astropy",
    "sunpy",
    "skimage",
    "rich",
    "typer",
)
FILES = ("h5py", "hdf5plugin", "zarr", "torch", "tifffile")


def imported_by(statement: str) -> set[str]:
    """Top-level packages that a fresh interpreter has imported after this statement."""
    code = (
        f"{statement}\nimport json, sys\nprint(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import stackalign", HEAVY),
        ("import stackalign.io", FILES),
        ("import stackalign.crop", ("numba", "torch", "matplotlib", "h5py", "zarr")),
        ("import stackalign.ops", HEAVY),
        ("import stackalign.diffraction", HEAVY),
        ("import stackalign.transforms", HEAVY),
    ],
)
def test_import_stays_light(statement: str, absent: tuple[str, ...]) -> None:
    found = imported_by(statement)
    assert "stackalign" in found
    assert not found & set(absent)


def test_the_probe_sees_what_is_imported() -> None:
    assert "h5py" in imported_by("import h5py")


def test_every_public_name_resolves() -> None:
    assert len(stackalign.__all__) == len(set(stackalign.__all__))
    for name in stackalign.__all__:
        assert getattr(stackalign, name) is not None, name
    assert set(stackalign.__all__) <= set(dir(stackalign))


def test_every_public_name_resolves_in_a_fresh_interpreter() -> None:
    found = imported_by("from stackalign import *\nassert crop_windows.__module__ == 'stackalign.ops.windows'")
    assert "torch" not in found
    assert "cupy" not in found


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        stackalign.nonsense  # noqa: B018


def test_stub_and_runtime_agree() -> None:
    """What type checkers read is what there is: every import of the stub, listed, and the same object."""
    tree = ast.parse(Path(stackalign.__file__).with_suffix(".pyi").read_text())
    source = {alias.name: node.module for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert source.pop("*") == "ops"
    (listed,) = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    assert listed == sorted(listed)
    assert ast.unparse(tree.body[-1]) == "__all__ += ops.__all__"
    assert set(listed) == set(source)
    assert set(listed) | set(stackalign.ops.__all__) == set(stackalign.__all__)
    source |= dict.fromkeys(stackalign.ops.__all__, "ops")
    for name, module in source.items():
        found = getattr(stackalign, name)
        if module is None:
            assert found.__name__ == f"stackalign.{name}"
        else:
            home = importlib.import_module(f"stackalign.{module}")
            assert found is getattr(home, name), name
            assert name in home.__all__
    assert isinstance(stackalign.__version__, str)
