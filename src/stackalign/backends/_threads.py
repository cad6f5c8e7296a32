"""Our own threads: work items in parts, taken in turns; and how many a whole function may use."""

import functools
import inspect
import threading
from collections.abc import Callable
from typing import Any, TypeVar, cast

from stackalign import _blas
from stackalign.device import working

__all__ = ["governed", "run"]

_Function = TypeVar("_Function", bound=Callable[..., Any])

PARTS_PER_WORKER = 4
"""Ranges per thread, so that a thread which loses its core does not hold up the others for long."""


def run(task: Callable[[int, int], None], n_items: int, workers: int, band: int | None = None) -> None:
    """Call task(start, stop) over 0..n_items in parts, on `workers` threads."""
    size = band or max(1, -(-n_items // (max(1, workers) * PARTS_PER_WORKER if workers > 1 else 1)))
    parts = [(start, min(start + size, n_items)) for start in range(0, n_items, size)]
    if workers <= 1 or len(parts) == 1:
        for start, stop in parts:
            task(start, stop)
        return
    # Every thread, the caller's included, takes the next part until none is left: none of them ever sleeps, and so
    # none waits to be woken on a core that is taken. The threads live for this call alone, which leaves nothing to
    # guard against a fork and costs a tenth of a millisecond.
    remaining = iter(parts)
    taking = threading.Lock()
    errors: list[BaseException] = []

    def drain() -> None:
        try:
            while True:
                with taking:
                    part = next(remaining, None)
                if part is None or errors:
                    return
                task(*part)
        except BaseException as error:  # handed to the caller below
            errors.append(error)

    helpers = [threading.Thread(target=drain, name="stackalign-kernel") for _ in range(min(workers, len(parts)) - 1)]
    for helper in helpers:
        helper.start()
    drain()
    for helper in helpers:
        helper.join()
    if errors:
        raise errors[0]


def governed(function: _Function) -> _Function:
    """Hold all that a public function calls to its `workers`, and linear algebra to one thread.

    The number is that of the parameter ``workers`` or ``n_jobs``, else the attribute ``workers`` of the parameter
    ``config``, or of the simulator of ``self``. Functions without any have linear algebra on one thread all the same.
    """
    signature = inspect.signature(function)
    names = [name for name in ("workers", "n_jobs", "config", "self") if name in signature.parameters]

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        with working(_given(signature, names, args, kwargs)), _blas.on_one_thread():
            return function(*args, **kwargs)

    return cast("_Function", wrapped)


def _given(signature: inspect.Signature, names: list[str], args: Any, kwargs: Any) -> Any:
    """Find the number of threads among the arguments of a call."""
    for name in names:
        value = kwargs.get(name)
        if value is None and args and signature.parameters[name].kind is not inspect.Parameter.KEYWORD_ONLY:
            place = list(signature.parameters).index(name)
            value = args[place] if place < len(args) else None
        if name in ("config", "self"):
            value = getattr(getattr(value, "simulator", value), "workers", None)
        if value is not None:
            return value
    return None
