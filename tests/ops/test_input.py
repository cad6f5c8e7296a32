"""What the public operations refuse."""

import sys
import types
from collections.abc import Callable

import numpy as np
import pytest

from ops.operations import every_operation
from stackalign import ops


@pytest.fixture
def patterns(rng: np.random.Generator) -> np.ndarray:
    return rng.poisson(7.0, (4, 9, 11)).astype(np.uint16)


# Refusals: shape, type, mask.


@every_operation
@pytest.mark.parametrize("shape", [(), (5,), (2, 2, 2, 2)])
def test_number_of_axes(operation, shape) -> None:
    with pytest.raises(ValueError, match=r"must have the shape \(H, W\) or \(N, H, W\), got .*reshape"):
        operation(np.ones(shape, np.float32))


@every_operation
@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (2, 0, 4), (2, 4, 0), (1, 32769), (32769, 1)])
def test_sides(operation, shape) -> None:
    with pytest.raises(ValueError, match="must have sides from 1 to 32768 pixels, got"):
        operation(np.broadcast_to(np.uint8(1), shape))


@every_operation
def test_longest_side_is_allowed(operation) -> None:
    operation(np.ones((1, 32768), np.uint8))


@every_operation
def test_no_frames(operation) -> None:
    with pytest.raises(ValueError, match="must hold at least one frame"):
        operation(np.ones((0, 4, 5), np.uint8))


@every_operation
@pytest.mark.parametrize("kind", ["complex64", "complex128", "O", "U3", "M8[s]", "V4"])
def test_kinds_of_numbers(operation, kind: str) -> None:
    with pytest.raises(TypeError, match="must be real numbers of one of the types uint8, uint16"):
        operation(np.zeros((4, 5), kind))


@every_operation
@pytest.mark.parametrize("kind", ["uint8", "float64"])
def test_mask_type(operation, patterns: np.ndarray, kind: str) -> None:
    with pytest.raises(TypeError, match=f"mask must be boolean, True = valid, got {kind}"):
        operation(patterns, mask=np.ones((9, 11), kind))


@every_operation
@pytest.mark.parametrize("shape", [(11, 9), (9,), (), (3, 9, 11), (2, 9, 11), (4, 1, 9, 11), (9, 1), (1, 1)])
def test_mask_shape(operation, patterns: np.ndarray, shape) -> None:
    with pytest.raises(ValueError, match=r"mask must have the shape \(9, 11\) or \(4, 9, 11\)"):
        operation(patterns, mask=np.ones(shape, np.bool_))


@every_operation
@pytest.mark.parametrize("workers", [0, -1])
def test_no_workers(operation, patterns: np.ndarray, workers: int) -> None:
    with pytest.raises(ValueError, match=f"workers must be at least 1, got {workers}"):
        operation(patterns, workers=workers)


@every_operation
def test_part_of_a_worker(operation, patterns: np.ndarray) -> None:
    with pytest.raises(TypeError, match="integer"):
        operation(patterns, workers=1.5)


@every_operation
@pytest.mark.parametrize("make", [lambda p: p.tolist(), lambda p: None, lambda p: "file.npy"])
def test_what_is_no_array(operation, patterns: np.ndarray, make) -> None:
    with pytest.raises(TypeError, match=r"arrays must be NumPy or CuPy arrays, got .*stackalign\.asarray"):
        operation(make(patterns))


@every_operation
def test_a_mask_that_is_no_array(operation, patterns: np.ndarray) -> None:
    with pytest.raises(TypeError, match=r"arrays must be NumPy or CuPy arrays, got builtins\.list"):
        operation(patterns, mask=[[True]])


@every_operation
def test_masked_arrays_are_not_taken_without_their_mask(operation, patterns: np.ndarray) -> None:
    with pytest.raises(TypeError, match=r"must be a plain array: pass x\.data and mask="):
        operation(np.ma.masked_less(patterns, 5))


# Refusals: fractions, centres, corners, windows.

BAD_FRACTIONS = [0, -0.1, 1.5, np.nan, np.inf, (0.5, 0.0), (0.98, np.nan), [[0.5]], np.nextafter(1, 2)]


@pytest.mark.parametrize("fractions", BAD_FRACTIONS, ids=str)
def test_fractions(patterns: np.ndarray, fractions) -> None:
    with pytest.raises(ValueError, match="fractions must be numbers above 0 and up to 1"):
        ops.retention_radius(patterns, None, fractions)
    with pytest.raises(ValueError, match="fractions must be numbers above 0 and up to 1"):
        ops.pattern_summary(patterns, fractions)


WITH_CENTERS: dict[str, Callable[..., object]] = {
    "pattern_summary": lambda p, c: ops.pattern_summary(p, 0.5, centers=c),
    "retention_radius": lambda p, c: ops.retention_radius(p, c, 0.5),
    "radial_cumulative": ops.radial_cumulative,
}
with_centers = pytest.mark.parametrize("operation", WITH_CENTERS.values(), ids=WITH_CENTERS.keys())


