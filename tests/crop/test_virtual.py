"""Virtual images of a scan against masks that are drawn here, and the patterns that are kept to be looked at."""

import numpy as np
import pytest

from stackalign.crop import CroppingConfig, crop_array, crop_file
from stackalign.crop.virtual import virtual_detectors

QUIET = {"visualization": False, "verbose": False}


def scan(dtype=np.uint16) -> np.ndarray:
    """Beams of radius 6 about (25, 28) whose brightness changes with the row, and rings with the column."""
    y, x = np.indices((52, 56))
    r = np.hypot(y - 25, x - 28)
    rows, columns = np.indices((5, 7))
    clean = (40 + 9 * rows[..., None, None]) * (r <= 6) + (1 + columns[..., None, None]) * (np.abs(r - 17) <= 1)
    return np.random.default_rng(0).poisson(clean).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32, np.int64, ">u2"])
def test_fields_are_sums_over_discs(dtype) -> None:
    stack = scan(dtype)
    virtual = crop_array(stack, CroppingConfig(**QUIET))[1].virtual
    assert virtual is not None
    assert virtual.center == pytest.approx((25, 28), abs=0.5)
    assert 5.3 < virtual.bright_radius < 6.7
    y, x = np.indices((52, 56))
    distance = np.hypot(y - virtual.center[0], x - virtual.center[1])
    values = stack.astype(np.float64)
    bright = values[..., distance <= virtual.bright_radius].sum(axis=-1)
    dark = values[..., distance > virtual.dark_radius].sum(axis=-1)
    np.testing.assert_allclose(virtual.bright.reshape(5, 7), bright, rtol=1e-12)
    np.testing.assert_allclose(virtual.dark.reshape(5, 7), dark, rtol=1e-9)
    # What was drawn: the bright field follows the rows, the dark field the columns.
    assert np.all(np.diff(bright.mean(axis=1)) > 0)
    assert np.all(np.diff(dark.mean(axis=0)) > 0)


def test_masked_and_invalid_pixels_do_not_count() -> None:
    stack = scan(np.float32)
    mask = np.ones(stack.shape[2:], np.bool_)
    mask[24:27] = False
    stack[:, :, 30, 28] = np.nan
    stack[:, :, ~mask] = 1e6
    virtual = crop_array(stack, CroppingConfig(**QUIET), mask=mask)[1].virtual
    assert virtual is not None
    y, x = np.indices((52, 56))
    inside = (np.hypot(y - virtual.center[0], x - virtual.center[1]) <= virtual.bright_radius) & mask
    inside[30, 28] = False
    np.testing.assert_allclose(
        virtual.bright.reshape(5, 7), stack[..., inside].sum(axis=-1, dtype=np.float64), rtol=1e-12
    )


def test_files_in_small_chunks_have_the_same_images(tmp_path) -> None:
    stack = scan()
    np.save(tmp_path / "a.npy", stack)
    whole = crop_array(stack, CroppingConfig(**QUIET))[1]
    parts = crop_file(tmp_path / "a.npy", tmp_path / "b.npy", CroppingConfig(**QUIET, chunk_size=3))
    np.testing.assert_array_equal(parts.virtual.bright, whole.virtual.bright)
    np.testing.assert_array_equal(parts.virtual.dark, whole.virtual.dark)


def test_what_has_none() -> None:
    assert crop_array(scan().reshape(35, 52, 56), CroppingConfig(**QUIET))[1].virtual is None  # a series
    result = crop_array(np.full((3, 3, 20, 20), 7, np.uint16), CroppingConfig(**QUIET))[1]
    assert result.virtual is None  # the beam fills the frame
    assert virtual_detectors(result.analysis, np.zeros((20, 20), np.bool_)) is None


def test_the_largest_and_the_worst_pattern_are_kept() -> None:
    stack = scan()
    stack[2, 3, 2:5, 2:5] = 60  # far from the beam
    result = crop_array(stack, CroppingConfig(**QUIET, radius_policy=50.0))[1]
    worst = int(result.validation.retentions.argmin())
    assert set(result.examples) == {result.analysis.largest(1)[0], worst}
    assert 17 in result.examples
    for k, pattern in result.examples.items():
        np.testing.assert_array_equal(pattern, stack.reshape(35, 52, 56)[k])
