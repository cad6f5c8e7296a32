"""Chunks of a store are decoded once, whatever the blocks; what does not fit is named."""

import math
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr

from stackalign.chunks import ChunkPlan, read_chunks
from stackalign.crop import CroppingConfig, crop_file
from stackalign.errors import DataError
from stackalign.io import open_stack
from stackalign.io._shapes import interpret_shape
from stackalign.io._units import ScanGrid, UnitReader

LAYOUTS = [
    ((50, 6, 5), (7, 6, 5)),
    ((50, 6, 5), (50, 3, 2)),
    ((50, 6, 5), (1, 6, 5)),
    ((13, 1, 6, 5), (4, 1, 6, 5)),
    ((6, 9, 6, 5), (1, 4, 6, 5)),
    ((6, 9, 6, 5), (6, 2, 3, 5)),
    ((7, 9, 6, 5), (3, 4, 4, 4)),
    ((7, 9, 6, 5), (2, 9, 6, 5)),
    ((1, 9, 6, 5), (1, 5, 6, 5)),
    ((9, 1, 6, 5), (4, 1, 6, 5)),
]


def store(path: Path, shape: tuple[int, ...], chunks: tuple[int, ...]) -> np.ndarray:
    data = np.arange(math.prod(shape), dtype="u2").reshape(shape)
    if path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            file.create_dataset("d", data=data, chunks=chunks, compression="gzip")
    else:
        zarr.create_array(path, shape=shape, chunks=chunks, dtype="u2")[:] = data
    return data.reshape(-1, *shape[-2:])


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, tuple[int, ...]]]:
    """Selections that the stores were asked for."""
    found: list[tuple[Any, tuple[int, ...]]] = []
    for module, name in (("hdf5", "ChunkedReader"), ("zarr_store", "_ZarrReader")):
        reader = getattr(__import__(f"stackalign.io.{module}", fromlist=[name]), name)
        original = reader._fetch

        def count(self: Any, index: Any, out: np.ndarray, original: Any = original) -> None:
            found.append((index, out.shape))
            original(self, index, out)

        monkeypatch.setattr(reader, "_fetch", count)
    return found


def chunks_touched(selections: list[Any], shape: tuple[int, ...], chunks: tuple[int, ...]) -> int:
    """How often a chunk is decoded along the scan axes."""
    total = 0
    for index, _ in selections:
        scan = [(k, k + 1) if isinstance(k, int) else (k.start, k.stop) for k in index]
        total += math.prod(-(-high // c) - low // c for (low, high), c in zip(scan, chunks, strict=False))
    return total


@pytest.mark.parametrize(("shape", "chunks"), LAYOUTS)
@pytest.mark.parametrize("name", ["a.h5", "a.zarr"])
def test_each_chunk_once(
    name: str, shape: tuple[int, ...], chunks: tuple[int, ...], tmp_path: Path, fetched: list[Any]
) -> None:
    expected = store(tmp_path / name, shape, chunks)
    units = math.prod(-(-n // c) for n, c in zip(shape[:-2], chunks[:-2], strict=True))
    for step in (1, 3, 4, 10, 50):
        fetched.clear()
        with open_stack(tmp_path / name, read_timeout=0) as reader:
            assert isinstance(reader, UnitReader)
            out = np.zeros_like(expected)
            for start in range(0, len(out), step):
                reader.read(start, min(start + step, len(out)), out[start : start + step])
        np.testing.assert_array_equal(out, expected)
        assert chunks_touched(fetched, shape, chunks) == units


@pytest.mark.parametrize(("shape", "chunks"), LAYOUTS)
def test_any_order(shape: tuple[int, ...], chunks: tuple[int, ...], tmp_path: Path, rng: np.random.Generator) -> None:
    """With and without room for what is decoded together, here and in the other process."""
    expected = store(tmp_path / "a.h5", shape, chunks)
    for timeout in (0, None):
        with open_stack(tmp_path / "a.h5", read_timeout=timeout) as reader:
            if timeout == 0 and hasattr(reader, "_kept"):
                reader._kept = min(reader._kept, 1)
            for _ in range(20):
                start, stop = sorted(rng.integers(0, len(expected) + 1, 2))
                out = np.empty((stop - start, *expected.shape[1:]), "u2")
                reader.read(int(start), int(stop), out)
                np.testing.assert_array_equal(out, expected[start:stop])


@pytest.mark.parametrize(("shape", "chunks"), LAYOUTS)
def test_bands(shape: tuple[int, ...], chunks: tuple[int, ...]) -> None:
    """No chunk has patterns on both sides of a place where a band begins."""
    layout = interpret_shape(shape, "a")
    grid = ScanGrid.of(layout, chunks)
    count = layout.shape[0]
    numbers = np.arange(count).reshape(shape[:2] if len(shape) == 4 and shape[1] > 1 else (1, count))
    c = chunks[:2] if numbers.shape[0] > 1 or shape[0] == 1 else (1, chunks[0])
    rows, columns = np.indices(numbers.shape)
    unit = (rows // c[0] * 1000 + columns // c[1]).ravel()
    for k in range(count + 1):
        low, high = grid.floor(k), grid.ceil(k)
        assert low <= k <= high <= count
        for place in (low, high):
            assert not set(unit[:place]) & set(unit[place:])


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    """A chunk above the limit is refused when it is opened, a band of chunks when it is read from front to back."""
    for name in ("a.h5", "a.zarr"):
        store(tmp_path / name, (1024, 32, 64), (1024, 32, 64))  # 4 MiB
        with pytest.raises(DataError, match=r"chunks \(1024, 32, 64\) .*4194304 bytes each.*limit of 2097152"):
            open_stack(tmp_path / name, memory_limit=2 << 20)
        with open_stack(tmp_path / name, memory_limit=8 << 20) as reader:
            assert reader.info.chunk is not None
            assert not reader.info.chunk.fits
            out = np.empty((1, 32, 64), "u2")
            reader.read(500, 501, out)  # one at a time is no trouble
            with pytest.raises(DataError, match=r"chunks \(1024, 32, 64\) of .* hold 1024 patterns .*12\.6 MB"):
                next(read_chunks(reader, ChunkPlan(1024, 100)))
            next(read_chunks(reader, ChunkPlan(1024, 1024)))  # whole chunks need not be held
        config = CroppingConfig(visualization=False, memory_limit=8 << 20)
        with pytest.raises(DataError, match=r"chunks \(1024, 32, 64\)"):
            crop_file(tmp_path / name, tmp_path / "o.npy", config)


def test_plan_leaves_room_for_the_chunks(tmp_path: Path) -> None:
    from stackalign.crop.budget import chunk_plan

    store(tmp_path / "a.h5", (1024, 32, 64), (512, 32, 64))
    store(tmp_path / "b.h5", (1024, 32, 64), (4, 32, 64))
    limit = 12 << 20
    sizes = []
    for name in ("a.h5", "b.h5"):
        with open_stack(tmp_path / name, memory_limit=limit) as reader:
            chunk = reader.info.chunk
            assert chunk is not None
            plan = chunk_plan(reader, CroppingConfig(chunk_size=1024), limit)
            sizes.append(plan.size)
            assert chunk.nbytes + 5 * plan.size * reader.info.pattern_bytes + 160 * 1024 <= limit
    assert sizes[0] < sizes[1]
