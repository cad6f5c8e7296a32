"""Writers that are interrupted, resumed, or whose disk ends: the same bytes, no work lost, one sentence."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from stackalign.errors import DataError
from stackalign.io import Calibration, create_stack

STACK = np.random.default_rng(1).integers(0, 4000, (60, 17, 19)).astype("u2")
METADATA = {"purpose": "test", "long": "x" * 100_000}
FORMATS = [
    (".npy", None),
    (".pt", None),
    (".h5", None),
    (".emd", "none"),
    (".h5", "lz4"),
    (".hdf5", "zstd"),
    (".h5", "gzip"),
    (".zarr", None),
    (".zarr", "none"),
    (".zarr", "zstd"),
]


COMPRESSED = [(".h5", "lz4"), (".emd", "zstd"), (".h5", "gzip"), (".zarr", "zstd")]


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several shards and chunks, as a large output would have."""
    monkeypatch.setattr("stackalign.io.zarr_writer._SHARD_BYTES", 9000)
    monkeypatch.setattr("stackalign.io.zarr_writer._CHUNK_BYTES", 2000)
    monkeypatch.setattr("stackalign.io.hdf5_writer._CHUNK_BYTES", 2000)


def digest(path: Path) -> str:
    found = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            found.update(str(file.relative_to(path)).encode() + file.read_bytes())
    return found.hexdigest()


