"""Diffraction images from files: those of detectors and microscopes, made ones, and damaged ones."""

import json
import os
import shutil
import tracemalloc
import zipfile

import numpy as np
import pytest
import tifffile

from stackalign import diffraction
from stackalign.errors import DataError

HEADER = (
    "MQ1,{number:06d},00384,01,{width:04d},{height:04d},{kind},   1x1,01,2021-05-07 18:51:10.905800,{exposure:.6f},"
    "0,0,0,4.000000E+1,5.110000E+2"
)
KINDS = {"uint8": "U08", "uint16": "U16", "uint32": "U32"}


def write_mib(path, frames, exposure=0.25):
    """Frames behind headers as the detector writes them: width before height, big-endian pixels."""
    n, height, width = frames.shape
    with path.open("wb") as file:
        for k in range(n):
            text = HEADER.format(
                number=k + 1, width=width, height=height, kind=KINDS[frames.dtype.name], exposure=exposure
            )
            file.write(text.encode().ljust(384, b"\0"))
            file.write(frames[k].astype(frames.dtype.newbyteorder(">")).tobytes())
    return path


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_merlin_frames_that_are_not_square(rng, tmp_path, kind) -> None:
    frames = rng.integers(0, 200, (5, 6, 17)).astype(kind)
    path = write_mib(tmp_path / "a.mib", frames)
    found = diffraction.diffread(path)
    np.testing.assert_array_equal(found.images, frames)
    assert found.images.dtype == frames.dtype
    assert found.images.dtype.isnative
    assert found.exposure_s == 0.25
    assert found.voltage_kv is None
    assert found.n_frames == 5


def test_ranges_of_frames(rng, tmp_path) -> None:
    frames = rng.integers(0, 200, (9, 6, 5)).astype(np.uint16)
    path = write_mib(tmp_path / "a.mib", frames)

    def read(which):
        return diffraction.diffread(path, frames=which)

    np.testing.assert_array_equal(read(3).images, frames[3])
    np.testing.assert_array_equal(read(-1).images, frames[-1])
    np.testing.assert_array_equal(read((2, 5)).images, frames[2:5])
    np.testing.assert_array_equal(read(slice(2, None)).images, frames[2:])
    np.testing.assert_array_equal(read(slice(-3, -1)).images, frames[-3:-1])
    assert read((4, 5)).images.shape == (1, 6, 5)
    assert read((2, 5)).frames == (2, 5)
    for wrong in (9, -10, (3, 3), (0, 10), slice(20, 30)):
        with pytest.raises(DataError, match="not within the 9 images"):
            read(wrong)
    with pytest.raises(DataError, match="step 1"):
        read(slice(0, 8, 2))


def test_only_the_frames_that_are_wanted_are_read(tmp_path) -> None:
    path = tmp_path / "long.npy"
    stack = np.lib.format.open_memmap(path, "w+", np.uint16, (50000, 64, 64))  # sparse: 400 MB that take no room
    stack[49000:49003] = np.arange(3)[:, None, None] + 1
    stack.flush()
    del stack
    tracemalloc.start()
    found = diffraction.diffread(path, frames=(49000, 49003))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.images.mean(axis=(1, 2)).tolist() == [1, 2, 3]
    assert most < 1e6


def test_files_that_may_not_be_written(rng, tmp_path, diffraction_data) -> None:
    image = rng.integers(0, 99, (7, 8)).astype(np.uint16)
    np.save(tmp_path / "a.npy", image)
    tifffile.imwrite(tmp_path / "a.tif", image)
    write_mib(tmp_path / "a.mib", image[None])
    shutil.copy(diffraction_data / "bismuth.dm3", tmp_path / "a.dm3")
    opened = []
    for path in sorted(tmp_path.iterdir()):
        path.chmod(0o444)
        opened.append(diffraction.diffread(path).images)
        assert not os.stat(path).st_mode & 0o222
    for array in (opened[1], opened[2], opened[3]):
        np.testing.assert_array_equal(array, image)


def test_digital_micrograph_of_bismuth(diffraction_data) -> None:
    pytest.importorskip("rsciio")
    found = [diffraction.diffread(diffraction_data / f"bismuth.dm{k}") for k in (3, 4)]
    np.testing.assert_array_equal(found[0].images, found[1].images)
    assert found[0].images.dtype == np.int8
    assert (found[0].images.min(), found[0].images.shape) == (-100, (256, 256))
    assert (found[0].voltage_kv, found[0].exposure_s, found[0].pixel_size) == (90.0, 5.0, None)


def test_digital_micrograph_with_a_scale(stem_data) -> None:
    pytest.importorskip("rsciio")
    found = diffraction.diffread(stem_data / "dm" / "test_diffraction_pattern_tags_removed.dm3")
    assert found.images.shape == (87, 87)
    np.testing.assert_allclose(found.pixel_size, 0.174433, rtol=1e-5)
    assert (found.pixel_units, found.voltage_kv, found.exposure_s) == ("1/nm", 200.0, 0.2)
    stack = diffraction.diffread(stem_data / "dm" / "dmTest_3D_int16_64_65_66.dm4", frames=(10, 12))
    assert stack.images.shape == (2, 65, 64)


