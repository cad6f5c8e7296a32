"""Write the names that CuPy has, and what its functions take, for the stand-in of `standin`.

``python tests/cuda_host/cupy_names.py`` where CuPy is installed, with or without a device, writes ``cupy_names.json``.
"""

import importlib
import inspect
import json
from pathlib import Path
from typing import Any

__all__ = ["FILE", "MODULES", "collect"]

FILE = Path(__file__).with_suffix(".json")
MODULES = (
    "cupy",
    "cupy.cuda",
    "cupy.cuda.runtime",
    "cupy.fft",
    "cupy.linalg",
    "cupyx",
    "cupyx.scipy",
    "cupyx.scipy.fft",
    "cupyx.scipy.ndimage",
)
MARKS = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}


def _parameters(member: Any, ufunc: type) -> str:
    """Parameters of a function in one line, "ufunc" for one of these, and nothing for what says none."""
    if isinstance(member, ufunc):
        return "ufunc"
    if inspect.isclass(member) or not callable(member):
        return ""
    try:
        return " ".join(MARKS.get(p.kind, "") + p.name for p in inspect.signature(member).parameters.values())
    except (TypeError, ValueError):  # compiled functions
        return ""


def collect() -> dict[str, Any]:
    """Names of the modules with their parameters, and names of the methods of an array."""
    cupy = importlib.import_module("cupy")
    table: dict[str, Any] = {"version": cupy.__version__, "ndarray": sorted(dir(cupy.ndarray)), "modules": {}}
    for name in MODULES:
        module = importlib.import_module(name)
        members = {n: getattr(module, n, None) for n in dir(module) if not n.startswith("_")}
        table["modules"][name] = {n: _parameters(member, cupy.ufunc) for n, member in sorted(members.items())}
    return table


if __name__ == "__main__":
    FILE.write_text(json.dumps(collect(), indent=0) + "\n", encoding="utf-8")