@pytest.mark.parametrize(("extension", "compression"), FORMATS)
@pytest.mark.parametrize("seed", [0, 1])
def test_several_interruptions(extension: str, compression: str | None, seed: int, tmp_path: Path) -> None:
    """Blocks of any sizes, checkpoints anywhere, work lost behind some: the same bytes, and nothing is done twice."""
    rng = np.random.default_rng(seed)
    options: dict[str, Any] = {
        "compression": compression,
        "calibration": Calibration((0.1, 0.25), "1/nm", (3.0, 4.5), (2.0, 3.0), "nm"),
        "scan_shape": (5, 12),
    }
    final = tmp_path / f"x{extension}"
    writer = create_stack(tmp_path / "whole", STACK.shape, STACK.dtype, final_path=final, **options)
    writer.write(STACK)
    writer.finish(METADATA)
    path, state, done = tmp_path / "cut", None, 0
    while done < len(STACK):
        writer = create_stack(path, STACK.shape, STACK.dtype, final_path=final, resume=state, **options)
        for _ in range(int(rng.integers(1, 4))):
            for _ in range(int(rng.integers(1, 4))):
                size = int(rng.integers(0, 9))
                writer.write(STACK[done : done + size])
                done = min(len(STACK), done + size)
            state = json.loads(json.dumps(writer.checkpoint()))
            assert state["patterns"] == done
        writer.write(STACK[done : done + int(rng.integers(0, 30))])
        writer.close()
    writer = create_stack(path, STACK.shape, STACK.dtype, final_path=final, resume=state, **options)
    writer.finish(METADATA)
    assert digest(tmp_path / "whole") == digest(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cut", "whole"]


@pytest.mark.parametrize("compression", ["none", "lz4"])
@pytest.mark.parametrize("part", [0, 1, 2])
def test_killed_while_the_structure_is_written(
    compression: str, part: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"compression": compression, "final_path": "x.h5", "scan_shape": (3, 20)}
    writer = create_stack(tmp_path / "whole", STACK.shape, "u2", **options)
    writer.write(STACK)
    writer.finish(METADATA)
    writer = create_stack(tmp_path / "cut", STACK.shape, "u2", **options)
    writer.write(STACK[:45])
    state = writer.checkpoint()
    writer.write(STACK[45:])
    calls: list[int] = []

    def stop(fd: int, view: memoryview, position: int) -> None:
        if len(calls) == part:
            raise KeyboardInterrupt
        calls.append(os.pwrite(fd, view, position))

    with monkeypatch.context() as patch:
        patch.setattr("stackalign.io._hdf5_memory.pwrite_all", stop)
        with pytest.raises(KeyboardInterrupt):
            writer.finish(METADATA)
    writer.close()
    writer = create_stack(tmp_path / "cut", STACK.shape, "u2", resume=state, **options)
    writer.write(STACK[45:])
    writer.finish(METADATA)
    assert digest(tmp_path / "whole") == digest(tmp_path / "cut")


def test_an_index_of_several_pages(tmp_path: Path) -> None:
    """From 1024 chunks on HDF5 stores the list of chunks in pages."""
    cut = 1100
    stack = np.random.default_rng(3).integers(0, 9, (2100, 32, 32)).astype("u2")
    options: dict[str, Any] = {"compression": "lz4", "final_path": "x.h5", "scan_shape": (2100,)}
    writer = create_stack(tmp_path / "whole", stack.shape, "u2", **options)
    writer.write(stack)
    writer.finish(METADATA)
    writer = create_stack(tmp_path / "cut", stack.shape, "u2", **options)
    writer.write(stack[:cut])
    state = writer.checkpoint()
    writer.close()
    writer = create_stack(tmp_path / "cut", stack.shape, "u2", resume=state, **options)
    writer.write(stack[cut:])
    writer.finish(METADATA)
    assert digest(tmp_path / "whole") == digest(tmp_path / "cut")
    with h5py.File(tmp_path / "cut") as file:
        np.testing.assert_array_equal(file["data/datacube/data"][()], stack)


@pytest.mark.parametrize(("extension", "compression"), COMPRESSED)
def test_what_waits_for_its_block_is_checked(extension: str, compression: str, tmp_path: Path) -> None:
    path, final = tmp_path / "part", tmp_path / f"x{extension}"
    options: dict[str, Any] = {"compression": compression, "final_path": final, "scan_shape": (60,)}
    writer = create_stack(path, STACK.shape, "u2", **options)
    writer.write(STACK[:16])
    state = writer.checkpoint()
    writer.close()
    assert 0 < state["stored"] < 16
    waiting = tmp_path / "part.waiting"
    for damage in (b"", waiting.read_bytes()[:-1], waiting.read_bytes()[:-1] + b"x"):
        waiting.write_bytes(damage)
        with pytest.raises(DataError, match="start again without resuming"):
            create_stack(path, STACK.shape, "u2", resume=state, **options)
    for wrong in ({"stored": 3}, {"stored": -1}, {"stored": 17}, {"waiting_crc32": None}, {"stored": "3"}):
        with pytest.raises(DataError, match=r"does not fit it .* start again without resuming"):
            create_stack(path, STACK.shape, "u2", resume={**state, **wrong}, **options)


def test_a_changed_list_of_chunks(tmp_path: Path) -> None:
    path, options = tmp_path / "part", {"compression": "lz4", "final_path": "x.h5", "scan_shape": (60,)}
    writer = create_stack(path, STACK.shape, "u2", **options)  # type: ignore[arg-type]
    writer.write(STACK[:40])
    state = writer.checkpoint()
    writer.close()
    chunks = tmp_path / "part.chunks"
    content = chunks.read_bytes()
    for damage in (content[:-24], content[:-30], content[:8] + b"\1" + content[9:]):
        chunks.write_bytes(damage)
        with pytest.raises(DataError, match="it was changed since; start again without resuming"):
            create_stack(path, STACK.shape, "u2", resume=state, **options)  # type: ignore[arg-type]
    chunks.unlink()
    with pytest.raises(DataError, match=r"the list of chunks of .* cannot be read"):
        create_stack(path, STACK.shape, "u2", resume=state, **options)  # type: ignore[arg-type]


def test_chunks_that_do_not_shrink(tmp_path: Path) -> None:
    """Noise, whose compressed chunks are longer than the numbers."""
    noise = np.random.default_rng(2).bytes(STACK.nbytes)
    stack = np.frombuffer(noise, STACK.dtype).reshape(STACK.shape)
    options: dict[str, Any] = {"compression": "gzip", "final_path": "x.h5", "scan_shape": (60,)}
    for name, cut in (("a", None), ("b", 33)):
        writer = create_stack(tmp_path / name, STACK.shape, "u2", **options)
        if cut is not None:
            writer.write(stack[:cut])
            state = writer.checkpoint()
            writer.close()
            writer = create_stack(tmp_path / name, STACK.shape, "u2", resume=state, **options)
        writer.write(stack[cut or 0 :])
        writer.finish({})
    assert digest(tmp_path / "a") == digest(tmp_path / "b")
    with h5py.File(tmp_path / "b") as file:
        data = file["data/datacube/data"]
        assert data.id.get_storage_size() > stack.nbytes
        np.testing.assert_array_equal(data[()], stack)


def test_a_shard_that_was_being_written(tmp_path: Path) -> None:
    path, options = tmp_path / "a.zarr", {"scan_shape": (60,)}
    writer = create_stack(path, STACK.shape, "u2", **options)  # type: ignore[arg-type]
    writer.write(STACK[:50])
    state = writer.checkpoint()
    writer.close()
    (path / "c" / "0" / "0" / "0.0123abcd.partial").write_bytes(b"half")
    writer = create_stack(path, STACK.shape, "u2", resume=state, **options)  # type: ignore[arg-type]
    writer.write(STACK[50:])
    writer.finish({})
    assert not list(path.rglob("*.partial"))


# Limits on the size of a file, in the middle of the data and of the structure at the end.
FAILING_WRITES = """
import resource, sys, numpy as np
from pathlib import Path
from stackalign.errors import DataError
from stackalign.io import create_stack
from stackalign.io._hdf5_memory import write_datasets
from stackalign.io._writer import full_disk_as_data_error
from stackalign.io.images import write_images
stack = np.random.default_rng(0).poisson(3, (128, 64, 64)).astype("u2")
for limit in (0, 90, 3000, 100_000, 420_000):
    for name in ("lz4.h5", "zstd.emd", "gzip.h5", "none.h5", "images.hdf5", "datasets.h5"):
        compression = name.partition(".")[0]
        for checkpoints in (False, True):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            path = Path(sys.argv[1]) / f"{limit}{checkpoints}{name}"
            try:
                if compression == "images":
                    write_images(path, stack)
                elif compression == "datasets":
                    with full_disk_as_data_error(path, str(path)):
                        write_datasets(path, {"a": stack, "name": np.array(["x", "y"])})
                else:
                    w = create_stack(path, stack.shape, "u2", scan_shape=(128,), compression=compression)
                    for k in range(0, 128, 16):
                        w.write(stack[k : k + 16])
                        if checkpoints:
                            w.checkpoint()
                    w.finish({"long": "x" * 300_000})
                answer = "done"
            except DataError as error:
                answer = str(error)
            print(answer)
"""


def test_failing_writes_of_hdf5(tmp_path: Path) -> None:
    """HDF5 that meets a failing write may abort the interpreter when it is closed; here it meets none."""
    done = subprocess.run(
        [sys.executable, "-c", FAILING_WRITES, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    answers = done.stdout.splitlines()
    assert len(answers) == 60
    assert all("cannot be written (File too large)" in answer for answer in answers), answers
