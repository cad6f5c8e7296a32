"""Axes of HyperSpy's signals, and arrays of zarr stores that hold several things."""

from pathlib import Path

import numpy as np
import pytest
import zarr

from stackalign import io
from stackalign.errors import DataError
from stackalign.io._hyperspy import axis_of


@pytest.mark.parametrize(
    "attributes",
    [{}, {"scale": 1.0}, {"scale": None, "offset": 0}, {"scale": "far", "offset": 0}, {"scale": 0.0, "offset": 1.0},
     {"scale": np.nan, "offset": 1.0}, {"scale": 1.0, "offset": np.inf}],
)  # fmt: skip
def test_axes_that_are_not_uniform(attributes) -> None:
    assert axis_of(attributes) is None


def test_a_uniform_axis() -> None:
    assert axis_of({"scale": 2, "offset": "3", "units": b"nm"}) == (2.0, 3.0, "nm")


def test_the_only_image_of_a_store_is_taken(tmp_path: Path) -> None:
    store = zarr.open_group(tmp_path / "a.zarr", mode="w")
    store.create_array("line", data=np.arange(5))
    with pytest.raises(DataError, match="has no array of 3 or 4 axes, nor a single one of 2"):
        io.open(tmp_path / "a.zarr")
    store.create_array("image", data=np.arange(12).reshape(3, 4))
    with io.open(tmp_path / "a.zarr") as reader:
        assert reader.info.shape == (1, 3, 4)
    store.create_array("other", data=np.arange(12).reshape(3, 4))
    with pytest.raises(DataError, match="nor a single one of 2"):
        io.open(tmp_path / "a.zarr")
