"""Run the project's kernels, built with a sanitizer, and compare them with the reference backend.

``python -m cuda_host.sanitize_driver SANITIZER DTYPE...`` in the environment of `sanitizer_environment`. Prints what
differs; exits with 1 if anything does, and with the sanitizer's own status if it has something to report.
"""

import sys
from collections.abc import Sequence

from cuda_host.backend import HostArrays, host_runtime
from cuda_host.cases import MASKS, SHAPES, cases, differences
from stackalign.backends.cuda import CudaBackend

__all__ = ["main"]


def main(sanitizer: str, dtypes: Sequence[str]) -> int:
    """Run all cases."""
    backend = CudaBackend(HostArrays(host_runtime(sanitizer=sanitizer)))
    wrong = 0
    for dtype in dtypes:
        # Each shape with another kind of mask: a sanitizer makes a kernel ten to fifty times slower.
        for shape, mask in zip(SHAPES, MASKS, strict=True):
            for case in cases(dtype, (shape,), (mask,)):
                found = differences(backend, case)
                sys.stdout.write(f"case {case.name}: {'; '.join(found) or 'equal'}\n")
                wrong += len(found)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
