"""Outputs: round trip, resuming after cuts, identical bytes, full disks."""

import hashlib
import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr

from stackalign.errors import DataError
from stackalign.io import Calibration, create_stack, open_stack
from stackalign.io.stacks import readable_extensions, writable_extensions

STACK = np.random.default_rng(1).integers(0, 4000, (60, 17, 19)).astype("u2")
CALIBRATION = Calibration((0.1, 0.25), "1/nm", (3.0, 4.5), (2.0, 3.0), "nm")
LAYOUTS = [((60,), False), ((60,), True), ((3, 20), False), ((30, 2), False), ((3, 4, 5), False)]
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


def blocks(start: int, size: int) -> Iterator[np.ndarray]:
    for k in range(start, len(STACK), size):
        yield STACK[k : k + size]


def write(
    path: Path,
    final: Path,
    *,
    cut: int | None = None,
    lost: int = 11,
    size: int = 7,
    finish_before: bool = False,
    **options: Any,
) -> None:
    """Write the stack; with a cut: checkpoint there, go on for some patterns, give up, resume."""
    arguments = {"final_path": final, "calibration": CALIBRATION, **options}
    start = 0
    writer = create_stack(path, STACK.shape, STACK.dtype, **arguments)
    if cut is not None:
        for block in np.array_split(STACK[:cut], 3):
            writer.write(block)
        state = json.loads(json.dumps(writer.checkpoint()))
        writer.write(STACK[cut : cut + lost])
        if finish_before:
            writer.write(STACK[cut + lost :])
            writer.finish({"another": "z" * 3000})
        writer.close()
        writer = create_stack(path, STACK.shape, STACK.dtype, resume=state, **arguments)
        start = state["patterns"]
        assert start == cut
    for block in blocks(start, size):
        writer.write(block)
    writer.finish({"purpose": "test", "long": "x" * 100_000})


@pytest.mark.parametrize(("extension", "compression"), FORMATS)
@pytest.mark.parametrize(("scan_shape", "channel_axis"), LAYOUTS)
def test_round_trip(
    extension: str, compression: str | None, scan_shape: tuple[int, ...], channel_axis: bool, tmp_path: Path
) -> None:
    if extension == ".pt":
        pytest.importorskip("torch", reason="PyTorch is not installed")
    part, final = tmp_path / "out.part", tmp_path / f"out{extension}"
    write(part, final, scan_shape=scan_shape, channel_axis=channel_axis, compression=compression)
    part.rename(final)
    with open_stack(final) as reader:
        info = reader.info
        assert info.shape == STACK.shape
        assert info.dtype == STACK.dtype
        assert info.channel_axis == channel_axis
        assert info.scan_shape == (scan_shape if len(scan_shape) == 2 else (60,))
        for lo, hi in ((0, 60), (3, 7), (19, 41), (59, 60)):
            out = np.empty((hi - lo, 17, 19), STACK.dtype)
            reader.read(lo, hi, out)
            np.testing.assert_array_equal(out, STACK[lo:hi])
        if extension in (".h5", ".hdf5", ".emd", ".zarr"):
            assert info.calibration is not None
            np.testing.assert_allclose(info.calibration.pixel_size, CALIBRATION.pixel_size)
            np.testing.assert_allclose(info.calibration.origin, CALIBRATION.origin)
            assert info.calibration.units == "1/nm"
            if len(scan_shape) == 2:
                assert info.calibration.scan_step == (2.0, 3.0)


@pytest.mark.parametrize(("extension", "compression"), FORMATS)
@pytest.mark.parametrize("cut", [0, 1, 13, 37, 60])
@pytest.mark.parametrize("finish_before", [False, True])
@pytest.mark.parametrize(("scan_shape", "channel_axis"), LAYOUTS[:3])
def test_resumed_run_gives_the_same_bytes(
    extension: str,
    compression: str | None,
    cut: int,
    finish_before: bool,
    scan_shape: tuple[int, ...],
    channel_axis: bool,
    tmp_path: Path,
) -> None:
    options: dict[str, Any] = {"scan_shape": scan_shape, "channel_axis": channel_axis, "compression": compression}
    write(tmp_path / "whole", tmp_path / f"x{extension}", **options)
    write(
        tmp_path / "cut",
        tmp_path / f"x{extension}",
        cut=cut,
        size=5,
        finish_before=finish_before,
        **options,
    )
    assert digest(tmp_path / "whole") == digest(tmp_path / "cut")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cut", "whole"]


