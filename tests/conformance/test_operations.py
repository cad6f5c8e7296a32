"""The comparison that all cases go through finds what is wrong."""

import numpy as np
import pytest

from conformance._op import EXACT, SUM, Field, Op
from conformance.operations import differences


def row(**results: Field) -> Op:
    return Op("bin_mean", (), results, lambda: (), lambda sample: ())


WANTED = {"sums": np.array([1.0, np.nan, np.inf, -2.0]), "counts": np.array([3, 4])}
OP = row(sums=Field(SUM, lambda wanted, inputs: 10.0), counts=Field(EXACT))


def test_equal_results_have_no_differences() -> None:
    assert differences(OP, {name: array.copy() for name, array in WANTED.items()}, WANTED, {}) == []


@pytest.mark.parametrize(
    ("name", "index", "value", "text"),
    [
        ("sums", 0, 1.0 + 2e-11, r"sums[0] is 1.00000000002, not 1.0; 1 of 4 differ"),
        ("sums", 0, np.nan, "sums[0] is nan, not"),
        ("sums", 1, 0.0, "sums[1] is 0.0, not nan"),
        ("sums", 2, -np.inf, "sums[2] is -inf, not inf"),
        ("sums", 2, 1e300, "sums[2] is"),
        ("counts", 1, 5, "counts[1] is 5, not 4"),
    ],
)
def test_a_wrong_number_is_named(name: str, index: int, value: float, text: str) -> None:
    found = {key: array.copy() for key, array in WANTED.items()}
    found[name][index] = value
    (difference,) = differences(OP, found, WANTED, {})
    assert text in difference


def test_what_is_within_the_tolerance_passes_and_integers_have_none() -> None:
    found = {**WANTED, "sums": WANTED["sums"] + 9e-12}
    assert differences(OP, found, WANTED, {}) == []
    assert differences(OP, found, WANTED, {}, slack=0.5) != []
    loose = row(sums=Field(1.0), counts=Field(1.0))
    assert differences(loose, {**WANTED, "counts": WANTED["counts"] + 1}, WANTED, {}) != []


def test_types_shapes_and_names_are_compared() -> None:
    assert (
        "is float32(4,), not float64(4,)"
        in differences(OP, {**WANTED, "sums": WANTED["sums"].astype(np.float32)}, WANTED, {})[0]
    )
    assert "int64(1,), not int64(2,)" in differences(OP, {**WANTED, "counts": np.array([3])}, WANTED, {})[0]
    assert "results are ['sums']" in differences(OP, {"sums": WANTED["sums"]}, WANTED, {})[0]


def test_the_limit_on_the_host_and_by_type() -> None:
    field = Field({"float32": 1e-3, "float64": 1e-6}, on_host=1e-9)
    assert field.limit_of(np.dtype("float32"), on_host=False) == 1e-3
    assert field.limit_of(np.dtype("float32"), on_host=True) == 1e-9
