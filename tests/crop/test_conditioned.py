"""Binned patterns, and invalid pixels that are filled or cleared, against loops over pixels."""

import numpy as np
import pytest

from cli.runner import run
from stackalign.compat.cropper import DiffractionCropper
from stackalign.crop import CroppingConfig, conditioned, crop_array, crop_file
from stackalign.errors import DataError
from stackalign.io import Calibration, create_stack, open_array, open_stack

QUIET = {"visualization": False, "verbose": False}


def scene(dtype=np.uint16, frame=(61, 70), seed=5):
    y, x = np.indices(frame)
    rng = np.random.default_rng(seed)
    spots = [400 * np.exp(-((y - 29 - k / 4) ** 2 + (x - 35 + k / 3) ** 2) / 30) for k in range(7)]
    return rng.poisson(np.stack(spots)).astype(dtype)


def chip_gaps(frame=(61, 70), seed=5):
    mask = np.ones(frame, np.bool_)
    mask[:, 22:26] = False
    mask[44] = False
    rng = np.random.default_rng(seed)
    mask[rng.integers(0, frame[0], 9), rng.integers(0, frame[1], 9)] = False
    mask[0, 0] = False
    return mask


def filled_by_loop(image, mask):
    out = image.astype(np.float64)
    for y, x in np.argwhere(~mask):
        for reach in range(1, 65):
            where = np.s_[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]
            around = image[where][mask[where]].astype(np.float64)
            if around.size:
                out[y, x] = np.nanmean(around) if np.isfinite(around).any() else np.nan
                break
    return out if image.dtype.kind == "f" else np.rint(out).astype(image.dtype)


def binned_by_loop(image, factor):
    height, width = (n // factor for n in image.shape)
    out = np.zeros((height, width), np.float64)
    for y in range(height):
        for x in range(width):
            out[y, x] = image[y * factor : (y + 1) * factor, x * factor : (x + 1) * factor].astype(np.float64).sum()
    return out


def frames_of(stack, mask=None, **options):
    reader, valid, _ = conditioned.conditioned(open_array(stack), CroppingConfig(**QUIET, **options), mask)
    out = np.empty(reader.info.shape, reader.info.dtype)
    reader.read(0, len(out), out)
    return out, valid, reader


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.uint32, np.float32, np.float64])
@pytest.mark.parametrize("factor", [2, 3, 5])
def test_blocks_are_summed_in_a_type_that_holds_them(dtype, factor):
    stack = scene(np.float64).astype(dtype)
    stack[2, 10:20, 10:20] = 1e6 if np.dtype(dtype).kind == "f" else np.iinfo(dtype).max
    out, mask, _ = frames_of(stack, bin=factor)
    assert mask is None
    assert out.dtype.kind == stack.dtype.kind
    for image, pattern in zip(stack, out, strict=True):
        np.testing.assert_allclose(pattern, binned_by_loop(image, factor), rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_gaps_get_the_mean_of_the_nearest_valid_pixels(dtype):
    stack, mask = scene(dtype), chip_gaps()
    stack[:, ~mask] = 60000
    if np.dtype(dtype).kind == "f":
        stack[3, 10, 21] = np.nan  # beside the gap, in one pattern only
    out, valid, _ = frames_of(stack, mask, gap="mean")
    np.testing.assert_array_equal(valid, mask)  # what was filled in does not count
    for image, pattern in zip(stack, out, strict=True):
        np.testing.assert_allclose(pattern, filled_by_loop(image, mask), rtol=1e-6)


@pytest.mark.parametrize(("dtype", "blank"), [(np.uint16, 0), (np.float32, np.nan)])
@pytest.mark.parametrize("factor", [1, 2])
def test_gaps_are_cleared(dtype, blank, factor):
    stack, mask = scene(dtype), chip_gaps()
    stack[:, ~mask] = 60000
    out, valid, _ = frames_of(stack, mask, gap="mask", bin=factor)
    np.testing.assert_array_equal(out[:, ~valid], blank)
    clean = np.where(mask, stack, np.zeros((), dtype))
    for image, pattern in zip(clean, out, strict=True):
        np.testing.assert_allclose(pattern[valid], binned_by_loop(image, factor)[valid])


@pytest.mark.parametrize("gap", ["keep", "mean", "mask"])
def test_blocks_count_by_their_valid_pixels(gap):
    mask = chip_gaps()
    _, valid, _ = frames_of(scene(), mask, gap=gap, bin=4)
    share = binned_by_loop(mask.astype(np.float64), 4) / 16
    np.testing.assert_array_equal(valid, share >= (0.5 if gap == "mean" else 1.0))


def test_filled_gaps_do_not_decide_on_radius_or_retention():
    stack, mask = scene(), chip_gaps()
    stack[:, ~mask] = 65535
    plain = crop_array(stack, CroppingConfig(**QUIET), mask=mask)[1]
    for gap in ("mean", "mask"):
        cropped, result = crop_array(stack, CroppingConfig(gap=gap, **QUIET), mask=mask)
        assert int(cropped.max()) < 1000
        np.testing.assert_array_equal(result.analysis.centers, plain.analysis.centers)
        np.testing.assert_array_equal(result.validation.retentions, plain.validation.retentions)


def test_positions_and_calibration_are_those_of_binned_pixels(tmp_path):
    stack = scene()
    known = Calibration((0.5, 0.25), "mrad", (29.0, 35.0))
    with create_stack(tmp_path / "in.h5", stack.shape, stack.dtype, scan_shape=(7,), calibration=known) as writer:
        writer.write(stack)
        writer.finish({})
    whole = crop_file(tmp_path / "in.h5", tmp_path / "a.h5", CroppingConfig(**QUIET))
    binned = crop_file(tmp_path / "in.h5", tmp_path / "b.h5", CroppingConfig(bin=2, **QUIET))
    np.testing.assert_allclose(binned.analysis.centers, (whole.analysis.centers + 0.5) / 2 - 0.5, atol=0.02)
    assert binned.calibration.pixel_size == (1.0, 0.5)
    assert binned.input_bytes == whole.input_bytes == stack.nbytes
    manual = CroppingConfig(bin=2, center_method="manual", manual_center=(29.5, 34.5), **QUIET)
    result = crop_file(tmp_path / "in.h5", tmp_path / "c.h5", manual)
    np.testing.assert_array_equal(result.analysis.centers[0], (14.5, 17.0))
    stated = np.tile([29.5, 34.5], (7, 1))
    again = crop_file(tmp_path / "in.h5", tmp_path / "d.h5", CroppingConfig(bin=2, **QUIET), centers=stated)
    np.testing.assert_array_equal(again.analysis.centers, result.analysis.centers)


def test_same_bytes_for_any_chunk_and_any_worker(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    stack, mask = scene(), chip_gaps()
    np.save(tmp_path / "in.npy", stack)
    config = {"bin": 2, "gap": "mean", **QUIET}
    crop_file(tmp_path / "in.npy", tmp_path / "a.npy", CroppingConfig(**config), mask=mask)
    crop_file(tmp_path / "in.npy", tmp_path / "b.npy", CroppingConfig(chunk_size=2, **config), mask=mask)
    with ThreadPoolExecutor(2) as pool:
        crop_file(tmp_path / "in.npy", tmp_path / "c.npy", CroppingConfig(**config), mask=mask, executor=pool)
    first = (tmp_path / "a.npy").read_bytes()
    assert (tmp_path / "b.npy").read_bytes() == first == (tmp_path / "c.npy").read_bytes()
    memory, _ = crop_array(stack, CroppingConfig(**config), mask=mask)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), memory)


