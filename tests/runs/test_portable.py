"""Exceptions of workers that pickle cannot carry."""

import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from stackalign.errors import DataError, StackalignError
from stackalign.runs.portable import portable


class TwoArgumentsError(Exception):
    """Pickle makes it again from `args`, which are too few."""

    def __init__(self, name: str, number: int) -> None:
        super().__init__(f"{name} is {number}")


class WithLockError(Exception):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


class UnreadableError(Exception):
    def __reduce__(self):
        raise RecursionError


def fail(kind: str) -> None:
    if kind == "two":
        raise TwoArgumentsError("a", 3)
    if kind == "lock":
        raise WithLockError("held")
    if kind == "recursion":
        raise UnreadableError("deep")
    if kind == "local":

        class LocalError(Exception):
            pass

        raise LocalError("here alone")
    msg = "x.npy is damaged"
    raise DataError(msg)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("two", "a worker failed with TwoArgumentsError: a is 3"),
        ("lock", "a worker failed with WithLockError: held"),
        ("recursion", "a worker failed with UnreadableError: deep"),
        ("local", "a worker failed with LocalError: here alone"),
    ],
)
def test_what_cannot_be_carried_is_said(kind: str, words: str) -> None:
    with pytest.raises(StackalignError, match=words) as caught:
        portable(fail, kind)
    assert type(caught.value) is StackalignError


@pytest.mark.slow
def test_a_pool_of_processes_survives() -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        with pytest.raises(StackalignError, match="TwoArgumentsError: a is 3"):
            pool.submit(portable, fail, "two").result()
        with pytest.raises(DataError, match=r"x\.npy is damaged"):
            pool.submit(portable, fail, "data").result()
        assert pool.submit(portable, abs, -3).result() == 3
