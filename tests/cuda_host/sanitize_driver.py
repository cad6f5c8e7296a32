"""Run the project's kernels, built with a sanitizer, and compare them with the reference backend.

``python -m cuda_host.sanitize_driver SANITIZER DTYPE...`` in the environment of `sanitizer_environment`. Prints what
differs; exits with 1 if anything does, and with the sanitizer's own status if it has something to report.
"""

import sys
from collections.abc import Sequence

from conformance.inputs import MASKS, SAMPLE_SHAPES, samples
from conformance.operations import kernel_differences, questions
from cuda_host.backend import HostArrays, host_runtime
from stackalign.backends.cuda import CudaBackend
from stackalign_kernels import cuda_names

__all__ = ["main"]


def main(sanitizer: str, dtypes: Sequence[str]) -> int:
    """Run all samples."""
    backend = CudaBackend(HostArrays(host_runtime(sanitizer=sanitizer)))
    wrong = 0
    for dtype in dtypes:
        # Each shape with another kind of mask: a sanitizer makes a kernel ten to fifty times slower.
        for shape, mask in zip(SAMPLE_SHAPES, MASKS, strict=True):
            for sample in samples(dtype, (shape,), (mask,)):
                texts = list(kernel_differences(backend, questions(sample, cuda_names())))
                sys.stdout.write(f"sample {sample.name}: {'; '.join(texts) or 'equal'}\n")
                wrong += len(texts)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
