"""The project's kernels give the reference's results on the host, in whatever order the threads run."""

import pytest

from conformance.inputs import samples
from conformance.operations import kernel_differences, questions
from cuda_host._require import require_gpp
from cuda_host.backend import BACKEND
from stackalign.backends._protocol import KERNEL_DTYPES
from stackalign_kernels import cuda_names

ORDERS = ("fwd", "rev", "7")


@pytest.mark.parametrize("dtype", KERNEL_DTYPES)
def test_equal_to_the_reference(monkeypatch, dtype):
    require_gpp()
    wrong = {}
    for sample in samples(dtype):
        asked = questions(sample, cuda_names())
        for order in ORDERS:
            monkeypatch.setenv("CUDA_HOST_ORDER", order)
            wrong[sample.name, order] = list(kernel_differences(BACKEND, asked))
    assert not any(wrong.values()), wrong
