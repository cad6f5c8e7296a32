"""Raw binary, EMPAD, Merlin, TIFF, Zarr and vendor files: what each has of its own."""

import gc
import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr

from stackalign.errors import DataError, MissingDependencyError
from stackalign.io import create_stack, open_stack
from stackalign.io._flat import FlatReader

FRAMES = np.arange(12 * 6 * 8).reshape(12, 6, 8)


def read_all(reader: Any, step: int = 5) -> np.ndarray:
    out = np.empty(reader.info.shape, reader.info.dtype)
    for start in range(0, len(out), step):
        stop = min(start + step, len(out))
        reader.read(start, stop, out[start:stop])
    return out


def write_empad(path: Path, count: int) -> np.ndarray:
    frames = np.arange(count * 130 * 128, dtype="<f4").reshape(count, 130, 128)
    frames.tofile(path)
    return frames[:, :128]


EMPAD_SCAN = '<root><type>scan</type><pix_x>{x}</pix_x><pix_y>{y}</pix_y><raw_file filename="{name}"/></root>'


def test_empad_with_its_header(tmp_path: Path) -> None:
    expected = write_empad(tmp_path / "acquisition.raw", 12)
    text = EMPAD_SCAN.format(x=4, y=3, name="C:\\data\\acquisition.raw")
    (tmp_path / "a.xml").write_text("<unfinished")
    (tmp_path / "b.xml").write_text(text)
    for name in ("acquisition.raw", "b.xml"):
        with open_stack(tmp_path / name) as reader:
            assert reader.info.scan_shape == (3, 4)
            assert reader.info.shape == (12, 128, 128)
            np.testing.assert_array_equal(read_all(reader), expected)


def test_empad_series_and_name(tmp_path: Path) -> None:
    write_empad(tmp_path / "series.raw", 5)
    series = '<root><type>series</type><count>5</count><raw_file filename="series.raw"/></root>'
    (tmp_path / "a.xml").write_text(series)
    with open_stack(tmp_path / "series.raw") as reader:
        assert reader.info.scan_shape == (5,)
    write_empad(tmp_path / "scan_x4_y3.raw", 12)
    with open_stack(tmp_path / "scan_x4_y3.raw") as reader:
        assert reader.info.scan_shape == (3, 4)


def test_empad_that_does_not_fit(tmp_path: Path) -> None:
    write_empad(tmp_path / "scan_x4_y4.raw", 12)
    with pytest.raises(DataError, match=r"holds 12 patterns, its name says 16; .*state the scan shape"):
        open_stack(tmp_path / "scan_x4_y4.raw")
    with open_stack(tmp_path / "scan_x4_y4.raw", scan_shape=(2, 4)) as reader:
        assert reader.info.shape[0] == 8
    content = (tmp_path / "scan_x4_y4.raw").read_bytes()
    (tmp_path / "scan_x4_y4.raw").write_bytes(content[:-100])
    with pytest.raises(DataError, match=r"ends within pattern 11: it holds 11 complete patterns and 66460 more bytes"):
        open_stack(tmp_path / "scan_x4_y4.raw")
    (tmp_path / "plain.raw").write_bytes(content[:-100])
    with pytest.raises(DataError, match=r"is no EMPAD file .* state its shape"):
        open_stack(tmp_path / "plain.raw")
    (tmp_path / "b.xml").write_text(EMPAD_SCAN.format(x=4, y=3, name="gone.raw"))
    with pytest.raises(DataError, match=r"refers to gone\.raw, which is missing"):
        open_stack(tmp_path / "b.xml")
    (tmp_path / "c.xml").write_text("<root/>")
    with pytest.raises(DataError, match="names no raw file"):
        open_stack(tmp_path / "c.xml")


@pytest.mark.parametrize("dtype", ["<u2", ">u2", ">f4", "u1", "<i8"])
def test_raw_binary(dtype: str, tmp_path: Path) -> None:
    path = tmp_path / "a.dat"
    path.write_bytes(b"12345" + FRAMES.astype(dtype).tobytes())
    with open_stack(path, shape=(3, 4, 6, 8), dtype=dtype, offset=5) as reader:
        assert reader.info.scan_shape == (3, 4)
        np.testing.assert_array_equal(read_all(reader), FRAMES.astype(dtype))


