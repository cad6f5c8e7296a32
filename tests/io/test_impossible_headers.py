"""Headers that promise what is not there: data that nobody wrote, and sizes that nothing can have."""

import contextlib
import json
import os
import resource
import struct
import zipfile
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
import zarr
from zarr.storage import ZipStore

from stackalign.errors import DataError
from stackalign.io import open_stack
from stackalign.io._reader import damage_as_data_error
from stackalign.io.images import open_images

HUGE = 10**6


def npy_header(path: Path, shape: tuple[int, ...], size: int | None = None) -> Path:
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<u2", "fortran_order": False, "shape": shape})
        if size is not None:
            file.truncate(size)
    return path


@pytest.mark.parametrize("chunks", [None, (1, 100, 100), (1, 1000, 1000)])
@pytest.mark.parametrize("shape", [(HUGE, 1000, 1000), (1000, 1000, 100, 100)])
def test_hdf5_never_written(chunks: tuple[int, ...] | None, shape: tuple[int, ...], tmp_path: Path) -> None:
    if chunks is not None and len(shape) == 4:
        chunks = (1, *(min(c, 100) for c in chunks))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("d", shape, "u2", chunks=chunks)
        if chunks is not None:
            dataset[0 if len(shape) == 3 else (0, 0)] = 1  # far too few
    assert (tmp_path / "a.h5").stat().st_size < 1 << 25
    for timeout in (None, 0):
        with pytest.raises(DataError, match=r"a\.h5:/d was never written: .* (none|\d+ of \d+ chunks) exist"):
            open_stack(tmp_path / "a.h5", read_timeout=timeout)


