"""Stopping a long run by a signal or by a call."""

import signal
import threading
from types import FrameType
from typing import Any

from stackalign.errors import Interrupted

__all__ = ["StopRequest"]


class StopRequest:
    """Turn SIGINT and SIGTERM into a request that is honoured after the current chunk.

    As a context manager in the main thread it handles the signals until the context ends; in other threads, or without
    a context, only `request` sets it. A second signal has the effect that it would have had without this class.
    """

    def __init__(self) -> None:
        self._event = threading.Event()
        self._previous: dict[int, Any] = {}

    def request(self) -> None:
        """Ask the run to stop after the current chunk."""
        self._event.set()

    def __bool__(self) -> bool:
        return self._event.is_set()

    def check(self, message: str) -> None:
        """Raise `Interrupted` with this message if a stop was requested.

        Parameters
        ----------
        message : str
            Of the exception.
        """
        if self:
            raise Interrupted(message)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._event.set()
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()
