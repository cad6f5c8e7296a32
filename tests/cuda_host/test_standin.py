"""The stand-in of CuPy refuses what CuPy refuses, and counts what costs time on a device."""

import numpy as np
import pytest

from cuda_host import standin


@pytest.fixture
def cupy():
    with standin.installed():
        import cupy

        yield cupy


REFUSED = {
    "a conversion without a word": lambda cp, x: np.asarray(x),
    "an array of the host at the right": lambda cp, x: x + np.ones(3),
    "an array of the host at the left": lambda cp, x: np.ones(3) * x,
    "an array of the host in place": lambda cp, x: x.__iadd__(np.ones(3)),
    "an array of the host as an argument": lambda cp, x: cp.where(x > 1, x, np.ones(3)),
    "an array of the host in a list": lambda cp, x: cp.stack([x, np.ones((2, 3))]),
    "an array of the host by NumPy's function": lambda cp, x: np.concatenate([x, np.ones((2, 3))]),
    "filling with an array of the host": lambda cp, x: x.__setitem__(0, np.ones(3)),
    "a list as an operand": lambda cp, x: x * [1, 2, 3],
    "a function that CuPy lacks": lambda cp, x: cp.block([x]),
    "a module that CuPy lacks": lambda cp, x: cp.strings,
    "a method that CuPy lacks": lambda cp, x: x.newbyteorder(),
    "a parameter that CuPy lacks": lambda cp, x: cp.sum(x, where=x > 1),
    "a parameter of ufuncs that CuPy lacks": lambda cp, x: cp.add(x, x, where=x > 1),
    "an index": lambda cp, x: [1, 2, 3][cp.argmax(x)],
    "text": lambda cp, x: cp.asarray(np.array(["a"])),
    "another byte order": lambda cp, x: cp.asarray(np.arange(3, dtype=">i4")),
    "a second device": lambda cp, x: cp.cuda.Device(1),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(cupy, name) -> None:
    x = cupy.asarray(np.arange(6.0).reshape(2, 3))
    with pytest.raises((TypeError, ValueError, AttributeError, RuntimeError)):
        REFUSED[name](cupy, x)


def test_results_stay_on_the_device(cupy) -> None:
    x = cupy.asarray(np.arange(6.0).reshape(2, 3))
    for y in (x.sum(), x[0, 0], np.sqrt(x), 2 * x, np.float64(2) * x, cupy.max(x, axis=0), x.T, cupy.array_equal(x, x)):
        assert isinstance(y, cupy.ndarray)
    assert float(x.sum()) == 15.0
    np.testing.assert_array_equal((x > 2).get(), [[False, False, False], [True, True, True]])


def test_counts(cupy) -> None:
    with standin.counted() as counts:
        x = cupy.asarray(np.ones((4, 5), np.float32))
        assert counts.number == {"upload": 1}
        x[:, 1:].T.reshape(16)  # the reshape copies, the others are views
        assert counts.number == {"upload": 1, "launch": 1}
        (x + 1).sum()
        assert counts.number["launch"] == 3
        bool(x.any())
        x.get()
        assert counts.number["download"] == 2
        assert counts.bytes["download"] == 1 + x.nbytes
    with standin.counted() as counts:
        assert not counts.number


def test_unwritten_memory_is_seen(cupy) -> None:
    assert not np.any(cupy.empty((3, 3), np.float32).get() == 0)


def test_nothing_is_left_behind() -> None:
    import sys

    from stackalign import backends

    had = "cupy" in sys.modules
    with standin.installed():
        assert backends.load("cuda").NAME == "cuda"
    assert ("cupy" in sys.modules) == had
