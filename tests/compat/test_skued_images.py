"""scikit-ued's functions for files, masks and noise, against NumPy and headers written here."""

import datetime
import warnings

import numpy as np
import pytest

from stackalign.compat import skued
from stackalign.errors import DataError


def merlin(path, frames, moments, dtype="U16"):
    """Write frames behind headers of 384 bytes."""
    stored = {"U08": "u1", "U16": ">u2", "U32": ">u4"}[dtype]
    with path.open("wb") as file:
        for k, (frame, moment) in enumerate(zip(frames, moments, strict=True)):
            height, width = frame.shape
            text = f"MQ1,{k + 1:06d},00384,01,{width:04d},{height:04d},{dtype},   1x1,01,{moment},0.001,0,0,0,12"
            file.write(text.encode().ljust(384, b" ") + frame.astype(stored).tobytes())


@pytest.fixture
def stack():
    return np.random.default_rng(3).normal(5.0, 2.0, (7, 6, 9))


def test_signal_to_noise_is_the_mean_over_the_deviation(stack) -> None:
    stack[:, 2, 3] = 4.0  # never changes
    with np.errstate(divide="ignore"):
        expected = stack.mean(axis=0) / stack.std(axis=0)
    expected[2, 3] = -1.0
    np.testing.assert_allclose(skued.snr_from_collection(iter(stack), fill_value=-1.0), expected, rtol=1e-12)
    stream = list(skued.isnr(iter(stack)))
    assert len(stream) == 7
    np.testing.assert_array_equal(stream[0], 0.0)
    np.testing.assert_allclose(stream[3][0], (stack[:4, 0].mean(axis=0) / stack[:4, 0].std(axis=0)), rtol=1e-12)
    with pytest.raises(DataError, match="at least one image"):
        skued.snr_from_collection([])


def test_signal_to_noise_leaves_out_nan(stack) -> None:
    stack[2, 1, 1] = np.nan
    stack[:, 4, 4] = np.nan
    rest = np.delete(stack[:, 1, 1], 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ratio = skued.snr_from_collection(stack)
    assert ratio[1, 1] == pytest.approx(rest.mean() / rest.std(), rel=1e-12)
    assert ratio[4, 4] == 0.0


@pytest.mark.parametrize("axis", [None, 0, 1])
@pytest.mark.parametrize("percentile", [0, 37, 100])
def test_trimming_keeps_what_is_at_the_percentile(axis, percentile) -> None:
    array = np.random.default_rng(1).integers(0, 20, (8, 11)).astype(np.float64)
    before = array.copy()
    limit = np.percentile(array, percentile, axis=axis, keepdims=True)
    np.testing.assert_array_equal(
        skued.triml(array, percentile, axis=axis, fill_value=-3), np.where(array < limit, -3, array)
    )
    np.testing.assert_array_equal(
        skued.trimr(array, percentile, axis=axis, fill_value=-3), np.where(array > limit, -3, array)
    )
    np.testing.assert_array_equal(array, before)


def test_masks_of_images() -> None:
    image = np.arange(12).reshape(3, 4)
    mask = image % 3 > 0
    masked = skued.mask_image(image, mask, fill_value=-7)
    np.testing.assert_array_equal(masked, np.where(mask, image, -7))
    assert image[0, 0] == 0
    assert skued.mask_image(image, mask, fill_value=-7, copy=False) is image
    np.testing.assert_array_equal(image, masked)
    with pytest.raises(DataError, match="shape"):
        skued.mask_image(image, mask[:2])
    noisy = np.random.default_rng(0).normal(2, 3, (20, 30))
    np.testing.assert_array_equal(
        skued.auto_masking(noisy, threshold=0.3), noisy > 0.3 * np.median(np.maximum(noisy, 0))
    )


@pytest.mark.parametrize(("dtype", "stored"), [("U08", "u1"), ("U16", ">u2"), ("U32", ">u4")])
@pytest.mark.parametrize("count", [1, 4])
def test_files_of_merlin(tmp_path, dtype, stored, count) -> None:
    frames = np.random.default_rng(2).integers(0, 200, (count, 5, 7))
    moments = [f"2021-03-04 05:06:{k:02d}.5000001" for k in range(count)]
    merlin(tmp_path / "a.mib", frames, moments, dtype)
    images = skued.mibread(tmp_path / "a.mib")
    np.testing.assert_array_equal(images, frames[0] if count == 1 else np.moveaxis(frames, 0, -1))
    for image, frame in zip(skued.imibread(tmp_path / "a.mib"), frames, strict=True):
        np.testing.assert_array_equal(image, frame)
        assert image.dtype == np.dtype(stored)  # as scikit-ued's own tests ask for
    offset = 0
    for k in range(count):
        header = skued.mibheader(tmp_path / "a.mib", offset)
        assert header == {
            "ID": "MQ1",
            "seq_num": k + 1,
            "offset": 384,
            "nchips": 1,
            "shape": (7, 5),
            "dtype": np.dtype(stored),
            "timestamp": datetime.datetime(2021, 3, 4, 5, 6, k, 500000).timestamp(),
        }
        offset += 384 + frames[k].size * np.dtype(stored).itemsize
    with pytest.raises(DataError, match="MQ1"):
        skued.mibheader(tmp_path / "a.mib", 17)


def test_other_files_are_refused_by_name(tmp_path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((3, 3)))
    for function in (skued.mibread, skued.mibheader, skued.dmread, lambda path: next(skued.imibread(path))):
        with pytest.raises(DataError, match="is no"):
            function(tmp_path / "a.npy")
    with pytest.raises(DataError):
        skued.mibheader(tmp_path / "absent.mib")


def test_real_files(shared_data) -> None:
    folder = shared_data / "diffraction"
    images = skued.mibread(folder / "test_multi.mib")
    assert images.shape == (256, 256, 9)
    header = skued.mibheader(folder / "test.mib")
    assert header["shape"] == skued.mibread(folder / "test.mib").shape == (256, 256)
    moment = datetime.datetime(2018, 1, 19, 20, 55, 10, 966026)
    assert header["timestamp"] == pytest.approx(moment.timestamp(), abs=1e-6)
    np.testing.assert_array_equal(skued.dmread(folder / "bismuth.dm4"), skued.diffread(folder / "bismuth.dm4"))


def test_alignment_of_a_stream_shares_the_work_on_the_reference(monkeypatch) -> None:
    from stackalign import diffraction

    image = diffraction.create_test_pattern("lattice", center=(262.3, 249.8)).image[::4, ::4]
    series = [np.roll(image, k, axis=0) for k in (0, 2, -3, 4)]
    each = [skued.align(moved, image) for moved in series]
    calls = []
    aligned = diffraction.align
    monkeypatch.setattr("stackalign.diffraction.alignment.align", lambda *a, **k: calls.append(1) or aligned(*a, **k))
    stream = list(skued.ialign(iter(series), reference=image))
    assert len(calls) == 1
    for one, other in zip(stream, each, strict=True):
        np.testing.assert_array_equal(one, other)
