"""Which frames of a file are the scan, in which order of axes."""

import math
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr

from stackalign.cli._plan import expand
from stackalign.crop import CroppingConfig, crop_file
from stackalign.errors import DataError
from stackalign.io import open_stack

FRAMES = np.random.default_rng(4).integers(0, 900, (60, 5, 7)).astype(np.uint16)


def merlin(frames, first=1, times=None):
    parts = []
    for k, frame in enumerate(frames):
        stamp = "2024-01-01 00:00:00" if times is None else times[k]
        head = f"MQ1,{first + k:06d},00384,01,0007,0005,U16,   1x1,01,{stamp},0.001000,"
        parts.append(head.encode().ljust(384) + frame.astype(">u2").tobytes())
    return b"".join(parts)


def stamps(rows, columns, dwell_us, pause_us, start_us=0):
    return [clock(start_us + k * dwell_us + (k // columns) * pause_us) for k in range(rows * columns)]


def clock(us):
    seconds, us = divmod(us, 10**6)
    return f"2024-01-01 {seconds // 3600 % 24:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{us:06d}"


def read(path, **options):
    with open_stack(path, **options) as reader:
        out = np.empty(reader.info.shape, reader.info.dtype)
        for lo in range(0, len(out), 7):
            reader.read(lo, min(len(out), lo + 7), out[lo : lo + 7])
        return out, reader.info


@pytest.mark.parametrize(("rows", "columns", "extra"), [(6, 9, 1), (10, 4, 2), (5, 11, 1)])
@pytest.mark.parametrize("last", [True, False])
def test_flyback_frames(rows, columns, extra, last, tmp_path):
    total = rows * (columns + extra) - (0 if last else extra)
    (tmp_path / "a.mib").write_bytes(merlin(FRAMES[:total]))
    (tmp_path / "a.hdr").write_text(f"HDR,\nScanX:\t{columns}\nScanY:\t{rows}\n")
    with pytest.raises(DataError, match=rf"flyback.*skip_per_row={extra}, --skip-per-row {extra}\)"):
        open_stack(tmp_path / "a.mib")
    expected = [FRAMES[y * (columns + extra) + x] for y in range(rows) for x in range(columns)]
    for options in ({}, {"scan_shape": (rows, columns)}):
        out, info = read(tmp_path / "a.mib", skip_per_row=extra, **options)
        np.testing.assert_array_equal(out, expected)
        assert info.scan_shape == (rows, columns)
        assert "ignored_frames" not in info.metadata


def test_frames_before_the_scan(tmp_path):
    (tmp_path / "a.mib").write_bytes(merlin(FRAMES[:53]))
    (tmp_path / "a.hdr").write_text("HDR,\nScanX:\t10\nScanY:\t5\n")
    with pytest.raises(DataError, match=r"53 frames.*5 x 10: 3 too many.*skip_frames=3, --skip-frames 3\)"):
        open_stack(tmp_path / "a.mib")
    out, info = read(tmp_path / "a.mib", skip_frames=3)
    np.testing.assert_array_equal(out, FRAMES[3:53])
    assert info.scan_shape == (5, 10)
    out, info = read(tmp_path / "a.mib", skip_frames=1, skip_per_row=2, scan_shape=(4, 9))
    np.testing.assert_array_equal(out, [FRAMES[1 + 11 * y + x] for y in range(4) for x in range(9)])
    assert info.metadata["ignored_frames"] == 52 - (3 * 11 + 9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"skip_frames": 60}, "60 frames, of which 60 cannot be skipped"),
        ({"skip_frames": -1}, "-1 cannot be skipped"),
        ({"skip_per_row": 1}, "state the scan shape, rows and columns"),
        ({"skip_per_row": 2, "scan_shape": (6, 10)}, "needs 70: state a scan that fits"),
        ({"skip_frames": 1, "axes": "Nyx"}, "leave out axes or the skipping"),
    ],
)
def test_skipping_that_does_not_fit(options, message, tmp_path):
    np.save(tmp_path / "a.npy", FRAMES)
    with pytest.raises(DataError, match=message):
        open_stack(tmp_path / "a.npy", **options)


def test_skipping_in_other_formats(tmp_path):
    np.save(tmp_path / "a.npy", FRAMES.reshape(6, 10, 5, 7))
    out, info = read(tmp_path / "a.npy", skip_per_row=2)
    np.testing.assert_array_equal(out, FRAMES.reshape(6, 10, 5, 7)[:, :8].reshape(48, 5, 7))
    assert info.scan_shape == (6, 8)
    out, info = read(tmp_path / "a.npy", skip_frames=4)
    np.testing.assert_array_equal(out, FRAMES[4:])
    assert info.scan_shape == (56,)


