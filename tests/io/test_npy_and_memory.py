"""NumPy files, arrays in memory, and the rules on shapes and dtypes that all formats share."""

import os
import tracemalloc
from pathlib import Path
from typing import Any

import dask.array
import h5py
import numpy as np
import pytest
import zarr

from stackalign.errors import DataError
from stackalign.io import open_array, open_stack

SUMS = np.arange(24 * 5 * 6).reshape(24, 5, 6)


def read_all(reader: Any) -> np.ndarray:
    out = np.empty(reader.info.shape, reader.info.dtype)
    reader.read(0, len(out), out)
    return out


@pytest.mark.parametrize(
    ("shape", "match"),
    [
        ((8,), r"1 axes \(8,\); expected \(N, H, W\)"),
        ((8, 9), "a single pattern needs a leading axis of length 1"),
        ((2, 3, 4, 5, 6), "5 axes"),
        ((0, 4, 5), "holds no data"),
        ((3, 0, 5), "holds no data"),
        ((3, 4, 0), "holds no data"),
    ],
)
def test_refused_shapes(shape: tuple[int, ...], match: str, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(shape))
    if len(shape) != 2:  # a file may hold one image
        with pytest.raises(DataError, match=match):
            open_stack(tmp_path / "a.npy")
    with pytest.raises(DataError, match=match):
        open_array(np.zeros(shape))


@pytest.mark.parametrize("dtype", ["c8", "c16", "O", "U3", "S2", "M8[s]", "longdouble", "u2,f4"])
def test_refused_dtypes(dtype: str, tmp_path: Path) -> None:
    array = np.zeros((2, 3, 4), np.dtype(dtype))
    with pytest.raises(DataError, match="has the dtype"):
        open_array(array)
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(DataError, match=r"a\.npy has the dtype"):
        open_stack(tmp_path / "a.npy")


@pytest.mark.parametrize("code", ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8", "?"])
@pytest.mark.parametrize("order", "<>")
def test_dtypes_and_byte_orders(code: str, order: str, tmp_path: Path) -> None:
    array = (SUMS % 100).astype(np.dtype(code).newbyteorder(order))
    np.save(tmp_path / "a.npy", array)
    expected = np.dtype("u1") if code == "?" else np.dtype(code)
    for reader in (open_stack(tmp_path / "a.npy"), open_array(array)):
        with reader:
            assert reader.info.dtype == expected
            assert reader.info.nbytes == SUMS.size * expected.itemsize
            np.testing.assert_array_equal(read_all(reader), array.astype(expected))


def test_header_of_version_2_and_3(tmp_path: Path) -> None:
    for version, readable in (((2, 0), True), ((3, 0), False)):
        with (tmp_path / "a.npy").open("wb") as file:
            np.lib.format.write_array(file, SUMS, version=version)
        if readable:
            with open_stack(tmp_path / "a.npy") as reader:
                np.testing.assert_array_equal(read_all(reader), SUMS)
        else:
            with pytest.raises(DataError, match=r"version 3\.0"):
                open_stack(tmp_path / "a.npy")


def test_fortran_order_above_the_limit(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.asfortranarray(SUMS))
    with pytest.raises(DataError, match=r"Fortran order .* memory limit of 1000; save it again"):
        open_stack(tmp_path / "a.npy", memory_limit=1000)


@pytest.mark.parametrize("axes", [(24, 5, 6), (24, 1, 5, 6), (4, 6, 5, 6)], ids=["series", "channel", "scan"])
def test_arrays_that_can_be_sliced(axes: tuple[int, ...], tmp_path: Path) -> None:
    array = SUMS.reshape(axes).astype("u2")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"] = array
        stored = zarr.create_array(str(tmp_path / "a.zarr"), shape=axes, dtype="u2", chunks=(2, *axes[1:]))
        stored[...] = array
        strided = np.zeros((*axes[:-1], 12), "u2")[..., ::2]
        strided[...] = array
        for source in (array, file["a"], stored, dask.array.from_array(array), strided, array.tolist()):
            reader = open_array(source)
            assert reader.path is None
            assert reader.info.channel_axis == (axes[1] == 1)
            assert reader.info.scan_shape == ((4, 6) if axes[0] == 4 else (24,))
            for start, stop in ((0, 24), (5, 6), (2, 21)):
                out = np.empty((stop - start, 5, 6), reader.info.dtype)
                reader.read(start, stop, out)
                np.testing.assert_array_equal(out, SUMS[start:stop])
            first = reader.fingerprint()
            assert first == reader.fingerprint()
            reader.close()
    changed = array.copy()
    changed[0, 0] += 1
    assert open_array(changed).fingerprint() != open_array(array).fingerprint()


def test_masked_array_is_refused() -> None:
    with pytest.raises(DataError, match="its own mask"):
        open_array(np.ma.masked_less(SUMS, 3))


def test_torch_tensors() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    tensor = torch.from_numpy(SUMS % 100)
    for source in (tensor, tensor.to(torch.bfloat16), tensor.float().requires_grad_(), tensor.reshape(4, 6, 5, 6)):
        np.testing.assert_array_equal(read_all(open_array(source)), SUMS % 100)
    with pytest.raises(DataError, match="complex64"):
        open_array(tensor.to(torch.complex64))


def test_scan_shape_of_a_flat_array() -> None:
    assert open_array(SUMS, scan_shape=(4, 6)).info.scan_shape == (4, 6)
    with pytest.raises(DataError, match=r"24 patterns, which do not fill the scan shape \(5, 5\)"):
        open_array(SUMS, scan_shape=(5, 5))


def test_memory_stays_flat(tmp_path: Path) -> None:
    """A gigabyte of which the disk holds little more than a hole is read in blocks of 4 MiB."""
    path = tmp_path / "a.npy"
    count, side = 4096, 256
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": ">f4", "fortran_order": False, "shape": (count, side, side)}
        )
        os.truncate(path, file.tell() + count * side * side * 4)
        file.seek(-1, os.SEEK_END)
        file.write(b"\x01")
    tracemalloc.start()
    with open_stack(path) as reader:
        block = np.empty((16, side, side), np.float32)
        before = _anonymous_bytes()
        for start in range(0, count, 16):
            reader.read(start, start + 16, block)
        assert _anonymous_bytes() - before < 32 << 20
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < block.nbytes + (1 << 20)


def _anonymous_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    return 0
