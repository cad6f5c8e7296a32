"""What the public operations convert, that they leave their input alone, and the forms of their results."""

from collections.abc import Callable

import numpy as np
import pytest

from ops.operations import OPERATIONS, arrays, assert_same, every_operation
from stackalign import ops
from stackalign.backends import _protocol
from stackalign.ops import _check


@pytest.fixture
def patterns(rng: np.random.Generator) -> np.ndarray:
    return rng.poisson(7.0, (4, 9, 11)).astype(np.uint16)


@every_operation
@pytest.mark.parametrize(
    ("kind", "computed"),
    [
        ("bool", "uint8"),
        ("int8", "int16"),
        ("float16", "float32"),
        ("int64", "int32"),
        ("uint64", "uint32"),
        (">u2", "uint16"),
        (">i4", "int32"),
        (">f4", "float32"),
        (">f8", "float64"),
    ],
)
def test_types_that_are_converted(operation, rng: np.random.Generator, kind: str, computed: str) -> None:
    values = rng.integers(0, 2 if kind == "bool" else 100, (4, 9, 11))
    if np.dtype(kind).kind in "if":
        values -= 50
    found, wanted = operation(values.astype(kind)), operation(values.astype(computed))
    assert_same(found, wanted)
    if operation is not OPERATIONS["crop_windows"]:
        assert [a.dtype for a in arrays(found)] == [a.dtype for a in arrays(wanted)]


@every_operation
@pytest.mark.parametrize(("kind", "top"), [("int64", 2**32 - 1), ("uint64", 2**32 - 1), ("int64", 2**31 - 1)])
def test_64_bit_integers_that_fit(operation, rng: np.random.Generator, kind: str, top: int) -> None:
    values = rng.integers(0, 100, (4, 9, 11))
    values[0, 3, 3] = top
    assert_same(operation(values.astype(kind)), operation(values.astype(np.uint32)))


@every_operation
@pytest.mark.parametrize(
    ("kind", "extremes"),
    [("int64", (0, 2**32)), ("int64", (-1, 2**31)), ("int64", (-(2**31) - 1, 0)), ("uint64", (0, 2**32))],
)
def test_64_bit_integers_that_do_not_fit(operation, kind: str, extremes: tuple[int, int]) -> None:
    values = np.zeros((1, 3, 3), kind)
    values[0, 0, :2] = extremes
    with pytest.raises(ValueError, match=f"of type {kind} hold values beyond 32 bits; convert them to float64"):
        operation(values)


@pytest.mark.parametrize("given_out", [False, True])
@pytest.mark.parametrize("kind", ["bool", "int8", "float16", "int64", "uint64", ">u2", ">f8"])
def test_windows_keep_the_type(rng: np.random.Generator, kind: str, given_out: bool) -> None:
    patterns = rng.integers(0, 2, (4, 9, 11)).astype(kind)
    native = np.dtype(kind).newbyteorder("=")
    out = np.ones((4, 3, 4), native) if given_out else None
    windows, sums = ops.crop_windows(patterns, (2, -1), (3, 4), out=out)
    assert windows.dtype == native
    assert sums.dtype == (np.float64 if native.kind == "f" else np.int64)
    np.testing.assert_array_equal(windows, np.pad(patterns, ((0, 0), (0, 0), (1, 0)))[:, 2:5, :4])
    if given_out:
        assert windows is out


LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "slices": lambda p: np.repeat(np.repeat(p, 2, 1), 3, 2)[:, ::2, ::3],
    "reversed": lambda p: p[:, ::-1, ::-1].copy()[:, ::-1, ::-1],
    "Fortran": np.asfortranarray,
    "stack axis last": lambda p: np.moveaxis(np.moveaxis(p, 0, -1).copy(), -1, 0),
    "inner part": lambda p: np.pad(p, 2)[2:-2, 2:-2, 2:-2],
    "memory map": lambda p: p.view(np.memmap),
}


@every_operation
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_layout_does_not_matter(operation, patterns: np.ndarray, layout, rng: np.random.Generator) -> None:
    mask = rng.random(patterns.shape) < 0.7
    assert_same(operation(layout(patterns), mask=layout(mask)), operation(patterns, mask=mask))


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
@pytest.mark.parametrize("kind", [*_protocol.KERNEL_DTYPES, "bool", "int8", "float16", "int64", "uint64", ">u2", ">f8"])
def test_what_backends_rely_on(patterns: np.ndarray, rng: np.random.Generator, kind: str, layout) -> None:
    values, mask = layout(patterns.astype(kind)), layout(rng.random(patterns.shape) < 0.7)
    stack = _check.stack(values).patterns
    assert stack.dtype.name in _protocol.KERNEL_DTYPES
    assert stack.dtype.isnative
    assert stack.flags.c_contiguous
    np.testing.assert_array_equal(stack, values)
    valid = _check.mask_array(mask, stack)
    assert valid.flags.c_contiguous
    np.testing.assert_array_equal(valid, mask)
    if values.flags.c_contiguous and kind in _protocol.KERNEL_DTYPES:
        assert np.shares_memory(stack, values), "a copy that nothing asks for"
        assert np.shares_memory(valid, mask)


