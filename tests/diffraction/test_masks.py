"""Pixel masks from collections of images, and their combination."""

import json
import tracemalloc

import numpy as np
import pytest

from stackalign import diffraction, io
from stackalign.diffraction import _image_chunks
from stackalign.errors import DataError


@pytest.fixture
def dark_runs(rng):
    """Images of noise with pixels that are too bright once, negative once, fluctuating, dead, and NaN once."""
    images = rng.normal(100, 5, (60, 24, 31))
    images[17, 3, 4] = 40000
    images[30, 5, 6] = -1
    images[:, 7, 8] = 100 + 80 * rng.normal(size=60)
    images[:, 9, 10] = 77
    images[55, 11, 12] = np.nan
    return images


def test_each_reason(dark_runs) -> None:
    found = diffraction.mask_from_collection(dark_runs, limits=(0, 3e4), max_std=30, dead=True, device="cpu")
    wanted = np.ones(dark_runs.shape[1:], bool)
    for at in ((3, 4), (5, 6), (7, 8), (9, 10), (11, 12)):
        wanted[at] = False
    wanted[~(dark_runs.min(axis=0) >= 0) & ~np.isnan(dark_runs.min(axis=0))] = False
    np.testing.assert_array_equal(found.mask, wanted)
    assert found.counts["above"] == found.counts["dead"] == found.counts["not_finite"] == 1
    assert found.counts["fluctuating"] == 2  # the bright one too
    assert found.n_images == 60
    np.testing.assert_allclose(found.std, np.nanstd(dark_runs, axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.mean, np.nanmean(dark_runs, axis=0), rtol=1e-14)
    np.testing.assert_array_equal(found.maximum, np.nanmax(dark_runs, axis=0))
    only = diffraction.mask_from_collection(dark_runs, limits=None, device="cpu")
    assert np.argwhere(~only.mask).tolist() == [[11, 12]]
    top = diffraction.mask_from_collection(dark_runs, limits=1000, device="cpu")
    assert np.argwhere(~top.mask).tolist() == [[3, 4], [11, 12]]


def test_std_is_the_final_one_in_any_order(rng, monkeypatch) -> None:
    """50 images of Poisson(100), limit 12: a running deviation would flag twenty times as many."""
    monkeypatch.setattr(_image_chunks, "CHUNK_BYTES", 1)
    monkeypatch.setattr(_image_chunks, "LEAST_FRAMES", 7)
    images = rng.poisson(100, (50, 64, 64)).astype(np.uint16)
    wanted = images.astype(np.float64).std(axis=0) <= 12
    assert 20 < (~wanted).sum() < 300
    for order in (np.arange(50), np.arange(50)[::-1], rng.permutation(50)):
        found = diffraction.mask_from_collection((images[k] for k in order), max_std=12, device="cpu")
        np.testing.assert_array_equal(found.mask, wanted)


def test_deviation_that_equals_the_limit_is_allowed(rng, monkeypatch) -> None:
    monkeypatch.setattr(_image_chunks, "CHUNK_BYTES", 1)
    monkeypatch.setattr(_image_chunks, "LEAST_FRAMES", 3)
    values = np.array([90.1] * 10 + [110.1] * 10)
    for _ in range(10):
        images = rng.permutation(values)[:, None, None] * np.ones((1, 2, 2))
        assert diffraction.mask_from_collection(iter(images), max_std=10, device="cpu").mask.all()
        assert not diffraction.mask_from_collection(iter(images), max_std=9.999, device="cpu").mask.any()


def test_small_deviations_of_large_numbers(rng) -> None:
    images = 1e8 + rng.normal(size=(40, 8, 8))
    found = diffraction.mask_from_collection(images, limits=None, device="cpu")
    np.testing.assert_allclose(found.std, images.std(axis=0), rtol=1e-6)


def test_arrays_readers_and_generators_agree(rng, tmp_path) -> None:
    images = rng.poisson(100, (23, 12, 9)).astype(np.int32)
    np.save(tmp_path / "stack.npy", images)
    options = {"limits": (80, 125), "max_std": 10.5, "device": "cpu"}
    found = [diffraction.mask_from_collection(images, **options)]
    found += [diffraction.mask_from_collection(iter(images), **options)]
    found += [diffraction.mask_from_collection(list(images), **options)]
    reader = io.open_stack(tmp_path / "stack.npy")
    found += [diffraction.mask_from_collection(reader, **options)]
    reader.close()
    for other in found[1:]:
        np.testing.assert_array_equal(found[0].mask, other.mask)
        assert other.n_images == 23
    assert 0 < found[0].mask.sum() < images[0].size


def test_memory_does_not_grow(monkeypatch) -> None:
    monkeypatch.setattr(_image_chunks, "CHUNK_BYTES", 1 << 20)
    image = np.ones((64, 64), np.uint16)

    def peak(n: int) -> int:
        tracemalloc.start()
        found = diffraction.mask_from_collection((image for _ in range(n)), device="cpu", workers=1)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert found.n_images == n
        return most

    peak(10)
    few, many = peak(300), peak(10000)
    assert many < 1.1 * few < 6e6


def test_images_of_several_types(rng) -> None:
    images = [rng.poisson(50, (6, 7)).astype(t) for t in ("u1", "u1", "f4", "u2", "u2")]
    found = diffraction.mask_from_collection(iter(images), device="cpu")
    np.testing.assert_allclose(found.std, np.std(np.array(images, float), axis=0), rtol=1e-7)


def test_progress_and_json(rng, monkeypatch) -> None:
    monkeypatch.setattr(_image_chunks, "CHUNK_BYTES", 1)
    seen = []
    found = diffraction.mask_from_collection(rng.poisson(9, (40, 5, 5)), progress=seen.append, device="cpu")
    assert [p.done for p in seen] == [16, 32, 40]
    assert {p.total for p in seen} == {40}
    written = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert written["n_valid"] == 25
    assert "mask" not in written
    assert len(found.to_dict(arrays=True)["std"]) == 5


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"images": []}, DataError, "no image"),
        ({"images": iter([])}, DataError, "no image"),
        ({"images": [np.ones((3, 3)), np.ones((3, 4))]}, DataError, "image 1 .* like the first"),
        ({"images": [np.ones(3)]}, DataError, "image 0"),
        ({"images": np.ones(3)}, DataError, "must have the shape"),
        ({"images": np.ones((2, 3, 3), complex)}, TypeError, "complex"),
        ({"images": [np.ones((3, 3), complex)]}, TypeError, "complex"),
        ({"images": 5}, TypeError, "array .* or an iterable"),
        ({"limits": (5, 5)}, ValueError, "smallest, largest"),
        ({"limits": (1, 2, 3)}, ValueError, "smallest, largest"),
        ({"max_std": -1}, ValueError, "max_std"),
        ({"max_std": np.nan}, ValueError, "max_std"),
        ({"images": np.ones((1, 3, 3)), "max_std": 3.0}, DataError, "two images"),
        ({"images": np.ones((1, 3, 3)), "dead": True}, DataError, "two images"),
    ],
)
def test_bad_input_is_refused(change, error, message) -> None:
    arguments = {"images": np.ones((4, 3, 3)), "device": "cpu"} | change
    with pytest.raises(error, match=message):
        diffraction.mask_from_collection(**arguments)


