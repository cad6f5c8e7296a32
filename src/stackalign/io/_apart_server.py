"""What runs in the process that reads for another: it opens, reads and closes as it is told.

A request that does not end in time ends this process, also when nobody is left to wait for it.
"""

import importlib
import itertools
import mmap
import os
import signal
import sys
import traceback
import warnings
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from stackalign.errors import StackalignError
from stackalign.io._flat import FlatReader
from stackalign.io._reader import OpenOptions, damage_as_data_error

__all__ = ["main"]

_OWN_MEMORY = 1 << 30
"""What the interpreter, its libraries and their threads may take besides the memory limit of a file."""


class _Desk:
    """The open readers and the shared memory."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._memory: mmap.mmap | None = None
        self._readers: dict[int, Any] = {}
        self._folders: dict[int, str] = {}
        self._numbers = itertools.count()
        self._limit = 0

    def open(self, path: Path, options: OpenOptions, folder: str) -> dict[str, Any]:
        """Open a file, and say how it can be read: by whom, and where it lies plainly, from where.

        Paths may be relative, to the folder in which the other process was when it opened the file.
        """
        os.chdir(folder)
        self._bound_memory(options.memory_limit)
        with damage_as_data_error(f"input {path}", "the file"):
            reader = importlib.import_module("stackalign.io.stacks").open_with(path, options)
        if isinstance(reader, FlatReader) and (recipe := reader.recipe()) is not None:
            reader.close()
            return {"flat": recipe}
        number = next(self._numbers)
        self._readers[number] = reader
        self._folders[number] = folder
        return {"handle": number, "info": reader.info, "files": reader._files(), "name": reader._name}

    def read(self, number: int, start: int, stop: int) -> None:
        """Read patterns into the shared memory."""
        reader = self._readers[number]
        os.chdir(self._folders[number])  # parts of the data may be opened only now
        shape = (stop - start, *reader.info.shape[1:])
        needed = (stop - start) * reader.info.pattern_bytes
        size = os.fstat(self._fd).st_size
        if self._memory is None or len(self._memory) != size:
            if self._memory is not None:
                self._memory.close()
            self._memory = mmap.mmap(self._fd, size)
        out = np.frombuffer(self._memory, np.uint8, needed).view(reader.info.dtype).reshape(shape)
        reader.read(start, stop, out)

    def close(self, number: int) -> None:
        """Release a reader."""
        self._folders.pop(number)
        self._readers.pop(number).close()

    def _bound_memory(self, limit: int) -> None:
        """A header can ask for any amount: let that fail here, and not the machine."""
        try:
            import resource
        except ImportError:  # it is there on POSIX alone
            return
        needed = _OWN_MEMORY + 2 * limit
        if needed > self._limit:
            self._limit = needed
            _, hard = resource.getrlimit(resource.RLIMIT_DATA)
            resource.setrlimit(resource.RLIMIT_DATA, (needed if hard < 0 else min(needed, hard), hard))


def main() -> None:
    """Serve until the line is closed."""
    line = Connection(int(sys.argv[2]))
    desk = _Desk(int(sys.argv[3]))
    importlib.import_module("stackalign.io.hdf5")
    importlib.import_module("h5py")
    line.send("ready")
    while True:
        try:
            timeout, name, *arguments = line.recv()
        except (EOFError, OSError):
            return
        _alarm(timeout)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            answer = _answer(desk, name, arguments)
        _alarm(0)
        warned = [(type(w.message).__name__, str(w.message)) for w in caught if _is_ours(w)]
        try:
            line.send((*answer, warned))
        except OSError:
            return


def _alarm(seconds: float) -> None:
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)  # the default action of the signal is the end


def _is_ours(warning: warnings.WarningMessage) -> bool:
    return type(warning.message).__module__.startswith("stackalign")


def _answer(desk: _Desk, name: str, arguments: list[Any]) -> tuple[str, Any]:
    try:
        return "done", getattr(desk, name)(*arguments)
    except StackalignError as error:
        return "error", (type(error).__name__, str(error), error.hint)
    except Exception:  # a fault of this package: the other side shows where
        return "error", ("", traceback.format_exc(), None)