@pytest.mark.parametrize(("rows", "columns"), [(6, 10), (20, 3), (2, 30)])
@pytest.mark.parametrize("start", [0, (86_400 - 1) * 10**6 + 993_000])
def test_scan_shape_from_the_times(rows, columns, start, tmp_path):
    (tmp_path / "a.mib").write_bytes(merlin(FRAMES, times=stamps(rows, columns, 1000, 37, start)))
    assert read(tmp_path / "a.mib")[1].scan_shape == (rows, columns)
    assert read(tmp_path / "a.mib", scan_shape=(4, 15))[1].scan_shape == (4, 15)


def test_irregular_times_are_no_scan(tmp_path):
    times = [clock(1000 * k + (40 if k >= 10 else 0) + (40 if k >= 33 else 0)) for k in range(60)]
    (tmp_path / "a.mib").write_bytes(merlin(FRAMES, times=times))
    assert read(tmp_path / "a.mib")[1].scan_shape == (60,)
    jitter = np.random.default_rng(2).integers(0, 30, 60)
    (tmp_path / "a.mib").write_bytes(merlin(FRAMES, times=[clock(1000 * k + int(jitter[k])) for k in range(60)]))
    assert read(tmp_path / "a.mib")[1].scan_shape == (60,)


def test_a_series_of_files_is_one_scan(tmp_path):
    for k, (lo, hi) in enumerate([(0, 20), (20, 45), (45, 60)]):
        (tmp_path / f"s_{k:04d}.mib").write_bytes(merlin(FRAMES[lo:hi], first=lo + 1))
    (tmp_path / "s_0000.hdr").write_text("HDR,\nScanX:\t10\nScanY:\t6\n")
    out, info = read(tmp_path / "s_0000.mib")
    np.testing.assert_array_equal(out, FRAMES)
    assert info.scan_shape == (6, 10)
    assert info.metadata["files"] == 3
    with pytest.raises(DataError, match=r"s_0001\.mib continues s_0000\.mib: open that file"):
        open_stack(tmp_path / "s_0001.mib")
    assert [path.name for path in expand([str(tmp_path / "s_*.mib")], [".mib"])] == ["s_0000.mib"]
    (tmp_path / "s_0001.mib").write_bytes(merlin(FRAMES[20:45], first=21)[:-40])
    with pytest.raises(DataError, match=r"s_0001\.mib ends within pattern 24"):
        open_stack(tmp_path / "s_0000.mib")


def test_numbered_scans_of_their_own_stay_so(tmp_path):
    for k in range(3):
        (tmp_path / f"scan{k + 1}.mib").write_bytes(merlin(FRAMES[20 * k : 20 * k + 20]))
    for k in range(3):
        np.testing.assert_array_equal(read(tmp_path / f"scan{k + 1}.mib")[0], FRAMES[20 * k : 20 * k + 20])
    (tmp_path / "scan1.hdr").write_text("HDR,\nFrames in Acquisition (Number):\t60\n")
    np.testing.assert_array_equal(read(tmp_path / "scan1.mib")[0], FRAMES)
    assert [path.name for path in expand([str(tmp_path)], [".mib"])] == ["scan1.mib"]


def test_frames_beyond_the_scan_are_said(tmp_path):
    y, x = np.indices((24, 24))
    spot = (200 * np.exp(-((y - 11) ** 2 + (x - 12) ** 2) / 12)).astype(np.uint16)
    parts = []
    for k in range(35):
        head = f"MQ1,{k + 1:06d},00384,01,0024,0024,U16,   1x1,01,2024-01-01 00:00:00,0.001000,"
        parts.append(head.encode().ljust(384) + spot.astype(">u2").tobytes())
    (tmp_path / "a.mib").write_bytes(b"".join(parts))
    config = CroppingConfig(visualization=False, verbose=False)
    result = crop_file(tmp_path / "a.mib", tmp_path / "o.npy", config, open_options={"scan_shape": (5, 6)})
    assert any(
        "5 frames beyond the scan 5 x 6 are ignored" in n and "--skip-per-row 1" in n for n in result.analysis.notes
    )
    result = crop_file(tmp_path / "a.mib", tmp_path / "p.npy", config, open_options={"scan_shape": (4, 8)})
    assert any("--skip-frames 3" in note for note in result.analysis.notes)
    assert np.load(tmp_path / "o.npy").shape[:2] == (5, 6)


