"""Batched operations on stacks of images, on CPU and CUDA, and the pipelines that stand on them."""

import ast as _ast
from pathlib import Path as _Path

import lazy_loader as _lazy

__version__ = "0.1.0.dev0"


def _listed(package: str) -> list[str]:
    """Names in the ``__all__`` of a package, which is not imported for it."""
    tree = _ast.parse((_Path(__file__).parent / package / "__init__.py").read_text(encoding="utf-8"))
    (names,) = (n.value for n in tree.body if isinstance(n, _ast.Assign) and _ast.unparse(n.targets[0]) == "__all__")
    return list(_ast.literal_eval(names))


def _exports() -> tuple[set[str], dict[str, list[str]]]:
    """Subpackages, and names by their package, of the stub; ``import *`` of a package stands for what that lists."""
    subpackages: set[str] = set()
    names: dict[str, list[str]] = {}
    for node in _ast.parse(_Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8")).body:
        if isinstance(node, _ast.ImportFrom):
            some = [alias.name for alias in node.names]
            if node.module is None:
                subpackages |= set(some)
            else:
                names[node.module] = _listed(node.module) if some == ["*"] else some
    return subpackages, names


# The names and where they come from stand in __init__.pyi, once for type checkers and for the lazy loader (SPEC 1), and
# those of the array API in ops/__init__.py.
__getattr__, __dir__, __all__ = _lazy.attach(__name__, *_exports())
