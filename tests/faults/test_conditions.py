"""Storage that is full, permissions that are lost, chunks that cannot be read, a device without memory.

As in `test_commands`: the output is complete and right, or absent, and the same command goes on once the cause is gone.
"""

import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from faults.children import DEVICE_CALLS, Fault, run_child
from faults.injected import MAY_MOUNT, mounted
from faults.undisturbed import DONE, MOMENTS, POINTS, SOME, check, content, disturbed, whole, words_of


@pytest.mark.skipif(not MAY_MOUNT, reason="needs the right to mount file systems")
@pytest.mark.parametrize("name", SOME)
def test_disk_full(name: str, place: Path, tmp_path: Path, point) -> None:
    expected = whole(name, place).content
    size = sum(map(len, expected.values()))
    rng = np.random.default_rng([11, *name.encode()])
    for k in range(max(1, POINTS // 2)):
        folder = tmp_path / str(k)
        folder.mkdir()
        with point("disk full"), mounted(folder, max(4096, int(size * rng.uniform(0, 1)))) as grow:
            ended = run_child(words_of(name, place, folder), place / "log.txt")
            assert ended.code == 1, ended.err  # the record comes on top of the output
            assert "cannot be written" in ended.err or "does not fit" in ended.err, ended.err
            grow()
            check(ended, name, place, folder)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs permissions of POSIX")
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("name", SOME)
def test_permission_lost(name: str, moment: str, place: Path, tmp_path: Path, point) -> None:
    rng = np.random.default_rng([12, *name.encode()])
    for k in range(max(1, POINTS // 2)):
        folder = tmp_path / str(k)
        with point("permission lost"):
            ended = disturbed("denied", name, place, folder, rng.uniform(0, 1), moment)
            assert ended.code in (*DONE, 1), ended.err
            check(ended, name, place, folder)


@pytest.mark.parametrize("name", SOME)
def test_chunk_that_cannot_be_read(name: str, place: Path, tmp_path: Path, point) -> None:
    """A damaged chunk in the middle of a compressed input, which is then mended."""
    kinds = {file: place / f"{file}.h5" for file in ("in", "short")}
    for file, path in kinds.items():
        if not path.exists():
            with h5py.File(path, "w") as store:
                data = np.load(place / f"{file}.npy")
                store.create_dataset("data", data=data, chunks=(2, *data.shape[1:]), compression="gzip")
    expected = whole(name, place, ".h5").content
    rng = np.random.default_rng([13, *name.encode()])
    for k in range(max(1, POINTS // 4)):
        folder = tmp_path / str(k)
        with point("chunk unreadable"):
            good = {path: path.read_bytes() for path in kinds.values()}
            for path in good:
                damage(path, rng.uniform(0.1, 0.9))
            ended = run_child(words_of(name, place, folder, extension=".h5"), place / "log.txt")
            for path, data in good.items():
                path.write_bytes(data)
            assert ended.plain, ended.err
            assert ended.code == 1, ended.err
            assert "cannot be read" in ended.err, ended.err
            assert not (folder / name).exists()
            words = words_of(name, place, folder, "--resume", "--overwrite", extension=".h5")
            again = run_child(words, place / "log.txt")
            assert again.code in DONE, again.err
            assert content(folder / name) == expected


def damage(path: Path, share: float) -> None:
    """Overwrite one of the stored chunks."""
    with h5py.File(path) as store:
        data = store["data"].id
        chunk = data.get_chunk_info(int(share * data.get_num_chunks()))
    with path.open("r+b") as stream:
        stream.seek(chunk.byte_offset)
        stream.write(b"\xff" * chunk.size)


@pytest.mark.parametrize("name", SOME)
def test_device_out_of_memory(name: str, place: Path, tmp_path: Path, point) -> None:
    """Once: smaller pieces do, and that is said. From then on: one sentence, and what was done is kept."""
    whole(name, place)
    counted = run_child(words_of(name, place, tmp_path / "counted"), place / "log.txt", Fault(device_call=10**9))
    calls = int(counted.err.rpartition(DEVICE_CALLS)[2])
    assert calls > 1
    rng = np.random.default_rng([14, *name.encode()])
    for k in range(max(2, POINTS // 2)):
        folder = tmp_path / str(k)
        with point("device out of memory"):
            fault = Fault(device_call=int(rng.integers(calls)), device_calls=(1, 10**9)[k % 2])
            ended = run_child(words_of(name, place, folder), place / "log.txt", fault)
            assert "memory" in ended.err, ended.err
            assert ended.code in DONE or (ended.code == 1 and "choose another --device" in ended.err), ended.err
            check(ended, name, place, folder)