def test_raw_binary_wrongly_stated(tmp_path: Path) -> None:
    path = tmp_path / "a.anything"
    path.write_bytes(FRAMES.astype("u2").tobytes())
    with pytest.raises(DataError, match=r"has 1152 bytes, shape \(11, 6, 8\), dtype uint16 .* need 1056"):
        open_stack(path, shape=(11, 6, 8), dtype="u2")
    with pytest.raises(DataError, match=r"state both its shape and its dtype"):
        open_stack(path, shape=(12, 6, 8))
    with pytest.raises(DataError, match="'elephant' is no dtype"):
        open_stack(path, shape=(12, 6, 8), dtype="elephant")
    with pytest.raises(DataError, match="offset -3"):
        open_stack(path, shape=(12, 6, 8), dtype="u2", offset=-3)


def merlin(frames: np.ndarray, code: str = "U16", header: int = 384) -> bytes:
    parts = []
    for k, frame in enumerate(frames, 1):
        size = f"{frame.shape[1]:04d},{frame.shape[0]:04d}"
        fields = f"MQ1,{k:06d},{header:05d},01,{size},{code},   1x1,01,2024-01-01 00:00:00,"
        stored = {"U08": "u1", "U16": ">u2", "U32": ">u4"}.get(code, ">u8")
        parts.append(fields.encode().ljust(header) + frame.astype(stored).tobytes())
    return b"".join(parts)


@pytest.mark.parametrize("code", ["U08", "U16", "U32"])
@pytest.mark.parametrize("header", [384, 768, 256])
def test_merlin(code: str, header: int, tmp_path: Path) -> None:
    frames = FRAMES % 250 if code == "U08" else FRAMES * (1 if code == "U16" else 100_003)
    (tmp_path / "a.mib").write_bytes(merlin(frames, code, header))
    with open_stack(tmp_path / "a.mib") as reader:
        assert reader.info.dtype == {"U08": np.uint8, "U16": np.uint16, "U32": np.uint32}[code]
        assert reader.info.scan_shape == (12,)
        for step in (1, 5, 12):
            np.testing.assert_array_equal(read_all(reader, step), frames)


def test_merlin_many_frames(tmp_path: Path) -> None:
    """More frames than one call of the operating system takes."""
    frames = np.arange(1500 * 6).reshape(1500, 2, 3)
    (tmp_path / "a.mib").write_bytes(merlin(frames))
    with open_stack(tmp_path / "a.mib") as reader:
        np.testing.assert_array_equal(read_all(reader, 1499), frames)


@pytest.mark.parametrize(
    ("hdr", "scan"),
    [
        ("HDR,\nFrames in Acquisition (Number):\t12\nFrames per Trigger (Number):\t4\n", (3, 4)),
        ("HDR,\nFrames in Acquisition (Number):\t12\nFrames per Trigger (Number):\t1\n", (12,)),
        ("HDR,\nFrames in Acquisition (Number):\t12\nFrames per Trigger (Number):\t12\n", (12,)),
        ("HDR,\nFrames in Acquisition (Number):\t1\nScanX:\t6\nScanY:\t2\n", (2, 6)),
        ("\xff\xfe nothing useful", (12,)),
    ],
)
def test_merlin_header_beside(hdr: str, scan: tuple[int, ...], tmp_path: Path) -> None:
    (tmp_path / "a.mib").write_bytes(merlin(FRAMES))
    (tmp_path / "a.hdr").write_bytes(hdr.encode("latin-1"))
    with open_stack(tmp_path / "a.mib") as reader:
        assert reader.info.scan_shape == scan


