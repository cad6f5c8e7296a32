"""Our own threads: work items in parts, taken in turns."""

import threading
from collections.abc import Callable

__all__ = ["run"]

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
