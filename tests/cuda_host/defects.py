"""Small kernels with one planted defect each, and one without: what the shim and the sanitizers must see.

``python -m cuda_host.defects SANITIZER OPTIMIZE`` runs each of them in a process of its own, in the environment of
`sanitizer_environment`, and prints one line of JSON for each: its name, its exit status, and what it said.
"""

import json
import os
import sys
import tempfile
from collections.abc import Iterator

import numpy as np

from cuda_host.host import HostModule

__all__ = ["DEFECTS", "THREADS", "run"]

THREADS = 64
SIGNATURE = 'extern "C" __global__ void kernel_{}(const double* x, double* out, int n)'
DEFECTS = {
    "none": """
        __shared__ double s[64];
        DYN_SHARED(double, d);
        const int t = threadIdx.x;
        for (int round = 0; round < 3; ++round) {
          s[t] = x[t];
          d[t] = x[63 - t];
          __syncthreads();
          double v = s[63 - t] + d[t] + s[0];
          for (int k = 16; k > 0; k /= 2) v += __shfl_down_sync(0xffffffffu, v, k);
          __syncthreads();
          s[t] = v;
          __syncwarp();
          out[t] = s[t ^ 1] + __popc(__ballot_sync(0xffffffffu, v > 0.5));
          __syncthreads();
        }""",
    "barrier missing before a read": """
        __shared__ double s[64];
        s[threadIdx.x] = x[threadIdx.x];
        out[threadIdx.x] = s[63 - threadIdx.x];""",
    # In this order of threads the result is right: only the thread sanitizer knows better.
    "barrier missing before a write": """
        __shared__ double s[64];
        const int t = threadIdx.x;
        s[t] = x[t];
        __syncthreads();
        const double v = t < 63 ? s[t + 1] : 0.0;
        s[t] = 2.0 * x[t];
        __syncthreads();
        out[t] = v + s[t];""",
    "warp taken for synchronous": """
        __shared__ double s[64];
        const int t = threadIdx.x;
        s[t] = x[t];
        const double v = __shfl_xor_sync(0xffffffffu, x[t], 1);
        out[t] = v + s[t ^ 1];""",
    "plain sum by several threads": "out[0] += x[threadIdx.x];",
    "global read past the end": "out[threadIdx.x] = x[threadIdx.x + 1];",
    "static shared memory overrun": """
        __shared__ double s[64];
        s[threadIdx.x + n] = x[threadIdx.x];
        __syncthreads();
        out[threadIdx.x] = s[threadIdx.x];""",
    "static shared memory overrun through a pointer": """
        __shared__ double s[64];
        double* p = s + (threadIdx.x + n);
        *p = x[threadIdx.x];
        __syncthreads();
        out[threadIdx.x] = s[threadIdx.x];""",
    "dynamic shared memory overrun": """
        DYN_SHARED(double, d);
        d[threadIdx.x + 1] = x[threadIdx.x];
        __syncthreads();
        out[threadIdx.x] = d[threadIdx.x];""",
    "signed overflow": "out[threadIdx.x] = (int(threadIdx.x) + 65535 + n) * (32768 * n);",
    "signed overflow of a number that is not used": """
        const int i = (n + 46340) * 46341;
        out[threadIdx.x] = n > 1 ? x[i % 64] : 0.0;""",
    "shift too far": "out[threadIdx.x] = n << (threadIdx.x + 1);",
    "conversion out of range": "out[threadIdx.x] = int(x[threadIdx.x] * 1e18);",
}


def module(sanitizer: str | None = None, optimize: str = "-O1") -> HostModule:
    """All of them in one file, which is compiled once."""
    kernels = (f"{SIGNATURE.format(i)} {{\n{body}\n}}\n" for i, body in enumerate(DEFECTS.values()))
    return HostModule("\n".join(kernels), sanitizer=sanitizer, optimize=optimize)


def run(built: HostModule, name: str) -> np.ndarray:
    """Run a kernel with one block of `THREADS` threads and return its output."""
    x, out = np.linspace(1.0, 2.0, THREADS), np.zeros(THREADS)
    kernel = built.get_function(f"kernel_{list(DEFECTS).index(name)}")
    kernel((1,), (THREADS,), (x, out, np.int32(1)), shared_mem=THREADS * 8)
    return out


def reports(sanitizer: str, optimize: str) -> Iterator[tuple[str, int, str]]:
    """Run each in a fork; no launch before, because the thread sanitizer cannot fork fibres."""
    built = module(sanitizer, optimize)
    for name in DEFECTS:
        with tempfile.TemporaryFile("w+") as said:
            child = os.fork()
            if child == 0:
                os.dup2(said.fileno(), 2)
                run(built, name)
                os._exit(0)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            said.seek(0)
            yield name, status, said.read()


if __name__ == "__main__":
    for report in reports(*sys.argv[1:]):
        sys.stdout.write(json.dumps(report) + "\n")
