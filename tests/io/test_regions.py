"""One output written by several processes in regions: the bytes of a writer that goes in order."""

import hashlib
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stackalign.errors import DataError
from stackalign.io import Calibration, RegionTarget, create_stack, region_alignment

STACK = np.random.default_rng(5).integers(0, 3000, (60, 17, 19)).astype("u2")
METADATA = {"purpose": "test", "long": "x" * 70_000}
FORMATS = [(".npy", None), (".h5", None), (".emd", "none"), (".pt", None), (".zarr", None), (".zarr", "zstd")]
LAYOUTS = [((60,), False), ((60,), True), ((3, 20), False), ((30, 2), False), ((1, 60), False)]


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stackalign.io.zarr_writer._SHARD_BYTES", 9000)
    monkeypatch.setattr("stackalign.io.zarr_writer._CHUNK_BYTES", 2000)


def digest(path: Path) -> str:
    found = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            found.update(str(file.relative_to(path)).encode() + file.read_bytes())
    return found.hexdigest()


def in_order(path: Path, final: Path, **options: Any) -> str:
    writer = create_stack(path, STACK.shape, STACK.dtype, final_path=final, **options)
    writer.write(STACK)
    writer.finish(METADATA)
    return digest(path)


def work(target: RegionTarget, start: int, stop: int) -> None:
    """One worker's task: it makes its patterns itself."""
    target.write(start, np.random.default_rng(5).integers(0, 3000, (60, 17, 19)).astype("u2")[start:stop])


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize(("extension", "compression"), FORMATS)
@pytest.mark.parametrize(("scan_shape", "channel_axis"), LAYOUTS)
def test_regions_in_any_order(
    extension: str, compression: str | None, scan_shape: tuple[int, ...], channel_axis: bool, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"scan_shape": scan_shape, "channel_axis": channel_axis, "compression": compression}
    final = tmp_path / f"x{extension}"
    calibration = Calibration((0.1, 0.25), "1/nm", (3.0, 4.5))
    alignment = region_alignment(final, STACK.shape, "u2", **options)
    assert alignment is not None
    options |= {"calibration": calibration, "final_path": final}
    target = RegionTarget.create(tmp_path / "part", STACK.shape, "u2", **options)
    assert target.alignment == alignment
    length = alignment * max(1, 14 // alignment)
    starts = list(range(0, 60, length))
    order = np.random.default_rng(1).permutation(starts)
    for start in order[: len(order) // 2]:
        pickle.loads(pickle.dumps(target)).write(int(start), STACK[start : start + length], durable=False)
    # Interrupted here: what is there stays, and a region may come twice.
    target = RegionTarget.create(tmp_path / "part", STACK.shape, "u2", resume=True, **options)
    for start in order[max(0, len(order) // 2 - 1) :]:
        target.write(int(start), STACK[start : start + length])
    target.finish(METADATA)
    del options["final_path"]
    assert digest(tmp_path / "part") == in_order(tmp_path / "whole", final, **options)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["part", "whole"]


def test_processes(tmp_path: Path) -> None:
    """With shards of full size: 60 patterns fit into one, so that the regions of .zarr are the rows of a large scan."""
    targets = {}
    for extension in (".npy", ".h5", ".zarr"):
        final = tmp_path / f"x{extension}"
        targets[final] = RegionTarget.create(
            tmp_path / f"part{extension}", STACK.shape, "u2", scan_shape=(60,), final_path=final
        )
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        tasks = []
        for target in targets.values():
            step = max(target.alignment, 20)
            tasks += [pool.submit(work, target, k, min(k + step, 60)) for k in range(0, 60, step)]
        for task in tasks:
            task.result()
    for final, target in targets.items():
        target.finish(METADATA)
        assert digest(target.path) == in_order(tmp_path / f"whole{final.suffix}", final, scan_shape=(60,))


def test_formats_without_regions(tmp_path: Path) -> None:
    assert region_alignment("a.h5", STACK.shape, "u2", scan_shape=(60,), compression="lz4") is None
    with pytest.raises(ValueError, match="can be written by one process only; write it in order with create_stack"):
        RegionTarget.create(tmp_path / "a.h5", STACK.shape, "u2", scan_shape=(60,), compression="gzip")
    with pytest.raises(DataError, match="has no known extension"):
        region_alignment("a.xyz", STACK.shape, "u2", scan_shape=(60,))


@pytest.mark.usefixtures("small_shards")
def test_wrong_regions(tmp_path: Path) -> None:
    target = RegionTarget.create(tmp_path / "a.zarr", STACK.shape, "u2", scan_shape=(3, 20))
    k = target.alignment
    assert k > 1
    for start, stop in ((1, k), (0, k - 1), (0, 0), (k, k + 1)):
        with pytest.raises(ValueError, match="does not begin and end at multiples of"):
            target.write(start, STACK[start:stop])
    with pytest.raises(ValueError, match=r"expected \(n, 17, 19\) uint16"):
        target.write(0, STACK[:k].astype("f4"))
    target.write(0, STACK[:k])
    with pytest.raises(ValueError, match=f"has no patterns from {k} on: a region was not written"):
        target.finish({})
    with pytest.raises(DataError, match="cannot be read"):
        RegionTarget.create(tmp_path / "b.zarr", STACK.shape, "u2", scan_shape=(60,), resume=True)
    for extension in (".npy", ".h5"):
        (tmp_path / f"b{extension}").write_bytes(b"short")
        with pytest.raises(DataError, match="it was changed since; start again without resuming"):
            RegionTarget.create(tmp_path / f"b{extension}", STACK.shape, "u2", scan_shape=(60,), resume=True)


def test_full_disk_in_a_worker(tmp_path: Path) -> None:
    target = RegionTarget.create(tmp_path / "a.npy", STACK.shape, "u2", scan_shape=(60,))
    target.path.unlink()
    with pytest.raises(DataError, match=r"output .*a\.npy cannot be written \(No such file or directory\)") as caught:
        target.write(0, STACK[:10])
    assert "No such file" in str(pickle.loads(pickle.dumps(caught.value)))
