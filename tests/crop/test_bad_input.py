"""What cannot be cropped is refused with one sentence that names it, and leaves nothing behind."""

from pathlib import Path

import numpy as np
import pytest

from crop.oracle import digest, disks
from stackalign.crop import CroppingConfig, crop_array, crop_file
from stackalign.errors import DataError, OutputExistsError, StackalignError

QUIET = CroppingConfig(visualization=False)
STACK = disks(6)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros((0, 8, 8)), r"shape \(0, 8, 8\) and holds no data; expected at least one pattern"),
        (np.zeros((3, 0, 8)), r"shape \(3, 0, 8\) and holds no data"),
        (np.zeros(8), r"has 1 axes \(8,\); expected \(N, H, W\), \(N, 1, H, W\) or \(Ry, Rx, H, W\)"),
        (np.zeros((8, 8)), r"has 2 axes \(8, 8\).* \(a single pattern needs a leading axis of length 1\)"),
        (np.zeros((2, 2, 2, 8, 8)), r"has 5 axes"),
        (np.ones((2, 8, 8), complex), r"has the dtype complex128; expected integers, floats up to 64 bits"),
        (np.full((2, 8, 8), "a"), r"has the dtype <U1; expected integers"),
        (np.zeros((4, 8, 8)), r"all 4 patterns of .* are empty \(no positive total intensity\).*dark run"),
        (-np.ones((4, 8, 8)), r"all 4 patterns of .* are empty"),
        (np.full((4, 8, 8), np.nan), r"all 4 patterns of .* are empty"),
        (np.full((4, 8, 8), np.inf), r"all 4 patterns of .* are empty"),
        (np.full((4, 8, 8), 2**40), r"pattern 0 of .* values beyond 32 bits; convert the data to float64"),
    ],
)
def test_data_that_cannot_be_cropped(data, message, tmp_path):
    with pytest.raises(DataError, match=message):
        crop_array(data, QUIET)
    np.save(tmp_path / "in.npy", data)
    if data.ndim == 2:  # a file may hold one pattern
        message = r"all 1 patterns of .* are empty"
    with pytest.raises(DataError, match=message) as caught:
        crop_file(tmp_path / "in.npy", tmp_path / "out.npy", QUIET)
    assert "in.npy" in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["in.npy"]


def test_wrong_number_of_channels_is_a_scan():
    """(N, 2, H, W) is a scan of two columns, not a fault: nothing else could tell them apart."""
    stack = np.stack([STACK, STACK], axis=1)
    cropped, result = crop_array(stack, QUIET)
    assert cropped.shape[:2] == (6, 2)
    assert result.analysis.scan_shape == (6, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"margin_pixels": -1}, "margin_pixels must be a whole number, 0 or more, got -1"),
        ({"margin_pixels": 1.5}, "margin_pixels must be a whole number, 0 or more, got 1.5"),
        ({"target_retention": 0}, "target_retention must be above 0 and at most 1, got 0"),
        ({"target_retention": 1.01}, "target_retention must be above 0 and at most 1, got 1.01"),
        ({"target_retention": float("nan")}, "target_retention must be above 0 and at most 1, got nan"),
        ({"min_retention": 0}, "min_retention must be above 0 and at most 1, got 0"),
        ({"min_retention": 0.99}, r"min_retention must not exceed target_retention \(0.98\), got 0.99"),
        ({"chunk_size": 0}, "chunk_size must be a whole number, 1 or more, got 0"),
        ({"workers": 0}, "workers must be a whole number, 1 or more, got 0"),
        ({"memory_limit": 0}, "memory_limit must be a number of bytes, got 0"),
        ({"center_method": "middle"}, "center_method must be one of centroid, center, manual, got 'middle'"),
        ({"center_method": "manual"}, r"manual_center must be \(y, x\) when center_method is \"manual\", got None"),
        ({"center_method": "manual", "manual_center": (1, 2, 3)}, r"manual_center must be \(y, x\)"),
        ({"center_method": "manual", "manual_center": (1, float("inf"))}, r"manual_center must be \(y, x\)"),
        ({"center_fit": "line"}, "center_fit must be one of none, plane, got 'line'"),
        ({"radius_policy": "mean"}, 'radius_policy must be "max" or a percentile above 0 and up to 100'),
        ({"radius_policy": 101}, "radius_policy must be .* got 101"),
        ({"radius_policy": 0}, "radius_policy must be .* got 0"),
        ({"negative": "zero"}, "negative must be one of keep, clip, error, got 'zero'"),
        ({"nan": "zero"}, "nan must be one of mask, error, got 'zero'"),
    ],
)
def test_options_that_make_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        CroppingConfig(**options)


def test_options_may_be_numpy_numbers():
    config = CroppingConfig(
        target_retention=np.float32(0.9),
        min_retention=np.float64(0.8),
        margin_pixels=np.int64(2),
        chunk_size=np.int32(4),
    )
    assert crop_array(STACK, config)[1].analysis.n_patterns == 6


@pytest.mark.parametrize("device", ["gpu", "cuda:x", ""])
def test_unknown_device(device):
    with pytest.raises(ValueError, match='device must be "auto", "cpu", "cuda" or "cuda:n"'):
        crop_array(STACK, CroppingConfig(device=device))


