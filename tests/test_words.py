"""Values are named by what they are, see docs/development/conventions.md."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "stackalign"
WORDS = {"found", "given", "wanted"}
PACKAGES = sorted(path.name for path in SOURCE.iterdir() if path.is_dir() and path.name != "__pycache__")


@pytest.mark.parametrize("package", PACKAGES)
def test_no_value_is_named_by_where_it_comes_from(package: str) -> None:
    named = []
    for file in sorted((SOURCE / package).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            stored = isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
            name = node.id if stored else node.arg if isinstance(node, ast.arg) else ""
            if name in WORDS:
                named.append(f"{file.name}:{node.lineno} {name}")
    assert named == [], "name values by what they are: peaks, center, dataset"
