"""Run one small case of each kernel on a backend and compare it with the reference, for compute-sanitizer.

``python benchmarks/check_kernels.py [--backend cuda] DTYPE...``; tests/ must be on the path. Exits with 1 if anything
differs.
"""

import argparse
import sys

import numpy as np

from cuda_host.cases import SHAPES, cases, differences
from stackalign.backends import load


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="cuda")
    parser.add_argument("dtypes", nargs="+")
    options = parser.parse_args()
    backend = load(options.backend)
    wrong = 0
    for dtype in options.dtypes:
        for case in cases(dtype, SHAPES[:1], ("shared",)):
            found = differences(_OnDevice(backend), case)
            print(f"case {case.name}: {'; '.join(found) or 'equal'}", flush=True)
            wrong += len(found)
    return 1 if wrong else 0


class _OnDevice:
    """A backend that takes host arrays, as the comparison gives them, and gives host arrays back."""

    def __init__(self, backend) -> None:
        self._backend = backend

    def __getattr__(self, name):
        function = getattr(self._backend, name)
        return lambda *arguments: self._host(function(*(self._device(a) for a in arguments)))

    def _device(self, x):
        # Matrices, centres and corners stay on the host: see the protocol.
        is_image = isinstance(x, np.ndarray) and x.ndim >= 3 and x.shape[-2:] != (2, 3)
        return self._backend.asarray(x, None, 0) if is_image else x

    def _host(self, x):
        if isinstance(x, tuple):
            return type(x)(*(self._host(a) for a in x)) if hasattr(x, "_fields") else tuple(self._host(a) for a in x)
        return self._backend.to_numpy(x) if self._backend.owns(x) else x


if __name__ == "__main__":
    sys.exit(main())
