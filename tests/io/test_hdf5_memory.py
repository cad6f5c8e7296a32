"""HDF5 files whose structure is made in memory: the same bytes that HDF5 writes to a file object."""

import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from stackalign.io import create_stack
from stackalign.io._hdf5_memory import MemoryFile, taken_chunk, write_array, write_datasets

STACK = np.random.default_rng(4).poisson(3, (700, 24, 20)).astype("u2")


def brought_to_disk(memory: MemoryFile, path: Path, chunks: list[tuple[int, bytes, int]]) -> bytes:
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    for position, content, _ in chunks:
        os.pwrite(fd, content, position)
    memory.write_to(fd)
    os.close(fd)
    return path.read_bytes()


@pytest.mark.parametrize("count", [1, 3, 700])
@pytest.mark.parametrize("alignment", [1, 256])
def test_bytes_of_hdf5_itself(count: int, alignment: int, tmp_path: Path) -> None:
    """With 700 chunks the index has more than one page, and attributes may take places that were free before."""
    options = {"libver": ("v110", "v110"), "alignment_threshold": 500, "alignment_interval": alignment}
    memory = MemoryFile()
    chunks = []
    direct = (tmp_path / "direct").open("w+b")
    for target in (memory, direct):
        with h5py.File(target, "w", rdcc_nbytes=0, rdcc_nslots=0, **options) as file:
            group = file.create_group("a/b")
            group.create_dataset("axis", data=np.arange(70.0), track_times=False)
            data = group.create_dataset(
                "data", (count, 24, 20), "u2", chunks=(1, 24, 20), compression="gzip", track_times=False
            )
            for k in range(count):
                data[k] = STACK[k]
                if target is memory:
                    chunks.append(taken_chunk(memory, data, (k, 0, 0)))
            file.flush()  # what is freed now stays as it is
            del group["axis"]
            group.attrs["text"] = "x" * 70_000
            group.attrs["short"] = "y" * 300
    direct.close()
    assert brought_to_disk(memory, tmp_path / "memory", chunks) == (tmp_path / "direct").read_bytes()


def test_random_writes_against_an_array() -> None:
    rng = np.random.default_rng(0)
    memory, expected = MemoryFile(fallback=lambda position, length: b"\7" * (length // 2)), bytearray(600)
    known = np.zeros(600, bool)
    for _ in range(300):
        position, length = int(rng.integers(0, 500)), int(rng.integers(1, 90))
        content = rng.bytes(length)
        memory.seek(position)
        memory.write(content)
        expected[position : position + length] = content
        known[position : position + length] = True
        if rng.random() < 0.3:
            assert memory.take(position, length) == content
            known[position : position + length] = False
        for k in rng.integers(0, 600, 5):
            memory.seek(int(k))
            found = memory.read(1)
            assert found == (expected[k : k + 1] if known[k] else b"\0")
    assert memory.take(10_000, 4) is None


def test_an_interrupt_inside_hdf5(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in a notebook arrives wherever Python runs: here while HDF5 hands over a chunk."""
    writer = create_stack(tmp_path / "a.h5", STACK.shape, "u2", scan_shape=(700,), compression="lz4")
    real = MemoryFile.write
    calls: list[int] = []

    def interrupted(self: MemoryFile, data: object) -> int:
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return real(self, data)

    monkeypatch.setattr(MemoryFile, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        writer.write(STACK)
    writer.close()
    assert calls


@pytest.mark.parametrize("dtype", ["u2", ">f4", "?", "f2"])
@pytest.mark.parametrize("shape", [(5, 6), (3, 5, 6), (2, 3, 5, 6)])
def test_arrays(dtype: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    array = np.random.default_rng(1).integers(0, 2, shape).astype(dtype)
    write_array(tmp_path / "a.h5", "data", array)
    write_datasets(tmp_path / "b.h5", {"data": array, "name": np.array(["bé", "c"])})
    for name in ("a.h5", "b.h5"):
        with h5py.File(tmp_path / name) as file:
            assert file["data"].dtype == array.dtype
            np.testing.assert_array_equal(file["data"][()], array)
    with h5py.File(tmp_path / "b.h5") as file:
        assert list(file["name"].asstr()) == ["bé", "c"]