@with_centers
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_centers_that_are_not_finite(operation, patterns: np.ndarray, value: float) -> None:
    centers = np.full((4, 2), 3.0)
    centers[1, 0] = centers[3, 1] = value
    with pytest.raises(ValueError, match="centers must be finite; 2 of them are not"):
        operation(patterns, centers)
    with pytest.raises(ValueError, match="centers must be finite; 1 of them are not"):
        operation(patterns, (value, 3.0))


@with_centers
@pytest.mark.parametrize("shape", [(), (1,), (3,), (4,), (3, 2), (5, 2), (1, 2), (4, 3), (2, 4), (1, 4, 2)])
def test_shape_of_centers(operation, patterns: np.ndarray, shape) -> None:
    with pytest.raises(ValueError, match=r"centers must be one \(y, x\) or have the shape \(4, 2\), got"):
        operation(patterns, np.zeros(shape))


@pytest.mark.parametrize("n_radii", [0, -3])
def test_number_of_radii(patterns: np.ndarray, n_radii: int) -> None:
    with pytest.raises(ValueError, match=f"n_radii must be at least 1, got {n_radii}"):
        ops.radial_cumulative(patterns, None, n_radii=n_radii)


@pytest.mark.parametrize("corner", [(0.5, 0), (0, -1e-9), (2.0**31 + 1, 0), (0, -(2.0**31) - 1)])
def test_corners(patterns: np.ndarray, corner) -> None:
    with pytest.raises(ValueError, match="corners must be whole numbers of pixels within"):
        ops.crop_windows(patterns, corner, (3, 3))


def test_corners_that_are_not_finite(patterns: np.ndarray) -> None:
    with pytest.raises(ValueError, match="corners must be finite; 1 of them are not"):
        ops.crop_windows(patterns, (0, np.nan), (3, 3))


@pytest.mark.parametrize("shape", [(3,), (3, 3, 3), (0, 3), (3, -1), (2.5, 3), ()])
def test_shape_of_windows(patterns: np.ndarray, shape) -> None:
    with pytest.raises(ValueError, match="shape must be two positive whole numbers of pixels"):
        ops.crop_windows(patterns, (0, 0), shape)


def _read_only() -> np.ndarray:
    out = np.zeros((4, 3, 5), np.uint16)
    out.flags.writeable = False
    return out


@pytest.mark.parametrize(
    "out",
    [
        np.zeros((4, 5, 3), np.uint16),
        np.zeros((3, 3, 5), np.uint16),
        np.zeros((3, 5), np.uint16),
        np.zeros((4, 3, 5), np.int16),
        np.zeros((4, 3, 5), np.float64),
        np.zeros((4, 3, 5), np.dtype(np.uint16).newbyteorder()),
        np.zeros((4, 3, 6), np.uint16)[..., :5],
        np.zeros((5, 3, 4), np.uint16).T,
        _read_only(),
    ],
    ids=["swapped", "too few", "no N", "signed", "float", "byte order", "slice", "Fortran", "read-only"],
)
def test_out(patterns: np.ndarray, out: np.ndarray) -> None:
    match = r"out must be a writable C-contiguous array of shape \(4, 3, 5\) and type uint16"
    with pytest.raises(ValueError, match=match):
        ops.crop_windows(patterns, (0, 0), (3, 5), out=out)
    assert not out.any()


def test_out_that_is_no_array(patterns: np.ndarray) -> None:
    with pytest.raises(TypeError, match="arrays must be NumPy or CuPy arrays"):
        ops.crop_windows(patterns, (0, 0), (3, 5), out=[0])


def test_out_is_filled_and_returned(patterns: np.ndarray) -> None:
    out = np.full((4, 3, 5), 77, np.uint16)
    windows, _ = ops.crop_windows(patterns, (7, 9), (3, 5), out=out)
    assert windows is out
    np.testing.assert_array_equal(out, np.pad(patterns, ((0, 0), (0, 1), (0, 3)))[:, 7:10, 9:14])


# Homes.


@pytest.fixture
def gpu_array(monkeypatch: pytest.MonkeyPatch) -> object:
    """What looks to `backend_for` like an array of CuPy's."""
    kind = type("ndarray", (), {"__module__": "cupy"})
    monkeypatch.setitem(sys.modules, "cupy", types.ModuleType("cupy"))
    return kind()


@every_operation
def test_mixed_homes(operation, patterns: np.ndarray, gpu_array: object) -> None:
    match = r"arrays live on different devices \(cpu, cuda\); move them together"
    with pytest.raises(TypeError, match=match):
        operation(patterns, mask=gpu_array)
    with pytest.raises(TypeError, match=match):
        operation(gpu_array, mask=np.ones((9, 11), np.bool_))


def test_mixed_home_of_out(patterns: np.ndarray, gpu_array: object) -> None:
    with pytest.raises(TypeError, match=r"arrays live on different devices \(cpu, cuda\)"):
        ops.crop_windows(patterns, (0, 0), (3, 5), out=gpu_array)
