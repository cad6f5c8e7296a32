"""Images of Velox files: frames are the last axis, detectors are groups."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from stackalign.diffraction import diffread
from stackalign.errors import DataError


def _made(path: Path, **images: np.ndarray) -> Path:
    with h5py.File(path, "w") as file:
        file["Version"] = np.array([b'{"format": "Velox"}'])
        for name, frames in images.items():
            file[f"Data/Image/{name}/Data"] = frames
            file[f"Data/Image/{name}/Metadata"] = np.zeros((100, frames.shape[-1]), np.uint8)
    return path


@pytest.mark.parametrize("dtype", ["i2", "f4", "u4", ">u2", "c8"])
def test_one_image(dtype, tmp_path) -> None:
    pixels = np.arange(40 * 56).reshape(40, 56).astype(dtype)
    path = _made(tmp_path / "a.emd", ceta=pixels[:, :, None])
    if dtype == "c8":
        with pytest.raises(DataError, match="without an image of real numbers"):
            diffread(path)
        return
    found = diffread(path)
    assert found.images.shape == (40, 56)
    np.testing.assert_array_equal(found.images, pixels)


def test_a_series_and_its_frames(tmp_path) -> None:
    frames = np.random.default_rng(0).integers(0, 99, (20, 30, 5), dtype=np.int16)
    path = _made(tmp_path / "a.emd", ceta=frames)
    np.testing.assert_array_equal(diffread(path).images, np.moveaxis(frames, -1, 0))
    np.testing.assert_array_equal(diffread(path, frames=3).images, frames[:, :, 3])
    np.testing.assert_array_equal(diffread(path, frames=(1, 4)).images, np.moveaxis(frames[:, :, 1:4], -1, 0))


def test_several_detectors_are_named(tmp_path) -> None:
    one, two = np.ones((16, 16, 1), "u2"), np.full((24, 16, 2), 3, "u2")
    path = _made(tmp_path / "a.emd", haadf=one, ceta=two)
    with pytest.raises(DataError, match="several detectors"):
        diffread(path)
    for name in ("Data/Image/ceta", "Data/Image/ceta/Data"):
        assert diffread(path, dataset=name).images.shape == (2, 24, 16)
    with pytest.raises(DataError, match="no dataset 'Data/Image/bf'"):
        diffread(path, dataset="Data/Image/bf")
