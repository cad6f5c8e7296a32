"""Exceptions of workers, brought to the client."""

import pickle
from collections.abc import Callable
from typing import Any, TypeVar

from stackalign.errors import StackalignError

__all__ = ["portable"]

T = TypeVar("T")


def portable(function: Callable[..., T], /, *arguments: Any, **options: Any) -> T:
    """Call a function in a worker; an exception that cannot be carried to the client becomes one that can.

    Executors take exceptions to their client by pickle. One that pickle refuses, or that cannot be made again from its
    arguments, breaks a pool of processes, and a client of a cluster waits for it for ever.

    Raises
    ------
    StackalignError
        In place of such an exception, with its type and its message.
    """
    try:
        return function(*arguments, **options)
    except Exception as error:
        if _carried(error):
            raise
        msg = f"a worker failed with {type(error).__name__}: {error}"
        raise StackalignError(msg) from None


def _carried(error: Exception) -> bool:
    try:
        return type(pickle.loads(pickle.dumps(error))) is type(error)
    except Exception:  # whatever it is: what pickle calls may raise anything
        return False
