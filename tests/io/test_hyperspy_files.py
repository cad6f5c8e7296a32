"""Signals of HyperSpy: written ones are read by its own reader, and those of its own writer are read here."""

import json
from pathlib import Path

import numpy as np
import pytest

from stackalign import io

DATA = np.random.default_rng(11).integers(0, 999, (3, 4, 6, 8), np.uint16)
SCALE = io.Calibration((0.1, 0.2), "1/nm", (3.0, 4.0), (0.5, 0.25), "nm")


def write(path: Path, compression: str | None = None) -> None:
    with io.create_stack(
        path, (12, 6, 8), np.uint16, scan_shape=(3, 4), calibration=SCALE, compression=compression
    ) as writer:
        writer.write(DATA.reshape(12, 6, 8))
        writer.finish({"software": "test"})


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_written_files_are_signals(compression: str | None, tmp_path: Path) -> None:
    plugin = pytest.importorskip("rsciio.hspy", reason="RosettaSciIO is not installed")
    write(tmp_path / "a.hspy", compression)
    (signal,) = plugin.file_reader(str(tmp_path / "a.hspy"))
    np.testing.assert_array_equal(signal["data"], DATA)
    assert [axis["navigate"] for axis in signal["axes"]] == [True, True, False, False]
    assert [axis["size"] for axis in signal["axes"]] == [3, 4, 6, 8]
    np.testing.assert_allclose([axis["scale"] for axis in signal["axes"]], (0.5, 0.25, 0.1, 0.2))
    np.testing.assert_allclose([axis["offset"] for axis in signal["axes"]], (0, 0, -0.3, -0.8))
    assert [axis["units"] for axis in signal["axes"]] == ["nm", "nm", "1/nm", "1/nm"]


def test_written_files_are_read_without_another_package(tmp_path: Path) -> None:
    write(tmp_path / "a.hspy")
    with io.open(tmp_path / "a.hspy") as reader:
        block = np.empty((12, 6, 8), np.uint16)
        reader.read(0, 12, block)
        scale = reader.info.calibration
        assert reader.info.scan_shape == (3, 4)
    np.testing.assert_array_equal(block.reshape(DATA.shape), DATA)
    assert scale is not None
    np.testing.assert_allclose(scale.pixel_size, SCALE.pixel_size)
    np.testing.assert_allclose(scale.origin, SCALE.origin)
    assert (scale.units, scale.scan_units) == ("1/nm", "nm")
    np.testing.assert_allclose(scale.scan_step, (0.5, 0.25))


def test_a_zarr_signal_has_its_axes(tmp_path: Path) -> None:
    """A store as HyperSpy lays it out, written as the files of zarr version 2."""
    root = tmp_path / "a.zspy"
    group = root / "Experiments" / "__unnamed__"
    for folder in (root, root / "Experiments", group):
        folder.mkdir()
        (folder / ".zgroup").write_text('{"zarr_format": 2}')
    for k, (scale, offset, units) in enumerate(
        ((0.5, 0.0, "nm"), (0.25, 0.0, "nm"), (0.1, -0.3, "1/nm"), (0.2, -0.8, "1/nm"))
    ):
        axis = group / f"axis-{k}"
        axis.mkdir()
        (axis / ".zgroup").write_text('{"zarr_format": 2}')
        (axis / ".zattrs").write_text(json.dumps({"scale": scale, "offset": offset, "units": units, "size": 3}))
    data = group / "data"
    data.mkdir()
    fields = {"shape": DATA.shape, "chunks": DATA.shape, "dtype": "<u2", "fill_value": 0, "order": "C"}
    (data / ".zarray").write_text(json.dumps({"zarr_format": 2, "compressor": None, "filters": None, **fields}))
    (data / "0.0.0.0").write_bytes(DATA.astype("<u2").tobytes())
    with io.open(root) as reader:
        block = np.empty((12, 6, 8), np.uint16)
        reader.read(0, 12, block)
        scale = reader.info.calibration
    np.testing.assert_array_equal(block.reshape(DATA.shape), DATA)
    assert scale is not None
    assert (scale.pixel_size, scale.units, scale.scan_step) == ((0.1, 0.2), "1/nm", (0.5, 0.25))
    np.testing.assert_allclose(scale.origin, (3, 4))
