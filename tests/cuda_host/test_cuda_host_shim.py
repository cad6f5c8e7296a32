"""The shim itself: right results for right kernels, and a report for every kind of mistake that it claims to see."""

import json

import numpy as np
import pytest

from cuda_host import sanitized
from cuda_host._require import require_gpp
from cuda_host.defects import DEFECTS, THREADS
from cuda_host.defects import module as defects_module
from cuda_host.defects import run as run_defect
from cuda_host.host import HostModule, kernel_names

ORDERS = ("fwd", "rev", "7")
SOURCE = """
template <class T>
__device__ inline T block_sum(T v) {
  __shared__ T part[32];  // one per type: shared memory inside a template
  for (int d = 16; d > 0; d /= 2) v += __shfl_down_sync(0xffffffffu, v, d);
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = v;
  __syncthreads();
  v = threadIdx.x < blockDim.x / 32 ? part[threadIdx.x] : T(0);
  if (threadIdx.x < 32)
    for (int d = 16; d > 0; d /= 2) v += __shfl_down_sync(0xffffffffu, v, d);
  __syncthreads();
  return v;
}

#define SUM(T)                                                                                              \\
  extern "C" __global__ void __launch_bounds__(256, 2)                                                      \\
      sum_##T(const T* __restrict__ x, const unsigned char* mask, T* out, long long n) {                    \\
    T s = 0;                                                                                                \\
    for (long long i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (long long)blockDim.x * gridDim.x) \\
      if (mask == nullptr || mask[i]) s += __ldg(x + i);                                                    \\
    s = block_sum(s);                                                                                       \\
    if (threadIdx.x == 0) out[blockIdx.x] = s;                                                              \\
  }
SUM(float)
SUM(double)
SUM(int)

extern "C" __global__ void places(int* out) {
  const int block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const int thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  out[block * blockDim.x * blockDim.y * blockDim.z + thread] = 1000 * block + thread;
}

extern "C" __global__ void reverse(const double* x, double* out) {
  DYN_SHARED(double, s);
  s[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  out[threadIdx.x] = s[blockDim.x - 1 - threadIdx.x];
}

extern "C" __global__ void unwritten(double* out) {
  __shared__ double s[8];
  DYN_SHARED(double, d);
  out[2 * blockIdx.x] = s[3];
  out[2 * blockIdx.x + 1] = d[1];
  s[3] = d[1] = 5.0;
}

extern "C" __global__ void last_writer(int* out) { out[0] = 100 * blockIdx.x + threadIdx.x; }

extern "C" __global__ void votes(const int* x, int* out) {
  const int t = threadIdx.x, v = x[t];
  int* o = out + 8 * t;
  o[0] = __syncthreads_count(v);
  o[1] = __syncthreads_or(v);
  o[2] = __syncthreads_and(v);
  o[3] = __syncthreads_count(v == 0);
  o[4] = (int)__ballot_sync(0xffffffffu, v);
  o[5] = __any_sync(0xffffffffu, v);
  o[6] = __all_sync(0xffffffffu, v);
  o[7] = t < 8 ? (int)__ballot_sync(0xffu, v == 0) : -1;
}

extern "C" __global__ void shuffles(const double* x, double* out) {
  const int t = threadIdx.x;
  const unsigned all = 0xffffffffu;
  out[t] = __shfl_sync(all, x[t], 5);
  out[t + 32] = __shfl_up_sync(all, x[t], 3u);
  out[t + 64] = __shfl_down_sync(all, x[t], 3u);
  out[t + 96] = __shfl_xor_sync(all, x[t], 9);
  out[t + 128] = __shfl_sync(all, x[t], 2, 8);
  out[t + 160] = __shfl_up_sync(all, x[t], 2u, 8);
  out[t + 192] = __shfl_down_sync(all, x[t], 2u, 8);
  out[t + 224] = __shfl_xor_sync(all, (float)x[t], 16);
}

extern "C" __global__ void partial_warp(const double* x, double* out) {
  out[threadIdx.x] = __shfl_down_sync(0xffffffffu, x[threadIdx.x], 8u);
}

extern "C" __global__ void atomics(int* i, unsigned* u, unsigned long long* l) {
  const int t = threadIdx.x;
  atomicAdd(i, t);
  atomicMax(i + 1, (t * 37) % 64);
  atomicMin(i + 2, -t);
  atomicOr(u, 1u << (t % 32));
  atomicAdd(l, 1);
  atomicCAS(u + 1, 0u, (unsigned)t + 7);
}

extern "C" __global__ void arithmetic(const double* x, double* out, long long* whole, int n) {
  for (int i = threadIdx.x; i < n; i += blockDim.x) {
    out[2 * i] = min(x[i], 1.5);
    out[2 * i + 1] = __dadd_rn(__dmul_rn(x[i], x[i]), -fma(x[i], x[i], 0.0));
    whole[5 * i] = __double2int_rd(x[i]);
    whole[5 * i + 1] = __double2ll_ru(x[i]);
    whole[5 * i + 2] = __double2ll_rn(x[i]);
    whole[5 * i + 3] = __double2int_rz(x[i]);
    whole[5 * i + 4] = max(__popc(i), __clz(i)) + __ffs(i);
  }
}

extern "C" __global__ void returns_early(double* out, int n) {
  if (threadIdx.x >= n) return;
  __syncthreads();
  out[threadIdx.x] = 1.0;
}

extern "C" __global__ void returns_early_from_warp(double* out) {
  if (threadIdx.x == 9) return;
  out[threadIdx.x] = __shfl_sync(0xffffffffu, 2.0, 0);
}

extern "C" __global__ void deadlock() {
  if (threadIdx.x < 16) __syncthreads();
  else __syncwarp();
}

extern "C" __global__ void two_barriers() {
  if (threadIdx.x < 16) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}

extern "C" __global__ void foreign_mask(double* out) { out[threadIdx.x] = __shfl_sync(0xffffu, 1.0, 0); }
"""


