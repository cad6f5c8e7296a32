"""Paths that are no ordinary files, and files beside others that are none."""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from stackalign.diffraction.files import diffread, open_frames
from stackalign.errors import DataError
from stackalign.io import is_sidecar, open_stack
from stackalign.io.images import open_images, read_image
from stackalign.refine import Crystal, read_dat

FRAMES = np.arange(4 * 5 * 6, dtype="u2").reshape(4, 5, 6)
DOORS: dict[str, Callable[[Path], Any]] = {
    "stack": open_stack, "images": open_images, "frames": open_frames, "diffread": diffread, "image": read_image,
    "raw": lambda path: open_stack(path, shape=(4, 5, 6), dtype="u2"), "cif": Crystal.from_cif, "dat": read_dat,
}  # fmt: skip


def make(kind: str, path: Path) -> Path:
    if kind == "a named pipe":
        os.mkfifo(path)
    elif kind == "a socket":
        with socket.socket(socket.AF_UNIX) as line:
            line.bind(str(path))
    elif kind == "a device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    return path


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("kind", ["a named pipe", "a socket", "a device", "a directory"])
def test_no_ordinary_file(door: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the name of a socket may not be long
    if door == "cif":
        pytest.importorskip("gemmi", reason="gemmi is not installed")
    for name in ("a", "a.npy", "a.h5", "a.mib", "a.tif", "a.png", "a.fits", "a.pt", "a.npz", "a.cif", "a.blo"):
        with pytest.raises(DataError, match=f"{name} is {kind}") as caught:
            DOORS[door](make(kind, Path(name)))
        assert str(caught.value).count("\n") == 0


def test_link_to_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.npy").symlink_to("gone.npy")
    with pytest.raises(DataError, match=r"is a link to gone\.npy, which does not exist"):
        open_stack(tmp_path / "a.npy")
    (tmp_path / "b.npy").symlink_to("b.npy")
    with pytest.raises(DataError, match=r"b\.npy cannot be looked at \(Too many levels"):
        open_stack(tmp_path / "b.npy")


def test_pipes_beside_and_inside(tmp_path: Path) -> None:
    """A reader that looks beside or into its file does not wait for what never comes."""
    raw = tmp_path / "s_x2_y2.raw"
    raw.write_bytes(np.ones((4, 130, 128), "f4").tobytes())
    os.mkfifo(tmp_path / "a.xml")
    assert open_stack(raw).info.scan_shape == (2, 2)
    header = b"MQ1,000001,00384,01,0006,0005,U16,1x1,01,".ljust(384)
    (tmp_path / "m.mib").write_bytes(b"".join(header + frame.astype(">u2").tobytes() for frame in FRAMES))
    os.mkfifo(tmp_path / "m.hdr")
    with pytest.raises(DataError, match=r"m\.hdr of .*m\.mib is a named pipe"):
        open_stack(tmp_path / "m.mib")
    zarr.create_array(tmp_path / "z.zarr", shape=FRAMES.shape, chunks=(1, 5, 6), dtype="u2")[:] = FRAMES
    (tmp_path / "z.zarr" / "c" / "2" / "0" / "0").unlink()
    os.mkfifo(tmp_path / "z.zarr" / "c" / "2" / "0" / "0")
    with pytest.raises(DataError, match=r"z\.zarr is a named pipe"):
        open_stack(tmp_path / "z.zarr")


def test_sidecars(tmp_path: Path) -> None:
    for name in ("scan.mib", "scan.hdr", "own.raw", "own.xml", "alone.xml", "movie.mrc", "movie.mdoc"):
        (tmp_path / name).touch()
    found = {path.name for path in tmp_path.iterdir() if is_sidecar(path)}
    assert found == {"scan.hdr", "own.xml", "movie.mdoc"}


def test_archive_of_arrays(tmp_path: Path) -> None:
    np.savez(tmp_path / "one.npz", data=FRAMES)
    np.savez_compressed(tmp_path / "small.npz", data=FRAMES)
    np.savez(tmp_path / "two.npz", a=FRAMES, b=FRAMES + 1, image=FRAMES[0])
    np.savez_compressed(tmp_path / "turned.npz", data=np.asfortranarray(FRAMES.astype(">f8")))
    (tmp_path / "no_name").write_bytes((tmp_path / "one.npz").read_bytes())
    for name, options, expected in (
        ("one.npz", {}, FRAMES),
        ("small.npz", {}, FRAMES),
        ("turned.npz", {}, FRAMES.astype("f8")),
        ("no_name", {}, FRAMES),
        ("two.npz", {"dataset": "b"}, FRAMES + 1),
    ):
        with open_stack(tmp_path / name, **options) as reader:
            out = np.empty(reader.info.shape, reader.info.dtype)
            reader.read(0, len(out), out)
            np.testing.assert_array_equal(out, expected)
            assert out.dtype == expected.dtype
    np.testing.assert_array_equal(read_image(tmp_path / "two.npz", dataset="image"), FRAMES[0])
    with pytest.raises(DataError, match=r"several arrays, \['a', 'b', 'image'\]; name one"):
        open_stack(tmp_path / "two.npz")
    with pytest.raises(DataError, match=r"no array 'c'; it has \['a', 'b', 'image'\]"):
        open_stack(tmp_path / "two.npz", dataset="c")
    with pytest.raises(DataError, match="above the memory limit of 100"):
        open_stack(tmp_path / "small.npz", memory_limit=100)
    np.savez(tmp_path / "objects.npz", data=np.array([{}, 1, "x"], object))
    with pytest.raises(DataError, match="objects"):
        open_stack(tmp_path / "objects.npz")
