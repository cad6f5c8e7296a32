"""One door for images and stacks, one table of readers and one of writers."""

import importlib
from pathlib import Path

import numpy as np
import pytest

from stackalign import io
from stackalign.cli._plan import plan_jobs
from stackalign.crop import CroppingConfig, crop_file
from stackalign.diffraction.files import open_frames
from stackalign.errors import DataError
from stackalign.io import formats, images, stacks
from stackalign.registration.files import align_file

QUIET = CroppingConfig(visualization=False, verbose=False)


def disk(size: int = 48, seed: int = 0, center: tuple[float, float] = (23.0, 25.0)) -> np.ndarray:
    """A disk of counts on nothing, with texture, so that it can be cropped and aligned."""
    y, x = np.indices((size, size))
    rng = np.random.default_rng(seed)
    inside = np.hypot(y - center[0], x - center[1]) < 9
    return np.where(inside, rng.integers(100, 200, (size, size)), 0).astype(np.uint8)


def written(folder: Path, extension: str, image: np.ndarray) -> Path:
    """A file of one image, written by the libraries of the formats themselves."""
    path = folder / f"image{extension}"
    if extension == ".npy":
        np.save(path, image)
    elif extension == ".npz":
        np.savez(path, image)
    elif extension == ".tif":
        importlib.import_module("tifffile").imwrite(path, image)
    elif extension == ".h5":
        with importlib.import_module("h5py").File(path, "w") as file:
            file["image"] = image
    elif extension == ".zarr":
        importlib.import_module("zarr").save_array(str(path), image)
    elif extension.startswith(".fit"):
        pytest.importorskip("astropy", reason="FITS needs astropy")
        importlib.import_module("astropy.io.fits").PrimaryHDU(image).writeto(path)
    else:
        pytest.importorskip("PIL", reason="pictures need Pillow")
        importlib.import_module("PIL.Image").fromarray(image).save(path)
    return path


SINGLE = [".npy", ".npz", ".tif", ".h5", ".zarr", ".fits", ".fits.gz", ".png", ".bmp", ".pgm"]


@pytest.mark.parametrize("extension", SINGLE)
def test_one_image_is_a_stack_of_one_for_every_pipeline(extension: str, tmp_path: Path) -> None:
    image = disk()
    path = written(tmp_path, extension, image)
    with io.open(path) as reader:
        assert reader.info.shape == (1, 48, 48)
        assert reader.info.metadata["single"]
        assert len(reader.fingerprint()) == 40
    np.testing.assert_array_equal(io.read_image(path), image)
    out = tmp_path / "cropped.npy"
    result = crop_file(path, out, QUIET)
    y, x = np.argwhere(image).mean(axis=0).round()
    assert np.abs(result.analysis.centers[0] - (y, x)).max() < 1.5
    assert np.load(out).sum() == image.sum()  # nothing of the disk was cut
    aligned = tmp_path / "aligned.npy"
    align_file(path, aligned, path, max_shift=4)
    assert np.load(aligned).shape == image.shape


def test_the_doors_are_one() -> None:
    assert io.open is io.open_stack is images.open_images is open_frames


def test_colours_become_grey_in_tiff_and_png(tmp_path: Path) -> None:
    pytest.importorskip("PIL", reason="pictures need Pillow")
    colours = np.random.default_rng(1).integers(0, 256, (20, 30, 3), np.uint8)
    importlib.import_module("PIL.Image").fromarray(colours).save(tmp_path / "a.png")
    importlib.import_module("tifffile").imwrite(tmp_path / "a.tif", colours, photometric="rgb")
    grey = colours @ np.array([0.2125, 0.7154, 0.0721])
    for name in ("a.png", "a.tif"):
        np.testing.assert_allclose(io.read_image(tmp_path / name), grey, rtol=1e-12)


