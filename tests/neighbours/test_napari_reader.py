"""The reader for napari gives layers as napari takes them."""

import re
from importlib.resources import files

import numpy as np
import pytest

from crop.oracle import disks
from stackalign import crop, napari
from stackalign.errors import StackalignError


@pytest.fixture
def cropped(tmp_path):
    stack = disks(6, frame=(32, 34)).reshape(2, 3, 32, 34)
    np.save(tmp_path / "in.npy", stack)
    config = crop.CroppingConfig(visualization=False, verbose=False)
    result = crop.crop_file(tmp_path / "in.npy", tmp_path / "out.h5", config)
    return tmp_path, stack, result


def test_results_have_patterns_centres_and_maps(cropped) -> None:
    folder, _, result = cropped
    path = str(folder / "out_results.json")
    layers = napari.get_reader(path)(path)
    kinds = [(kind, options["name"]) for _, options, kind in layers]
    assert kinds == [
        ("image", "out"),
        ("points", "centres"),
        ("shapes", "radius"),
        ("image", "total intensity"),
        ("image", "retention radius"),
    ]
    patterns, points, ring, total, radii = (np.asarray(data) for data, _, _ in layers)
    height, width = result.analysis.window
    assert patterns.shape == (2, 3, height, width)
    np.testing.assert_array_equal(total, result.analysis.total.reshape(2, 3))
    np.testing.assert_array_equal(radii, result.analysis.radii.reshape(2, 3))
    for (ry, rx, y, x), center in zip(points, result.analysis.centers, strict=True):
        top, left = np.floor(center).astype(int) - result.analysis.window_before
        np.testing.assert_allclose((y + top, x + left), center)
        rows, columns = np.indices((height, width))
        pattern = patterns[int(ry), int(rx)]
        middle = [(axis * pattern).sum() / pattern.sum() for axis in (rows, columns)]
        np.testing.assert_allclose(middle, (y, x), atol=0.2)
    np.testing.assert_allclose(
        np.hypot(*(ring - points[:, 2:].mean(axis=0)).T), result.analysis.global_radius, rtol=1e-9
    )


@pytest.mark.parametrize("dask", [True, False])
def test_stacks_are_images(cropped, dask, monkeypatch) -> None:
    folder, stack, _ = cropped
    if not dask:
        import sys

        monkeypatch.setitem(sys.modules, "dask.array", None)
    ((data, options, kind),) = napari.read([str(folder / "in.npy")])
    assert (kind, options["name"], options["scale"]) == ("image", "in", [1.0, 1.0, 1.0, 1.0])
    assert isinstance(data, np.ndarray) != dask
    np.testing.assert_array_equal(np.asarray(data), stack)


def test_other_files_are_left_to_others(tmp_path) -> None:
    assert napari.get_reader(str(tmp_path / "movie.mp4")) is None
    assert napari.get_reader([]) is None
    (tmp_path / "x_results.json").write_text("{}")
    with pytest.raises(StackalignError, match="holds no results of a crop"):
        napari.read(str(tmp_path / "x_results.json"))


def test_the_manifest_names_the_reader() -> None:
    text = (files("stackalign") / "napari.yaml").read_text()
    (module, function) = re.search(r"python_name: (\S+):(\S+)", text).groups()
    assert module == napari.__name__
    assert callable(getattr(napari, function))
    patterns = re.findall(r'- "\*(\S+)"', text)
    assert patterns
    assert all(napari.get_reader(f"a{pattern}") is not None for pattern in patterns)
