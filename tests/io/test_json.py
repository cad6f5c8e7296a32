"""JSON of lists and arrays, of which the long ones take a short way."""

import json
from pathlib import Path

import numpy as np
import pytest

from stackalign.io.provenance import dump_json, to_jsonable

_NAN, _INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.array([1.5, _NAN, -_INF, 0.1]), [1.5, None, None, 0.1]),
        (np.array([[1.5, _NAN], [2.0, 3.0]], "f4"), [[1.5, None], [2.0, 3.0]]),
        (np.array([0.5, _INF], "g"), [0.5, None]),
        (np.array([0.5, 2.0], "g"), [0.5, 2.0]),
        (np.array(_NAN), None),
        (np.array(2.5), 2.5),
        (np.array([], float), []),
        (np.array([True, False]), [True, False]),
        (np.array([["a", "bé"]]), [["a", "bé"]]),
        (np.array(["2024-01-02"], "M8[D]").astype(str), ["2024-01-02"]),
        (np.array([Path("a"), None, _NAN], object), ["a", None, None]),
        ([1, 2.5, None, True, "x", _NAN], [1, 2.5, None, True, "x", None]),
        ([1, 2.5, None, True, "x"], [1, 2.5, None, True, "x"]),
        ([(1, 2.5), [], ["a", None]], [[1, 2.5], [], ["a", None]]),
        ([(1, _INF), [2]], [[1, None], [2]]),
        ([[[1.0, _NAN]], [[2.0]]], [[[1.0, None]], [[2.0]]]),
        ([np.float32(1.5), np.int8(3), 10**400], [1.5, 3, 10**400]),
        ((np.float64("nan"), 1.0), [None, 1.0]),
        ([[np.bool_(True)], {"k": (_NAN,)}], [[True], {"k": [None]}]),
        ([Path("a"), [Path("b")]], ["a", ["b"]]),
    ],
)
def test_json_of_lists(value: object, expected: object) -> None:
    found = to_jsonable(value)
    assert found == expected
    assert json.loads(json.dumps(found, allow_nan=False)) == expected
    assert json.loads(dump_json({"x": value})) == {"x": expected}


def test_lists_are_new_ones() -> None:
    value = [[1, 2], [3.0, 4.0]]
    found = to_jsonable(value)
    found[0].append(5)
    found.append(None)
    assert value == [[1, 2], [3.0, 4.0]]
