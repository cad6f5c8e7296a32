"""Whatever carries an array is taken with the same answer, or refused in one sentence, at every public door.

What carries a mask is the subject of test_masked_inputs.py, whose table of doors this is as well.
"""

import dataclasses
import inspect
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stackalign as sa
from stackalign import crop, diffraction, io
from stackalign.compat import skued
from stackalign.crop import CroppingConfig, crop_array
from stackalign.errors import StackalignError
from test_masked_inputs import DOORS, IMAGE

QUIET = CroppingConfig(visualization=False, verbose=False)
MASK = np.ones(IMAGE.shape, np.bool_)
MASK[4:7] = False
CENTER = np.array([15.5, 19.5])

SECOND: dict[str, Callable[[Any], Any]] = {
    "resample_affine matrices": lambda x: sa.resample_affine(IMAGE, x),
    "score_affine matrices": lambda x: sa.score_affine(sa.prepare_pair(IMAGE, IMAGE[::-1]), x),
    "register mask": lambda x: sa.register(IMAGE, IMAGE, reference_mask=x),
    "centroid mask": lambda x: sa.centroid(IMAGE, mask=x),
    "stack_statistics mask": lambda x: sa.stack_statistics(IMAGE[None], mask=x),
    "azimuthal_average mask": lambda x: sa.azimuthal_average(IMAGE, (15.5, 19.5), mask=x),
    "azimuthal_average center": lambda x: sa.azimuthal_average(IMAGE, x),
    "crop_windows corners": lambda x: sa.crop_windows(IMAGE[None], x, (4, 4)),
    "nfold mask": lambda x: diffraction.nfold(IMAGE, 2, center=(15.5, 19.5), mask=x),
    "nfold center": lambda x: diffraction.nfold(IMAGE, 2, center=x),
    "find_beam_stop mask": lambda x: diffraction.find_beam_stop(IMAGE, mask=x),
    "bragg_peaks mask": lambda x: diffraction.bragg_peaks(IMAGE, mask=x),
    "crop_array mask": lambda x: crop_array(IMAGE[None], QUIET, mask=x),
    "skued.nfold center": lambda x: skued.nfold(IMAGE, 2, center=x),
}
"""Other arguments than images that are arrays."""

VALUES = {
    "matrices": np.array([[[1.0, 0, 0.3], [0, 1, 0.2]]]),
    "mask": MASK,
    "center": CENTER,
    "corners": np.array([[3, 5]]),
}


class ArrayLike:
    """What has ``__array__`` alone, as tables and lazy arrays of other packages have."""

    def __init__(self, values: np.ndarray) -> None:
        self._values = values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self._values, dtype)


def read_only(values: np.ndarray) -> np.ndarray:
    values = values.copy()
    values.flags.writeable = False
    return values


def strided(values: np.ndarray) -> np.ndarray:
    """The same values behind negative and wide strides."""
    wide = np.zeros((*values.shape[:-1], 2 * values.shape[-1]), values.dtype)
    wide[..., ::2] = values
    return np.flip(np.flip(wide[..., ::2], -1).copy(), -1)


def torch_tensor(values: np.ndarray) -> Any:
    return pytest.importorskip("torch", reason="tensors need torch").from_numpy(values.copy())


def torch_leaf(values: np.ndarray) -> Any:
    """A tensor that gradients are wanted of, as a network's output is."""
    tensor = torch_tensor(values)
    return tensor.requires_grad_() if values.dtype.kind == "f" else tensor


def dask_array(values: np.ndarray) -> Any:
    return pytest.importorskip("dask.array", reason="needs dask").from_array(values, chunks=3)


def quantity(values: np.ndarray) -> Any:
    units = pytest.importorskip("astropy.units", reason="needs astropy")
    return (
        values * units.dimensionless_unscaled
        if values.dtype.kind == "f"
        else units.Quantity(values, dtype=values.dtype)
    )


def nddata(values: np.ndarray) -> Any:
    return pytest.importorskip("astropy.nddata", reason="needs astropy").NDData(values)