def test_interrupted_acquisition(tmp_path: Path) -> None:
    """A hundredth of the chunks is there: it is read, the rest as zeros."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("d", (500, 6, 5), "u2", chunks=(1, 6, 5))[:5] = 7
    zarr.create_array(tmp_path / "a.zarr", shape=(500, 6, 5), chunks=(1, 6, 5), dtype="u2")[:5] = 7
    for name in ("a.h5", "a.zarr"):
        with open_stack(tmp_path / name) as reader:
            out = np.empty((500, 6, 5), "u2")
            reader.read(0, 500, out)
        assert (out[:5] == 7).all()
        assert not out[5:].any()


@pytest.mark.parametrize("version", [2, 3])
def test_zarr_never_written(version: int, tmp_path: Path) -> None:
    shape, chunks = (HUGE, 100, 100), (10, 100, 100)
    array = zarr.create_array(tmp_path / "a.zarr", shape=shape, chunks=chunks, dtype="u2", zarr_format=version)
    with pytest.raises(DataError, match=r"never written: .*none exist"):
        open_stack(tmp_path / "a.zarr")
    array[0] = 1
    with pytest.raises(DataError, match=r"never written: .* 1 of 100000 chunks exist"):
        open_stack(tmp_path / "a.zarr")
    with ZipStore(tmp_path / "a.zip", mode="w") as store:
        zarr.create_array(store, shape=(100, 9, 9), chunks=(10, 9, 9), dtype="u2", zarr_format=version)
    with pytest.raises(DataError, match="never written"):
        open_stack(tmp_path / "a.zip")


def test_holes(tmp_path: Path) -> None:
    """A file system that keeps holes tells that nothing is behind the header."""
    path = npy_header(tmp_path / "a.npy", (4096, 64, 128), 128 + 4096 * 64 * 128 * 2)
    if path.stat().st_blocks * 512 > 1 << 20:
        pytest.skip("this file system keeps no holes")
    with pytest.raises(DataError, match=r"a\.npy was never written"):
        open_stack(path)
    raw = tmp_path / "a.bin"
    raw.touch()
    os.truncate(raw, 1 << 26)
    with pytest.raises(DataError, match=r"a\.bin was never written"):
        open_stack(raw, shape=(4096, 64, 128), dtype="u2")
    with path.open("r+b") as file:
        file.seek(-9, os.SEEK_END)
        file.write(b"\x01")
    assert open_stack(path).info.shape == (4096, 64, 128)


@pytest.mark.parametrize("shape", [(3, HUGE, HUGE), (3, 2**62, 4), (2**62, 9, 9), (3, 0, 5), (0, 4, 4), (3, 4, -1)])
@pytest.mark.parametrize("kind", ["npy", "zarr2", "zarr3", "raw", "npz"])
def test_impossible_shapes(kind: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    options: dict[str, object] = {}
    path = tmp_path / "a.npy"
    if kind in ("npy", "npz"):
        npy_header(path, shape)
        with path.open("ab") as file:
            file.write(b"\1" * 1000)
        if kind == "npz":
            with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
                archive.write(path, "d.npy")
            path = tmp_path / "a.npz"
    elif kind == "raw":
        path, options = tmp_path / "a.bin", {"shape": shape, "dtype": "u2"}
        path.write_bytes(b"\1" * 1000)
    else:
        path, version = tmp_path / "a.zarr", int(kind[-1])
        zarr.create_array(path, shape=(3, 4, 5), chunks=(1, 4, 5), dtype="u2", zarr_format=version)[:] = 1
        header = path / ("zarr.json" if version == 3 else ".zarray")
        fields = json.loads(header.read_text())
        fields["shape"] = shape
        if version == 3:
            fields["chunk_grid"]["configuration"]["chunk_shape"] = [abs(n) or 1 for n in shape]
        else:
            fields["chunks"] = [abs(n) or 1 for n in shape]
        header.write_text(json.dumps(fields))
    with pytest.raises(DataError) as caught:
        open_stack(path, **options)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_hdf5_impossible_frames(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("d", (3, HUGE, HUGE), "u2", chunks=(1, 100, 100))[0, 0, 0] = 1
    with pytest.raises(DataError, match=r"patterns of 1000000 x 1000000 pixels, 1863 GiB each"):
        open_stack(tmp_path / "a.h5")


TAGS = ("ImageWidth", "ImageLength", "RowsPerStrip", "BitsPerSample", "SamplesPerPixel", "StripOffsets",
        "StripByteCounts", "TileWidth", "TileLength", "TileOffsets", "TileByteCounts")  # fmt: skip


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("layout", ["plain", "zlib", "tiled", "strips", "single"])
@pytest.mark.parametrize("big", [False, True])
def test_tiff_of_zeros(tag: str, layout: str, big: bool, tmp_path: Path) -> None:
    """One field of the first page is zero: neither a division by it, nor a frame of zeros."""
    path = tmp_path / "a.tif"
    frames = np.arange(1, 1 + 4 * 32 * 32, dtype="u2").reshape(4, 32, 32)
    options = {
        "plain": {}, "zlib": {"compression": "zlib"}, "tiled": {"tile": (16, 16), "compression": "zlib"},
        "strips": {"rowsperstrip": 8, "compression": "zlib"}, "single": {"rowsperstrip": 8},
    }[layout]  # fmt: skip
    tifffile.imwrite(
        path, frames[0] if layout == "single" else frames, photometric="minisblack", bigtiff=big, **options
    )
    with tifffile.TiffFile(path) as tiff:
        found = tiff.pages[0].tags.get(tag)
        if found is None:
            return
        size = struct.calcsize(f"={found.count}{tifffile.TIFF.DATA_FORMATS[found.dtype][-1]}")
        position = found.valueoffset
    with path.open("r+b") as file:
        file.seek(position)
        file.write(b"\0" * size)
    for opener in (open_stack, open_images):
        with pytest.raises(DataError) as caught, opener(path) as reader:
            reader.read(0, 1, np.empty((1, *reader.info.shape[1:]), reader.info.dtype))
        assert "ZeroDivision" not in str(caught.value) or tag not in ("ImageWidth", "ImageLength")


def test_own_faults_are_not_reported_as_damage() -> None:
    for fault in (lambda: None.nothing, lambda: len(3), lambda: [][0]):  # type: ignore[attr-defined, arg-type]
        with pytest.raises(DataError), damage_as_data_error("a.x", "the file"):
            fault()  # of this module, as of any other that is not the package
    from stackalign.io import _shapes

    with pytest.raises(AttributeError), damage_as_data_error("a.x", "the file"):
        _shapes.handed_out_dtype(None, "a.x")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="asks for more memory"), damage_as_data_error("a.x", "the file"):
        raise MemoryError
    with pytest.raises(DataError, match="ZeroDivisionError"), damage_as_data_error("a.x", "the file"):
        1 / 0  # noqa: B018


def test_zarr_files_of_an_impossible_size(tmp_path: Path) -> None:
    """Zarr reads a chunk and a description whole, whatever their size."""
    path = tmp_path / "a.zarr"
    zarr.create_array(path, shape=(3, 4, 5), chunks=(1, 4, 5), dtype="u2")[:] = 1
    chunk = path / "c" / "1" / "0" / "0"
    os.truncate(chunk, 1 << 33)
    with pytest.raises(DataError, match=r"is damaged: 0 has 8589934592 bytes, more than any of its chunks"):
        open_stack(path)
    os.truncate(path / "zarr.json", 1 << 33)
    with pytest.raises(DataError, match=r"description zarr\.json has 8589934592 bytes"):
        open_stack(path)


def test_compressed_pages_that_never_end(tmp_path: Path) -> None:
    """A strip of zeros that grows a thousandfold is decoded where memory is bounded."""
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((3, 32, 32), "u1"), compression="zlib", photometric="minisblack")
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        tags = tiff.pages[1].tags
        offset, count = tags["StripOffsets"].valueoffset, tags["StripByteCounts"].valueoffset
    packer = zlib.compressobj(9)
    bomb = b"".join([*(packer.compress(bytes(1 << 20)) for _ in range(256)), packer.flush()])
    content = bytearray((tmp_path / "a.tif").read_bytes())
    struct.pack_into("<I", content, offset, len(content))
    struct.pack_into("<I", content, count, len(bomb))
    (tmp_path / "a.tif").write_bytes(bytes(content) + bomb)
    with open_stack(tmp_path / "a.tif", memory_limit=1 << 20) as reader:
        out = np.empty((1, 32, 32), "u1")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with contextlib.suppress(DataError):
            reader.read(1, 2, out)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000
        reader.read(2, 3, out)
