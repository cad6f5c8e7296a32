"""HDF5: choice of the dataset, EMD and py4DSTEM, filters, virtual datasets, detector masters."""

import importlib
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest

from stackalign.errors import DataError, MissingDependencyError
from stackalign.io import open_stack
from stackalign.io._flat import FlatReader
from stackalign.io.hdf5 import ChunkedReader

SCAN = np.arange(3 * 4 * 5 * 6, dtype="f4").reshape(3, 4, 5, 6)


def read_all(reader: Any, step: int = 5) -> np.ndarray:
    out = np.empty(reader.info.shape, reader.info.dtype)
    for start in range(0, len(out), step):
        stop = min(start + step, len(out))
        reader.read(start, stop, out[start:stop])
    return out


def add_axis(group: h5py.Group, name: str, label: str, units: str, values: np.ndarray) -> None:
    group[name] = values
    group[name].attrs["name"] = label
    group[name].attrs["units"] = units


def test_ncem_emd(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.emd", "w") as file:
        group = file.create_group("experiment/cube")
        group.attrs["emd_group_type"] = 1
        group.create_dataset("data", data=SCAN, chunks=(1, 1, 5, 6))
        add_axis(group, "dim1", "R_y", "[n_m]", np.arange(3) * 0.5)
        add_axis(group, "dim2", "R_x", "[n_m]", np.arange(4) * 0.25)
        add_axis(group, "dim3", "Q_y", "[n_m^-1]", (np.arange(5) - 2) * 0.1)
        add_axis(group, "dim4", "Q_x", "[n_m^-1]", (np.arange(6) - 3) * 0.2)
    with open_stack(tmp_path / "a.emd", read_timeout=0) as reader:
        assert isinstance(reader, ChunkedReader)
        np.testing.assert_array_equal(read_all(reader), SCAN.reshape(12, 5, 6))
        calibration = reader.info.calibration
        assert calibration is not None
        np.testing.assert_allclose(calibration.pixel_size, (0.1, 0.2))
        np.testing.assert_allclose(calibration.origin, (2, 3))
        assert calibration.units == "nm^-1"
        assert calibration.scan_step == (0.5, 0.25)
        assert calibration.scan_units == "nm"
        assert reader.info.metadata["chunk_patterns"] == 1


def test_py4dstem(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        group = file.create_group("root/datacube")
        group.attrs["emd_group_type"] = "array"
        group["data"] = SCAN
        for k, (step, units) in enumerate(((0.5, "nm"), (0.5, "nm"), (0.02, "A^-1"), (0.03, "A^-1"))):
            add_axis(group, f"dim{k}", "axis", units, np.array([0, step]))
    with open_stack(tmp_path / "a.h5") as reader:
        assert isinstance(reader, FlatReader)
        assert reader.info.scan_shape == (3, 4)
        calibration = reader.info.calibration
        assert calibration is not None
        assert calibration.pixel_size == (0.02, 0.03)
        assert calibration.origin == (0, 0)
        np.testing.assert_array_equal(read_all(reader), SCAN.reshape(12, 5, 6))


def test_choice_of_the_dataset(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["one/data"] = SCAN
        file["two/data"] = SCAN + 1
        file["text"] = "words"
        file["flat"] = np.zeros(5)
    with pytest.raises(DataError, match=r"several datasets .*'/one/data', '/two/data'.*name one with dataset"):
        open_stack(path)
    for name in ("two/data", "/two/data", "two"):
        with open_stack(path, dataset=name) as reader:
            np.testing.assert_array_equal(read_all(reader), SCAN.reshape(12, 5, 6) + 1)
            assert reader.info.metadata["dataset"] == "/two/data"
    with pytest.raises(DataError, match=r"no dataset 'three'; those of 3 or 4 axes are"):
        open_stack(path, dataset="three")
    with pytest.raises(DataError, match="1 axes"):
        open_stack(path, dataset="flat")
    with h5py.File(path, "a") as file:
        file["large"] = np.zeros((13, 5, 6), "f4")
    with open_stack(path) as reader:
        assert reader.info.metadata["dataset"] == "/large"
    with h5py.File(path, "w") as file:
        file["flat"] = np.zeros(5)
    with pytest.raises(DataError, match="no numeric dataset of 3 or 4 axes"):
        open_stack(path)


def test_velox_has_its_frames_last(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.emd", "w") as file:
        file["Version"] = "{}"
        file["Data/Image/abc/Data"] = np.zeros((4, 4, 3), "u2")
    with open_stack(tmp_path / "a.emd") as reader:
        assert reader.info.shape == (3, 4, 4)


def test_booleans_compact_and_unwritten(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["bool"] = SCAN > 100
        file.create_dataset("chunked", data=SCAN > 100, chunks=(1, 2, 5, 6))
        file.create_dataset("partly", shape=SCAN.shape, dtype="u2", fillvalue=7, chunks=(1, 4, 5, 6))[1] = 3
        file.create_dataset("unwritten", shape=SCAN.shape, dtype="u2", fillvalue=7)
    partly = np.full(SCAN.shape, 7)
    partly[1] = 3
    for name, expected in (("bool", SCAN > 100), ("chunked", SCAN > 100), ("partly", partly)):
        with open_stack(tmp_path / "a.h5", dataset=name) as reader:
            np.testing.assert_array_equal(read_all(reader), expected.reshape(12, 5, 6).astype(int))
    with pytest.raises(DataError, match="unwritten was never written"):
        open_stack(tmp_path / "a.h5", dataset="unwritten")


@pytest.mark.parametrize("chunks", [(1, 1, 5, 6), (1, 3, 5, 6), (2, 4, 5, 6), (3, 4, 2, 2), (2, 3, 5, 6)])
def test_chunked_scans(chunks: tuple[int, ...], tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("a", data=SCAN, chunks=chunks, **hdf5plugin.Bitshuffle(cname="lz4"))
    for step in (1, 3, 4, 7, 12):
        with open_stack(tmp_path / "a.h5", memory_limit=100) as reader:
            np.testing.assert_array_equal(read_all(reader, step), SCAN.reshape(12, 5, 6))


def test_missing_filter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("a", data=SCAN, chunks=(1, 1, 5, 6), **hdf5plugin.Bitshuffle(cname="lz4"))
    importer = importlib.import_module

    def without(name: str, package: str | None = None) -> Any:
        if name == "hdf5plugin":
            raise ImportError(name)
        return importer(name, package)

    monkeypatch.setattr(h5py.h5z, "filter_avail", lambda code: code < 32000)
    with pytest.raises(DataError, match=r"HDF5 filter 32008, which hdf5plugin does not bring"):
        open_stack(tmp_path / "a.h5", read_timeout=0)
    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(MissingDependencyError, match=r'32008 \(bitshuffle\).*pip install "stackalign\[hdf5\]"'):
        open_stack(tmp_path / "a.h5", read_timeout=0)


def test_virtual_dataset_with_a_missing_part(tmp_path: Path) -> None:
    layout = h5py.VirtualLayout(shape=(2, 5, 6), dtype="f4")
    for k in range(2):
        with h5py.File(tmp_path / f"part{k}.h5", "w") as file:
            file["a"] = SCAN[0, k]
        layout[k] = h5py.VirtualSource(f"part{k}.h5", "a", shape=(5, 6))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_virtual_dataset("a", layout)
    with open_stack(tmp_path / "a.h5") as reader:
        np.testing.assert_array_equal(read_all(reader), SCAN[0, :2])
    (tmp_path / "part1.h5").unlink()
    with pytest.raises(DataError, match=r"refers to the part part1\.h5, which is missing"):
        open_stack(tmp_path / "a.h5")


def write_master(
    folder: Path, counts: tuple[int, ...] = (7, 5), promised: int | None = None, scan: tuple[int, int] | None = None
) -> np.ndarray:
    stack = np.arange(sum(counts) * 8 * 6, dtype="u4").reshape(-1, 8, 6)
    specific = "entry/instrument/detector/detectorSpecific"
    with h5py.File(folder / "x_master.h5", "w") as file:
        mask = np.zeros((8, 6), "u4")
        mask[2, 3], mask[5, 1] = 1, 16
        file[f"{specific}/pixel_mask"] = mask
        file[f"{specific}/nimages"] = 1
        file[f"{specific}/ntrigger"] = sum(counts) if promised is None else promised
        file["entry/instrument/detector/description"] = "a detector"
        start = 0
        for k, count in enumerate(counts, 1):
            name = f"x_data_{k:06d}.h5"
            file[f"entry/data/data_{k:06d}"] = h5py.ExternalLink(name, "/entry/data/data")
            with h5py.File(folder / name, "w") as part:
                data = part.create_dataset(
                    "entry/data/data",
                    data=stack[start : start + count],
                    chunks=(1, 8, 6),
                    **hdf5plugin.Bitshuffle(cname="lz4"),
                )
                data.attrs["image_nr_low"], data.attrs["image_nr_high"] = start + 1, start + count
            start += count
    if scan is not None:
        with h5py.File(folder / "x.h5", "w") as file:
            group = file.create_group("STEM Metadata")
            group.attrs["NumPixelsY"], group.attrs["NumPixelsX"] = [scan[0]], [scan[1]]
    return stack


def test_master_of_two_parts(tmp_path: Path) -> None:
    stack = write_master(tmp_path, scan=(3, 4))
    with open_stack(tmp_path / "x_master.h5") as reader:
        assert reader.info.shape == (12, 8, 6)
        assert reader.info.scan_shape == (3, 4)
        assert reader.info.metadata["description"] == "a detector"
        assert reader.info.mask is not None
        assert np.argwhere(~reader.info.mask).tolist() == [[2, 3], [5, 1]]
        for step in (1, 5, 12):
            np.testing.assert_array_equal(read_all(reader, step), stack)
        before = reader.fingerprint()
    with h5py.File(tmp_path / "x_data_000002.h5", "a") as file:
        file["entry/data/data"][0] = 0
    with open_stack(tmp_path / "x_master.h5") as reader:
        assert reader.fingerprint() != before


def test_master_whose_scan_shape_does_not_fit(tmp_path: Path) -> None:
    write_master(tmp_path, scan=(3, 5))
    with open_stack(tmp_path / "x_master.h5") as reader:
        assert reader.info.scan_shape == (12,)


def test_incomplete_masters(tmp_path: Path) -> None:
    write_master(tmp_path, promised=16)
    with pytest.raises(DataError, match=r"promises 16 patterns, its 2 parts hold 12 .*x_data_000002\.h5"):
        open_stack(tmp_path / "x_master.h5")
    with open_stack(tmp_path / "x_master.h5", scan_shape=(3, 4)) as reader:
        assert reader.info.scan_shape == (3, 4)
    write_master(tmp_path)
    with h5py.File(tmp_path / "x_data_000002.h5", "a") as file:
        file["entry/data/data"].attrs["image_nr_high"] = 14
    with pytest.raises(DataError, match=r"part x_data_000002\.h5 .* holds 5 patterns, its header says 7"):
        open_stack(tmp_path / "x_master.h5")
    content = (tmp_path / "x_data_000002.h5").read_bytes()
    (tmp_path / "x_data_000002.h5").write_bytes(content[:1000])
    with pytest.raises(DataError, match=r"part x_data_000002\.h5 .* cannot be read"):
        open_stack(tmp_path / "x_master.h5")
    (tmp_path / "x_data_000002.h5").unlink()
    with pytest.raises(DataError, match=r"part x_data_000002\.h5 .* is missing; copy it beside the master"):
        open_stack(tmp_path / "x_master.h5")


def test_damaged_chunk_names_the_patterns(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = file.create_dataset("a", data=SCAN.reshape(12, 5, 6), chunks=(4, 5, 6), compression="gzip")
        chunk = data.id.get_chunk_info(2)
    content = bytearray((tmp_path / "a.h5").read_bytes())
    content[chunk.byte_offset : chunk.byte_offset + chunk.size] = b"\x55" * chunk.size
    (tmp_path / "a.h5").write_bytes(bytes(content))
    with open_stack(tmp_path / "a.h5") as reader:
        out = np.empty((12, 5, 6), "f4")
        reader.read(0, 8, out[:8])
        with pytest.raises(DataError, match=r"patterns 8\.\.11 of .*a\.h5 cannot be read"):
            reader.read(8, 12, out[8:])