def test_merlin_incomplete(tmp_path: Path) -> None:
    path, content = tmp_path / "a.mib", merlin(FRAMES)
    path.write_bytes(content[:-30])
    with pytest.raises(
        DataError, match=r"a\.mib ends within pattern 11: it holds 11 complete patterns.*state the scan shape"
    ):
        open_stack(path)
    with open_stack(path, scan_shape=(2, 5)) as reader:
        assert reader.info.metadata["ignored_frames"] == 1
        np.testing.assert_array_equal(read_all(reader), FRAMES[:10])
    with pytest.raises(DataError, match=r"11 complete patterns, the scan shape \(3, 4\) needs 12"):
        open_stack(path, scan_shape=(3, 4))
    path.write_bytes(content)
    (tmp_path / "a.hdr").write_text("Frames in Acquisition (Number):\t10\n")
    with pytest.raises(DataError, match=r"holds 12 patterns, its header a\.hdr says 10"):
        open_stack(path)


def test_merlin_damaged(tmp_path: Path) -> None:
    path, content = tmp_path / "a.mib", merlin(FRAMES)
    path.write_bytes(content[:-500] + b"X" * 500)
    with pytest.raises(DataError, match=r"frame 11 of .*a\.mib does not begin with the header of a Merlin frame"):
        open_stack(path)
    path.write_bytes(merlin(FRAMES[:11]) + merlin(FRAMES[11:].reshape(1, 8, 6)))
    with pytest.raises(DataError, match=r"frame 11 .* has another header"):
        open_stack(path)
    path.write_bytes(content.replace(b"00384", b"0x384", 1))
    with pytest.raises(DataError, match=r"header of frame 0 .* is damaged"):
        open_stack(path)
    path.write_bytes(merlin(FRAMES, "R64"))
    with pytest.raises(DataError, match=r"raw counter data \(R64\).*export it as U08, U16 or U32"):
        open_stack(path)


def test_tiff_of_odd_kinds(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, FRAMES.astype("u2"), imagej=True)
    with open_stack(path) as reader:
        assert isinstance(reader, FlatReader)
        np.testing.assert_array_equal(read_all(reader), FRAMES)
    tifffile.imwrite(path, FRAMES.astype(">f4").reshape(3, 4, 6, 8), bigtiff=True, photometric="minisblack")
    with open_stack(path) as reader:
        assert reader.info.scan_shape == (3, 4)
        np.testing.assert_array_equal(read_all(reader), FRAMES)
    tifffile.imwrite(path, np.zeros((6, 8), "u2"))
    with open_stack(path) as reader:
        assert reader.info.shape == (1, 6, 8)
    tifffile.imwrite(path, np.zeros((5, 6, 8, 3), "u1"), photometric="rgb")
    with pytest.raises(DataError, match="expected grey patterns"):
        open_stack(path)
    with pytest.raises(DataError, match="no series '3'; it has 1"):
        open_stack(path, dataset="3")


def test_tiff_of_separate_pages(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path, byteorder=">") as writer:
        for frame in FRAMES.astype("u2"):
            writer.write(frame, contiguous=False, photometric="minisblack", metadata=None)
    with open_stack(path) as reader:
        np.testing.assert_array_equal(read_all(reader), FRAMES)