def test_bytes_do_not_depend_on_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a", tmp_path / "x.h5", scan_shape=(60,))
    # HDF5 keeps times in whole seconds; another process a moment later is what a resumed run is.
    code = (
        "import time, sys, numpy as np; from stackalign.io import Calibration, create_stack; time.sleep(1.1)\n"
        "stack = np.random.default_rng(1).integers(0, 4000, (60, 17, 19)).astype('u2')\n"
        "c = Calibration((0.1, 0.25), '1/nm', (3.0, 4.5), (2.0, 3.0), 'nm')\n"
        "w = create_stack(sys.argv[1], stack.shape, 'u2', scan_shape=(60,), final_path='x.h5', calibration=c)\n"
        "w.write(stack); w.finish({'purpose': 'test', 'long': 'x' * 100_000})"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "b")], check=True)
    assert digest(tmp_path / "a") == digest(tmp_path / "b")


def test_metadata_is_kept(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", tmp_path / "a.h5", scan_shape=(3, 20))
    with h5py.File(tmp_path / "a.h5") as file:
        group = file["data/datacube"]
        assert json.loads(group.attrs["stackalign"])["purpose"] == "test"
        assert group.attrs["emd_group_type"] == 1
        assert [group[f"dim{k}"].attrs["name"] for k in range(1, 5)] == ["scan_y", "scan_x", "y", "x"]
        assert group["data"].shape == (3, 20, 17, 19)
    write(tmp_path / "a.zarr", tmp_path / "a.zarr", scan_shape=(3, 20))
    array = zarr.open_array(str(tmp_path / "a.zarr"), mode="r")
    assert array.attrs["stackalign"]["purpose"] == "test"
    assert array.metadata.dimension_names == ("scan_y", "scan_x", "y", "x")


def test_npy_is_plain(tmp_path: Path) -> None:
    write(tmp_path / "a.npy", tmp_path / "a.npy", scan_shape=(3, 20))
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), STACK.reshape(3, 20, 17, 19))


@pytest.mark.parametrize("extension", [".npy", ".h5", ".zarr"])
@pytest.mark.parametrize("dtype", ["u1", "u4", "i8", "f2", "f4", "f8", ">u2"])
def test_dtypes(extension: str, dtype: str, tmp_path: Path) -> None:
    stack = (STACK[:5] % 200).astype(np.dtype(dtype).newbyteorder("="))
    writer = create_stack(tmp_path / f"a{extension}", stack.shape, dtype, scan_shape=(5,))
    writer.write(stack[:, :, ::1])
    writer.finish({})
    with open_stack(tmp_path / f"a{extension}") as reader:
        out = np.empty(stack.shape, reader.info.dtype)
        reader.read(0, 5, out)
        np.testing.assert_array_equal(out, stack)


def test_wrong_calls(tmp_path: Path) -> None:
    writer = create_stack(tmp_path / "a.npy", STACK.shape, "u2", scan_shape=(60,))
    with pytest.raises(ValueError, match=r"takes \(n, 17, 19\) uint16"):
        writer.write(STACK[:, :, :5])
    with pytest.raises(ValueError, match="takes"):
        writer.write(STACK.astype("i4"))
    writer.write(STACK[:40])
    with pytest.raises(ValueError, match="takes 60 patterns, 61 were written"):
        writer.write(STACK[:21])
    with pytest.raises(ValueError, match="has 40 of 60 patterns and cannot be finished"):
        writer.finish({})
    writer.close()
    writer.close()
    with pytest.raises(ValueError, match="is closed"):
        writer.write(STACK[:1])
    with pytest.raises(ValueError, match="do not fit the scan shape"):
        create_stack(tmp_path / "a.npy", STACK.shape, "u2", scan_shape=(7, 7))


