"""The project's kernels give the reference's results on the host, in whatever order the threads run."""

import pytest

from conformance.inputs import samples
from conformance.operations import Answers, kernel_differences
from cuda_host._require import require_gpp
from cuda_host.backend import BACKEND
from stackalign.backends._protocol import KERNEL_DTYPES
from stackalign_kernels import cuda_names

ORDERS = ("fwd", "rev", "7")


@pytest.mark.parametrize("dtype", KERNEL_DTYPES)
def test_equal_to_the_reference(monkeypatch, dtype):
    require_gpp()
    found = {}
    for sample in samples(dtype):
        answers: Answers = {}
        for order in ORDERS:
            monkeypatch.setenv("CUDA_HOST_ORDER", order)
            found[sample.name, order] = kernel_differences(BACKEND, sample, cuda_names(), answers=answers)
    assert not any(found.values()), found
