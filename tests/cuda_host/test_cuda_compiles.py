"""The real compiler accepts every kernel for every architecture, within the accepted registers and spills."""

import re
from importlib.resources import files
from pathlib import PurePath

import pytest

from cuda_host import nvrtc
from cuda_host._require import require
from stackalign_kernels import cuda_names, cuda_source

PACKAGE = files("stackalign_kernels")


def require_nvrtc() -> None:
    reason = nvrtc.unavailable()
    require(reason is None, reason)


def _basenames(folder: str, suffix: str) -> set[str]:
    names = {PurePath(f.name) for f in (PACKAGE / folder).iterdir()}
    return {n.stem for n in names if n.suffix == suffix and not n.stem.startswith("_")}


@pytest.mark.parametrize("architecture", nvrtc.ARCHITECTURES)
@pytest.mark.parametrize("name", cuda_names())
def test_kernels_compile_within_the_accepted_resources(name, architecture):
    require_nvrtc()
    table = nvrtc.accepted()
    usage = _recorded(name, architecture) if nvrtc.recorded(name) else dict(nvrtc.compile_kernels(name, architecture))
    assert set(usage) == {f"{e}{label}" for e in _entries(name) for label in nvrtc.labels(name)}
    complaints = []
    for entry, used in usage.items():
        limits = table.get(entry, {}).get(f"sm_{architecture}", nvrtc.DEFAULT)
        if any(u > limit for u, limit in zip(used[:3], limits[:3], strict=True)):
            complaints.append(
                f"{entry}: registers, spill stores and loads {used[:3]} exceed {limits[:3]}; see nvrtc.py"
            )
        if used.shared_bytes > 48 << 10:
            complaints.append(f"{entry}: {used.shared_bytes} bytes of static shared memory; 48 kB is the limit")
    assert not complaints, "\n".join(complaints)


def _recorded(name: str, architecture: int) -> dict[str, nvrtc.Usage]:
    every = (f"{e}{label}" for e in _entries(name) for label in nvrtc.labels(name))
    return {entry: nvrtc.accepted()[entry][f"sm_{architecture}"] for entry in every}


@pytest.mark.parametrize("name", cuda_names())
def test_the_table_says_what_the_compiler_says(name):
    require_nvrtc()
    if not nvrtc.recorded(name):
        return  # the text or the compiler is another: the test above has compiled all of it
    architecture, usage = nvrtc.sampled(name)
    assert usage == {entry: nvrtc.accepted()[entry][f"sm_{architecture}"] for entry in usage}
    assert {entry.partition("<")[0] for entry in usage} == _entries(name)


def _entries(name: str) -> set[str]:
    return set(re.findall(r'extern "C" __global__ void\s+(?:__launch_bounds__\([^)]*\)\s*)?(\w+)\(', cuda_source(name)))


def test_the_table_has_no_entry_that_is_gone():
    present = {f"{e}{label}" for n in cuda_names() for e in _entries(n) for label in nvrtc.labels(n)}
    assert set(nvrtc.accepted()) <= present
    assert {a for row in nvrtc.accepted().values() for a in row} == {f"sm_{a}" for a in nvrtc.ARCHITECTURES}


def test_element_types_belong_to_the_files_that_name_them():
    assert list(nvrtc.labels("affine_ncc")) == [""]
    assert len(nvrtc.labels("crop")) == len(nvrtc.ELEMENTS)


@pytest.mark.parametrize("name", cuda_names())
def test_flattened_text_includes_nothing(name):
    text = cuda_source(name)
    assert not re.search(r"^\s*#\s*include", text, re.MULTILINE)
    assert _entries(name), "no entry"


def test_every_kernel_has_its_twin():
    assert _basenames("cuda", ".cu") == set(cuda_names())
    assert _basenames("cuda", ".cu") == _basenames("cpu", ".py")


def test_an_error_names_its_line():
    require_nvrtc()
    with pytest.raises(RuntimeError, match=r"kernels\.cu\(2\): error"):
        nvrtc.compile_cubin('extern "C" __global__ void broken(double* x) {\n  x[0] = nonsense;\n}\n', 80)


def test_spills_and_shared_memory_are_read_from_the_log():
    require_nvrtc()
    # More live numbers than the registers that 1024 threads leave to each.
    loads = "".join(f"double a{i} = x[{i} * 64 + threadIdx.x]; " for i in range(80))
    stores = "".join(f"x[{i} * 64 + threadIdx.x] = a{i} * s[{i}] + a{79 - i}; " for i in range(80))
    kernel = f"void __launch_bounds__(1024, 1) many(double* x) {{ __shared__ double s[80]; {loads} s[threadIdx.x] = a3;"
    text = f'extern "C" __global__ {kernel} __syncthreads(); {stores} }}'
    used = nvrtc.compile_cubin(text, 80)["many"]
    assert used.registers <= 64
    assert used.spill_stores > 0
    assert used.spill_loads > 0
    assert used.shared_bytes == 640