def test_a_stack_is_preferred_to_the_single_images_beside_it(tmp_path: Path) -> None:
    """A preview of another size, a colour label: neither is the data."""
    tifffile = importlib.import_module("tifffile")
    stack = np.random.default_rng(2).integers(0, 99, (5, 12, 14), np.uint16)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(np.zeros((6, 7), np.uint16))
        file.write(stack, metadata={"axes": "QYX"})
        file.write(np.zeros((40, 50, 3), np.uint8), photometric="rgb")
    with io.open(tmp_path / "a.tif") as reader:
        assert reader.info.shape == stack.shape
    with importlib.import_module("h5py").File(tmp_path / "a.h5", "w") as h5:
        h5["preview"] = np.zeros((400, 500))
        h5["data"] = stack
    with io.open(tmp_path / "a.h5") as reader:
        assert reader.info.shape == stack.shape


def test_formats_are_known_by_their_first_bytes(tmp_path: Path) -> None:
    for extension in (".fits", ".png"):
        written(tmp_path, extension, disk()).rename(tmp_path / "nameless")
        with io.open(tmp_path / "nameless") as reader:
            assert reader.info.shape == (1, 48, 48)


def test_every_row_of_the_tables_is_true() -> None:
    """A module has the functions that its row says, and an extension stands in one row."""
    for row in formats.READERS:
        assert callable(importlib.import_module(f"stackalign.io.{row.module}").open_reader)
    for row in formats.WRITERS:
        module = importlib.import_module(f"stackalign.io.{row.module}")
        assert hasattr(module, "create_writer") == row.stream, row.module
        assert hasattr(module, "write_images") == row.images, row.module
    for table in (formats.READERS, formats.WRITERS):
        extensions = [extension for row in table for extension in row.extensions]
        assert len(extensions) == len(set(extensions))


@pytest.mark.parametrize("extension", stacks.image_extensions())
@pytest.mark.parametrize("shape", [(7, 9), (3, 7, 9)])
def test_what_is_written_can_be_read(extension: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    if extension in stacks.FITS_EXTENSIONS:
        pytest.importorskip("astropy", reason="FITS needs astropy")
    pixels = np.random.default_rng(3).integers(0, 60000, shape, np.uint16)
    io.write_images(tmp_path / f"a{extension}", pixels)
    with io.open(tmp_path / f"a{extension}") as reader:
        block = np.empty(reader.info.shape, reader.info.dtype)
        reader.read(0, len(block), block)
        assert bool(reader.info.metadata.get("single")) == (len(shape) == 2)
    np.testing.assert_array_equal(block.reshape(shape), pixels)


def test_pictures_in_a_folder_are_no_inputs_of_crop(tmp_path: Path) -> None:
    """A folder of results holds pictures of them as well."""
    np.save(tmp_path / "scan.npy", disk()[None])
    written(tmp_path, ".png", disk())
    jobs = plan_jobs([str(tmp_path)], tmp_path / "out")
    assert [job.source.name for job in jobs] == ["scan.npy"]
    assert [job.source.name for job in plan_jobs([str(tmp_path / "image.png")], tmp_path / "a.npy")] == ["image.png"]


def test_masks_are_read_from_every_format(tmp_path: Path) -> None:
    mask = np.ones((12, 13), np.uint8)
    mask[3:5] = 0
    for extension in (".npy", ".tif", ".png", ".fits", ".h5"):
        np.testing.assert_array_equal(io.read_mask(written(tmp_path, extension, mask * 255)), mask > 0)
    np.save(tmp_path / "two.npy", np.ones((2, 4, 4)))
    with pytest.raises(DataError, match=r"mask .*two\.npy cannot be read .*holds 2 images"):
        io.read_mask(tmp_path / "two.npy")


def test_errors_say_which_option_helps(tmp_path: Path) -> None:
    """As a hint, which a command line words in its own terms; also from the process that reads HDF5."""
    with importlib.import_module("h5py").File(tmp_path / "a.h5", "w") as file:
        file["one"] = file["two"] = np.zeros((2, 8, 8))
    (tmp_path / "a.raw").write_bytes(bytes(1000))
    np.save(tmp_path / "a.npy", np.zeros((7, 8, 8)))
    for name, options, hint in (
        ("a.h5", {}, "dataset"),
        ("a.raw", {}, "shape"),
        ("a.npy", {"skip_per_row": 1}, "scan_shape"),
    ):
        with pytest.raises(DataError) as caught:
            io.open(tmp_path / name, **options)
        assert caught.value.hint == hint
        assert "--" not in str(caught.value)