def test_combination(rng) -> None:
    first, second = rng.random((2, 9, 8)) < 0.5
    each = rng.random((3, 9, 8)) < 0.5
    np.testing.assert_array_equal(diffraction.combine_masks(first, second), first & second)
    np.testing.assert_array_equal(diffraction.combine_masks(first, each, second), first & each & second)
    alone = diffraction.combine_masks(first)
    assert alone is not first
    assert not np.shares_memory(alone, first)
    made = diffraction.mask_from_collection(rng.poisson(100, (4, 9, 8)), limits=(95, 110), device="cpu")
    np.testing.assert_array_equal(diffraction.combine_masks(made, first), made.mask & first)
    with pytest.raises(ValueError, match="at least one"):
        diffraction.combine_masks()
    with pytest.raises(TypeError, match="mask 1 must be boolean"):
        diffraction.combine_masks(first, first.astype(int))
    with pytest.raises(ValueError, match="one shape"):
        diffraction.combine_masks(first, first.T)
    with pytest.raises(ValueError, match="same number of images"):
        diffraction.combine_masks(each, each[:2])


def test_faults_of_a_detector_are_found_by_their_neighbours(tmp_path) -> None:
    """Dead lines and clusters, gaps at the type's top, hot and noisy pixels, beside rings and spots, which stay."""
    y, x = np.indices((96, 110)).astype(float)
    r = np.hypot(y - 44.3, x - 57.8)
    clean = 3 + 90 * np.exp(-r / 15) + 60 * np.exp(-0.5 * ((r - 30) / 2) ** 2)
    clean += 400 * np.exp(-((y - 70) ** 2 + (x - 20) ** 2) / 4)
    scale = 1 + 0.3 * np.sin(np.arange(40))
    frames = np.random.default_rng(0).poisson(clean * scale[:, None, None]).astype(np.uint16)
    assert diffraction.mask_from_collection(frames, limits=None, detect=True).mask.all()
    good = np.ones((96, 110), bool)
    frames[:, 31], good[31] = 0, False
    frames[:, :, 77:79], good[:, 77:79] = 0, False
    frames[:, 60:63, 40:43], good[60:63, 40:43] = 0, False
    frames[:, 85:89], good[85:89] = 65535, False
    frames[:, [12, 50, 51], [14, 90, 90]] += 2000
    good[[12, 50, 51], [14, 90, 90]] = False
    frames[::2, 20, 100], good[20, 100] = 3000, False
    found = diffraction.mask_from_collection(frames, limits=None, detect=True)
    np.testing.assert_array_equal(found.mask, good)
    assert found.counts["gap"] == 4 * 110
    np.save(tmp_path / "frames.npy", frames)
    made = diffraction.mask_file(tmp_path / "frames.npy", tmp_path / "mask.npy", limits=None, detect=True)
    np.testing.assert_array_equal(made.valid, good)
