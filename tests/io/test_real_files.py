"""Files of real instruments, compared with RosettaSciIO where it reads them; they are not part of the repository."""

import hashlib
import logging
import math
import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from stackalign.errors import DataError
from stackalign.io import open_stack


@pytest.fixture(scope="module")
def real() -> Path:
    folder = Path(__file__).resolve().parents[3] / "shared" / "data" / "stem"
    if not folder.is_dir():
        pytest.skip("the collection of instrument files is not beside the repository")
    return folder


def read_all(path: Path, **options: Any) -> tuple[np.ndarray, Any]:
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    with open_stack(path, **options) as reader:
        count, height, width = reader.info.shape
        whole = np.empty((count, height, width), reader.info.dtype)
        reader.read(0, count, whole)
        parts = np.empty_like(whole)
        for start in range(0, count, 3):
            stop = min(start + 3, count)
            reader.read(start, stop, parts[start:stop])
        np.testing.assert_array_equal(whole, parts)
        assert whole.dtype.isnative
        assert math.prod(reader.info.scan_shape) == count
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before
    return whole, reader.info


def by_rosettasciio(plugin: str, path: Path, index: int = 0) -> np.ndarray:
    module = pytest.importorskip(f"rsciio.{plugin}", reason="RosettaSciIO is not installed")
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # it leaves files to the garbage collector
            data = np.asarray(module.file_reader(str(path))[index]["data"])
    finally:
        logging.disable(logging.NOTSET)
    return data.reshape(-1, *data.shape[-2:])


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "scan"),
    [
        ("001_4x2_6bit", (8, 256, 256), "u1", (2, 4)),
        ("002_4x2_6bit_roi128", (8, 128, 256), "u1", (2, 4)),
        ("002_merlin_test_roi_sig256x128_nav4x2_hot_pixel_52x_39y", (8, 128, 256), "u2", (2, 4)),
        ("Single_9_Frame_CounterDepth_12_Rows_256", (9, 256, 256), "u2", (9,)),
    ],
)
def test_merlin(real: Path, name: str, shape: tuple[int, ...], dtype: str, scan: tuple[int, ...]) -> None:
    path = real / "merlin_mib" / f"{name}.mib"
    data, info = read_all(path)
    assert (data.shape, data.dtype, info.scan_shape) == (shape, np.dtype(dtype), scan)
    # It turns the rows around; here they stay in the order of the file.
    np.testing.assert_array_equal(data[:, ::-1], by_rosettasciio("quantumdetector", path))


def test_merlin_with_a_stated_scan(real: Path) -> None:
    assert read_all(real / "merlin_mib" / "001_4x2_6bit.mib", scan_shape=(2, 4))[1].scan_shape == (2, 4)


def test_merlin_raw_is_refused(real: Path) -> None:
    with pytest.raises(DataError, match="raw counter data"):
        open_stack(real / "merlin_mib" / "Single_9_Frame_CounterDepth_1_Rows_256RAW.mib")


def test_arina(real: Path) -> None:
    data, info = read_all(real / "arina" / "test_00_master.h5")
    assert data.shape == (16, 192, 192)
    assert info.scan_shape == (4, 4)
    assert info.mask is not None
    assert info.mask.all()
    np.testing.assert_array_equal(data, by_rosettasciio("arina", real / "arina" / "test_00_master.h5"))


def test_prismatic(real: Path) -> None:
    path = real / "emd_h5" / "Si100_4D.emd"
    with pytest.raises(DataError, match=r"several datasets .*CBED_array_depth0000.*CBED_array_depth0001"):
        open_stack(path)
    name = "/4DSTEM_simulation/data/datacubes/CBED_array_depth0001/datacube"
    data, info = read_all(path, dataset=name)
    assert info.scan_shape == (11, 11)
    assert info.calibration is not None
    assert info.calibration.units == "nm^-1"
    with h5py.File(path) as file:
        np.testing.assert_array_equal(data, file[name][()].reshape(121, 8, 8))


def test_py4dstem(real: Path) -> None:
    data, info = read_all(real / "emd_h5" / "py4DSTEM_size2x3x4x5.h5")
    assert (data.shape, data.dtype, info.scan_shape) == ((6, 4, 5), np.dtype("f4"), (2, 3))
    assert data.min() < 0
    assert info.calibration.units == "A^-1"
    assert info.calibration.scan_units == "nm"


@pytest.mark.parametrize(
    ("plugin", "name", "shape", "scan"),
    [
        ("blockfile", "blockfile/test1.blo", (6, 144, 144), (3, 2)),
        ("blockfile", "blockfile/test2.blo", (6, 5, 5), (2, 3)),
        ("digitalmicrograph", "dm/dmTest_3D_int16_64_65_66.dm4", (66, 65, 64), (66,)),
        ("digitalmicrograph", "dm/test_diffraction_pattern_tags_removed.dm3", (1, 87, 87), (1,)),
        ("mrc", "mrc/20241021_00405_movie.mrc", (32, 4, 8), (32,)),
        ("mrc", "mrc/Custom_movie.mrc", (30, 16, 16), (30,)),
        ("mrc", "mrc/ROI_Random_Scan_movie.mrc", (348, 16, 16), (348,)),
        ("tvips", "tvips/test_tvips_2233_000.tvips", (4, 3, 3), (4,)),
        ("tvips", "tvips/test_tvips_2345_000.tvips", (6, 4, 5), (6,)),
        ("tvips", "tvips/test_tvips_2345_split_000.tvips", (6, 4, 5), (6,)),
    ],
)
def test_vendor_files(real: Path, plugin: str, name: str, shape: tuple[int, ...], scan: tuple[int, ...]) -> None:
    expected = by_rosettasciio(plugin, real / name)
    data, info = read_all(real / name)
    assert (data.shape, info.scan_shape) == (shape, scan)
    np.testing.assert_array_equal(data, expected)


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("empad/map4x4.xml", r"refers to scan_x4_y4\.raw, which is missing"),
        ("arina/test_00.h5", "no numeric dataset of 3 or 4 axes"),
        ("tvips/test_tvips_2345_split_001.tvips", "starting with part 000"),
    ],
)
def test_refused(real: Path, name: str, match: str) -> None:
    with pytest.raises(DataError, match=match):
        open_stack(real / name)


@pytest.mark.parametrize(
    ("header", "raw", "scan"),
    [
        ("map4x4.xml", "scan_x4_y4.raw", (4, 4)),
        ("EMPAD_v1.2.2_x32_y64_size0.8.xml", "scan_x32_y64.raw", (64, 32)),
        ("stack_images.xml", "series_x10.raw", (10,)),
    ],
)
def test_empad_headers(real: Path, header: str, raw: str, scan: tuple[int, ...], tmp_path: Path) -> None:
    """Headers of real acquisitions beside data that are a hole but for their last byte."""
    (tmp_path / header).write_bytes((real / "empad" / header).read_bytes())
    with (tmp_path / raw).open("wb") as file:
        file.truncate(math.prod(scan) * 130 * 128 * 4)
        file.seek(-1, 2)
        file.write(b"\x01")
    for name in (header, raw):
        with open_stack(tmp_path / name) as reader:
            assert reader.info.scan_shape == scan
