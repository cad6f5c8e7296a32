"""Run what reaches every branch of the kernels on a backend and compare it with the reference, for compute-sanitizer.

``python benchmarks/check_kernels.py [--backend cuda] DTYPE...``; tests/ must be on the path. Exits with 1 if anything
differs.
"""

import argparse
import sys

from conformance.inputs import SAMPLE_SHAPES, samples
from conformance.operations import kernel_differences, questions
from stackalign.backends import load
from stackalign_kernels import cuda_names


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="cuda")
    parser.add_argument("dtypes", nargs="+")
    options = parser.parse_args()
    backend = load(options.backend)
    wrong = 0
    for dtype in options.dtypes:
        for sample in samples(dtype, SAMPLE_SHAPES[:1], ("shared",)):
            found = list(kernel_differences(backend, questions(sample, cuda_names()), on_host=False))
            print(f"sample {sample.name}: {'; '.join(found) or 'equal'}", flush=True)
            wrong += len(found)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
