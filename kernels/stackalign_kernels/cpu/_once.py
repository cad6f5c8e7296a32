# SPDX-License-Identifier: BSD-3-Clause
"""Numba's cache in our folder, and one process that compiles while the others wait for it.

Numba has one setting for the folder of all packages of a process. Here each kernel has a cache object of its own, so
that neither the order of imports nor the environment matters, and the caches of other packages stay where they were.
The same object knows, as nothing else does, that a kernel is about to be compiled: it says so, and takes the lock.
"""

import contextlib
import logging
import os
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import IO, Any

from numba.core import sigutils, types
from numba.core.caching import CompileResultCacheImpl, FunctionCache, _CacheLocator
from numba.core.compiler_lock import global_compiler_lock

__all__ = ["CompileLock", "keep"]

_log = logging.getLogger("stackalign.kernels")

LONGEST_WAIT = 300.0
"""Seconds that a process waits for another before it compiles by itself, in case that one hangs."""

PAUSE = 0.1
"""Seconds between two looks at what another process is doing."""


def _locks() -> ModuleType | None:
    """Module of the system's file locks."""
    try:
        import fcntl
    except ImportError:
        return None
    return fcntl


class CompileLock:
    """A lock between processes which the system releases when its holder dies, on a file.

    One for each kernel: a process that compiles one after the other does not hold up those that want others. Kernels
    call each other without circles, so nobody waits for whoever waits for him.

    Where the system or the file system has no locks it is never waited for: the kernels are right all the same, as
    Numba replaces its files at once, but may be compiled more than once.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[bytes] | None = None
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._leave_to_parent)

    def _leave_to_parent(self) -> None:
        if self._file is not None:
            self._file.close()  # the parent's own descriptor keeps the lock
            self._file = None

    @property
    def held(self) -> bool:
        """Whether this process holds the lock."""
        return self._file is not None

    def try_acquire(self) -> bool:
        """Take the lock if it is free; True also where there are no locks."""
        locks = _locks()
        if locks is None or self.held:
            return True
        try:
            file = open(self.path, "ab")  # noqa: SIM115 -- open as long as the lock is held
        except OSError:
            return True
        try:
            locks.flock(file, locks.LOCK_EX | locks.LOCK_NB)
        except BlockingIOError:
            file.close()
            return False
        except OSError:  # a file system without locks
            file.close()
            return True
        self._file = file
        return True

    def release(self) -> None:
        """Give the lock back."""
        if self._file is not None:
            locks = _locks()
            if locks is not None:
                locks.flock(self._file, locks.LOCK_UN)  # a forked child may still have the file open
            self._file.close()
            self._file = None


class _Place(_CacheLocator):
    """Where Numba finds what it compiled from a function: `folder`, whatever its configuration says."""

    def __init__(self, folder: Path, line: int) -> None:
        self._folder, self._line = folder, line
        self._py_file = str(folder)  # Numba names it in a warning

    def get_cache_path(self) -> str:
        return str(self._folder)

    def get_source_stamp(self) -> str:
        return self._folder.name

    def get_disambiguator(self) -> str:
        return str(self._line)


def _stamp(path: Path) -> tuple[int, int] | None:
    """Tell two states of a file apart; None where there is none."""
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_mtime_ns, state.st_ino


class Keeper:
    """What the kernels of a process share: their folder, and what has been said."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._announced = False
        self._waited = False
        self._refused = False

    def wait(self, lock: CompileLock, load: Any, index: Path) -> Any:
        """Take the lock, or return what another process has compiled meanwhile.

        Nothing is loaded before the index of the kernel has changed: to look costs a thousandth of that.
        """
        began, seen = time.monotonic(), _stamp(index)
        while not lock.try_acquire():
            if time.monotonic() - began > LONGEST_WAIT:
                _log.info("another process has been compiling for %.0f s: going on without it", LONGEST_WAIT)
                return None
            if not self._waited:
                _log.warning("first use of CPU kernels on this machine: waiting for the process that compiles them")
                self._waited = True
            time.sleep(PAUSE)
            now = _stamp(index)
            if now == seen:
                continue
            seen = now
            loaded = load()
            if loaded is not None:
                return loaded
        return load()

    def announce(self, kernel: Any, sig: Any) -> None:
        """Say that seconds of compiling begin: once in a process, since one call needs several kernels."""
        arguments = sigutils.normalize_signature(sig)[0]
        kind = next((str(t.dtype) for t in arguments if isinstance(t, types.Array)), "numbers")
        name = kernel.__module__.rpartition(".")[2].lstrip("_")
        if self._announced:
            _log.debug("compiling the kernels of %s for %s", name, kind)
            return
        self._announced = True
        _log.warning(
            "first use of CPU kernels on this machine (%s for %s): each is compiled when it is needed, half a minute "
            "for all that one call may need, and kept",
            name,
            kind,
        )

    def refuse(self, error: OSError) -> None:
        """Say once that a kernel could not be written."""
        if not self._refused:
            self._refused = True
            _log.warning("%s: compiled kernels cannot be kept in %s", error.strerror or error, self.folder)


def _kept_in(keeper: Keeper) -> type[FunctionCache]:
    """Make the cache class of a keeper: Numba makes its objects from a function alone."""

    class Impl(CompileResultCacheImpl):
        def __init__(self, py_func: Any) -> None:
            self._lineno = py_func.__code__.co_firstlineno
            self._locator = _Place(keeper.folder, self._lineno)
            name = f"{py_func.__module__.rpartition('.')[2]}.{py_func.__qualname__}"
            self._filename_base = self.get_filename_base(name, getattr(sys, "abiflags", ""))

    class Kept(FunctionCache):
        _impl_class = Impl

        def __init__(self, py_func: Any) -> None:
            super().__init__(py_func)
            self.lock = CompileLock(keeper.folder / "locks" / self._impl.filename_base)

        def load_overload(self, sig: Any, target_context: Any) -> Any:
            found = self._load(sig, target_context)
            if found is None:
                found = keeper.wait(
                    self.lock, lambda: self._load(sig, target_context), Path(self._cache_file._index_path)
                )
            if found is None:
                keeper.announce(self._py_func, sig)
            return found

        def _load(self, sig: Any, target_context: Any) -> Any:
            found = super().load_overload(sig, target_context)
            # Two processes that write at once, where nothing can be locked, may leave one kernel under the other's key.
            wanted = tuple(sigutils.normalize_signature(sig)[0])
            return found if found is None or tuple(found.signature.args) == wanted else None

        def save_overload(self, sig: Any, data: Any) -> None:
            try:
                super().save_overload(sig, data)
            except OSError as error:
                keeper.refuse(error)

    return Kept


def keep(folder: Path) -> Any:
    """Make a decorator that keeps what Numba compiles from a function in a folder."""
    with contextlib.suppress(OSError):  # a folder that can only be read needs no locks
        (folder / "locks").mkdir(exist_ok=True)
    cache = _kept_in(Keeper(folder))

    def decorate(dispatcher: Any) -> Any:
        if not hasattr(dispatcher, "_cache"):  # NUMBA_DISABLE_JIT
            return dispatcher
        dispatcher._cache = cache(dispatcher.py_func)
        plain = dispatcher.compile

        def compile_once(sig: Any) -> Any:
            with global_compiler_lock:  # taken before the lock between processes by everyone: no deadlock
                try:
                    return plain(sig)
                finally:
                    dispatcher._cache.lock.release()

        dispatcher.compile = compile_once
        return dispatcher

    return decorate