def test_merlin_of_the_shared_data(diffraction_data, stem_data) -> None:
    one = diffraction.diffread(diffraction_data / "test.mib")
    assert (one.images.shape, one.images.dtype, one.exposure_s) == ((256, 256), np.uint16, 1.0)
    many = diffraction.diffread(diffraction_data / "test_multi.mib")
    assert (many.images.shape, many.images.dtype) == ((9, 256, 256), np.uint8)
    folder = stem_data / "merlin_mib"
    part = diffraction.diffread(folder / "002_4x2_6bit_roi128.mib")
    assert part.images.shape == (8, 128, 256)
    beam = part.images.astype(float).mean(axis=0)
    steps = [np.abs(np.diff(beam, axis=axis)).mean() for axis in (0, 1)]
    assert max(steps) / min(steps) < 1.5  # scrambled rows would jump along one axis
    hot = diffraction.diffread(folder / "002_merlin_test_roi_sig256x128_nav4x2_hot_pixel_52x_39y.mib")
    assert hot.metadata["scan_shape"] == (2, 4)
    assert np.unravel_index(hot.images.sum(axis=0).argmax(), (128, 256)) == (39, 52)
    with pytest.raises(DataError, match="raw counter data"):
        diffraction.diffread(folder / "Single_9_Frame_CounterDepth_1_Rows_256RAW.mib")


def test_merlin_against_rosettasciio(stem_data, tmp_path) -> None:
    reader = pytest.importorskip("rsciio.quantumdetector")
    folder = stem_data / "merlin_mib"
    with zipfile.ZipFile(folder / "Merlin_navigation4x2_ROI.zip") as archive:
        archive.extractall(tmp_path)
    paths = [*sorted(tmp_path.rglob("*.mib")), folder / "001_4x2_6bit.mib"]
    assert len(paths) > 1
    for path in paths:
        theirs = reader.file_reader(str(path))[0]["data"]
        ours = diffraction.diffread(path).images
        # They take rows from the bottom up.
        np.testing.assert_array_equal(
            ours.reshape(-1, *ours.shape[-2:]), theirs.reshape(-1, *theirs.shape[-2:])[:, ::-1]
        )


@pytest.mark.parametrize("extension", [".npy", ".tif", ".h5", ".zarr", ".fits", ".png"])
def test_one_image_of_every_kind(rng, tmp_path, extension) -> None:
    from stackalign.io.images import write_images

    image = rng.integers(0, 4000, (11, 13)).astype(np.uint16)
    path = tmp_path / f"a{extension}"
    if extension == ".png":
        skimage_io = pytest.importorskip("skimage.io")
        skimage_io.imsave(path, image, check_contrast=False)
    else:
        if extension == ".fits":
            pytest.importorskip("astropy")
        write_images(path, image)
    found = diffraction.diffread(path)
    np.testing.assert_array_equal(found.images, image)
    np.testing.assert_array_equal(np.asarray(found), image)
    assert np.asarray(found, np.float32).dtype == np.float32
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["shape"] == [11, 13]


def test_colours_become_grey(rng, tmp_path) -> None:
    skimage_io = pytest.importorskip("skimage.io")
    colours = rng.integers(0, 255, (9, 10, 3)).astype(np.uint8)
    skimage_io.imsave(tmp_path / "a.png", colours, check_contrast=False)
    tifffile.imwrite(tmp_path / "a.tif", colours, photometric="rgb")
    wanted = colours @ [0.2125, 0.7154, 0.0721]
    for name in ("a.png", "a.tif"):
        np.testing.assert_allclose(diffraction.diffread(tmp_path / name).images, wanted)


@pytest.mark.parametrize("name", ["test.mib", "test_multi.mib", "bismuth.dm3", "bismuth.dm4", "Cr_1.tif"])
@pytest.mark.parametrize("share", [0.0, 0.002, 0.4, 0.97])
def test_truncated_files_are_refused(diffraction_data, tmp_path, name, share) -> None:
    whole = (diffraction_data / name).read_bytes()
    path = tmp_path / name
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(DataError, match=name):
        diffraction.diffread(path)


def test_files_that_are_no_images(tmp_path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        diffraction.diffread(tmp_path / "none.mib")
    (tmp_path / "a.txt").write_text("hello, this is no image")
    with pytest.raises(DataError, match=r"no known format.*\.png"):
        diffraction.diffread(tmp_path / "a.txt")
    (tmp_path / "a.png").write_text("hello, this is no image")
    with pytest.raises(DataError, match=r"a\.png"):
        diffraction.diffread(tmp_path / "a.png")
    np.save(tmp_path / "a.npy", np.ones((3, 3), complex))
    with pytest.raises(DataError, match=r"a\.npy"):
        diffraction.diffread(tmp_path / "a.npy")
    np.save(tmp_path / "b.npy", np.ones(3))
    with pytest.raises(DataError, match=r"b\.npy"):
        diffraction.diffread(tmp_path / "b.npy")