def test_a_frame_smaller_than_a_block_and_sums_beyond_64_bits_are_refused():
    with pytest.raises(DataError, match="smaller bin"):
        crop_array(scene()[:, :8], CroppingConfig(bin=9, **QUIET))
    large = np.full((4, 8, 8), 2**60, np.int64)
    with pytest.raises(DataError, match="float64"):
        crop_array(large, CroppingConfig(bin=2, **QUIET))
    with pytest.raises(ValueError, match="bin must be"):
        CroppingConfig(bin=0)


def test_what_was_done_is_said(tmp_path):
    np.save(tmp_path / "in.npy", scene())
    np.save(tmp_path / "mask.npy", chip_gaps())
    words = ("--mask", tmp_path / "mask.npy", "--bin", 2, "--gap", "mean", "--no-visualization")
    ran = run("crop", tmp_path / "in.npy", "-o", tmp_path / "o.h5", *words)
    assert ran.code == 0, ran.err
    assert (
        "bin 2: blocks of 2 x 2 pixels are summed; pixels at the end that fill no block are left out (1 y)" in ran.err
    )
    assert f"gap mean: {int((~chip_gaps()).sum())} invalid pixels" in ran.err
    with open_stack(tmp_path / "o.h5") as reader:
        assert reader.info.dtype == np.uint32
    ran = run("crop", tmp_path / "in.npy", "-o", tmp_path / "p.h5", "--gap", "mask", "--no-visualization")
    assert "there is no invalid pixel" in ran.err


def test_the_class_of_the_original_script_bins_too(tmp_path):
    config = CroppingConfig(bin=2, **QUIET)
    cropped, _ = DiffractionCropper(config).process_dataset(scene(), tmp_path / "o.npy")
    assert cropped.dtype == np.uint32
    np.testing.assert_array_equal(np.load(tmp_path / "o.npy"), cropped)
    steps = DiffractionCropper(config)
    analysis = steps.analyze_patterns(scene())
    np.testing.assert_array_equal(steps.crop_patterns(scene(), analysis), cropped)
    assert steps.validate_retention(scene(), cropped, analysis)["min_retention"] > 0.95