def test_refused_outputs(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"output .*a\.tif has no known extension; known are \.npy \.pt"):
        create_stack(tmp_path / "a.tif", STACK.shape, "u2", scan_shape=(60,))
    with pytest.raises(DataError, match="compression 'lzma' is not known"):
        create_stack(tmp_path / "a.h5", STACK.shape, "u2", scan_shape=(60,), compression="lzma")
    for extension in (".npy", ".pt"):
        with pytest.raises(DataError, match="cannot be compressed"):
            create_stack(tmp_path / f"a{extension}", STACK.shape, "u2", scan_shape=(60,), compression="lz4")
    with pytest.raises(DataError, match="cannot be compressed with gzip; choose lz4 or zstd"):
        create_stack(tmp_path / "a.zarr", STACK.shape, "u2", scan_shape=(60,), compression="gzip")
    with pytest.raises(DataError, match="dtype complex64"):
        create_stack(tmp_path / "a.npy", STACK.shape, "c8", scan_shape=(60,))
    assert set(writable_extensions()) <= set(readable_extensions())


@pytest.mark.parametrize("extension", [".npy", ".pt", ".h5", ".zarr"])
def test_resume_that_does_not_fit(extension: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{extension}"
    writer = create_stack(path, STACK.shape, "u2", scan_shape=(60,))
    writer.write(STACK[:30])
    state = writer.checkpoint()
    writer.close()
    if extension == ".pt":
        with pytest.raises(DataError, match="has no checksum"):
            create_stack(path, STACK.shape, "u2", scan_shape=(60,), resume={"format": "pt", "patterns": 3})
    for wrong in ({}, {**state, "format": "other"}, {**state, "patterns": 61}, {**state, "patterns": "3"}):
        with pytest.raises(DataError, match=r"does not fit it .* start again without resuming"):
            create_stack(path, STACK.shape, "u2", scan_shape=(60,), resume=wrong)
    if extension == ".zarr":
        (path / "zarr.json").write_text("{}")
        match = "cannot be read"
    else:
        path.write_bytes(path.read_bytes()[:500])
        match = "it was changed since; start again without resuming"
    with pytest.raises(DataError, match=match):
        create_stack(path, STACK.shape, "u2", scan_shape=(60,), resume=state)
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    with pytest.raises(DataError, match=r"a\..*(is missing|cannot be read)"):
        create_stack(path, STACK.shape, "u2", scan_shape=(60,), resume=state)


@pytest.mark.parametrize("extension", [".npy", ".pt", ".h5", ".zarr"])
def test_unwritable_folder(extension: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    match = rf"output .*a\{extension} cannot be written \(.*\): 38760 bytes are needed"
    with pytest.raises(DataError, match=match):
        create_stack(tmp_path / "file" / f"a{extension}", STACK.shape, "u2", scan_shape=(60,), compression="none")


@pytest.mark.parametrize("extension", [".npy", ".pt", ".h5", ".zarr"])
def test_disk_full(extension: str, tmp_path: Path) -> None:
    """A limit on the size of files, which gives the same kind of error as a full disk; in a process of its own."""
    code = (
        "import resource, sys, numpy as np\n"
        "from stackalign.errors import DataError\n"
        "import stackalign.io.zarr_writer as z\n"
        "from stackalign.io import create_stack\n"
        "import zarr, h5py\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
        "try:\n"
        "    w = create_stack(sys.argv[1], (400, 64, 64), 'u2', scan_shape=(400,), compression='none')\n"
        "    for _ in range(40):\n"
        "        w.write(np.ones((10, 64, 64), 'u2'))\n"
        "    w.finish({})\n"
        "except DataError as error:\n"
        "    print(error)\n"
    )
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    assert limits[0] in (-1, resource.RLIM_INFINITY)
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / f"a{extension}")], capture_output=True, text=True, check=True
    )
    assert f"a{extension} cannot be written (" in done.stdout
    assert "3276800 bytes are needed" in done.stdout
    assert len(done.stdout.strip().splitlines()) == 1
