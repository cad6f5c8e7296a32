"""Compile the CUDA kernels for real devices, without one, and keep their registers and spills within a table.

``PYTHONPATH=tests python -m cuda_host.nvrtc --update`` writes the table `RESOURCES` anew; read its diff before it is
committed. What a compiler makes of a text is always the same, and all types and architectures take it more than a
minute: a file whose text, options and compiler are those of the table is not compiled again, except for one type and
one architecture (`sampled`), which show that the table is true.
"""

import argparse
import functools
import hashlib
import importlib.metadata
import json
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from conformance.kept import once
from stackalign.backends.cuda._compilation import OPTIONS
from stackalign.backends.cuda._runtime import ELEMENTS
from stackalign_kernels import cuda_names, cuda_source

__all__ = [
    "ARCHITECTURES",
    "DEFAULT",
    "ELEMENTS",
    "RESOURCES",
    "Usage",
    "accepted",
    "compile_cubin",
    "compile_kernels",
    "labels",
    "recorded",
    "sampled",
    "unavailable",
]

ARCHITECTURES = (75, 80, 86, 89, 90)
RESOURCES = Path(__file__).with_name("cuda_resources.json")
USAGE = re.compile(
    r"Compiling entry function '(\w+)'.*?(\d+) bytes spill stores, (\d+) bytes spill loads"
    r".*?Used (\d+) registers([^\n]*)",
    re.DOTALL,
)
SHARED = re.compile(r"(\d+) bytes smem")


class Usage(NamedTuple):
    """What ptxas says about one entry."""

    registers: int
    spill_stores: int
    spill_loads: int
    shared_bytes: int


DEFAULT = Usage(64, 0, 0, 48 << 10)
"""Accepted of an entry without a row: four blocks of 256 threads then fit a multiprocessor."""


def unavailable() -> str | None:
    """Say why nothing can be compiled here, or return None."""
    try:
        from cuda.bindings import nvrtc

        nvrtc.nvrtcVersion()
    except ImportError:
        return "cuda-bindings is not installed"
    except RuntimeError as error:  # the library itself is looked for at the first call
        return f"NVRTC is not installed: {error}"
    return None


def compile_cubin(text: str, architecture: int, options: Sequence[str] = OPTIONS) -> dict[str, Usage]:
    """Compile to machine code and return the use of resources by entry; an error raises with the compiler's log."""
    from cuda.bindings import nvrtc

    _, program = nvrtc.nvrtcCreateProgram(text.encode(), b"kernels.cu", 0, [], [])
    try:
        every = [f"--gpu-architecture=sm_{architecture}", "--ptxas-options=-v", *options]
        (status,) = nvrtc.nvrtcCompileProgram(program, len(every), [o.encode() for o in every])
        _, size = nvrtc.nvrtcGetProgramLogSize(program)
        log = b" " * size
        nvrtc.nvrtcGetProgramLog(program, log)
    finally:
        nvrtc.nvrtcDestroyProgram(program)
    messages = log.decode().rstrip("\0 \n")
    if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise RuntimeError(f"{status.name} for sm_{architecture}\n{messages}")
    usage = {}
    for entry, stores, loads, registers, rest in USAGE.findall(messages):
        shared = SHARED.search(rest)
        usage[entry] = Usage(int(registers), int(stores), int(loads), int(shared[1]) if shared else 0)
    return usage


@functools.cache
def _compiler() -> list[str]:
    """The compiler's release, also where it does not come from a package."""
    from cuda.bindings import nvrtc

    packages = [d for d in importlib.metadata.distributions() if d.name.startswith("nvidia-cuda-nvrtc")]
    return [str(nvrtc.nvrtcVersion()), *sorted(f"{d.name} {d.version}" for d in packages)]


def _kept_or_compiled(text: str, architecture: int, options: Sequence[str]) -> dict[str, Usage]:
    """The use of resources follows from what is hashed: it is kept, since the compiler takes a minute for all files."""
    hashed = json.dumps([_compiler(), architecture, options, text])

    def make(file: Path) -> None:
        file.write_text(json.dumps(compile_cubin(text, architecture, options)))

    kept = once(f"{hashlib.sha256(hashed.encode()).hexdigest()[:32]}.json", make)
    return {entry: Usage(*row) for entry, row in json.loads(kept.read_text()).items()}


def labels(name: str) -> dict[str, tuple[str, ...]]:
    """Return what each compilation of a kernel file appends to its entries, and the options that it takes.

    One per element type, or a single one of a file that never speaks of `ELEMENT`.
    """
    if not re.search(r"\bELEMENT\b", cuda_source(name)):
        return {"": OPTIONS}
    return {f"<{element}>": (*OPTIONS, f"-DELEMENT={element}") for element in ELEMENTS.values()}


def _digest(name: str) -> str:
    """Hash of all that the use of resources of a kernel file follows from."""
    hashed = json.dumps([_compiler(), cuda_source(name), labels(name)])
    return hashlib.sha256(hashed.encode()).hexdigest()[:16]


def recorded(name: str) -> bool:
    """Tell whether the table was written for this text of a kernel file, with this compiler."""
    return bool(_table()["of"].get(name) == _digest(name))


def sampled(name: str) -> tuple[int, dict[str, Usage]]:
    """Compile one type of a kernel file for one architecture; return the latter, and the use by labelled entry.

    The architecture goes round with the file: together they are all of them.
    """
    architecture = ARCHITECTURES[cuda_names().index(name) % len(ARCHITECTURES)]
    label, options = next((k, o) for k, o in labels(name).items() if k in ("", "<f32>"))
    usage = compile_cubin(cuda_source(name), architecture, options)
    return architecture, {f"{entry}{label}": used for entry, used in usage.items()}


def compile_kernels(name: str, architecture: int) -> Iterator[tuple[str, Usage]]:
    """Compile one kernel file for all element types; yields ``entry<element>`` or ``entry``, and its use."""
    text, every = cuda_source(name), labels(name)

    def one(options: Sequence[str]) -> dict[str, Usage]:
        return _kept_or_compiled(text, architecture, options)

    # The compiler gives the interpreter's lock back, so two cores are used.
    with ThreadPoolExecutor(2) as pool:
        for label, usage in zip(every, pool.map(one, every.values()), strict=True):
            for entry, used in usage.items():
                yield f"{entry}{label}", used


@functools.cache
def _table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(RESOURCES.read_text())
    return table


def accepted() -> dict[str, dict[str, Usage]]:
    """Return the table by entry and architecture."""
    return {entry: {a: Usage(*row) for a, row in rows.items()} for entry, rows in _table()["usage"].items()}


def measure() -> dict[str, dict[str, list[int]]]:
    """Compile everything and return the table as it is now."""
    table: dict[str, dict[str, list[int]]] = {}
    for name in cuda_names():
        for architecture in ARCHITECTURES:
            for entry, used in compile_kernels(name, architecture):
                table.setdefault(entry, {})[f"sm_{architecture}"] = list(used)
    return table


def main() -> None:
    """Write the table anew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true", required=True, help="write the table anew")
    parser.parse_args()
    # One line per entry: what changed is then seen in the diff at a glance.
    parts = {"of": {name: _digest(name) for name in cuda_names()}, "usage": measure()}
    texts = []
    for part, rows in parts.items():
        lines = (f"    {json.dumps(key)}: {json.dumps(row)}" for key, row in sorted(rows.items()))
        texts.append(f'  "{part}": {{\n' + ",\n".join(lines) + "\n  }")
    RESOURCES.write_text("{\n" + ",\n".join(texts) + "\n}\n")


if __name__ == "__main__":
    main()