@pytest.fixture(scope="module")
def module():
    require_gpp()
    return HostModule(SOURCE)


@pytest.fixture(params=ORDERS)
def order(request, monkeypatch):
    monkeypatch.setenv("CUDA_HOST_ORDER", request.param)
    return request.param


def test_entries_are_found_behind_macros_and_attributes():
    require_gpp()
    names = kernel_names(SOURCE)
    assert {"sum_float", "sum_double", "sum_int", "places", "deadlock"} <= set(names)
    assert names["sum_double"] == "256"
    assert len(names) == SOURCE.count('extern "C"') + 2  # one of them is in the macro for three types


@pytest.mark.parametrize("kind", ["float", "double", "int"])
@pytest.mark.parametrize("threads", [32, 64, 256])
def test_block_sum(module, order, kind, threads):
    x = np.random.default_rng(1).integers(-9, 9, 1234).astype({"float": "f4", "double": "f8", "int": "i4"}[kind])
    mask = np.random.default_rng(2).random(x.size) < 0.7
    out = np.zeros(3, x.dtype)
    kernel = module.get_function(f"sum_{kind}")
    kernel((3,), (threads,), (x, mask, out, np.int64(x.size)))
    assert out.sum() == x[mask].sum()
    kernel((3,), (threads,), (x, None, out, np.int64(x.size)))
    assert out.sum() == x.sum()


def test_three_dimensions(module, order):
    out = np.full(2 * 3 * 4 * 5 * 2 * 3, -1, np.int32).reshape(24, 30)
    module.get_function("places")((2, 3, 4), (5, 2, 3), (out,))
    np.testing.assert_array_equal(out, 1000 * np.arange(24)[:, None] + np.arange(30))


def test_dynamic_shared_memory(module, order):
    x, out = np.random.default_rng(3).random(100), np.zeros(100)
    module.get_function("reverse")((1,), (100,), (x, out), shared_mem=800)
    np.testing.assert_array_equal(out, x[::-1])


def test_shared_memory_is_nan_at_the_start_of_every_block(module):
    out = np.zeros(6)
    module.get_function("unwritten")((3,), (1,), (out,), shared_mem=16)
    assert np.isnan(out).all()


def test_order_of_blocks_and_threads_is_chosen(module, monkeypatch):
    last = {}
    for order in ("fwd", "rev", "1", "2"):
        monkeypatch.setenv("CUDA_HOST_ORDER", order)
        out = np.zeros(1, np.int32)
        module.get_function("last_writer")((5,), (50,), (out,))
        last[order] = int(out[0])
    assert (last["fwd"], last["rev"]) == (449, 0)
    assert len(set(last.values())) == 4


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_votes(module, order, share):
    x = (np.random.default_rng(4).random(96) < share).astype(np.int32)
    out = np.zeros((96, 8), np.int32)
    module.get_function("votes")((1,), (96,), (x, out))
    bits = (x.reshape(3, 32).astype(np.uint64) << np.arange(32, dtype=np.uint64)).sum(axis=1).astype(np.uint32)
    lanes = x.reshape(3, 32)
    np.testing.assert_array_equal(out[:, :4], np.tile([x.sum(), x.any(), x.all(), 96 - x.sum()], (96, 1)))
    np.testing.assert_array_equal(out[:, 4].view(np.uint32), np.repeat(bits, 32))
    np.testing.assert_array_equal(out[:, 5], np.repeat(lanes.any(axis=1), 32))
    np.testing.assert_array_equal(out[:, 6], np.repeat(lanes.all(axis=1), 32))
    np.testing.assert_array_equal(out[:, 7], np.where(np.arange(96) < 8, ~int(bits[0]) & 0xFF, -1))


