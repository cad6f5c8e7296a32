"""A drift as arrays that are saved between two runs, and as a record in JSON."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign._results import flagged_frames

from .result import DriftResult

__all__ = ["from_arrays", "from_record", "to_arrays", "to_record"]

_NUMBERS = ("shifts", "covariance", "own", "score", "evidence", "rival")


def to_arrays(result: DriftResult) -> dict[str, NDArray[Any]]:
    remarks = np.array([json.dumps(dict(remark)) for remark in result.remarks])
    numbers = {name: getattr(result, name) for name in _NUMBERS}
    return {**numbers, "remarks": remarks}


def from_arrays(arrays: Mapping[str, Any], reference: int) -> DriftResult:
    numbers = {name: np.asarray(arrays[name], np.float64) for name in _NUMBERS}
    return DriftResult(**numbers, reference=reference, remarks=tuple(json.loads(text) for text in arrays["remarks"]))


def to_record(result: DriftResult) -> dict[str, Any]:
    arrays = {name: values.tolist() for name, values in to_arrays(result).items() if name != "remarks"}
    frames = flagged_frames(result.flags)
    return {
        "reference": result.reference,
        "flagged_frames": frames,
        "remarks": [dict(r) for r in result.remarks],
        **arrays,
    }


def from_record(record: Mapping[str, Any]) -> DriftResult:
    # What is not finite is null in JSON: an error bar or a variance without limit.
    numbers = {name: _with_infinities(record[name]) for name in _NUMBERS}
    return DriftResult(**numbers, reference=int(record["reference"]), remarks=tuple(record["remarks"]))


def _with_infinities(values: Any) -> NDArray[np.float64]:
    array = np.array(values, dtype=object)
    array[array == None] = np.inf  # noqa: E711 -- elementwise
    return array.astype(np.float64)
