"""The project's kernels under the sanitizers of addresses and undefined behaviour, and of threads."""

import itertools

import pytest

from conformance.inputs import SAMPLE_DTYPES
from cuda_host import sanitized
from cuda_host._require import require_gpp
from cuda_host.sanitize_driver import asked, chosen_samples, kernels_of
from stackalign_kernels import cuda_names

# Barriers stand where they stand for every type: one of integers and one of floats show a missing one.
RUNS = (*itertools.product(("address",), SAMPLE_DTYPES), ("thread", "uint16"), ("thread", "float32"))


@pytest.mark.slow
@pytest.mark.parametrize(("sanitizer", "dtype"), RUNS)
def test_no_report_and_the_right_result(sanitizer, dtype):
    require_gpp(sanitizer)
    asked(sanitizer, dtype)  # the reference is asked here, because Python is slow under a sanitizer
    outcome = sanitized.run(sanitizer, "cuda_host.sanitize_driver", dtype)
    assert not outcome.reported, outcome.text
    assert outcome.status == 0, outcome.text
    # All samples were run with every file, and the driver did not merely come to an end.
    assert outcome.text.count(": equal\n") == len(chosen_samples(sanitizer, dtype)) * len(kernels_of(dtype)), (
        outcome.text
    )


def test_every_kernel_is_run_under_every_sanitizer():
    assert set(kernels_of("float32")) == set(cuda_names())
    assert {dtype for sanitizer, dtype in RUNS if sanitizer == "thread"} >= {"float32"}