def test_shuffles(module, order):
    x, out, t = np.random.default_rng(5).random(32), np.zeros((8, 32)), np.arange(32)
    module.get_function("shuffles")((1,), (32,), (x, out))
    sources = [
        np.full(32, 5),
        np.where(t >= 3, t - 3, t),
        np.where(t + 3 < 32, t + 3, t),
        t ^ 9,
        t // 8 * 8 + 2,
        np.where(t % 8 >= 2, t - 2, t),
        np.where(t % 8 + 2 < 8, t + 2, t),
    ]
    np.testing.assert_array_equal(out[:7], x[np.array(sources)])
    np.testing.assert_array_equal(out[7], x[t ^ 16].astype(np.float32))


def test_lanes_that_do_not_exist_give_nan(module):
    x, out = np.ones(48), np.zeros(48)
    module.get_function("partial_warp")((1,), (48,), (x, out))
    assert np.isnan(out[40:]).all()
    assert (out[:40] == 1).all()


def test_atomics(module, order):
    i, u, long = np.zeros(3, np.int32), np.zeros(2, np.uint32), np.zeros(1, np.uint64)
    module.get_function("atomics")((2,), (64,), (i, u, long))
    assert i.tolist() == [2 * 63 * 32, 63, -63]
    assert u[0] == 0xFFFFFFFF
    assert 7 <= u[1] < 71
    assert long[0] == 128


def test_arithmetic_and_conversions(module):
    x = np.array([0.5, 1.5, -0.5, 2.5, -3.7, 1.1, 1e10, -1e30, np.nan, 0.1])
    out, whole = np.zeros((x.size, 2)), np.zeros((x.size, 5), np.int64)
    module.get_function("arithmetic")((1,), (4,), (x, out, whole, np.int32(x.size)))
    np.testing.assert_array_equal(out[:, 0], np.fmin(x, 1.5))
    assert np.nanmax(np.abs(out[:, 1])) == 0, "a product was not rounded before the addition"
    small, limits = np.abs(x) < 1e9, np.iinfo(np.int32)
    for column, rounding in enumerate((np.floor, np.ceil, np.rint, np.trunc)):
        np.testing.assert_array_equal(whole[small, column], rounding(x[small]))
    assert whole[6:9, 0].tolist() == [limits.max, limits.min, 0]
    assert whole[6:9, 1].tolist() == [10**10, np.iinfo(np.int64).min, np.iinfo(np.int64).min]
    bits = [max(i.bit_count(), 32 - i.bit_length()) + (i & -i).bit_length() for i in range(x.size)]
    assert whole[:, 4].tolist() == bits


@pytest.mark.parametrize(
    ("name", "threads", "arguments", "message"),
    [
        ("returns_early", 64, (np.zeros(64), np.int32(40)), r"barrier in line \d+.*code 2"),
        ("returns_early_from_warp", 32, (np.zeros(32),), "code 3"),
        ("foreign_mask", 32, (np.zeros(32),), "not in its own mask.*code 3"),
        ("deadlock", 32, (), "deadlock in block.*code 1"),
        ("two_barriers", 32, (), "while others wait at the one in line.*code 5"),
    ],
)
def test_broken_synchronisation_is_reported(module, order, name, threads, arguments, message):
    with pytest.raises(RuntimeError, match=message):
        module.get_function(name)((1,), (threads,), arguments)
    test_dynamic_shared_memory(module, order)  # and the next launch starts afresh


def test_launches_that_a_device_refuses(module):
    kernel = module.get_function("sum_int")
    x, out = np.zeros(4, np.int32), np.zeros(9, np.int32)
    arguments = (x, None, out, np.int64(4))
    with pytest.raises(RuntimeError, match="up to 256"):
        kernel((1,), (512,), arguments)
    with pytest.raises(RuntimeError, match="grid of 0"):
        kernel((0,), (32,), arguments)
    with pytest.raises(RuntimeError, match="48 kB"):
        kernel((1,), (32,), arguments, shared_mem=49153)