@every_operation
def test_broadcast_views(operation, patterns: np.ndarray) -> None:
    view = np.broadcast_to(patterns[0], patterns.shape)
    assert_same(operation(view), operation(view.copy()))


@every_operation
@pytest.mark.parametrize("kind", ["uint16", "float32", "int64", ">f4", "float16"])
def test_input_is_read_only_and_stays(operation, rng: np.random.Generator, kind: str) -> None:
    patterns, mask = rng.poisson(7.0, (4, 9, 11)).astype(kind), rng.random((4, 9, 11)) < 0.7
    if patterns.dtype.kind == "f":
        patterns[1, 2, 3], patterns[2, 2, 3] = np.nan, np.inf
    before = patterns.tobytes(), mask.tobytes()
    patterns.flags.writeable = mask.flags.writeable = False
    operation(patterns, mask=mask)
    assert (patterns.tobytes(), mask.tobytes()) == before


@pytest.mark.parametrize("name", ["centers", "corners"])
def test_points_are_not_changed_and_not_kept(patterns: np.ndarray, name: str) -> None:
    points = np.array([[4.0, 5.0], [3.0, 3.0], [0.0, 0.0], [8.0, 10.0]])
    before = points.copy()
    if name == "centers":
        result = ops.pattern_summary(patterns, 0.5, centers=points).centers
    else:
        result = ops.crop_windows(patterns, points, (2, 2))[0]
    np.testing.assert_array_equal(points, before)
    assert not np.shares_memory(result, points)


# Forms of results.


def test_one_pattern_gives_results_without_an_axis(patterns: np.ndarray) -> None:
    p = patterns[0]
    assert ops.centroid(p).shape == (2,)
    assert ops.retention_radius(p, None, 0.5).shape == ()
    assert ops.retention_radius(p, None, (0.5, 0.9, 1.0)).shape == (3,)
    assert ops.radial_cumulative(p, None, n_radii=5).shape == (5,)
    windows, sums = ops.crop_windows(p, (0, 0), (3, 4))
    assert (windows.shape, np.shape(sums)) == ((3, 4), ())
    assert ops.pattern_summary(p).total.shape == (1,)
    assert ops.stack_statistics(p).mean.shape == p.shape


def test_a_stack_of_one_keeps_its_axis(patterns: np.ndarray) -> None:
    p = patterns[:1]
    assert ops.centroid(p).shape == (1, 2)
    assert ops.retention_radius(p, None, 0.5).shape == (1,)
    assert ops.retention_radius(p, None, (0.5,)).shape == (1, 1)
    assert ops.radial_cumulative(p, None, n_radii=5).shape == (1, 5)
    windows, sums = ops.crop_windows(p, (0, 0), (3, 4))
    assert (windows.shape, sums.shape) == ((1, 3, 4), (1,))


def test_no_fractions(patterns: np.ndarray) -> None:
    assert ops.pattern_summary(patterns).radii.shape == (4, 0)


def test_one_center_is_every_center(patterns: np.ndarray) -> None:
    assert_same(ops.retention_radius(patterns, (4, 5), 0.5), ops.retention_radius(patterns, [(4, 5)] * 4, 0.5))
    assert_same(ops.crop_windows(patterns, (4, 5), (3, 3)), ops.crop_windows(patterns, [(4, 5)] * 4, (3, 3)))


def test_masks_with_and_without_their_axis(patterns: np.ndarray, rng: np.random.Generator) -> None:
    mask = rng.random((9, 11)) < 0.6
    wanted = ops.centroid(patterns, mask=np.repeat(mask[None], 4, axis=0))
    np.testing.assert_array_equal(ops.centroid(patterns, mask=mask), wanted)
    np.testing.assert_array_equal(ops.centroid(patterns, mask=mask[None]), wanted)
    np.testing.assert_array_equal(ops.centroid(patterns[0], mask=mask[None]), wanted[0])
    assert (wanted != ops.centroid(patterns)).any()


def test_far_centers_have_no_radius(patterns: np.ndarray) -> None:
    centers = [(1e6, 0.0), (np.nextafter(1e6, 2e6), 0.0), (0.0, -1e6), (0.0, -1e300)]
    radii = ops.retention_radius(patterns, centers, (0.5, 1.0))
    np.testing.assert_array_equal(radii[[1, 3]], -1)
    assert (radii[[0, 2]] > 999_980).all()
