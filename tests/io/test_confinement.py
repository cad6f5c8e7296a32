"""What a file refers to lies in its own folder, or is refused by name unless that is allowed."""

import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
import zarr

from stackalign.errors import DataError
from stackalign.io import open_stack
from stackalign.io.images import open_images

SECRET = np.arange(6 * 5 * 4, dtype="u1").reshape(6, 5, 4)
OWN = SECRET + 100


def read_all(path: Path, **options: object) -> np.ndarray:
    with open_stack(path, **options) as reader:
        out = np.empty(reader.info.shape, reader.info.dtype)
        reader.read(0, len(out), out)
    return out


@pytest.fixture
def inside(tmp_path: Path) -> Path:
    """A folder with a sub-folder, beside which and in which the same data lie."""
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    for place in (tmp_path, folder, folder / "sub"):
        (place / "secret.bin").write_bytes(SECRET.tobytes())
        with h5py.File(place / "secret.h5", "w") as file:
            file["d"] = SECRET
            file["entry/data/data"] = SECRET
    return folder


def storage(folder: Path, prefix: str) -> Path:
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset("d", SECRET.shape, "u1", external=[(f"{prefix}secret.bin", 0, SECRET.nbytes)])
    return folder / "a.h5"


def virtual(folder: Path, prefix: str) -> Path:
    layout = h5py.VirtualLayout(SECRET.shape, "u1")
    layout[:] = h5py.VirtualSource(f"{prefix}secret.h5", "d", shape=SECRET.shape)
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_virtual_dataset("d", layout)
    return folder / "a.h5"


def virtual_of_virtual(folder: Path, prefix: str) -> Path:
    virtual(folder, prefix).rename(folder / "b.h5")
    layout = h5py.VirtualLayout(SECRET.shape, "u1")
    layout[:] = h5py.VirtualSource("b.h5", "d", shape=SECRET.shape)
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_virtual_dataset("d", layout)
    return folder / "a.h5"


def virtual_over_a_link(folder: Path, prefix: str) -> Path:
    with h5py.File(folder / "b.h5", "w") as file:
        file["d"] = h5py.ExternalLink(f"{prefix}secret.h5", "/d")
    layout = h5py.VirtualLayout(SECRET.shape, "u1")
    layout[:] = h5py.VirtualSource("b.h5", "d", shape=SECRET.shape)
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_virtual_dataset("d", layout)
    return folder / "a.h5"


def link(folder: Path, prefix: str) -> Path:
    with h5py.File(folder / "a.h5", "w") as file:
        file["d"] = h5py.ExternalLink(f"{prefix}secret.h5", "/d")
    return folder / "a.h5"


def link_of_link(folder: Path, prefix: str) -> Path:
    link(folder, prefix).rename(folder / "b.h5")
    with h5py.File(folder / "a.h5", "w") as file:
        file["far"] = h5py.ExternalLink("b.h5", "/")
        file["d"] = h5py.SoftLink("/far/d")
    return folder / "a.h5"


def master(folder: Path, prefix: str) -> Path:
    with h5py.File(folder / "a_master.h5", "w") as file:
        file["entry/data/data_000001"] = h5py.ExternalLink(f"{prefix}secret.h5", "/entry/data/data")
    return folder / "a_master.h5"


def master_of_links(folder: Path, prefix: str) -> Path:
    with h5py.File(folder / "b.h5", "w") as file:
        file["d"] = h5py.ExternalLink(f"{prefix}secret.h5", "/d")
    with h5py.File(folder / "a_master.h5", "w") as file:
        file["entry/data/data_000001"] = h5py.ExternalLink("b.h5", "/d")
    return folder / "a_master.h5"