@pytest.mark.parametrize(
    ("position", "value", "message"),
    [
        (slice(0, 1), [], "3 arguments were given for 4"),
        (0, np.zeros(4, np.float32), "<f4 for a parameter of type f8"),
        (0, np.zeros(8)[::2], "not C-contiguous"),
        (0, np.zeros(4, ">f8"), ">f8 for a parameter"),
        (0, np.float64(1), "a number for a parameter that is a pointer"),
        (1, np.zeros(4, np.int16), "<i2 for a parameter of type u1"),
        (2, np.broadcast_to(np.zeros(1), (1,)), "read-only array"),
        (3, 4, "int; pass numbers with a width"),
        (3, 4.0, "float; pass numbers with a width"),
        (3, np.int32(4), "<i4 for a parameter of type i8"),
        (3, None, "an array .or None. for a parameter that is a number"),
    ],
)
def test_arguments_are_checked(module, position, value, message):
    arguments = [np.ones(4), np.ones(4, bool), np.zeros(1), np.int64(4)]
    arguments[position] = value
    with pytest.raises(TypeError, match=message):
        module.get_function("sum_double")((1,), (32,), arguments)


def test_read_only_input_is_accepted(module):
    x, out = np.ones(4), np.zeros(1)
    x.flags.writeable = False
    module.get_function("sum_double")((1,), (32,), (x, None, out, np.int64(4)))
    assert out[0] == 4


def test_what_cannot_be_built_or_found(module):
    with pytest.raises(RuntimeError, match=r"kernels\.cu:2:.*error"):
        HostModule('extern "C" __global__ void broken(double* x) {\n  x[0] = nonsense;\n}')
    with pytest.raises(RuntimeError, match="no entry"):
        HostModule("__global__ void mangled() {}")
    with pytest.raises(KeyError, match="no kernel 'other'"):
        module.get_function("other")
    with pytest.raises(RuntimeError, match="preloaded"):
        HostModule(SOURCE, sanitizer="thread")


def test_the_plain_run_shows_what_the_poison_and_the_order_can_show(monkeypatch):
    require_gpp()
    built = defects_module()
    good = run_defect(built, "none")
    assert np.isfinite(good).all()
    assert np.isnan(run_defect(built, "barrier missing before a read")).any()
    monkeypatch.setenv("CUDA_HOST_ORDER", "rev")
    np.testing.assert_array_equal(run_defect(built, "none"), good)
    late = run_defect(built, "barrier missing before a write")
    monkeypatch.setenv("CUDA_HOST_ORDER", "fwd")
    assert (late != run_defect(built, "barrier missing before a write")).any()


SEEN_BY = {
    "address": [n for n in DEFECTS if any(w in n for w in ("past", "overrun", "overflow", "too far", "out of range"))],
    "thread": [n for n in DEFECTS if any(w in n for w in ("barrier", "warp", "plain sum"))],
}


def reports(sanitizer: str, optimize: str) -> dict[str, tuple[int, str]]:
    """Exit status of each defect under a sanitizer, and what it said."""
    outcome = sanitized.run(sanitizer, "cuda_host.defects", optimize)
    lines = [json.loads(line) for line in outcome.text.splitlines() if line.startswith("[")]
    assert [name for name, _, _ in lines] == list(DEFECTS), outcome.text
    return {name: (status, text) for name, status, text in lines}


@pytest.mark.slow
@pytest.mark.parametrize("optimize", ["-O0", "-O1"])
@pytest.mark.parametrize("sanitizer", SEEN_BY)
def test_sanitizers_see_the_planted_defects_and_nothing_else(sanitizer, optimize):
    """With the optimisations that kernels are built with under a sanitizer."""
    require_gpp(sanitizer)
    status_of_report = {"address": 65, "thread": 66}[sanitizer]
    ended = reports(sanitizer, optimize)
    for name in SEEN_BY[sanitizer]:
        status, text = ended[name]
        assert status == status_of_report, f"{name}: {text}"
        assert any(words in text for words in sanitized.REPORTS), f"{name}: {text}"
    status, text = ended["none"]
    assert status == 0, text
    assert not any(words in text for words in sanitized.REPORTS), text


def test_every_defect_is_expected_of_a_sanitizer():
    assert set(DEFECTS) == {"none", *SEEN_BY["address"], *SEEN_BY["thread"]}
    assert THREADS == 64
