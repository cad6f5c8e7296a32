"""Readers in a process of their own, for libraries that can hang or end the process on a damaged file.

One such process serves all readers of this one. It is started when the first of them is opened, and again after it was
ended: by a crash of a library, or by us when it did not answer in time. Patterns come back through shared memory.
"""

import atexit
import contextlib
import json
import mmap
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import warnings
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign import errors
from stackalign.errors import DataError, StackalignError
from stackalign.io._flat import FlatReader
from stackalign.io._protocol import StackInfo, StackReader
from stackalign.io._reader import BaseReader, OpenOptions

__all__ = ["open_reader"]

_BUFFER_BYTES = 16 << 20
_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from stackalign.io._apart_server import main; main()"
_START_SECONDS = 120.0
_GRACE = 5.0
"""Seconds that the process has to end itself before we do it."""


class _Ended(Exception):  # noqa: N818 -- it is turned into an error by who knows what was read
    """The process has ended or was ended; the text says how."""


class _Server:
    """The other process, the line to it, and the memory that is shared with it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._forget()

    def _forget(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._line: Connection | None = None
        self._memory: mmap.mmap | None = None
        self._fd = -1
        self._owner = os.getpid()
        self.generation = 0

    def after_fork(self) -> None:
        """A forked process must not speak on the line of its parent."""
        if self._line is not None:
            self._line.close()
        if self._fd >= 0:
            os.close(self._fd)
        if self._process is not None:
            self._process.returncode = 0  # it is not ours to wait for
        generation = self.generation
        self._lock = threading.RLock()
        self._forget()
        self.generation = generation + 1

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        create = getattr(os, "memfd_create", None)
        if create is not None:
            self._fd = create("stackalign-read")
        else:
            with tempfile.TemporaryFile() as file:
                self._fd = os.dup(file.fileno())
        try:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    _START,
                    json.dumps([str(place) for place in sys.path]),
                    str(theirs.fileno()),
                    str(self._fd),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), self._fd),
                start_new_session=True,  # a signal of the terminal is for us alone
            )
        except OSError as error:
            ours.close()
            os.close(self._fd)
            self._fd = -1
            msg = (
                f"the process that reads HDF5 and vendors' files cannot be started ({error.strerror}); "
                "read in this one with read_timeout=0"
            )
            raise DataError(msg).with_hint("read_timeout") from error
        finally:
            theirs.close()
        self._line = Connection(ours.detach())
        self.generation += 1
        self._await_start()

    def _await_start(self) -> None:
        """Let it import what it needs, which counts for no request."""
        assert self._line is not None
        assert self._process is not None
        try:
            if self._line.poll(_START_SECONDS):
                self._line.recv()
                return
            how = f"did not start within {_START_SECONDS:g} s"
        except (EOFError, OSError):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_GRACE)
            how = f"ended with status {self._process.returncode} while it started"
        self.stop()
        msg = f"the process that reads HDF5 and vendors' files {how}; read in this one with read_timeout=0"
        raise DataError(msg).with_hint("read_timeout")

    def stop(self) -> None:
        """End the process, if there is one."""
        with self._lock:
            if self._line is not None:
                self._line.close()  # it ends by itself when its line is closed, if it still listens
                self._line = None
            if self._process is not None:
                self._process.kill()
                self._process.wait()
                self._process = None
            if self._memory is not None:
                self._memory.close()
                self._memory = None
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def ask(self, timeout: float, *request: Any, generation: int | None = None) -> Any:
        """Send a request and return the answer; an error of the other side is raised here.

        Raises
        ------
        _Ended
            There is no answer, or the process is another than that of the given generation.
        """
        with self._lock:
            if self._process is None:
                self._start()
            if generation is not None and generation != self.generation:
                raise _Ended
            assert self._line is not None
            try:
                self._line.send((timeout, *request))
                if not self._line.poll(timeout + _GRACE):
                    self.stop()
                    msg = f"did not answer within {timeout:g} s"
                    raise _Ended(msg)
                kind, value, warned = self._line.recv()
            except (EOFError, OSError) as error:
                how = self._how_it_ended(timeout)
                raise _Ended(how) from error
            except BaseException:  # an interruption, for example
                self.stop()  # its answer must not be taken for that of the next request
                raise
        for category, text in warned:
            warnings.warn(text, getattr(errors, category, UserWarning), stacklevel=2)
        if kind == "error":
            name, text, hint = value
            known = getattr(errors, name, None)
            if isinstance(known, type) and issubclass(known, StackalignError):
                raise known(text) if hint is None else known(text).with_hint(hint)
            msg = f"the process that reads files failed:\n{text}"
            raise AssertionError(msg)  # a fault of this package, never one of the file
        return value

    def _how_it_ended(self, timeout: float) -> str:
        assert self._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE)
        code = self._process.returncode
        self.stop()
        if code == -signal.SIGALRM:
            return f"did not answer within {timeout:g} s"
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                return f"ended the process that reads it by {signal.Signals(-code).name}"
        return f"ended the process that reads it with status {code}"

    def take(self, timeout: float, generation: int, handle: int, start: int, out: NDArray[Any]) -> None:
        """Read patterns from `start` on into out, by way of the shared memory."""
        with self._lock:
            if generation == self.generation and self._process is not None:
                self._make_room(out.nbytes)
            self.ask(timeout, "read", handle, start, start + len(out), generation=generation)
            assert self._memory is not None
            shared = np.frombuffer(self._memory, out.dtype, out.size)
            np.copyto(out, shared.reshape(out.shape))
            del shared  # the memory can only be closed when no array looks at it

    def _make_room(self, nbytes: int) -> None:
        if self._memory is None or len(self._memory) < nbytes:
            if self._memory is not None:
                self._memory.close()
            size = max(_BUFFER_BYTES, nbytes)
            os.ftruncate(self._fd, size)
            self._memory = mmap.mmap(self._fd, size)


_server = _Server()
atexit.register(_server.stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_server.after_fork)


def open_reader(path: Path, options: OpenOptions) -> StackReader:
    """Open a file in the other process; what turns out to lie plainly in the file is read in this one."""
    folder = os.getcwd()
    answer = _open(path, options, folder)
    if "flat" in answer:
        return FlatReader(**answer["flat"])
    return _ApartReader(path, options, folder, answer)


def _open(path: Path, options: OpenOptions, folder: str) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = _server.ask(
            options.read_timeout, "open", path, replace(options, read_timeout=0.0), folder
        )
    except _Ended as error:
        msg = f"input {path} {error} while it was opened: it is damaged, or its storage does not answer; copy it again"
        raise DataError(msg) from error
    return answer | {"generation": _server.generation}


class _ApartReader(BaseReader):
    """A reader whose patterns come from the other process."""

    def __init__(self, path: Path, options: OpenOptions, folder: str, answer: dict[str, Any]) -> None:
        super().__init__(path, answer["info"], answer["name"])
        self._folder = folder
        self._options = options
        self._take_over(answer)

    def _take_over(self, answer: dict[str, Any]) -> None:
        self._handle: int = answer["handle"]
        self._generation: int = answer["generation"]
        self._also: list[Path] = answer["files"]

    def _read(self, start: int, stop: int, out: NDArray[Any]) -> None:
        position = start
        while position < stop:
            end = self._end_of_request(position, stop)
            self._request(position, out[position - start : end - start])
            position = end

    def _end_of_request(self, start: int, stop: int) -> int:
        """Ask for what the shared memory holds, in whole chunks where some fit."""
        step = max(1, _BUFFER_BYTES // self._info.pattern_bytes)
        if stop - start <= step:
            return stop
        unit = 1 if self._info.chunk is None else self._info.chunk.patterns
        return start + step if unit > step else (start + step) // unit * unit

    def _request(self, start: int, out: NDArray[Any]) -> None:
        for _ in range(2):
            if self._generation != _server.generation:
                self._open_again()
            try:
                _server.take(self._options.read_timeout, self._generation, self._handle, start, out)
            except _Ended as error:
                if str(error):
                    msg = (
                        f"{self._name} {error} while patterns {start}..{start + len(out) - 1} were read: "
                        "they are damaged, or its storage does not answer; copy it again"
                    )
                    raise DataError(msg) from error
                continue  # another reader's file has ended the process
            return
        msg = f"{self._name} cannot be read: the process that reads it ends again and again"
        raise DataError(msg)

    def _open_again(self) -> None:
        answer = _open(self._path or Path(), self._options, self._folder)
        info: StackInfo | None = answer.get("info")
        if info is None or info.shape != self._info.shape or info.dtype != self._info.dtype:
            msg = f"{self._name} has changed since it was opened; run again"
            raise DataError(msg)
        self._take_over(answer)

    def _files(self) -> list[Path]:
        return self._also

    def close(self) -> None:
        """Release the file."""
        if not self._closed and self._generation == _server.generation:
            with contextlib.suppress(_Ended):
                _server.ask(self._options.read_timeout, "close", self._handle, generation=self._generation)
        super().close()