def test_zarr_groups(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    group = zarr.create_group(str(path))
    group.create_array("one", shape=(12, 6, 8), dtype=">u2", chunks=(5, 6, 8))[...] = FRAMES
    group.create_array("small", shape=(3,), dtype="f4")[...] = 1
    with open_stack(path) as reader:
        assert reader.info.metadata["dataset"] == "/one"
        assert reader.info.dtype.isnative
        np.testing.assert_array_equal(read_all(reader), FRAMES)
    group.create_array("deep/two", shape=(12, 6, 8), dtype="u2", chunks=(5, 6, 8))[...] = FRAMES + 1
    with pytest.raises(DataError, match=r"several arrays .*\['deep/two', 'one'\]"):
        open_stack(path)
    with open_stack(path, dataset="/deep/two") as reader:
        np.testing.assert_array_equal(read_all(reader), FRAMES + 1)
    with pytest.raises(DataError, match="no array 'three'"):
        open_stack(path, dataset="three")


def test_zarr_version_2(tmp_path: Path) -> None:
    array = zarr.create_array(str(tmp_path / "a"), shape=(12, 6, 8), dtype="u2", chunks=(5, 6, 8), zarr_format=2)
    array[...] = FRAMES
    with open_stack(tmp_path / "a") as reader:
        np.testing.assert_array_equal(read_all(reader), FRAMES)
        assert reader.fingerprint() == reader.fingerprint()


def test_zarr_damaged_chunk_and_lost_shard(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    writer = create_stack(path, FRAMES.shape, "u2", scan_shape=(12,))
    writer.write(FRAMES.astype("u2"))
    writer.finish({})
    shard = path / "c" / "0" / "0" / "0"
    content = shard.read_bytes()
    shard.write_bytes(content[: len(content) // 2])
    with open_stack(path) as reader, pytest.raises(DataError, match=r"patterns 0\.\.4 of .*a\.zarr cannot be read"):
        read_all(reader)
    shard.unlink()
    with pytest.raises(DataError, match="is incomplete: 0 of 1 files of patterns are there"):
        open_stack(path)


def test_vendor_reader_is_optional(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    importer = importlib.import_module

    def without(name: str, package: str | None = None) -> Any:
        if name.startswith("rsciio"):
            raise ImportError(name)
        return importer(name, package)

    monkeypatch.setattr(importlib, "import_module", without)
    (tmp_path / "a.dm4").write_bytes(b"\0\0\0\4" * 9)
    with pytest.raises(MissingDependencyError, match=r'needs RosettaSciIO .*pip install "stackalign\[vendor\]"'):
        open_stack(tmp_path / "a.dm4", read_timeout=0)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("extension", ["dm3", "dm4", "blo", "tvips", "mrc", "ser", "hspy"])
def test_vendor_file_damaged(extension: str, tmp_path: Path) -> None:
    pytest.importorskip("rsciio", reason="RosettaSciIO is not installed")
    path = tmp_path / f"a.{extension}"
    path.write_bytes(bytes(range(256)) * 20)
    with pytest.raises(DataError, match=f"a.{extension}") as caught:
        open_stack(path)
    if extension in ("dm3", "dm4", "ser"):
        beginning = {"dm3": b"\0\0\0\3", "dm4": b"\0\0\0\4", "ser": b"II\x97\x01"}[extension]
        path.write_bytes(beginning + bytes(range(256)) * 20)
        with pytest.raises(DataError, match=f"a.{extension}") as caught:
            open_stack(path)
    assert "\n" not in str(caught.value)
    # The file that the plug-in left open goes now, and not during some other test.
    del caught
    gc.collect()


def test_vendor_scan_in_hspy(tmp_path: Path) -> None:
    """A file written by the plug-in itself, with calibrated axes."""
    plugin = pytest.importorskip("rsciio.hspy", reason="RosettaSciIO is not installed")
    names = (
        ("y", 3, 0.5, 0.0, "nm"),
        ("x", 4, 0.25, 0.0, "nm"),
        ("ky", 6, 0.1, -0.3, "1/nm"),
        ("kx", 8, 0.2, -0.8, "1/nm"),
    )
    axes = [
        {"name": name, "size": size, "scale": scale, "offset": offset, "units": units, "navigate": k < 2}
        for k, (name, size, scale, offset, units) in enumerate(names)
    ]
    signal = {
        "data": FRAMES.astype(">u2").reshape(3, 4, 6, 8),
        "axes": axes,
        "metadata": {"General": {"title": "t"}, "Signal": {"signal_type": ""}},
        "original_metadata": {},
        "learning_results": {},
        "models": {},
        "package_info": {"package": "none", "package_version": "0"},
        "attributes": {"_lazy": False, "ragged": False},
        "tmp_parameters": {},
    }
    plugin.file_writer(str(tmp_path / "a.hspy"), signal)
    with open_stack(tmp_path / "a.hspy") as reader:
        assert reader.info.scan_shape == (3, 4)
        assert reader.info.dtype.isnative
        calibration = reader.info.calibration
        assert calibration is not None
        np.testing.assert_allclose(calibration.origin, (3, 4))
        assert calibration.pixel_size == (0.1, 0.2)
        assert calibration.units == "1/nm"
        assert calibration.scan_step == (0.5, 0.25)
        np.testing.assert_array_equal(read_all(reader), FRAMES)