MAKERS = (storage, virtual, virtual_of_virtual, virtual_over_a_link, link, link_of_link, master, master_of_links)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("way", ["..", "absolute", "symlink", "symlinked folder"])
def test_hdf5_outside(make: Callable[[Path, str], Path], way: str, inside: Path) -> None:
    prefix = {"..": "../", "absolute": f"{inside.parent}/", "symlink": "", "symlinked folder": "out/"}[way]
    if way == "symlink":
        for name in ("secret.h5", "secret.bin"):
            (inside / name).unlink()
            (inside / name).symlink_to(inside.parent / name)
    if way == "symlinked folder":
        (inside / "out").symlink_to(inside.parent)
    path = make(inside, prefix)
    options = {"dataset": "d"} if make in (link, link_of_link) else {}
    with pytest.raises(DataError, match=r"refers to .*secret.* outside the folder of .*allow_external"):
        open_stack(path, **options)
    np.testing.assert_array_equal(read_all(path, allow_external=True, **options), SECRET)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("place", ["", "sub/", "absolute"])
def test_hdf5_inside(
    make: Callable[[Path, str], Path], place: str, inside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the working directory holds other files of the same names."""
    other = inside.parent / "elsewhere"
    other.mkdir()
    (other / "secret.bin").write_bytes(OWN.tobytes())
    monkeypatch.chdir(other)
    path = make(inside, f"{inside}/" if place == "absolute" else place)
    options = {"dataset": "d"} if make in (link, link_of_link) else {}
    for timeout in (None, 0):
        np.testing.assert_array_equal(read_all(path, read_timeout=timeout, **options), SECRET)


def test_input_that_is_a_link(inside: Path) -> None:
    """What lies beside the link and what lies beside the file both count; what is above a folder does not."""
    (inside.parent / "linked_master.h5").symlink_to(master(inside, ""))
    np.testing.assert_array_equal(read_all(inside.parent / "linked_master.h5"), SECRET)
    with h5py.File(inside / "sub" / "x_master.h5", "w") as file:
        file["entry/data/data_000001"] = h5py.ExternalLink("../secret.h5", "/d")
    with pytest.raises(DataError, match="outside"):
        open_stack(inside / "sub" / "x_master.h5")


def test_link_is_not_taken_for_an_own_dataset(inside: Path) -> None:
    """The file that is linked to has its data under a name that the own file has, too."""
    with h5py.File(inside / "a.h5", "w") as file:
        file["d"] = OWN
        file["other"] = h5py.ExternalLink("secret.h5", "/d")
    np.testing.assert_array_equal(read_all(inside / "a.h5", dataset="other"), SECRET)
    np.testing.assert_array_equal(read_all(inside / "a.h5", dataset="d"), OWN)


def test_links_in_circles(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["soft"] = h5py.SoftLink("/soft")
        file["far"] = h5py.ExternalLink("a.h5", "/far")
    for name in ("soft", "far"):
        with pytest.raises(DataError, match="in circles"):
            open_stack(tmp_path / "a.h5", dataset=name)


def test_virtual_dataset_of_numbered_files(tmp_path: Path) -> None:
    """HDF5 counts such files itself, from 0 on."""
    for folder, values in ((tmp_path, OWN), (tmp_path / "in", SECRET)):
        folder.mkdir(exist_ok=True)
        for k in range(2):
            with h5py.File(folder / f"part{k}.h5", "w") as file:
                file["d"] = values[3 * k : 3 * k + 3]
    for prefix, fits in (("", True), ("../", False)):
        path = tmp_path / "in" / "a.h5"
        with h5py.File(path, "w", libver="latest") as file:
            space = h5py.h5s.create_simple((6, 5, 4), (h5py.h5s.UNLIMITED, 5, 4))
            space.select_hyperslab((0, 0, 0), (h5py.h5s.UNLIMITED, 1, 1), block=(3, 5, 4), stride=(3, 1, 1))
            source = h5py.h5s.create_simple((3, 5, 4))
            plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            plist.set_virtual(space, f"{prefix}part%b.h5".encode(), b"d", source)
            whole = h5py.h5s.create_simple((6, 5, 4), (h5py.h5s.UNLIMITED, 5, 4))
            h5py.h5d.create(file.id, b"v", h5py.h5t.STD_U8LE, whole, plist)
        if fits:
            np.testing.assert_array_equal(read_all(path), SECRET)
        else:
            with pytest.raises(DataError, match="outside"):
                open_stack(path)


def test_external_storage_that_ends_early(inside: Path) -> None:
    path = storage(inside, "")
    os.truncate(inside / "secret.bin", SECRET.nbytes - 1)
    with pytest.raises(DataError, match=r"secret\.bin .*truncated"):
        open_stack(path)


def test_zarr_links(tmp_path: Path) -> None:
    store = zarr.create_array(tmp_path / "in" / "a.zarr", shape=SECRET.shape, chunks=(3, 5, 4), dtype="u1")
    store[:] = SECRET
    chunk = tmp_path / "in" / "a.zarr" / "c" / "1" / "0" / "0"
    chunk.rename(tmp_path / "chunk")
    chunk.symlink_to(tmp_path / "chunk")
    with pytest.raises(DataError, match=r"holds the link c/1/0/0, which lies outside"):
        open_stack(tmp_path / "in" / "a.zarr")
    np.testing.assert_array_equal(read_all(tmp_path / "in" / "a.zarr", allow_external=True), SECRET)
    chunk.unlink()
    (tmp_path / "chunk").rename(tmp_path / "in" / "a.zarr" / "kept")
    chunk.symlink_to("../../../kept")
    np.testing.assert_array_equal(read_all(tmp_path / "in" / "a.zarr"), SECRET)


def test_zarr_folder_of_a_link(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "out", shape=SECRET.shape, chunks=SECRET.shape, dtype="u1")[:] = SECRET
    group = tmp_path / "in" / "a.zarr"
    zarr.open_group(group, mode="w")
    (group / "d").symlink_to(tmp_path / "out")
    with pytest.raises(DataError, match="holds the link d, which lies outside"):
        open_stack(group)


def test_empad_header_of_a_link(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out.raw").write_bytes(np.ones((4, 130, 128), "f4").tobytes())
    (tmp_path / "in" / "s.raw").symlink_to(tmp_path / "out.raw")
    header = tmp_path / "in" / "s.xml"
    header.write_text('<root><raw_file filename="s.raw"/><pix_x>2</pix_x><pix_y>2</pix_y></root>')
    with pytest.raises(DataError, match=r"refers to 's\.raw', which lies outside"):
        open_stack(header)
    assert read_all(header, allow_external=True).shape == (4, 128, 128)


def test_tiff_of_several_files(tmp_path: Path) -> None:
    """The names are in the XML of the first one."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name, where in (("../b.tif", tmp_path / "b.tif"), ("b.tif", folder / "b.tif")):
        tifffile.imwrite(where, SECRET[3:], photometric="minisblack", metadata=None)
        planes = "".join(
            f'<TiffData FirstT="{t}" IFD="{t % 3}" PlaneCount="1">'
            f'<UUID FileName="{file}">urn:uuid:{k}</UUID></TiffData>'
            for t, k, file in [(t, t // 3, "a.tif" if t < 3 else name) for t in range(6)]
        )
        xml = (
            '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:0">'
            '<Image ID="Image:0"><Pixels ID="P:0" DimensionOrder="XYZCT" Type="uint8" SizeX="4" SizeY="5" SizeZ="1" '
            f'SizeC="1" SizeT="6"><Channel ID="C:0" SamplesPerPixel="1"/>{planes}</Pixels></Image></OME>'
        )
        tifffile.imwrite(folder / "a.tif", SECRET[:3], photometric="minisblack", description=xml, metadata=None)
        if name == "b.tif":
            np.testing.assert_array_equal(read_all(folder / "a.tif"), SECRET)
        else:
            for opener in (open_stack, open_images):
                with pytest.raises(DataError, match=r"refers to '\.\./b\.tif', which lies outside"):
                    opener(folder / "a.tif")


def test_files_for_other_packages(inside: Path) -> None:
    """As for any HDF5 file; a link is not followed, so that nothing is found."""
    for make in (storage, virtual, link):
        make(inside, "../").rename(inside / "a.hspy")
        with pytest.raises(DataError, match="no numeric dataset" if make is link else "outside the folder"):
            open_stack(inside / "a.hspy")
