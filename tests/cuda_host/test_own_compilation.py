"""What a GPU runs is compiled with the options that the checks use, kept, and free of flushed subnormal numbers."""

import dataclasses
import types

import numpy as np
import pytest

from cuda_host import nvrtc as gate
from cuda_host._require import require
from cuda_host.backend import host_runtime
from stackalign.backends._protocol import Lags
from stackalign.backends.cuda import _compilation, masked_ncc
from stackalign.errors import BackendUnavailableError
from stackalign_kernels import cuda_source

SMALL = 'extern "C" __global__ void half(float* x) { x[threadIdx.x] = x[threadIdx.x] * 0.5f; }'


@pytest.fixture
def nvrtc():
    """NVRTC with the names of CuPy's binding."""
    reason = gate.unavailable()
    require(reason is None, reason)
    from cuda.bindings import nvrtc as binding

    class NVRTCError(RuntimeError):
        pass

    made = []

    def compile_program(program, options):
        made.append(options)
        (status,) = binding.nvrtcCompileProgram(program, len(options), [o.encode() for o in options])
        if status != binding.nvrtcResult.NVRTC_SUCCESS:
            raise NVRTCError(status.name)

    def text(size, read):
        def get(program):
            buffer = b" " * size(program)[1]
            read(program, buffer)
            return buffer

        return get

    log = text(binding.nvrtcGetProgramLogSize, binding.nvrtcGetProgramLog)
    return types.SimpleNamespace(
        NVRTCError=NVRTCError,
        made=made,
        getVersion=lambda: (13, 0),
        getSupportedArchs=lambda: (75, 80, 90, 120),
        createProgram=lambda source, name, *_: binding.nvrtcCreateProgram(source.encode(), name.encode(), 0, [], [])[1],
        compileProgram=compile_program,
        getCUBIN=text(binding.nvrtcGetCUBINSize, binding.nvrtcGetCUBIN),
        getPTX=text(binding.nvrtcGetPTXSize, binding.nvrtcGetPTX),
        getProgramLog=lambda program: log(program).decode().rstrip("\0"),
        destroyProgram=binding.nvrtcDestroyProgram,
    )


@pytest.mark.parametrize(
    ("capability", "option"), [("90", "sm_90"), ("75", "sm_75"), ("86", "compute_80"), ("130", "compute_120")]
)
def test_a_gpu_that_nvrtc_does_not_know_gets_what_its_driver_translates(nvrtc, capability, option) -> None:
    assert _compilation.architecture_option(nvrtc, capability) == f"--gpu-architecture={option}"


def test_machine_code_is_compiled_once_and_kept(nvrtc, tmp_path) -> None:
    options = ("--gpu-architecture=sm_80", *_compilation.OPTIONS)
    code = _compilation.kept_or_compiled(nvrtc, SMALL, options, tmp_path)
    assert code[:4] == b"\x7fELF"
    assert _compilation.kept_or_compiled(nvrtc, SMALL, options, tmp_path) == code
    assert nvrtc.made == [list(options)]
    assert len(list(tmp_path.iterdir())) == 1
    _compilation.kept_or_compiled(nvrtc, SMALL + "\n", options, tmp_path)
    _compilation.kept_or_compiled(nvrtc, SMALL, (*options, "-DX=1"), tmp_path)
    _compilation.kept_or_compiled(nvrtc, SMALL, options, None)
    assert len(nvrtc.made) == 4


def test_what_cannot_be_kept_is_used_all_the_same(nvrtc, tmp_path, caplog) -> None:
    options = ("--gpu-architecture=compute_80", *_compilation.OPTIONS)
    code = _compilation.kept_or_compiled(nvrtc, SMALL, options, tmp_path / "absent")
    assert b".target sm_80" in code
    assert "cannot be kept" in caplog.text


def test_a_refusal_is_a_sentence(nvrtc) -> None:
    with pytest.raises(BackendUnavailableError, match=r"for this GPU with NVRTC \(13, 0\): kernels.cu"):
        _compilation.compile_kernels(nvrtc, "junk", ("--gpu-architecture=sm_80",))
    with pytest.raises(BackendUnavailableError, match="gpu-architecture"):
        _compilation.compile_kernels(nvrtc, SMALL, ("--gpu-architecture=sm_999",))


@pytest.mark.parametrize("name", ["binning", "bins", "crop", "radial", "statistics"])
def test_subnormal_pixels_are_read_whatever_the_options(nvrtc, name) -> None:
    options = ("--gpu-architecture=compute_90", *_compilation.OPTIONS, "-DELEMENT=f32")
    text = _compilation.compile_kernels(nvrtc, cuda_source(name), options)
    assert b".ftz" not in text
    flushed = _compilation.compile_kernels(nvrtc, cuda_source(name), (*options, "-ftz=true"))
    assert b"cvt.ftz.f64.f32" not in flushed


@pytest.mark.parametrize("find", [masked_ncc.masked_ncc, masked_ncc.masked_peaks])
def test_many_small_images_fit_the_grids(monkeypatch, find) -> None:
    monkeypatch.setattr(masked_ncc, "MAX_GRID_Y", 7)
    tallest = []
    runtime = host_runtime()

    def watched(file, entry, dtype):
        kernel = runtime.get_function(file, entry, dtype)

        def launch(grid, block, args, **more):
            tallest.append(max(grid[1:], default=1))
            kernel(grid, block, args, **more)

        return launch

    images = np.random.default_rng(0).normal(size=(16, 1, 5, 6)).astype(np.float32)
    arguments = (images[:1], None, images, None, Lags(-3, -3, 3, 3), 0.3, 1)
    cut = find(dataclasses.replace(runtime, get_function=watched), *arguments)
    assert max(tallest) == 7
    monkeypatch.undo()
    whole = find(runtime, *arguments)
    for a, b in zip(cut, whole, strict=True):
        np.testing.assert_array_equal(a, b)
