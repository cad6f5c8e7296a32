"""Run the project's kernels, built with a sanitizer, and compare them with the reference backend.

``python -m cuda_host.sanitize_driver SANITIZER DTYPE`` in the environment of `sanitizer_environment`. Prints what
differs; exits with 1 if anything does, and with the sanitizer's own status if it has something to report.
"""

import os
import sys

from conformance._op import Sample
from conformance.inputs import MASKS, SAMPLE_SHAPES, samples
from conformance.operations import OPERATIONS, Question, kernel_differences, questions
from cuda_host.backend import HostArrays, host_runtime
from stackalign.backends.cuda import CudaBackend

__all__ = ["asked", "chosen_samples", "kernels_of", "main"]


def kernels_of(dtype: str) -> list[str]:
    """The kernel files that a type of pixels is run with: those of float32 planes with float32 alone."""
    return sorted({op.kernel for op in OPERATIONS.values() if op.kernel and (dtype == "float32" or not op.of_planes)})


def chosen_samples(sanitizer: str, dtype: str) -> list[Sample]:
    """Each shape with another kind of mask: a sanitizer makes a kernel ten to fifty times slower.

    Barriers do not depend on whether a width is even: the thread sanitizer, the slowest, leaves out that shape.
    """
    step = 2 if sanitizer == "thread" else 1
    pairs = zip(SAMPLE_SHAPES[::step], MASKS[::step], strict=True)
    return [sample for shape, mask in pairs for sample in samples(dtype, (shape,), (mask,))]


def asked(sanitizer: str, dtype: str) -> dict[str, list[Question]]:
    """What is asked of the kernels, by sample."""
    kernels = kernels_of(dtype)
    return {sample.name: questions(sample, kernels) for sample in chosen_samples(sanitizer, dtype)}


def _run(sanitizer: str, kernel: str, every: dict[str, list[Question]]) -> int:
    """Ask what concerns one kernel file."""
    backend = CudaBackend(HostArrays(host_runtime(sanitizer=sanitizer)))
    wrong = 0
    for sample, of_all in every.items():
        own = [question for question in of_all if question.op.kernel == kernel]
        assert own, f"nothing is asked of {kernel}"
        texts = list(kernel_differences(backend, own))
        sys.stdout.write(f"{kernel}, sample {sample}: {'; '.join(texts) or 'equal'}\n")
        wrong += len(texts)
    sys.stdout.flush()
    return 1 if wrong else 0


def main(sanitizer: str, dtype: str) -> int:
    """Run all samples, each kernel file in a fork.

    The thread sanitizer's clocks grow with the fibres of all files of a process, and each barrier copies them.
    """
    every = asked(sanitizer, dtype)
    worst = 0
    for kernel in kernels_of(dtype):
        child = os.fork()
        if child == 0:
            os._exit(_run(sanitizer, kernel, every))
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status:
            sys.stdout.write(f"{kernel}: exit status {status}\n")
        worst = worst or status
    return worst


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