@pytest.mark.parametrize("center", [(40, 5), (5, 36), (-0.6, 5)])
def test_center_outside(center, tmp_path):
    config = CroppingConfig(center_method="manual", manual_center=center, visualization=False)
    message = r"manual_center \(.*\) lies outside the 40 x 36 patterns; give \(y, x\) in pixel indices from 0"
    with pytest.raises(DataError, match=message):
        crop_array(STACK, config)
    np.save(tmp_path / "in.npy", STACK)
    with pytest.raises(DataError, match=message):
        crop_file(tmp_path / "in.npy", tmp_path / "out.npy", config)
    assert [p.name for p in tmp_path.iterdir()] == ["in.npy"]


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.ones((36, 40), bool), r"mask must have the shape \(40, 36\) of a pattern, got \(36, 40\)"),
        (np.ones((6, 40, 36), bool), r"mask must have the shape \(40, 36\) of a pattern, got \(6, 40, 36\)"),
        (np.ones((40, 36), np.uint8), "mask must be boolean, True = valid, got uint8"),
        (np.zeros((40, 36), bool), "all 6 patterns of .* are empty .*does the mask cover the beam"),
    ],
)
def test_masks(mask, message, tmp_path):
    with pytest.raises(DataError, match=message):
        crop_array(STACK, QUIET, mask=mask)
    np.save(tmp_path / "in.npy", STACK)
    with pytest.raises(DataError, match=message):
        crop_file(tmp_path / "in.npy", tmp_path / "out.npy", QUIET, mask=mask)
    assert [p.name for p in tmp_path.iterdir()] == ["in.npy"]


def test_plane_through_too_few_patterns():
    stack = STACK[:4].reshape(2, 2, 40, 36).copy()
    stack[0] = 0
    with pytest.raises(DataError, match="a plane needs 3 patterns with a usable centre, there are 2"):
        crop_array(stack, CroppingConfig(center_fit="plane"))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("out.tif", {}, r"output .*out\.tif has no known extension; known are \.npy \.pt"),
        ("out", {}, r"output .*out has no known extension"),
        ("out.npy", {"compression": "lz4"}, r"out\.npy cannot be compressed \(lz4 was asked for\)"),
        ("out.pt", {"compression": "zstd"}, r"out\.pt cannot be compressed"),
        ("out.h5", {"compression": "bzip2"}, "compression 'bzip2' is not known; choose none, lz4, zstd or gzip"),
        ("in.npy", {}, r"output .*in\.npy is the input; choose another name"),
        ("in.npy", {"overwrite": True}, r"output .*in\.npy is the input; choose another name"),
        ("link.npy", {"overwrite": True}, r"output .*link\.npy is the input; choose another name"),
        ("there.npy", {}, r"output .*there\.npy exists; choose another name or allow it to be replaced"),
        ("folder.npy", {"overwrite": True}, r"output .*folder\.npy is a folder; give a file name"),
    ],
)
def test_outputs_are_refused_before_anything_is_read(name, options, message, tmp_path):
    np.save(tmp_path / "in.npy", STACK)
    (tmp_path / "there.npy").write_bytes(b"of somebody else")
    (tmp_path / "link.npy").symlink_to(tmp_path / "in.npy")
    (tmp_path / "folder.npy").mkdir()
    before = sorted(p.name for p in tmp_path.iterdir())
    content = digest(tmp_path)

    def progress(state):
        pytest.fail("data were read")

    with pytest.raises((DataError, OutputExistsError), match=message):
        crop_file(tmp_path / "in.npy", tmp_path / name, QUIET, progress=progress, **options)
    assert sorted(p.name for p in tmp_path.iterdir()) == before
    assert digest(tmp_path) == content


def test_input_by_a_relative_name_is_still_the_input(tmp_path, monkeypatch):
    np.save(tmp_path / "in.npy", STACK)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="is the input"):
        crop_file("in.npy", tmp_path / "in.npy", QUIET, overwrite=True)
    with pytest.raises(DataError, match="is the input"):
        crop_file(tmp_path / "in.npy", Path("in.npy"), QUIET, overwrite=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"input .*in\.npy does not exist"),
        (b"", r"input .*in\.npy is empty; copy it again"),
        (b"\x93NUMPY\x01\x00", r"in\.npy"),
        (b"no array at all", r"in\.npy"),
    ],
)
def test_inputs_that_are_none(content, message, tmp_path):
    if content is not None:
        (tmp_path / "in.npy").write_bytes(content)
    with pytest.raises(DataError, match=message):
        crop_file(tmp_path / "in.npy", tmp_path / "out.npy", QUIET)
    assert not list(tmp_path.glob("out*"))


def test_truncated_input(tmp_path):
    np.save(tmp_path / "in.npy", STACK)
    whole = (tmp_path / "in.npy").read_bytes()
    (tmp_path / "in.npy").write_bytes(whole[:-100])
    with pytest.raises(DataError, match="is truncated: its header promises 6 patterns, the file holds 5 complete ones"):
        crop_file(tmp_path / "in.npy", tmp_path / "out.npy", QUIET)
    assert not list(tmp_path.glob("out*"))


def test_every_error_is_one_sentence_of_this_package(tmp_path):
    with pytest.raises(StackalignError) as caught:
        crop_file(tmp_path / "none.npy", tmp_path / "out.npy", QUIET)
    assert "\n" not in str(caught.value)
