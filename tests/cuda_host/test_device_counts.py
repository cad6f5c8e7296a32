"""What each public operation, optimiser and pipeline costs on a device: results as on the CPU, and counted calls.

A launch is some 4 us, a copy 8-20 us and a stop of the host: for small images they are all of the time. A limit that
fails has grown; a change that lowers a count lowers its limit with it. ``COUNTS.trace`` tells where a call comes from.
"""

import dataclasses
from typing import Any

import numpy as np
import pytest

import stackalign as sa
from conformance._op import Op
from conformance.operations import OPERATIONS, call, cases_of, inputs_of
from cuda_host import standin
from cuda_host._require import require_gpp
from cuda_host.device_calls import CALLS, OPTIMISERS, PIPELINES
from stackalign import backends, ops

# Uploads, launches and downloads, those of the inputs and of `prepare_pair` included.
LIMITS = {
    "azimuthal_average": (2, 6, 1),
    "bin_mean": (2, 1, 0),
    "centroid": (3, 1, 0),
    "crop_windows": (3, 1, 0),
    "linearize_affine": (2, 26, 1),
    "masked_ncc": (2, 91, 1),
    "masked_shift": (2, 97, 2),
    "match_template": (2, 93, 1),
    "mirror_average": (3, 1, 0),
    "pattern_summary": (3, 3, 1),
    "persistence_pairs": (1, 0, 1),
    "prepare_pair": (4, 33, 0),
    "radial_cumulative": (3, 1, 0),
    "resample_affine": (3, 1, 0),
    "resample_affine, cubic": (3, 15, 1),
    "retention_radius": (4, 3, 1),
    "rotational_average": (3, 1, 0),
    "score_affine": (2, 28, 0),
    "score_affine, turned": (2, 28, 0),
    "second_moments": (4, 4, 0),
    "shift_table": (1, 365, 1),
    "stack_statistics": (2, 1, 0),
    "neighbor_search": (22, 108, 21),
    "gauss_newton": (6, 34, 5),
    "register": (96, 1045, 43),
    "register_stack": (155, 1480, 90),
    "align": (3, 103, 7),
    "autocenter": (13, 200, 9),
    "nfold": (2, 1, 1),
}
"""Operations exactly; what iterates has one iteration, or a tenth, to spare."""

TOLERANCE = {"score_affine": 5e-8, "score_affine, turned": 5e-8, "register": 1e-3, "register_stack": 1e-3}
CLOSE = 2e-5
"""Of results whose sums or transforms have another order on a device, relative to the largest number."""


@pytest.fixture(autouse=True)
def _device():
    require_gpp()
    with standin.installed():
        yield


def numbers(result: Any, name: str = "") -> dict[str, np.ndarray]:
    """All arrays and numbers that a result has, on the host."""
    if dataclasses.is_dataclass(result):
        result = {f.name: getattr(result, f.name) for f in dataclasses.fields(result) if f.name != "geometry"}
    elif hasattr(result, "_fields"):
        result = result._asdict()
    elif isinstance(result, tuple | list):
        result = dict(enumerate(result))
    if isinstance(result, dict):
        return {k: v for key, item in result.items() for k, v in numbers(item, f"{name}.{key}").items()}
    if isinstance(result, bool | int | float | np.generic):
        return {name: np.asarray(result)}
    return {name: sa.to_numpy(result)} if hasattr(result, "dtype") else {}


EVERY = {**CALLS, **OPTIMISERS, **PIPELINES}


@pytest.mark.parametrize("name", EVERY)
def test_as_on_the_cpu_at_no_more_cost(name) -> None:
    call = EVERY[name]
    call("cuda")  # kernels are compiled, tables made
    with standin.counted() as counts:
        result = call("cuda")
        cost = tuple(counts.number[kind] for kind in ("upload", "launch", "download"))
    assert all(n <= limit for n, limit in zip(cost, LIMITS[name], strict=True)), (cost, LIMITS[name])
    ours, cpu = numbers(result), numbers(call("cpu"))
    assert ours.keys() == cpu.keys()
    assert ours
    for key, wanted in cpu.items():
        if wanted.dtype.kind in "biu":
            np.testing.assert_array_equal(ours[key], wanted, err_msg=f"{name}{key}")
        else:
            scale = np.nanmax(np.abs(wanted), initial=1.0, where=np.isfinite(wanted))
            tolerance = TOLERANCE.get(name, CLOSE * scale)
            # Of what is known badly, such as the shift of a tile without structure, digits are worth less.
            rtol = 1e-4 if name in PIPELINES else 0
            np.testing.assert_allclose(ours[key], wanted, rtol=rtol, atol=tolerance, err_msg=f"{name}{key}")


def test_calls_are_of_public_operations() -> None:
    assert {name.partition(",")[0] for name in CALLS} <= set(ops.__all__)
    assert set(LIMITS) == set(EVERY)


@pytest.mark.parametrize("op", OPERATIONS.values(), ids=OPERATIONS)
def test_an_operation_brings_no_array_twice(op: Op) -> None:
    """New operations too, of which there is no call above."""
    inputs = inputs_of(op, cases_of(op)["float32"][0])
    backend = backends.load("cuda")
    call(backend, op, inputs, 1)
    with standin.counted() as counts:
        results = call(backend, op, inputs, 1)
    assert counts.number["upload"] <= len(inputs) + 1, counts.number
    # What decides how to go on, beside the arrays that the test itself brings back.
    assert counts.number["download"] <= len(results) + 2, counts.number


@pytest.mark.parametrize("name", OPTIMISERS)
def test_an_iteration_is_one_copy_each_way_and_four_launches(name) -> None:
    kinds: list[str] = []
    OPTIMISERS[name]("cuda")
    standin.COUNTS.trace = kinds.append
    try:
        OPTIMISERS[name]("cuda")
    finally:
        standin.COUNTS.trace = None
    rounds = "".join(kind[0] for kind in kinds).split("u")[2:]  # after the images, and what prepares them
    assert len(rounds) > 2
    assert all(r.rstrip("d").count("l") <= 4 and r.count("d") == 1 for r in rounds), rounds