def ccddata(values: np.ndarray) -> Any:
    return pytest.importorskip("astropy.nddata", reason="needs astropy").CCDData(values, unit="adu")


def data_array(values: np.ndarray) -> Any:
    return pytest.importorskip("xarray", reason="needs xarray").DataArray(values)


CARRIERS: dict[str, Callable[[np.ndarray], Any]] = {
    "list": lambda values: values.tolist(),
    "big-endian": lambda values: values.astype(values.dtype.newbyteorder(">")),
    "read-only": read_only,
    "Fortran order": np.asfortranarray,
    "strided": strided,
    "__array__": ArrayLike,
    "numpy.ma without a mask": np.ma.array,
    "torch": torch_tensor,
    "torch with gradients": torch_leaf,
    "dask": dask_array,
    "Quantity": quantity,
    "NDData": nddata,
    "CCDData": ccddata,
    "xarray": data_array,
}
SENTENCES = (TypeError, ValueError, StackalignError)
FLAT = ("numbers", "time", "seconds", "provenance", "input_name")


def numbers_of(result: Any) -> list[np.ndarray]:
    """All numbers of an answer, in order, without how long it took and what its input was called."""
    if dataclasses.is_dataclass(result) and not isinstance(result, type):
        fields = [f.name for f in dataclasses.fields(result) if "time" not in f.name and f.name not in FLAT]
        return [array for name in fields for array in numbers_of(getattr(result, name))]
    if isinstance(result, np.ndarray):
        return [result] if result.dtype.kind in "buifc" else []
    if isinstance(result, (list, tuple)):
        return [array for item in result for array in numbers_of(item)]
    if isinstance(result, (bool, int, float, np.number)):
        return [np.asarray(result)]
    if type(result).__module__.partition(".")[0] == "torch":
        return [result.detach().numpy()]
    return []


@pytest.mark.parametrize("door", [*DOORS, *SECOND])
def test_same_answer_or_one_sentence(door: str) -> None:
    function = (DOORS | SECOND)[door]
    plain = VALUES[door.rpartition(" ")[2]] if door in SECOND else IMAGE
    given = plain[None] if door in ("register_stack", "crop_array") else plain
    failures = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = numbers_of(function(given.copy()))
        for name, make in CARRIERS.items():
            try:
                carried = make(given)
            except pytest.skip.Exception:
                continue
            before = given.copy()
            try:
                answer = numbers_of(function(carried))
            except SENTENCES as error:
                if "\n" in str(error) or len(str(error)) < 20 or "object has no attribute" in str(error):
                    failures.append(f"{name}: {type(error).__name__}: {error}")
                continue
            except Exception as error:
                failures.append(f"{name}: {type(error).__name__}: {error}")
                continue
            if len(answer) != len(expected) or not all(
                a.shape == b.shape and np.allclose(a, b, rtol=1e-12, atol=1e-12, equal_nan=True)
                for a, b in zip(answer, expected, strict=True)
            ):
                failures.append(f"{name}: another answer")
            np.testing.assert_array_equal(given, before)
    assert not failures, "\n".join(failures)


NO_ARRAYS = {"synchronize", "unwrapped"}
"""They move nothing and calculate nothing."""


def test_every_function_that_takes_images_has_a_door() -> None:
    """A new public function whose first argument is images stands in the table of doors."""
    words = ("image", "images", "patterns", "stack", "reference", "moving", "x", "data", "template", "templates")
    missing = []
    for module, prefix in ((sa, ""), (diffraction, "diffraction."), (skued, "skued."), (crop, ""), (io, "io.")):
        for name in getattr(module, "__all__", ()):
            function = getattr(module, name)
            if not inspect.isfunction(function) or name in NO_ARRAYS:
                continue
            first = next(iter(inspect.signature(function).parameters), "")
            if first in words and f"{prefix}{name}" not in DOORS:
                missing.append(f"{prefix}{name}({first})")
    assert missing == []