@pytest.mark.parametrize("name", ["001_4x2_6bit", "002_4x2_6bit_roi128"])
def test_real_files_have_their_scan(name, shared_data):
    with open_stack(shared_data / "stem" / "merlin_mib" / f"{name}.mib") as reader:
        assert reader.info.scan_shape == (2, 4)


def stored(folder: Path, array, kind):
    if kind == "npy":
        np.save(folder / "a.npy", array)
        return folder / "a.npy"
    if kind == "zarr":
        zarr.create_array(store=str(folder / "a.zarr"), data=array)
        return folder / "a.zarr"
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset("d", data=array, chunks=None if kind == "h5" else True)
    return folder / "a.h5"


@pytest.mark.parametrize("kind", ["npy", "h5", "h5 chunks", "zarr"])
@pytest.mark.parametrize("axes", ["yxRC", "xyCR", "RyCx", "CRyx", "RCyx"])
def test_order_of_axes(axes, kind, tmp_path):
    scan = FRAMES.reshape(6, 10, 5, 7)
    array = np.ascontiguousarray(scan.transpose(["RCyx".index(letter) for letter in axes]))
    out, info = read(stored(tmp_path, array, kind), axes=axes)
    np.testing.assert_array_equal(out, FRAMES)
    assert (info.scan_shape, info.shape) == ((6, 10), FRAMES.shape)


def test_order_of_three_axes(tmp_path):
    out, info = read(stored(tmp_path, np.moveaxis(FRAMES, 0, 2), "npy"), axes="yxN", scan_shape=(6, 10))
    np.testing.assert_array_equal(out, FRAMES)
    assert math.prod(info.scan_shape) == 60
    for wrong in ("yxRC", "xyz", "RCyy", ""):
        with pytest.raises(DataError, match="axes"):
            open_stack(tmp_path / "a.npy", axes=wrong)


@pytest.mark.parametrize(
    ("shape", "asked"),
    [((40, 44, 6, 8), True), ((60, 60, 24, 20), True), ((6, 8, 40, 44), False), ((50, 50, 48, 48), False)],
)
def test_a_shape_that_looks_transposed_is_questioned(shape, asked, tmp_path):
    np.save(tmp_path / "in.npy", np.random.default_rng(0).integers(1, 9, shape).astype(np.uint8))
    config = CroppingConfig(visualization=False, verbose=False)
    result = crop_file(tmp_path / "in.npy", tmp_path / "o.npy", config)
    assert any("--axes yxRC" in note for note in result.analysis.notes) is asked
    right = crop_file(tmp_path / "in.npy", tmp_path / "p.npy", config, open_options={"axes": "yxRC"})
    assert right.analysis.scan_shape == shape[2:]
    assert not any("--axes" in note for note in right.analysis.notes)


@pytest.mark.parametrize("detector_first", [True, False])
def test_a_spot_where_the_scan_should_be_is_questioned(detector_first, tmp_path):
    rng = np.random.default_rng(3)
    y, x = np.indices((56, 60))
    sample = 1 + 0.3 * np.sin(np.arange(40)[:, None] / 5) * np.cos(np.arange(44) / 7)
    data = rng.poisson(sample[..., None, None] * 20 * np.exp(-((y - 26) ** 2 + (x - 31) ** 2) / 40)).astype(np.uint16)
    np.save(tmp_path / "in.npy", np.ascontiguousarray(data.transpose(2, 3, 0, 1)) if detector_first else data)
    config = CroppingConfig(visualization=False, verbose=False)
    result = crop_file(tmp_path / "in.npy", tmp_path / "o.npy", config)
    assert any("--axes yxRC" in note for note in result.analysis.notes) is detector_first


def test_a_series_of_more_files_than_are_kept_open(tmp_path):
    for k, frame in enumerate(FRAMES):
        (tmp_path / f"f{k + 1}.mib").write_bytes(merlin([frame], first=k + 1))
    with open_stack(tmp_path / "f1.mib", scan_shape=(6, 10)) as reader:
        out = np.empty(FRAMES.shape, np.uint16)
        reader.read(0, 60, out)
        np.testing.assert_array_equal(out, FRAMES)
        reader.read(0, 33, out[:33])
        before = reader.fingerprint()
    np.testing.assert_array_equal(out, FRAMES)
    assert [path.name for path in expand([str(tmp_path)], [".mib"])] == ["f1.mib"]
    (tmp_path / "f40.mib").write_bytes(merlin([FRAMES[39] + 1], first=40))
    with open_stack(tmp_path / "f1.mib", scan_shape=(6, 10)) as reader:
        assert reader.fingerprint() != before
